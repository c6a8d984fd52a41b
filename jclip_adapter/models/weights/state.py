"""Named float32 arrays from the object in a weight file."""

from __future__ import annotations

import re
from collections.abc import Iterator

from jclip_adapter.core.errors import WeightsError

from .names import prefixes
from .tensors import Array, Floats, Record, Tensor, tensor_values, to_float32

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_AVERAGE = re.compile(r"(?:^|_)ema(?:_|$)|averaged?")
_OPTIMISER = re.compile(r"optim|opt(?:_|$)|exp_avg|momentum|grad|scaler|(?:lr_)?sched", re.IGNORECASE)
_MAX_DEPTH = 32
_MAX_VISITS = 200_000  # shared modules are visited once per path, of which a hostile file could have any number
# Sizes in OpenAI's archives, a mask that Jittor treats as a parameter, a counter of training steps, a constant range.
_NO_WEIGHTS = frozenset(["input_resolution", "context_length", "vocab_size"])
_NO_WEIGHT_ENDS = frozenset(["attn_mask", "num_batches_tracked", "position_ids"])


def is_weight(name: str) -> bool:
    """Whether a name is that of a trained weight, not of a mask, a counter or a size.

    >>> is_weight("visual.proj"), is_weight("transformer.resblocks.0.attn_mask"), is_weight("vocab_size")
    (True, False, False)
    """
    return name not in _NO_WEIGHTS and name.rpartition(".")[2] not in _NO_WEIGHT_ENDS


def state_dict(root: object, limit: int) -> tuple[dict[str, Floats], list[str]]:
    """Find the tensors of a file's object.

    Args:
        root: A dict of tensors, possibly in a checkpoint's `state_dict`, or a TorchScript module.
        limit: Largest number of elements, from the file's size.

    Returns:
        Name → float32 array, in the file's order, without entries that are empty or no weights; and a sentence for each
        model in it that is not used.

    Raises:
        WeightsError: it contains other things than tensors, several models, or more elements than it has bytes.
    """
    found: dict[str, Floats] = {}
    notes: list[str] = []
    for name, value in _module_entries(root) if isinstance(root, Record) else _dict_entries(_unwrapped(root, notes)):
        if not is_weight(name) or (isinstance(value, Tensor) and value.shape == (0,)):  # as AudioCLIP's fbsp.bias
            continue
        numbers = value.values if isinstance(value, Array) else tensor_values(value)
        if numbers is None:
            raise WeightsError(f"its array {name!r} has no values.")
        limit -= numbers.size
        if limit < 0:
            raise WeightsError("its tensors have more numbers than the file has bytes.")
        found[name] = to_float32(numbers)
    return found, notes


def _unwrapped(root: object, notes: list[str]) -> object:
    """The state dict in a checkpoint; a second model is refused, or noted if it is a moving average."""
    for _ in range(len(_WRAPPERS)):
        if not isinstance(root, dict):
            break
        models = [key for key, value in root.items() if _names_model(key, value)]
        averages = [key for key in models if _AVERAGE.search(key.lower())]
        others = [key for key in models if key not in averages]
        wrappers = [key for key in _WRAPPERS if isinstance(root.get(key), dict)]
        if len(others) > 1:
            raise WeightsError(
                f"it contains {len(others)} models: {', '.join(repr(key[:80]) for key in others[:4])}.",
                "Save the state dict of one of them as a separate file.",
            )
        if not wrappers:
            break
        if others and averages:
            notes.append(f"{others[0][:80]!r} is used, not the moving average {averages[0][:80]!r}.")
        root = root[others[0] if others and others[0] in wrappers else wrappers[0]]
    return root


def _names_model(key: object, value: object) -> bool:
    return isinstance(key, str) and not _is_optimiser(key) and _holds_model(value)


def _holds_model(value: object) -> bool:
    """Whether a checkpoint's entry is or contains a CLIP's state dict, possibly with a prefix.

    An optimizer's state, which has the same names, is not searched.
    """
    seen: set[int] = set()  # a hostile file could have endless paths to one object
    waiting = [(value, _MAX_DEPTH)]
    while waiting:
        item, depth = waiting.pop()
        if not isinstance(item, dict | list | tuple) or not depth or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict) and prefixes(name for name in item if isinstance(name, str)):
            return True
        entries = item.items() if isinstance(item, dict) else ((None, inner) for inner in item)
        waiting += [(inner, depth - 1) for name, inner in entries if not _is_optimiser(name)]
    return False


def _is_optimiser(name: object) -> bool:
    return isinstance(name, str) and bool(_OPTIMISER.match(name))


def _holds_lora(value: object, depth: int = 4) -> bool:
    if not isinstance(value, dict) or not depth:
        return False
    return any("lora" in str(key).lower() or _holds_lora(item, depth - 1) for key, item in value.items())


def _dict_entries(root: object) -> Iterator[tuple[str, Array | Tensor]]:
    if not isinstance(root, dict):
        raise WeightsError(f"expected a dict of tensors, got a {type(root).__name__.lower()}.")
    for name, value in root.items():
        if isinstance(value, Array | Tensor) and isinstance(name, str):
            yield name, value
        elif _holds_lora(value):
            raise WeightsError(
                f"its entry {str(name)[:80]!r} has LoRA matrices without their CLIP.",
                "Merge them into CLIP's weights and save the result.",
            )
        elif not (value is None or isinstance(value, bool | int | float | str)):
            raise WeightsError(f"its entry {str(name)[:80]!r} is a {type(value).__name__.lower()}, not a tensor.")


def _module_entries(root: Record) -> Iterator[tuple[str, Tensor]]:
    """The tensors of nested TorchScript modules, named by the path of attributes."""
    visits = 0
    waiting: list[tuple[str, object, int]] = [("", root, 0)]
    while waiting:
        path, value, depth = waiting.pop()
        visits += 1
        if depth > _MAX_DEPTH or visits > _MAX_VISITS:
            raise WeightsError("its modules are nested too deeply.")
        if isinstance(value, Tensor):
            yield path, value
        elif isinstance(value, Record):
            inner = [(f"{path}.{name}".lstrip("."), item, depth + 1) for name, item in value.fields.items()]
            waiting.extend(reversed(inner))
