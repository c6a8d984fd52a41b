"""Which columns of a table hold paths, class names and splits: told by their names, and where these are vague by cells.

A test photo that becomes a training photo is the worst that a table can do, so that no column which looks like a split
is left unread without a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jclip_adapter.core.errors import DataError

from .names import parts_of, split_of

# What people call the columns; the first name of each is never ambiguous.
_PATHS = (
    "path",
    "filepath",
    "file_path",
    "filename",
    "file_name",
    "file",
    "image",
    "image_path",
    "imagepath",
    "image_name",
    "image_file",
    "img",
    "img_path",
    "img_name",
    "photo",
    "路径",
    "文件",
    "文件名",
    "图片",
    "图像",
)
_LABELS = ("label", "labels", "class", "category", "标签", "类别")
_NAMES = (
    "class_name",
    "classname",
    "category_name",
    "label_name",
    "labelname",
    "label_text",
    "类名",
    "类别名",
    "类别名称",
    "标签名",
    "标签名称",
)
_SPLITS = ("split", "subset", "partition", "data_split", "dataset_split", "split_name", "划分", "数据划分")
# These names may mean something else too: they are splits where one of their cells says test or validation.
_MAYBE_SPLITS = ("set", "phase", "fold", "usage", "stage", "mode", "part", "dataset", "data_set", "集合", "数据集")
_FLAG = re.compile(r"(?:is|in|for|use_for|used_for)?[\s_-]*(.+?)[\s_-]*(?:flag|mask)?")
_YES, _NO = ("1", "1.0", "true", "t", "yes", "y", "是"), ("0", "0.0", "false", "f", "no", "n", "否")
_RENAME = "Call it split if it is one; else take it out of the file."

Cells = Sequence[str]


class Columns(NamedTuple):
    """Columns of a table, by name in lower case.

    Attributes:
        path: That of the paths.
        label: That of the labels.
        names: Others that may hold the classes' names, beside the labels.
    """

    path: str
    label: str
    names: tuple[str, ...] = ()


def find_columns(header: Sequence[str]) -> tuple[Columns | None, str]:
    """Find the columns of paths and labels by a table's first line.

    Args:
        header: Its cells, in lower case.

    Returns:
        The columns, or None and what keeps that open.
    """
    lacking, found = [], {}
    labels = [cell for cell in header if cell in _LABELS]
    names = [cell for cell in header if cell in _NAMES]
    for kind, cells in (("path", [cell for cell in header if cell in _PATHS]), ("label", labels or names)):
        chosen = [kind] if cells.count(kind) == 1 else cells
        if len(chosen) > 1:
            return None, f"has several columns that may be the {kind} ({', '.join(chosen)})"
        if chosen:
            found[kind] = chosen[0]
        else:
            lacking.append(kind)
    if lacking:
        return None, f"has no column {' and no column '.join(lacking)}"
    beside = tuple(dict.fromkeys([*names, *labels]))
    return Columns(found["path"], found["label"], tuple(name for name in beside if name != found["label"])), ""


def read_labels(table: Mapping[str, Cells], columns: Columns, notes: list[str]) -> tuple[list[str], list[str]]:
    """The class name of each row, and the number or key that orders the classes.

    Names tell CLIP more than numbers, so that a column of names goes before one of labels where both say the same.

    Args:
        table: Cells by column.
        columns: As `find_columns` gives them.
        notes: Gets which column is read, where there are several.

    Returns:
        N names and N keys; both empty for a row without a label.

    Raises:
        DataError: the labels are numbers, and the names beside them say something else.
    """
    labels = list(table[columns.label])
    candidates = [name for name in columns.names if any(table[name])]
    agreeing = [name for name in candidates if not _contradiction(labels, table[name])]
    numbers = all(_is_number(label) for label in labels if label)
    worded = [name for name in agreeing if not all(_is_number(cell) for cell in table[name] if cell)]
    if worded:
        chosen = worded[0]
        notes.append(f"the class names are those of the column {chosen}, not of {columns.label}")
        name_of = {label: name for label, name in zip(labels, table[chosen], strict=True) if label and name}
        label_of = {name: label for label, name in name_of.items()}
        names = [name or name_of.get(label, label) for label, name in zip(labels, table[chosen], strict=True)]
        return names, [label or label_of.get(name, name) for label, name in zip(labels, names, strict=True)]
    other = next((name for name in candidates if name not in agreeing), "")
    if other and numbers and any(labels):
        raise DataError(
            f"its columns {columns.label} and {other} group the photos differently: "
            f"{_contradiction(labels, table[other])}.",
            "Take the column out that does not name the classes.",
        )
    if other:
        notes.append(f"the class names are those of the column {columns.label}; {other} groups the photos differently")
    return labels, labels


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?\d+(?:\.0*)?", text))


def _contradiction(labels: Cells, names: Cells) -> str:
    """Where labels and names do not stand for each other one by one; empty where they do."""
    for kind, ones, others in (("label", labels, names), ("name", names, labels)):
        first: dict[str, str] = {}
        for one, other in zip(ones, others, strict=True):
            if one and other and first.setdefault(one, other) != other:
                return f"the {kind} '{one[:80]}' stands beside '{first[one][:80]}' and '{other[:80]}'"
    return ""


def read_splits(table: Mapping[str, Cells], columns: Columns) -> tuple[list[str], str]:
    """Which part of the data set each row belongs to.

    Args:
        table: Cells by column.
        columns: As `find_columns` gives them; no split is looked for in them.

    Returns:
        "train", "test", "val", or another word that stands in the column, for each of N rows; and the columns that
        say so, in words, empty where there are none and all rows are training photos.

    Raises:
        DataError: two columns contradict each other, or one that is not called so looks like a split.
    """
    rest = {name: cells for name, cells in table.items() if name not in (*columns[:2], *columns.names)}
    readings: dict[str, list[str]] = {}
    for name, cells in rest.items():
        if name in _SPLITS or (name in _MAYBE_SPLITS and _tells(cells)):
            readings[name] = _by_word(cells)
    flags = {name: part for name in rest if name not in readings and (part := _flagged(name, rest[name]))}
    if flags:
        readings[", ".join(flags)] = _by_flags(flags, rest)
    unread = [name for name in rest if name not in readings and name not in flags and _looks_like_split(rest[name])]
    chosen = next(iter(sorted(readings, key=lambda name: name != "split")), "")
    if not chosen:
        for name in unread:
            words = ", ".join(dict.fromkeys(cell for cell in rest[name] if split_of(cell)))
            raise DataError(
                f"its column '{name[:80]}' holds {words[:80]}, but is not called like a split, and no other is.",
                _RENAME,
            )
        return ["train"] * len(table[columns.path]), ""
    for name in (*readings, *unread):
        other = readings.get(name) or _by_word(rest[name])
        row = next((row for row, pair in enumerate(zip(readings[chosen], other, strict=True)) if len({*pair}) > 1), -1)
        if row >= 0:
            raise DataError(
                f"its columns {chosen} and {name[:80]} contradict each other in row {row + 2}: "
                f"'{readings[chosen][row][:80]}' and '{other[row][:80]}'.",
                "Take the column out that is not the split.",
            )
    return readings[chosen], chosen


def _by_word(cells: Cells) -> list[str]:
    parts = parts_of(dict.fromkeys(cells))
    if any(part != "train" for part in parts.values()):  # the numbers beside "test" are folds of training photos
        parts |= {cell: "train" for cell in cells if _is_number(cell)}
    return [parts.get(cell, cell) for cell in cells]


def _tells(cells: Cells) -> bool:
    """Whether a cell names a part other than the training photos, so that the column parts them."""
    return any(part != "train" for part in parts_of(dict.fromkeys(cells)).values())


def _looks_like_split(cells: Cells) -> bool:
    """Whether a column of any name holds parts: nothing else besides them, or both train and another."""
    words = [cell for cell in dict.fromkeys(cells) if cell]
    parts = set(parts_of(words).values())
    return bool(parts - {"train"}) and ("train" in parts or all(split_of(word) for word in words))


def _flagged(name: str, cells: Cells) -> str:
    """The part that a column called like is_test flags by its cells; empty for another column."""
    match = _FLAG.fullmatch(name)
    part = split_of(match[1]) if match else ""
    if not part:
        return ""
    odd = next((cell for cell in cells if cell.casefold() not in (*_YES, *_NO)), None)
    if odd is None:
        return part
    if name.startswith("is"):
        raise DataError(f"its column {name} holds '{odd[:80]}', expected 0 or 1, true or false.", "Mend the column.")
    return ""


def _by_flags(flags: Mapping[str, str], table: Mapping[str, Cells]) -> list[str]:
    """The part of each row by one or several columns of yes and no."""
    known = set(flags.values())
    other = "test" if known == {"train"} else "train" if "train" not in known else "none of " + ", ".join(flags)
    rows = []
    for cells in zip(*(table[name] for name in flags), strict=True):
        found = sorted({part for part, cell in zip(flags.values(), cells, strict=True) if cell.casefold() in _YES})
        rows.append(" and ".join(found) or other)
    return rows
