"""A pickle reader that runs nothing.

Python's own unpickler is a machine that calls whatever the file names. This one only follows the structure:
the standard library's `pickletools.genops` splits the bytes into opcodes (it executes nothing), and the machine
below builds dicts, lists, tuples, numbers, text and the stand-ins of tensors.py. A global is looked up in an
allow-list of the few symbols that weight files need; any other is refused by name.

Limits keep hostile files harmless: opcodes and derived bytes are budgeted, nothing recurses, nothing is hashed
but text and small numbers, and no stand-in is ever compared or printed.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

from jclip_adapter.core.errors import WeightsError

from .tensors import Array, DType, Record, StorageKind, Symbol, array_from_bytes

Arguments = tuple[object, ...]
Call = Callable[[Arguments], object]
Symbols = Mapping[tuple[str, str], Call | StorageKind | None]

MAX_OPCODES = 500_000  # the largest CLIP needs under 100,000, a checkpoint with its optimiser three times that
MAX_INTEGER_BITS = 128  # the longest real one is torch's magic number, 77 bits
SAVE_AGAIN = (
    "Nothing in it was executed. If you trust the file, save only its tensors where it was made: "
    "torch.save(model.state_dict(), FILE), or as .safetensors."
)
_TORCHSCRIPT = "__torch__"
_PUSH_ARGUMENT = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
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
    ]
)


class Budget:
    """What is left to spend on one file, however many pickles lie nested in it.

    Args:
        size: The file's size in bytes; bytes that the reader derives from it may not exceed twice that.
    """

    def __init__(self, size: int) -> None:
        self._opcodes = MAX_OPCODES
        self._bytes = 2 * size

    def spend(self, opcodes: int = 0, data: int = 0) -> None:
        """Take from the budget.

        Raises:
            WeightsError: it is used up.
        """
        self._opcodes -= opcodes
        self._bytes -= data
        if self._opcodes < 0 or self._bytes < 0:
            raise WeightsError("it unfolds to far more than a weight file holds.", SAVE_AGAIN)


class Stream:
    """The part of a binary file that a pickle may be read from; no read goes past its end or allocates more.

    Args:
        handle: A seekable binary file.
        end: Where to stop, in bytes from the file's start.
    """

    def __init__(self, handle: IO[bytes], end: int) -> None:
        self._handle = handle
        self.end = end

    def tell(self) -> int:
        """The position in the file."""
        return self._handle.tell()

    def left(self) -> int:
        """How many bytes are left."""
        return max(0, self.end - self._handle.tell())

    def read(self, count: int) -> bytes:
        """Up to `count` bytes; fewer at the end."""
        return self._handle.read(min(count, self.left()))

    def readline(self) -> bytes:
        """The bytes up to the next line feed."""
        return self._handle.readline(self.left())


def read_pickle(stream: Stream, symbols: Symbols, budget: Budget, persistent: Call | None = None) -> object:
    """Read one pickle; the stream is left right behind its end.

    Args:
        stream: Where it starts.
        symbols: The allow-list: (module, name) → what a call of it yields, a storage kind, or None for a symbol
            that may be mentioned but not called.
        budget: Shared by all pickles of a file.
        persistent: Turns a persistent id into an object; None where the format has none.

    Returns:
        Plain Python values and stand-ins.

    Raises:
        WeightsError: the pickle is malformed, too large or asks for anything that is not allowed.
    """
    machine = _Machine(stream, symbols, persistent, budget)
    opcodes = pickletools.genops(stream)  # type: ignore[arg-type]  # read, readline and tell are all it uses
    while not machine.stopped:
        try:
            opcode, argument, _ = next(opcodes)
        except (ValueError, StopIteration, Warning) as error:  # Python warns of odd escapes, as an error under -W error
            raise WeightsError(f"its pickle is damaged or cut short ({_short(str(error))}).") from error
        budget.spend(opcodes=1)
        machine.step(opcode.name, argument)
    return machine.pop()


class _Machine:
    """The stack machine that a pickle is written for, without its powers."""

    def __init__(self, stream: Stream, symbols: Symbols, persistent: Call | None, budget: Budget) -> None:
        self.stopped = False
        self._stream = stream
        self._symbols = symbols
        self._persistent = persistent
        self._budget = budget
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSH_ARGUMENT:
            if isinstance(argument, int) and argument.bit_length() > MAX_INTEGER_BITS:
                raise WeightsError("its pickle holds a number of absurd size.")
            self._stack.append(argument)
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            what = f" for {_short(argument)}" if isinstance(argument, str) else ""
            raise WeightsError(f"its pickle uses the opcode {name}{what}, which weight files do not need.", SAVE_AGAIN)

    # --- the stack

    def pop(self) -> object:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise WeightsError("its pickle is malformed: the stack is empty.")
        return self._stack.pop()

    def top(self) -> object:
        item = self.pop()
        self._stack.append(item)
        return item

    def pop_to_mark(self) -> list[object]:
        if not self._marks:
            raise WeightsError("its pickle is malformed: a mark is missing.")
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def push(self, item: object) -> None:
        self._stack.append(item)

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def drop(self) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self.pop()

    def stop(self) -> None:
        self.stopped = True

    def last(self, count: int) -> tuple[object, ...]:
        return tuple(reversed([self.pop() for _ in range(count)]))

    # --- the memo

    def remember(self, index: int) -> None:
        self._memo[index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self._memo:
            raise WeightsError("its pickle is malformed: it recalls what was never stored.")
        self._stack.append(self._memo[index])

    def memoize(self) -> None:
        self.remember(len(self._memo))

    # --- containers

    def extend(self, items: list[object]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise WeightsError("its pickle is malformed: it appends to what is no list.")
        target.extend(items)

    def set_items(self, items: list[object]) -> None:
        target = self.top()
        if not isinstance(target, dict):
            raise WeightsError("its pickle is malformed: it sets items of what is no dict.")
        fill(target, items)

    def new_dict(self, items: list[object]) -> None:
        self._stack.append(fill({}, items))

    def frame(self, length: int) -> None:
        if length > self._stream.left():
            raise WeightsError("its pickle is cut short: a frame is longer than the file.")

    # --- what makes pickles dangerous, made harmless

    def find(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise WeightsError("its pickle is malformed: a global without a name.")
        entry = self._symbols.get((module, name))
        torchscript = module == _TORCHSCRIPT or module.startswith(_TORCHSCRIPT + ".")
        if entry is None and not torchscript and (module, name) not in self._symbols:
            raise WeightsError(f"it asks for {_short(f'{module}.{name}')}, which weights have no use for.", SAVE_AGAIN)
        self._stack.append(entry if isinstance(entry, StorageKind) else Symbol(module, name))

    def call(self) -> None:
        symbol, arguments = self.last(2)
        if not isinstance(symbol, Symbol) or not isinstance(arguments, tuple):
            raise WeightsError("its pickle calls something that is no known function.", SAVE_AGAIN)
        rebuild = self._symbols.get((symbol.module, symbol.name))
        if callable(rebuild):
            self._stack.append(rebuild(arguments))
        elif symbol.module.startswith(_TORCHSCRIPT) and not arguments:
            self._stack.append(Record())
        else:
            raise WeightsError(f"its pickle calls {_short(f'{symbol.module}.{symbol.name}')}.", SAVE_AGAIN)

    def build(self) -> None:
        target, state = self.last(2)
        match target, state:
            case Record(), dict():
                target.fields = state
            case dict(), dict():
                pass  # attributes of an OrderedDict: torch's `_metadata`, of no use here
            case DType(), (int(), str(order), None, None, None, *_) if order in ("<", ">", "|", "="):
                target.order = ">" if order == ">" else "<"
            case Array(), (int(), tuple(shape), DType() as dtype, bool(fortran), bytes(data)):
                target.values = array_from_bytes(data, dtype, shape, fortran).values
            case _:
                raise WeightsError("its pickle sets the state of something that has none.", SAVE_AGAIN)
        self._stack.append(target)

    def persistent(self, identity: object) -> None:
        if self._persistent is None:
            raise WeightsError("its pickle refers to objects outside itself.", SAVE_AGAIN)
        self._stack.append(self._persistent((identity,)))


def fill(target: dict[Any, object], items: list[object]) -> dict[Any, object]:
    """Put alternating keys and values into a dict.

    Only text and small whole numbers may be keys: hashing a nested tuple could take for ever, and numbers can
    be chosen to collide.

    Raises:
        WeightsError: a key is of another kind, or a value is missing.
    """
    if len(items) % 2:
        raise WeightsError("its pickle is malformed: a key without a value.")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not (isinstance(key, str) or (isinstance(key, int) and abs(key) < 1 << 31)):
            raise WeightsError("its pickle has a dict with keys that are no text.", SAVE_AGAIN)
        target[key] = value
    return target


def _short(text: str) -> str:
    """A hostile file's text, fit to be shown: one line, no control characters, not long."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in text[:121])
    return clean if len(clean) <= 120 else clean[:119] + "…"


_Step = Callable[[_Machine, Any], None]
_STEPS: dict[str, _Step] = {
    "PROTO": lambda machine, version: None,
    "FRAME": lambda machine, length: machine.frame(length),
    "STOP": lambda machine, _: machine.stop(),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.mark(),
    "POP": lambda machine, _: machine.drop(),
    "POP_MARK": lambda machine, _: machine.pop_to_mark().clear(),
    "DUP": lambda machine, _: machine.push(machine.top()),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.push(machine.last(1)),
    "TUPLE2": lambda machine, _: machine.push(machine.last(2)),
    "TUPLE3": lambda machine, _: machine.push(machine.last(3)),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "LIST": lambda machine, _: machine.push(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "DICT": lambda machine, _: machine.new_dict(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items(list(machine.last(2))),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "PUT": lambda machine, index: machine.remember(index),
    "BINPUT": lambda machine, index: machine.remember(index),
    "LONG_BINPUT": lambda machine, index: machine.remember(index),
    "MEMOIZE": lambda machine, _: machine.memoize(),
    "GET": lambda machine, index: machine.recall(index),
    "BINGET": lambda machine, index: machine.recall(index),
    "LONG_BINGET": lambda machine, index: machine.recall(index),
    "GLOBAL": lambda machine, names: machine.find(*names.partition(" ")[::2]),
    "STACK_GLOBAL": lambda machine, _: machine.find(*machine.last(2)),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
    "PERSID": lambda machine, identity: machine.persistent(identity),
    "BINPERSID": lambda machine, _: machine.persistent(machine.pop()),
}
