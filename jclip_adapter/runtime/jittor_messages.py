"""What Jittor and its compilers say when something fails, down to the line that tells why."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

from jclip_adapter.core.errors import SetupError

_COLOURS = re.compile(r"\x1b\[[0-9;]*[mK]")
# Of g++, nvcc and the linker: "file:line: fatal error: what", "file(line): error: what", "nvcc fatal : what".
_COMPILER = re.compile(r"\b(?:fatal )?error: |^nvcc fatal\s*:|undefined reference to|^\S*ld: cannot find ")
_FATAL = re.compile(r"\[f \d{4} [\d:.]+ \S+(?: v\d+)? [\w.]+:\d+\] ?(.*)")
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit): *(?P<text>.*)")
_FOLDERS = re.compile(r"^(?:[^\s:]*/)(?=[^\s/:]+[:(])")  # before the name of the file that an error is in
# What is said of any failure.
_EMPTY = re.compile(r"^(terminate called|Aborted|\*+$|Async error was detected|>>> export|Segmentation fault|Caught)")
_LONGEST = 400


def reason(lines: Sequence[str]) -> str:
    """The line that tells why Jittor did not build or start, or did not run a kernel.

    In this order: the first error of a compiler; the innermost of Jittor's own fatal messages; the last exception;
    the last lines of all.

    Args:
        lines: What was printed, or the lines of an exception's text.

    Returns:
        One line of at most 400 characters; empty if nothing was said.
    """
    said = [text for line in lines if (text := _COLOURS.sub("", line).strip())]
    compiler = next((_FOLDERS.sub("", line) for line in said if _COMPILER.search(line)), "")
    found = compiler or _fatal(said) or _exception(said)
    if not found:
        found = " | ".join([line for line in said if not _EMPTY.match(line)][-3:])
    return found[:_LONGEST].strip()


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Turn Jittor's own errors into one of the program's: a kernel that did not compile or run, memory that is short.

    Raises:
        SetupError: Jittor raised one of its fatal messages, which take dozens of lines.
    """
    try:
        yield
    except RuntimeError as error:
        if _FATAL.search(_COLOURS.sub("", str(error))) is None:
            raise
        why = reason(str(error).splitlines())
        if re.search("MemoryAllocation|out of memory|nable to alloc", why):
            raise SetupError(
                f"the GPU's memory does not suffice ({why}).", "Give a smaller --batch-size, or use --device cpu."
            ) from error
        raise SetupError(
            f"Jittor stopped ({why}).",
            "Run `python runner.py --doctor`; --device cpu may do without what failed.",
        ) from error


def _fatal(said: list[str]) -> str:
    """The last of Jittor's fatal messages; the text may begin in the line below."""
    for at in range(len(said) - 1, -1, -1):
        match = _FATAL.search(said[at])
        if match:
            below = said[at + 1] if at + 1 < len(said) else ""
            text = match[1].strip() or below
            # "CUDA found but cublas is not loaded:" is followed by what is missing, or by general advice.
            return text.rstrip(":")
    return ""


def _exception(said: list[str]) -> str:
    """The text of the last exception of a traceback; with its kind where the text alone says little."""
    for line in reversed(said):
        match = _EXCEPTION.match(line)
        if match:
            return match["text"] if " " in match["text"] else line
    return ""
