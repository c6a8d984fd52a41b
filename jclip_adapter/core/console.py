"""Results on stdout, messages and progress on stderr; either may be closed or full.

On a terminal a status line appears after a few seconds without output. Where stderr is no terminal, each progress bar
writes one line when it ends, and one each minute until then.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO, TypeVar, overload

from .errors import SetupError, UsageError

T = TypeVar("T")
SILENCE_S = 3.0  # seconds without output before the status line appears
_MINUTE_S = 60.0  # between two lines of a bar where stderr is no terminal
_CLEAR = "\r\x1b[K"


@dataclass
class _State:
    """The state of the process's output.

    Attributes:
        quiet: No messages and no progress.
        doing: Current steps, the innermost last, each with its start time.
        last: When stderr was last written.
        line: Whether the status line is on the terminal.
        bars: Open progress bars.
    """

    quiet: bool = False
    doing: list[tuple[str, float]] = field(default_factory=list)
    last: float = 0.0
    line: bool = False
    bars: list[Any] = field(default_factory=list)


@functools.cache
def _state() -> _State:
    return _State()


def be_quiet() -> None:
    """Show only results and errors until `streams` ends."""
    _state().quiet = True
    logging.getLogger().setLevel(logging.ERROR)


@overload
def progress(iterable: Iterable[T], **options: Any) -> Any: ...
@overload
def progress(**options: Any) -> Any: ...
def progress(iterable: Any = None, **options: Any) -> Any:
    """A progress bar on stderr: one line at its end where stderr is no terminal, nothing after `be_quiet`.

    Args:
        iterable: The items; None for a bar that is moved by `update`.
        options: tqdm's: total, desc, unit, unit_scale, leave, delay, initial.

    Returns:
        A tqdm.
    """
    from tqdm import tqdm

    if sys.stderr.isatty():
        bar = tqdm(iterable, disable=_state().quiet, **options)
    else:
        bar = _one_line_bar()(iterable, disable=_state().quiet, file=io.StringIO(), **options)
    _state().bars = [each for each in _state().bars if not each.disable and each.n != each.total] + [bar]
    return bar


@functools.cache
def _one_line_bar() -> Any:
    """A tqdm that prints "stage: count, seconds" when it is closed, and every `_MINUTE_S` before."""
    from tqdm import tqdm

    class OneLine(tqdm):  # type: ignore[type-arg]
        told = 0.0

        def update(self, n: float | None = 1) -> bool | None:
            shown = super().update(n)
            if not self.disable and time.time() - max(self.told, self.start_t) >= _MINUTE_S and self.n != self.total:
                self.tell()
            return shown

        def tell(self) -> None:
            self.told = time.time()
            counts = dict.fromkeys((self.n, self.total or self.n))  # one where the stage is complete
            count = " of ".join(tqdm.format_sizeof(each) if self.unit_scale else str(each) for each in counts)
            unit = self.unit if self.unit_scale else f" {self.unit}{'' if count == '1' else 's'}"
            print_note(f"{self.desc.removesuffix(': ')}: {count}{unit}, {self.told - self.start_t:.1f} s")

        def close(self) -> None:
            if not self.disable and self.n and time.time() - self.start_t >= self.delay:
                self.tell()
            super().close()

    return OneLine


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Set the status line within this block.

    Args:
        what: The step, such as "fitting gda".
    """
    entry = (what, time.monotonic())
    _state().doing.append(entry)
    try:
        yield
    finally:
        _state().doing.remove(entry)


def print_note(text: str) -> None:
    """Write a line to stderr, unless `be_quiet` was called."""
    if not _state().quiet:
        print_error(f"{text}\n")


class _Watched(io.TextIOBase):
    """A terminal's stderr that records when it was last written and clears the status line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        state = _state()
        if state.line:
            state.line = False
            self._stream.write(_CLEAR)
        state.last = time.monotonic()
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


def _update_status(stream: TextIO, end: threading.Event) -> None:
    """Write the status line once a second while nothing else is written."""
    state = _state()
    while not end.wait(1.0):
        now = time.monotonic()
        if state.quiet or now - state.last < SILENCE_S:
            continue
        bars = [bar for bar in state.bars if not bar.disable and bar.n != bar.total]
        with contextlib.suppress(OSError, ValueError):  # a status line that cannot be written stops no work
            if bars and not state.line:
                bars[-1].refresh()
                state.last = now - SILENCE_S + 1  # the bar's clock goes on
                continue
            what, since = state.doing[-1] if state.doing else ("working", state.last)
            stream.write(f"{_CLEAR}… {what}, {now - since:.0f} s")
            stream.flush()
            state.line = True


@contextlib.contextmanager
def _status_line() -> Iterator[None]:
    """Show the status line within this block, on a terminal."""
    stream = sys.stderr
    if not stream.isatty():
        yield
        return
    end = threading.Event()
    _state().last = time.monotonic()
    watched = _Watched(stream)
    sys.stderr = watched
    thread = threading.Thread(target=_update_status, args=(stream, end), daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        if _state().line:
            watched.write("")
        sys.stderr = stream


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """Set up logging and stdout; flush stdout at the end, so that a full disk is an error, after --help too.

    Raises:
        UsageError: stdout is closed.
        SetupError: stdout cannot be written.
    """
    if sys.stderr is None:  # closed: progress bars would fail
        sys.stderr = io.StringIO()
    _state().quiet = False
    if sys.stdout is None:
        raise UsageError("stdout is closed, so results cannot be printed.", "Leave it open, or redirect it to a file.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for encodings that lack a character
    with _status_line():
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
        logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its caches
        try:
            yield
        finally:
            _state().quiet = False
            print_result(end="")


def print_result(text: str = "", end: str = "\n") -> None:
    """Print a result.

    Raises:
        BrokenPipeError: the reader closed the pipe.
        SetupError: stdout cannot be written.
    """
    if text and _state().line:
        print_error("")  # clears the status line
    try:
        print(text, end=end, flush=not text)
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = None  # or Python would flush again at exit and print a traceback
        raise SetupError(
            f"cannot write to stdout: {error.strerror or error}.",
            "Check the free space of the disk it is redirected to.",
        ) from error


def print_error(text: str) -> None:
    """Write to stderr."""
    with contextlib.suppress(OSError):  # a full disk; the exit status still says so
        sys.stderr.write(text)
        sys.stderr.flush()
