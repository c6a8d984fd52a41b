"""What a person sees: results on stdout, messages and progress on stderr, also where one of these is closed or full.

On a terminal nothing is silent for long: where no output comes for some seconds, a line says what is being done.
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
SILENCE_S = 3.0  # after so long without output the line of what is being done appears
_CLEAR = "\r\x1b[K"


@dataclass
class _State:
    """What all output of the process depends on.

    Attributes:
        quiet: Neither messages nor progress.
        doing: What is being done, the innermost last, each with its beginning.
        last: When stderr was last written.
        line: Whether the line of what is being done stands on the terminal.
        bars: Progress bars that are open.
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
    """Show no messages and no progress from now on, only results and errors, until `streams` ends."""
    _state().quiet = True
    logging.getLogger().setLevel(logging.ERROR)


@overload
def progress(iterable: Iterable[T], **options: Any) -> Any: ...
@overload
def progress(**options: Any) -> Any: ...
def progress(iterable: Any = None, **options: Any) -> Any:
    """A progress bar on stderr; an invisible one where nothing but results is wanted.

    Args:
        iterable: What to go through; None for a bar that is moved by `update`.
        options: As tqdm takes them: total, desc, unit, leave, delay, initial.

    Returns:
        A tqdm.
    """
    from tqdm import tqdm

    bar = tqdm(iterable, disable=_state().quiet, **options)
    _state().bars = [each for each in _state().bars if not each.disable and each.n != each.total] + [bar]
    return bar


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Name what is being done within this block, for the line that appears where nothing else does.

    Args:
        what: Such as "fitting gda".
    """
    entry = (what, time.monotonic())
    _state().doing.append(entry)
    try:
        yield
    finally:
        _state().doing.remove(entry)


def note(text: str) -> None:
    """Write a line for the user to stderr, unless nothing but results is wanted."""
    if not _state().quiet:
        complain(f"{text}\n")


class _Watched(io.TextIOBase):
    """A terminal's stderr that remembers when it was written to."""

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


def _keep_talking(stream: TextIO, end: threading.Event) -> None:
    """Say once a second what is being done, while nothing else is written."""
    state = _state()
    while not end.wait(1.0):
        now = time.monotonic()
        if state.quiet or now - state.last < SILENCE_S:
            continue
        bars = [bar for bar in state.bars if not bar.disable and bar.n != bar.total]
        with contextlib.suppress(OSError, ValueError):  # where it cannot be written, the work goes on
            if bars and not state.line:
                bars[-1].refresh()
                state.last = now - SILENCE_S + 1  # the bar's clock goes on
                continue
            what, since = state.doing[-1] if state.doing else ("working", state.last)
            stream.write(f"{_CLEAR}… {what}, {now - since:.0f} s")
            stream.flush()
            state.line = True


@contextlib.contextmanager
def _talking() -> Iterator[None]:
    """Within this block a terminal is never silent for long."""
    stream = sys.stderr
    if not stream.isatty():
        yield
        return
    end = threading.Event()
    _state().last = time.monotonic()
    watched = _Watched(stream)
    sys.stderr = watched
    thread = threading.Thread(target=_keep_talking, args=(stream, end), daemon=True)
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
    """Make ready for messages and results; at the end, also behind --help, a full disk does not pass for success.

    Raises:
        UsageError: stdout is closed.
        SetupError: stdout cannot be written.
    """
    if sys.stderr is None:  # closed: progress bars would fail, and nobody wants the messages
        sys.stderr = io.StringIO()
    _state().quiet = False
    if sys.stdout is None:
        raise UsageError("stdout is closed, so there is no place for the results.", "Leave it open, or use a file.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to fail
    with _talking():
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
        try:
            yield
        finally:
            _state().quiet = False
            tell(end="")


def tell(text: str = "", end: str = "\n") -> None:
    """Print a result.

    Raises:
        BrokenPipeError: nobody reads on.
        SetupError: stdout cannot be written.
    """
    if text and _state().line:
        complain("")  # which clears the line of what is being done
    try:
        print(text, end=end, flush=not text)
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = None  # or Python would try once more at its end, and complain in lines of its own
        raise SetupError(
            f"cannot write to stdout: {error.strerror or error}.", "Check the free space where it is redirected to."
        ) from error


def complain(text: str) -> None:
    """Write to stderr."""
    with contextlib.suppress(OSError):  # where it is full, the exit status has to do
        sys.stderr.write(text)
        sys.stderr.flush()
