"""A pickle reader that calls no function named in the file.

It restricts `pickle._Unpickler`, the standard library's unpickler in Python, to the opcodes of weight files. A global
is looked up in an allow-list and becomes a `Symbol`, whose call is a function of this package. The public
`pickle.Unpickler` is in C and allows neither removing opcodes nor checking keys: a file could make it allocate
gigabytes or hash nested tuples for hours.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, Any, ClassVar

from jclip_adapter.core.errors import WeightsError

from .tensors import Array, DType, Record, StorageKind, Symbol, array_from_bytes

Call = Callable[..., object]
Symbols = Mapping[str, Call | StorageKind | None]

SAVE_AGAIN = (
    "Nothing in it was executed. If you trust the file, save only its tensors where it was made: "
    "torch.save(model.state_dict(), FILE), or as .safetensors."
)
_TORCHSCRIPT = "__torch__"
# Without sets, extension codes, buffers, Python 2's byte strings, and LONG4, whose numbers may be megabytes long.
_OPCODES = [
    "PROTO",
    "FRAME",
    "STOP",
    "NONE",
    "NEWTRUE",
    "NEWFALSE",
    "INT",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG",
    "LONG1",
    "FLOAT",
    "BINFLOAT",
    "UNICODE",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
    "BYTEARRAY8",
    "MARK",
    "POP",
    "POP_MARK",
    "DUP",
    "EMPTY_TUPLE",
    "TUPLE1",
    "TUPLE2",
    "TUPLE3",
    "TUPLE",
    "EMPTY_LIST",
    "LIST",
    "APPEND",
    "APPENDS",
    "EMPTY_DICT",
    "DICT",
    "SETITEM",
    "SETITEMS",
    "PUT",
    "BINPUT",
    "LONG_BINPUT",
    "MEMOIZE",
    "GET",
    "BINGET",
    "LONG_BINGET",
    "GLOBAL",
    "STACK_GLOBAL",
    "INST",
    "REDUCE",
    "NEWOBJ",
    "BUILD",
    "PERSID",
    "BINPERSID",
]
# Errors of the unpickler for malformed bytes; a Warning under python -W error.
_FAULTS = (
    *(pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError, AttributeError, OverflowError),
    *(struct.error, Warning),
)


class Budget:
    """How many bytes may still be derived from one file by all its nested pickles.

    Args:
        size: The file's size in bytes; twice that may be derived.
    """

    def __init__(self, size: int) -> None:
        self._left = 2 * size

    def spend(self, size: int) -> None:
        """Take `size` bytes from the budget.

        Raises:
            WeightsError: it is used up.
        """
        self._left -= size
        if self._left < 0:
            raise WeightsError("it expands to far more than a weight file holds.", SAVE_AGAIN)


class Stream:
    """A binary file up to an end; no read goes past it or allocates more.

    Args:
        handle: A seekable binary file.
        end: Where to stop, in bytes from the file's start.
    """

    def __init__(self, handle: IO[bytes], end: int) -> None:
        self._handle = handle
        self._end = end

    def left(self) -> int:
        """Number of bytes left."""
        return max(0, self._end - self._handle.tell())

    def read(self, count: int) -> bytes:
        """Up to `count` bytes; fewer at the end."""
        return self._handle.read(min(count, self.left()))

    def readline(self) -> bytes:
        """The bytes up to the next line feed."""
        return self._handle.readline(self.left())


def read_pickle(stream: Stream, symbols: Symbols, persistent: Call | None = None) -> object:
    """Read one pickle; the stream is left at its end.

    Args:
        stream: The stream, at the start of the pickle.
        symbols: The allow-list: "module.name" → the function called instead, a storage kind, or None for a symbol that
            may be named but not called.
        persistent: Turns a persistent id into an object; None if the format has none.

    Returns:
        Plain Python values and stand-ins.

    Raises:
        WeightsError: the pickle is malformed or asks for anything that is not allowed.
    """
    try:
        return _Unpickler(stream, symbols, persistent).load()
    except WeightsError:
        raise
    except _FAULTS as error:
        raise WeightsError(f"its pickle is damaged or malformed ({_short(str(error))}).") from error


class _Unpickler(pickle._Unpickler):
    """The standard library's unpickler, restricted."""

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = {}  # opcode → the method that executes it

    def __init__(self, stream: Stream, symbols: Symbols, persistent: Call | None) -> None:
        super().__init__(stream)
        self._symbols = symbols
        self._persistent = persistent

    def find_class(self, module: str, name: str) -> object:
        symbol = f"{module}.{name}"
        if module.partition(".")[0] == _TORCHSCRIPT:
            return Symbol(symbol, lambda *arguments: NotImplemented if arguments else Record())
        if symbol not in self._symbols:
            raise WeightsError(f"it names {_short(symbol)}, which weight files do not need.", SAVE_AGAIN)
        entry = self._symbols[symbol]
        return entry if isinstance(entry, StorageKind) else Symbol(symbol, entry)

    def persistent_load(self, pid: object) -> object:
        if self._persistent is None:
            raise WeightsError("its pickle refers to objects outside itself.", SAVE_AGAIN)
        return self._persistent(pid)

    def load_reduce(self) -> None:
        symbol, arguments = self._pop(2)
        if not isinstance(symbol, Symbol) or not isinstance(arguments, tuple):
            raise WeightsError("its pickle calls an unknown function.", SAVE_AGAIN)
        value = symbol.call(*arguments) if symbol.call else NotImplemented
        if value is NotImplemented:
            raise WeightsError(f"its pickle calls {_short(symbol.name)} in a way that weight files do not.", SAVE_AGAIN)
        self.stack.append(value)

    def load_build(self) -> None:
        (state,) = self._pop(1)
        match self.stack[-1], state:
            case Record() as target, dict():
                target.fields = state
            case dict(), dict():
                pass  # attributes of an OrderedDict: torch's `_metadata`, of no use here
            case DType() as target, (int(), str(order), None, None, None, *_) if order in ("<", ">", "|", "="):
                target.order = ">" if order == ">" else "<"
            case Array() as target, (int(), tuple(shape), DType() as dtype, bool(fortran), bytes(data)):
                target.values = array_from_bytes(data, dtype, shape, fortran).values
            case _:
                raise WeightsError("its pickle sets the state of an object without state.", SAVE_AGAIN)

    def load_dict(self) -> None:
        items = self.pop_mark()  # which changes the stack
        self.stack.append(fill({}, items))

    def load_setitem(self) -> None:
        self._set_items(self._pop(2))

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise WeightsError("its pickle is malformed: it sets items of an object that is not a dict.")
        fill(target, items)

    def _pop(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _refuse(self, opcode: str) -> None:
        raise WeightsError(f"its pickle uses the opcode {opcode}, which weight files do not need.", SAVE_AGAIN)


for _opcode in pickletools.opcodes:
    _code, _load = ord(_opcode.code), pickle._Unpickler.dispatch[ord(_opcode.code)]
    # A method that the class overrides is found by its name, which the standard library's table does not do.
    _load = getattr(_Unpickler, _load.__name__, _load)
    _Unpickler.dispatch[_code] = _load if _opcode.name in _OPCODES else partial(_Unpickler._refuse, opcode=_opcode.name)
_Unpickler.dispatch[ord(pickle.NEWOBJ)] = _Unpickler.load_reduce  # a class is called as a function is
_Unpickler.dispatch[ord(pickle.BYTEARRAY8)] = pickle._Unpickler.dispatch[ord(pickle.BINBYTES8)]  # allocates no more


def fill(target: dict[Any, object], items: list[Any]) -> dict[Any, object]:
    """Put alternating keys and values into a dict.

    Keys must be text or small integers: hashing a nested tuple could take forever, and large numbers can be chosen to
    collide.

    Raises:
        WeightsError: a key of another type, or a missing value.
    """
    if len(items) % 2:
        raise WeightsError("its pickle is malformed: a key without a value.")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not (isinstance(key, str) or (isinstance(key, int) and abs(key) < 1 << 31)):
            raise WeightsError("its pickle has a dict whose keys are not text.", SAVE_AGAIN)
        target[key] = value
    return target


def _short(text: str) -> str:
    """Text from a file for a message: one short line without control characters."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in text[:121])
    return clean if len(clean) <= 120 else clean[:119] + "…"
