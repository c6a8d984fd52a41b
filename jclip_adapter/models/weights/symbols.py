"""The allow-list: the symbols that real weight files name, and what each yields here.

None of the named functions is called: each entry is a function of ours that checks its arguments and returns a
stand-in of tensors.py or a plain value.
"""

from __future__ import annotations

from functools import partial

from jclip_adapter.core.errors import WeightsError

from .pickles import Arguments, Budget, Call, fill
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


def allow_list(budget: Budget, load_from_bytes: Call | None = None) -> dict[tuple[str, str], Call | StorageKind | None]:
    """The symbols that a weight file may name.

    Args:
        budget: The file's budget, charged for what the symbols derive.
        load_from_bytes: What `torch.storage._load_from_bytes` yields; None where it is not allowed, as inside
            another such stream.

    Returns:
        (module, name) → a function from checked arguments to a value, a storage kind, or None for a symbol that
        may be mentioned but not called.
    """
    table: dict[tuple[str, str], Call | StorageKind | None] = {
        ("collections", "OrderedDict"): partial(_ordered_dict, budget),
        ("_codecs", "encode"): partial(_encode, budget),
        ("numpy", "ndarray"): None,
        ("numpy", "dtype"): _dtype,
        ("torch", "Size"): _first_tuple,
        ("torch", "device"): lambda arguments: None,
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _inner_tensor,
        ("torch._utils", "_rebuild_parameter_with_state"): _inner_tensor,
        ("torch.jit._pickle", "restore_type_tag"): _first,
        # Jittor: Var.__reduce__ gives its class and the numpy array; the class's qualified name has a dot.
        ("jittor", "jittor_core.Var"): _inner_array,
        ("jittor", "Var"): _inner_array,
        ("jittor_core", "Var"): _inner_array,
    }
    for core in ("numpy.core", "numpy._core"):  # the second since numpy 2
        table[f"{core}.multiarray", "_reconstruct"] = _empty_array
        table[f"{core}.multiarray", "scalar"] = _scalar
        table[f"{core}.numeric", "_frombuffer"] = _array
    for module in ("__builtin__", "builtins"):
        table[module, "bytes"] = _no_bytes
    for module in ("torch", "torch.cuda", "torch.storage"):
        table.update({(module, name): StorageKind(code) for name, code in _STORAGES.items()})
    table.update({("torch", name): None for name in _TORCH_DTYPES})
    table.update({("torch.jit._pickle", name): _first for name in _TYPED_LISTS})
    if load_from_bytes is not None:
        table["torch.storage", "_load_from_bytes"] = load_from_bytes
    return table


def _refusal(name: str) -> WeightsError:
    return WeightsError(f"its pickle calls {name} with arguments that no weight file has.")


def _encode(budget: Budget, arguments: Arguments) -> bytes:
    """Protocols 0 to 2 write bytes as text, to be encoded as Latin-1."""
    match arguments:
        case (str(text), str(codec)) if codec in ("latin1", "latin-1"):
            budget.spend(data=len(text))
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError as error:
                raise WeightsError("its pickle holds bytes that are none.") from error
    raise _refusal("_codecs.encode")


def _ordered_dict(budget: Budget, arguments: Arguments) -> dict[object, object]:
    match arguments:
        case ():
            return {}
        case (list(pairs),):
            budget.spend(opcodes=len(pairs))
            if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
                return fill({}, [item for pair in pairs for item in pair])
    raise _refusal("collections.OrderedDict")


def _first(arguments: Arguments) -> object:
    if not arguments:
        raise _refusal("a TorchScript helper")
    return arguments[0]


def _first_tuple(arguments: Arguments) -> tuple[object, ...]:
    match arguments:
        case (tuple(sizes),):
            return sizes
    raise _refusal("torch.Size")


def _no_bytes(arguments: Arguments) -> bytes:
    if arguments:  # Python writes empty bytes in protocols 0 to 2 as a call without arguments
        raise _refusal("bytes")
    return b""


def _tensor(arguments: Arguments) -> Tensor:
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(strides), *_):
            return Tensor(storage, offset, shape, strides)
    raise _refusal("torch._utils._rebuild_tensor_v2")


def _inner_tensor(arguments: Arguments) -> Tensor:
    match arguments:
        case (Tensor() as tensor, *_):
            return tensor
    raise _refusal("torch._utils._rebuild_parameter")


def _inner_array(arguments: Arguments) -> Array:
    match arguments:
        case (Array() as array,):
            return array
    raise _refusal("jittor.Var")


def _empty_array(arguments: Arguments) -> Array:
    match arguments:
        case (Symbol(module="numpy", name="ndarray"), tuple(), bytes() | str()):
            return Array()
    raise _refusal("numpy.core.multiarray._reconstruct")


def _dtype(arguments: Arguments) -> DType:
    match arguments:
        case (str(code), *_) if code in NUMBERS:
            return DType(code)
        case (str(code), *_) if code.startswith("O"):
            raise WeightsError("it holds an array of Python objects, not of numbers.")
    raise WeightsError("it holds an array that is not of plain numbers.")


def _scalar(arguments: Arguments) -> Array:
    match arguments:
        case (DType() as dtype, bytes(data)):
            return array_from_bytes(data, dtype, (), fortran=False)
    raise _refusal("numpy.core.multiarray.scalar")


def _array(arguments: Arguments) -> Array:
    match arguments:
        case (bytes() | bytearray() as data, DType() as dtype, tuple(shape), str(order)):
            return array_from_bytes(data, dtype, shape, fortran=order == "F")
    raise _refusal("numpy.core.numeric._frombuffer")
