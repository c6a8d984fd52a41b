"""The allow-list: the symbols in weight files, and their replacements.

The named functions are never called: each entry is a function of this module that returns a stand-in of tensors.py or a
plain value, and NotImplemented for unexpected arguments.
"""

from __future__ import annotations

from jclip_adapter.core.errors import WeightsError

from .pickles import Budget, Call, fill
from .tensors import BFLOAT16, NUMBERS, Array, DType, Storage, StorageKind, Symbol, Tensor, array_from_bytes

_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}
_TORCH_DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
_TYPED_LISTS = ["build_intlist", "build_doublelist", "build_boollist", "build_tensorlist"]


def allow_list(budget: Budget, load_from_bytes: Call | None = None) -> dict[str, Call | StorageKind | None]:
    """The symbols that a weight file may name.

    Args:
        budget: The file's budget, charged for derived bytes.
        load_from_bytes: Replacement of `torch.storage._load_from_bytes`; None if it is not allowed, as inside another
            such stream.

    Returns:
        "module.name" → a function from the pickled arguments to a value, a storage kind, or None for a symbol that may
        be named but not called.
    """

    def encode(*arguments: object) -> object:
        match arguments:  # protocols 0 to 2 write bytes as text, to be encoded as Latin-1
            case (str(text), "latin1" | "latin-1"):
                budget.spend(len(text))
                return text.encode("latin-1")
        return NotImplemented

    def ordered_dict(*arguments: object) -> object:
        match arguments:
            case ():
                return {}
            case (list(pairs),) if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
                budget.spend(20 * len(pairs))  # a call on remembered pairs costs the file three bytes
                return fill({}, [item for pair in pairs for item in pair])
        return NotImplemented

    table: dict[str, Call | StorageKind | None] = {
        "collections.OrderedDict": ordered_dict,
        "_codecs.encode": encode,
        "numpy.ndarray": None,
        "numpy.dtype": _dtype,
        "torch.Size": _first,
        "torch.device": lambda *arguments: None,
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _first,
        "torch._utils._rebuild_parameter_with_state": _first,
        "torch.jit._pickle.restore_type_tag": _first,
        # Jittor: Var.__reduce__ gives its class, by a dotted qualified name, and the numpy array.
        "jittor.jittor_core.Var": _first,
        "jittor.Var": _first,
        "jittor_core.Var": _first,
    }
    for core in ("numpy.core", "numpy._core"):  # the second since numpy 2
        table[f"{core}.multiarray._reconstruct"] = _empty_array
        table[f"{core}.multiarray.scalar"] = _scalar
        table[f"{core}.numeric._frombuffer"] = _array
    for module in ("__builtin__", "builtins"):
        # Python writes empty bytes in protocols 0 to 2 as a call without arguments.
        table[f"{module}.bytes"] = lambda *arguments: NotImplemented if arguments else b""
    for module in ("torch", "torch.cuda", "torch.storage"):
        table.update({f"{module}.{name}": StorageKind(code) for name, code in _STORAGES.items()})
    table.update({f"torch.{name}": None for name in _TORCH_DTYPES})
    table.update({f"torch.jit._pickle.{name}": _first for name in _TYPED_LISTS})
    if load_from_bytes is not None:
        table["torch.storage._load_from_bytes"] = load_from_bytes
    return table


def _first(*arguments: object) -> object:
    """The first argument, for helpers that wrap a value."""
    return arguments[0] if arguments else NotImplemented


def _tensor(*arguments: object) -> object:
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(strides), *_):
            return Tensor(storage, offset, shape, strides)
    return NotImplemented


def _empty_array(*arguments: object) -> object:
    match arguments:
        case (Symbol(name="numpy.ndarray"), tuple(), bytes() | str()):
            return Array()
    return NotImplemented


def _dtype(*arguments: object) -> DType:
    match arguments:
        case (str(code), *_) if code in NUMBERS:
            return DType(code)
        case (str(code), *_) if code.startswith("O"):
            raise WeightsError("expected arrays of numbers, got one of Python objects.")
    raise WeightsError("expected arrays of plain numbers, got one of another dtype.")


def _scalar(*arguments: object) -> object:
    match arguments:
        case (DType() as dtype, bytes(data)):
            return array_from_bytes(data, dtype, (), fortran=False)
    return NotImplemented


def _array(*arguments: object) -> object:
    match arguments:
        case (bytes(data), DType() as dtype, tuple(shape), str(order)):
            return array_from_bytes(data, dtype, shape, fortran=order == "F")
    return NotImplemented
