"""Renames CLIP's weights from other projects' names to OpenAI's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from jclip_adapter.core.errors import WeightsError
from jclip_adapter.models.families import chinese_clip, hugging_face, siglip, timm
from jclip_adapter.models.families.layout import Entry, renamed

from .relatives import refuse_relatives
from .tensors import Floats

_HUGGING_FACE = ("text_model.", "vision_model.")
_OPEN_CLIP_TEXT = "text."
_LAYER = re.compile(
    r"(?:(?P<image>vision_model\.encoder\.layers|visual\.trunk\.blocks)"
    r"|(?:text_model|bert)\.encoder\.layers?)\.(?P<number>\d{1,4})\."
)
_LAYER_SCALE = re.compile(r"(visual\.transformer\.resblocks\.\d+\.)ls_([12])\.gamma")
# Prefixes of a model's names: DataParallel, torch.compile, and the usual attributes.
_PREFIX = re.compile(r"(?:(?:module|model|clip|clip_model)\.)*")
_COMPILED = "_orig_mod"
# The first weight of the image tower shows the models in a file and their prefixes.
_ANCHOR = re.compile(
    r"(.*?)(?:visual\.conv1|visual\.trunk\.patch_embed\.proj|vision_model\.embeddings\.patch_embedding)\.weight"
)
_HEADS = re.compile(r"(?:fc|head|heads|classifier|classification_head)\.(?:\d+\.)?(?:weight|bias)")
HUGGING_FACE, OPEN_CLIP = "hugging_face", "open_clip"


class Named(NamedTuple):
    """Weights by OpenAI's names.

    Attributes:
        state: The arrays.
        layout: The file's names: "hugging_face", or "open_clip" for OpenAI's and open_clip's.
        notes: A sentence per ignored or removed part.
    """

    state: dict[str, Floats]
    layout: str
    notes: tuple[str, ...]


def to_openai(weights: Mapping[str, Floats]) -> Named:
    """Rename weights to OpenAI's names.

    Hugging Face has separate query, key and value and transposed projections; open_clip's newer models have the text
    tower under `text.`; Jittor saves `logit_scale` with shape (1,). Prefixes such as `module._orig_mod.` are removed,
    and a layer scale is multiplied into the weights before it.

    Args:
        weights: Name → array, by OpenAI's, open_clip's, Chinese-CLIP's or Hugging Face's names.

    Returns:
        The weights by OpenAI's names.

    Raises:
        WeightsError: missing, misshapen or unknown weights of Hugging Face; several models in one file; unmerged LoRA;
            another family of models.
    """
    refuse_relatives(weights)
    bare, notes = _without_prefix(weights)
    kept: dict[str, Floats] = {}
    is_clip = bool(prefixes(bare))
    for name, value in bare.items():
        if is_clip and _HEADS.fullmatch(name):
            notes.append(f"{name} is ignored: it is a classification head, not a part of CLIP.")
        else:
            kept[name] = value
    layout = HUGGING_FACE if any(name.startswith(_HUGGING_FACE) for name in kept) else OPEN_CLIP
    state = _scaled(_from_hugging_face(kept) if layout == HUGGING_FACE else _from_open_clip(kept))
    for name in ("logit_scale", "logit_bias"):
        if name in state and state[name].size == 1:
            state[name] = state[name].reshape(())
    return Named(state, layout, tuple(notes))


def _without_prefix(weights: Mapping[str, Floats]) -> tuple[dict[str, Floats], list[str]]:
    """The weights without the prefix common to CLIP's names, and a note on it."""
    pairs = [(".".join(part for part in name.split(".") if part != _COMPILED), name) for name in weights]
    found = sorted(prefixes(name for name, _ in pairs))
    if len(found) > 1:
        shown = " and ".join(repr(prefix) for prefix in found[:4])
        raise WeightsError(
            f"it contains {len(found)} models: names begin with {shown}.",
            "Save the state dict of one of them as a separate file.",
        )
    prefix = found[0] if found else ""
    if not _PREFIX.fullmatch(prefix):
        raise WeightsError(
            f"its names begin with {prefix[:80]!r}, which is not a known prefix.",
            "Save the state dict of the CLIP model itself.",
        )
    bare = {short.removeprefix(prefix): weights[name] for short, name in pairs}
    if len(bare) < len(weights):
        raise WeightsError("two of its names differ only by a prefix.", "Save the state dict of one model.")
    compiled = f"{_COMPILED}." if any(short != name for short, name in pairs) else ""
    removed = " and ".join(repr(part) for part in (prefix, compiled) if part)
    return bare, [f"the prefix {removed} of its names is removed."] if removed else []


def prefixes(names: Iterable[str]) -> set[str]:
    """The prefix of each model among the names.

    >>> prefixes(["student.visual.conv1.weight", "teacher.visual.conv1.weight"]) == {"student.", "teacher."}
    True
    """
    found = {match[1] for name in names if (match := _ANCHOR.fullmatch(name))}
    return {prefix for prefix in found if not prefix or prefix.endswith(".")}


def _layers(weights: Iterable[str]) -> tuple[int, int]:
    """Numbers of blocks of the image and the text tower."""
    found = [match for name in weights if (match := _LAYER.match(name))]
    image, text = (
        [int(match["number"]) + 1 for match in found if bool(match["image"]) == own] for own in (True, False)
    )
    return max(image, default=0), max(text, default=0)


def _from_hugging_face(weights: Mapping[str, Floats]) -> dict[str, Floats]:
    image, text = _layers(weights)
    entries = [*hugging_face.entries(image, text), *siglip.entries(), *chinese_clip.text_entries("text_model", text)]
    state = renamed(entries, chinese_clip.without_types(weights, "text_model"))
    known = {entry.ours for entry in entries}
    for name in state:
        if name not in known:
            raise WeightsError(
                f"{name[:120]!r} is not a name in Hugging Face's CLIPModel, SiglipModel or ChineseCLIPModel.",
                "Other models of theirs, such as CLIP with LoRA, cannot be read.",
            )
    return state


def _from_open_clip(weights: Mapping[str, Floats]) -> dict[str, Floats]:
    """From OpenAI's, open_clip's or the original Chinese-CLIP's names."""
    if "text.token_embedding.weight" in weights:
        weights = {name.removeprefix(_OPEN_CLIP_TEXT): value for name, value in weights.items()}
    image, text = _layers(weights)
    entries = [
        *timm.entries(image),
        *chinese_clip.text_entries("bert", text),
        Entry("text_projection", ("text_projection.weight",), transposed=True),
        Entry("text_projection_bias", ("text_projection.bias",)),
    ]
    return renamed(entries, chinese_clip.without_types(weights, "bert"))


def _scaled(state: dict[str, Floats]) -> dict[str, Floats]:
    """The weights with layer scales multiplied into the linear maps before them: γ·(W·x + b)."""
    found = {name: value for name, value in state.items() if not _LAYER_SCALE.fullmatch(name)}
    for name, scale in state.items():
        match = _LAYER_SCALE.fullmatch(name)
        if match is None:
            continue
        for kind in ("weight", "bias"):
            before = f"{match[1]}{'attn.out_proj' if match[2] == '1' else 'mlp.c_proj'}.{kind}"
            value = found.get(before)
            if value is None or value.shape[:1] != scale.shape:
                raise WeightsError(f"{name} has shape {scale.shape}, which does not fit {before}.")
            found[before] = value * (scale[:, None] if kind == "weight" else scale)
    return found
