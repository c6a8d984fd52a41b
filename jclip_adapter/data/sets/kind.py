"""What the files of a data set are, by their names."""

from __future__ import annotations

import os
import re
from pathlib import Path

from jclip_adapter.data.sounds import is_sound

from .esc50 import ESC50
from .model import FileKind
from .paths import is_photo
from .table import TABLE_SUFFIXES

_DEEPEST = 8  # levels of folders
_LONGEST = 100_000  # characters of a line
_CONTEST_MARKS = ("classes.txt", "train.txt", "classes_b.txt", "TrainSet", "TestSetA", "TestSetB")


def is_contest(root: Path) -> bool:
    """Whether a folder has anything of the contest's layout."""
    return any((root / mark).exists() for mark in _CONTEST_MARKS)


def find_kind(root: Path) -> FileKind:
    """What a data set holds: sounds if it has ESC-50's layout, or sounds and no photos in its folders, else photos.

    Args:
        root: The folder or the CSV file; it may be missing.
    """
    if root.is_file():
        return "sound" if _lists_sounds(root) else "photo"
    if (root / ESC50).is_file():
        return "sound"
    found: FileKind = "photo"
    for folder, inner, files in os.walk(root, followlinks=True):
        if Path(folder) != root and any(map(is_photo, files)):
            return "photo"
        if any(map(is_sound, files)):
            found = "sound"
        if len(Path(folder).relative_to(root).parts) >= _DEEPEST:
            inner.clear()
    return found


def _lists_sounds(path: Path) -> bool:
    """Whether the first row of a CSV file has the name of a sound."""
    if path.suffix.lower() not in TABLE_SUFFIXES:
        return False
    with path.open(encoding="utf-8", errors="replace") as handle:
        _, first = handle.readline(_LONGEST), handle.readline(_LONGEST)
    return any(is_sound(cell.strip()) for cell in re.split(r"[,;\t\"]", first))
