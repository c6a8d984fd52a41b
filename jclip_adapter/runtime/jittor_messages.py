"""Extracts the reason from the output of Jittor and its compilers after a failure."""

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
_FOLDERS = re.compile(r"^(?:[^\s:]*/)(?=[^\s/:]+[:(])")  # before the file name of an error
# Lines of every failure.
_EMPTY = re.compile(r"^(terminate called|Aborted|\*+$|Async error was detected|>>> export|Segmentation fault|Caught)")
_LONGEST = 400


def reason(lines: Sequence[str]) -> str:
    """Why Jittor did not build, start or run a kernel.

    In order of precedence: the first compiler error; Jittor's innermost fatal message; the last exception; the last
    lines.

    Args:
        lines: The output, or the lines of an exception's text.

    Returns:
        One line of at most 400 characters; empty without output.
    """
    output = [text for line in lines if (text := _COLOURS.sub("", line).strip())]
    compiler = next((_FOLDERS.sub("", line) for line in output if _COMPILER.search(line)), "")
    found = compiler or _fatal(output) or _exception(output)
    if not found:
        found = " | ".join([line for line in output if not _EMPTY.match(line)][-3:])
    return found[:_LONGEST].strip()


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Turn Jittor's fatal errors, which have dozens of lines, into a SetupError.

    Raises:
        SetupError: a kernel did not compile or run, or memory is short.
    """
    try:
        yield
    except RuntimeError as error:
        if _FATAL.search(_COLOURS.sub("", str(error))) is None:
            raise
        why = reason(str(error).splitlines())
        if re.search("MemoryAllocation|out of memory|nable to alloc", why):
            raise SetupError(
                f"not enough GPU memory ({why}).", "Give a smaller --batch-size, or use --device cpu."
            ) from error
        raise SetupError(
            f"Jittor stopped ({why}).",
            "Run `python runner.py --doctor`; --device cpu may avoid what failed.",
        ) from error


def _fatal(output: list[str]) -> str:
    """The last of Jittor's fatal messages; its text may begin in the next line."""
    for at in range(len(output) - 1, -1, -1):
        match = _FATAL.search(output[at])
        if match:
            below = output[at + 1] if at + 1 < len(output) else ""
            text = match[1].strip() or below
            return text.rstrip(":")  # such as "CUDA found but cublas is not loaded:"
    return ""


def _exception(output: list[str]) -> str:
    """The text of the last exception of a traceback; with its class if the text is one word."""
    for line in reversed(output):
        match = _EXCEPTION.match(line)
        if match:
            return match["text"] if " " in match["text"] else line
    return ""
