"""ESC-50's layout of sounds in five folds: audio/ and meta/esc50.csv.

Piczak, "ESC: Dataset for Environmental Sound Classification", 2015. Its clips are not part of this program: their
licence is CC BY-NC.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jclip_adapter.core.errors import DataError, suggest
from jclip_adapter.core.problems import Problems, why_unfit
from jclip_adapter.data.sounds import is_sound
from jclip_adapter.storage import read_lines

from .model import ClassInfo, ImageSet, Photo
from .names import canonical
from .paths import check_files, unsafe

ESC50 = "meta/esc50.csv"
_COLUMNS = ("filename", "fold", "target", "category")
_FOLDS = range(1, 6)


def load_esc50(root: Path, problems: Problems) -> ImageSet:
    """Read ESC-50, or other sounds in its layout.

    meta/esc50.csv has the columns filename, fold (1 to 5), target and category; others are ignored. The files are in
    audio/. Classes are the categories in the order of their targets, which are their ids; sounds are in the order of
    the file.

    Args:
        root: The folder with audio/ and meta/.
        problems: Gets the faults; the caller raises them.

    Returns:
        The data set, without test sounds.

    Raises:
        DataError: the table cannot be read.
    """
    path = root / ESC50
    rows: dict[str, tuple[int, int]] = {}  # fold and target by file
    names: dict[int, str] = {}
    for number, (file, fold, target, category) in _rows(path, problems):
        where, name = f"{path.name} line {number}", canonical(category)
        objection = unsafe(f"audio/{file}") or ("" if is_sound(file) else "is not a sound by its suffix")
        if objection:
            problems.add("paths that are refused", f"{where}: {file[:80]} {objection}")
        elif fold not in map(str, _FOLDS) or not (target.isascii() and target.isdigit() and len(target) < 6):
            problems.add("malformed lines", f"{where}: fold {fold[:20]!r} and target {target[:20]!r}")
        elif not name or why_unfit(name):
            problems.add("categories that fit no list", f"{where}: the category {name[:80]!r}")
        elif names.setdefault(int(target), name) != name:
            problems.add("targets of two categories", f"{where}: {target} is {names[int(target)]} and {name}")
        elif rows.setdefault(file, (int(fold), int(target))) != (int(fold), int(target)):
            problems.add("sounds with two labels", f"{where}: {file} is already listed with another fold or target")
    for name in {name for name in names.values() if list(names.values()).count(name) > 1}:
        problems.add("categories of two targets", f"{name} has several targets")
    if not rows and not problems:
        problems.add("empty lists", f"{ESC50} names no sound")
    index_of = {target: index for index, target in enumerate(sorted(names))}
    sounds = tuple(Photo(root, f"audio/{file}", index_of[target]) for file, (_, target) in rows.items())
    check_files(sounds, problems)
    classes = tuple(ClassInfo(target, names[target], "", "") for target in index_of)
    folds = tuple(fold for fold, _ in rows.values())
    reading = "ESC-50's audio/ and meta/esc50.csv"
    return ImageSet(
        root.name, root, "esc50", classes, sounds, (), source=root, reading=reading, kind="sound", folds=folds
    )


def with_classes(sounds: ImageSet, names: Sequence[str]) -> ImageSet:
    """Some classes of a data set in ESC-50's layout.

    Args:
        sounds: The data set.
        names: Names of its classes, in the order of the new labels.

    Raises:
        DataError: it has no class of a name.
    """
    own = sounds.class_names
    missing = [name for name in names if name not in own]
    if missing:
        raise DataError(f"{sounds.source} has no class {', '.join(missing[:5])}.", suggest(missing[0], own))
    label_of = {own.index(name): label for label, name in enumerate(names)}
    kept = [
        (replace(sound, label=label_of[sound.label]), fold)
        for sound, fold in zip(sounds.train, sounds.folds, strict=True)
        if sound.label in label_of
    ]
    return replace(
        sounds,
        classes=tuple(sounds.classes[own.index(name)] for name in names),
        train=tuple(sound for sound, _ in kept),
        folds=tuple(fold for _, fold in kept),
    )


def _rows(path: Path, problems: Problems) -> list[tuple[int, tuple[str, str, str, str]]]:
    """Line number and cells of each row."""
    lines = read_lines(path)
    header = next(csv.reader(lines[:1]), [])
    if any(header.count(name) != 1 for name in _COLUMNS):
        raise DataError(f"{path}: expected the columns {', '.join(_COLUMNS)}, found {', '.join(header)[:200]}.")
    places = [header.index(name) for name in _COLUMNS]
    found = []
    for number, line in enumerate(lines[1:], 2):
        cells = next(csv.reader([line]), [])
        if len(cells) == len(header):
            file, fold, target, category = (cells[place].strip() for place in places)
            found.append((number, (file, fold, target, category)))
        elif line.strip():
            problems.add("malformed lines", f"{path.name} line {number} has {len(cells)} cells, not {len(header)}")
    return found
