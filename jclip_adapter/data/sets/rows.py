"""Data sets from rows of a path, a class name and a split: those of a table, or of a published split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from jclip_adapter.core.natural import natural_key
from jclip_adapter.core.problems import Problems, why_unfit

from .model import ClassInfo, ImageSet, Photo
from .names import note_clashes
from .paths import check_files, unsafe


class Row(NamedTuple):
    """A row: path, class name, sort key of the class, split, and its place in words."""

    path: str
    label: str
    key: str
    split: str
    where: str


def image_set_of(
    source: Path,
    folder: Path,
    rows: Iterable[Row],
    problems: Problems,
    *,
    validation: bool = False,
    domain: str = "",
    exist: bool = True,
) -> dict[str, Any]:
    """What rows say about a data set; ids follow the natural order of the sort keys.

    Args:
        source: The file of the rows.
        folder: The folder that the paths start from.
        rows: The rows.
        problems: Gets the faults; the caller raises them.
        validation: Whether there may be validation photos, of the split "val".
        domain: The domain of all classes.
        exist: Whether the photos are files.

    Returns:
        Arguments of an `ImageSet`; test photos carry no label.
    """
    splits = ("train", "test", "val") if validation else ("train", "test")
    seen: dict[str, Row] = {}
    for row in rows:
        fault = _fault(row, seen.get(row.path), splits, exist)
        if fault:
            problems.add(fault[0], f"{row.where}: {fault[1]}", *fault[2:])
        else:
            seen[row.path] = row
    keys = {row.label: row.key for row in reversed(seen.values()) if row.label}
    names = sorted(keys, key=lambda name: natural_key(keys[name]))
    note_clashes(names, problems)
    index_of = {name: index for index, name in enumerate(names)}
    parts: dict[str, list[Photo]] = {split: [] for split in splits}
    for row in seen.values():
        parts[row.split].append(Photo(folder, row.path, None if row.split == "test" else index_of[row.label]))
    if not parts["train"] and not problems:
        problems.add("empty lists", "no row is a training photo")
    if problems and exist:
        check_files([photo for part in parts.values() for photo in part], problems)  # missing photos in the same error
    return {
        "name": source.stem,
        "root": source.parent,
        "classes": tuple(ClassInfo(index, name, domain, "") for name, index in index_of.items()),
        "train": tuple(parts["train"]),
        "test": tuple(sorted(parts["test"], key=lambda photo: natural_key(photo.relative))),
        "validation": tuple(parts.get("val", ())),
        "source": source,
    }


def _fault(row: Row, same: Row | None, splits: tuple[str, ...], exist: bool) -> tuple[str, ...]:
    """The kind of fault of a row, the fault, and what to do; empty for a sound row. `same` has the same path."""
    objection = "is empty" if not row.path else unsafe(row.path) if exist else ""
    if objection:
        return "paths that are refused", f"{row.path or 'the path'} {objection}"
    if row.split not in splits:
        return "unknown splits", f"{row.split!r} is neither train nor test", "Write train or test, or remove the row."
    if not row.label and row.split == "train":
        return "missing labels", f"{row.path} has no label"
    if why_unfit(row.label):
        return "labels that fit no list", f"the label '{row.label[:80]}' {why_unfit(row.label)}"
    if same is not None and same[:4] == row[:4]:
        return "duplicate rows", f"{row.path} is already listed"
    return (
        () if same is None else ("photos with two labels", f"{row.path} is already listed with another label or split")
    )


def labels_of_test_photos(image_set: ImageSet, rows: Iterable[Row]) -> dict[str, int]:
    """Class index of each labelled test photo."""
    index_of = {info.name: index for index, info in enumerate(image_set.classes)}
    return {row.path: index_of[row.label] for row in rows if row.split == "test" and row.label in index_of}
