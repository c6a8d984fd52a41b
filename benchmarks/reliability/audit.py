"""What Python does within a block, from its audit events."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Note = Callable[[str, tuple[Any, ...]], str]
"""Takes an event's name and arguments; returns a line about it, or "" for one that does not matter."""
_now: list[tuple[Note, list[str]]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    for note, noted in _now:
        if line := note(event, arguments):
            noted.append(line)


@functools.cache
def _install() -> None:
    """Add the hook, once: it cannot be taken away again, and so idles outside of all blocks."""
    sys.addaudithook(_hook)


@contextmanager
def watched(note: Note) -> Iterator[list[str]]:
    """The lines about what happens within the block, as it happens."""
    _install()
    noted: list[str] = []
    _now.append((note, noted))
    try:
        yield noted
    finally:
        _now.pop()
