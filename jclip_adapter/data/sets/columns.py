"""Finds the columns of paths, class names and splits of a table, by their names and, if these are vague, their cells.

As test photos must never become training photos, a column that looks like a split is never ignored silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jclip_adapter.core.errors import DataError

from .names import parts_of, split_of

# Usual names of the columns; the first of each is never ambiguous.
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
# Ambiguous names: splits if one of their cells says test or validation.
_MAYBE_SPLITS = ("set", "phase", "fold", "usage", "stage", "mode", "part", "dataset", "data_set", "集合", "数据集")
_FLAG = re.compile(r"(?:is|in|for|use_for|used_for)?[\s_-]*(.+?)[\s_-]*(?:flag|mask)?")
_YES, _NO = ("1", "1.0", "true", "t", "yes", "y", "是"), ("0", "0.0", "false", "f", "no", "n", "否")
_RENAME = "Rename it to split if it is one; else remove it from the file."

Cells = Sequence[str]


class Columns(NamedTuple):
    """Names of a table's columns, in lower case.

    Attributes:
        path: The column of paths.
        label: The column of labels.
        names: Further columns that may have class names.
    """

    path: str
    label: str
    names: tuple[str, ...] = ()


def find_columns(header: Sequence[str]) -> tuple[Columns | None, str]:
    """Find the columns of paths and labels.

    Args:
        header: The cells of the table's first line, in lower case.

    Returns:
        The columns, or None and the reason.
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
    """The class name of each row, and a key that orders the classes.

    A column of names takes precedence over one of labels if both agree, as CLIP needs words.

    Args:
        table: Cells by column.
        columns: From `find_columns`.
        notes: Gets a note on the chosen column, if there are several.

    Returns:
        N names and N keys; both empty for a row without a label.

    Raises:
        DataError: the labels are numbers, and the names group the photos differently.
    """
    labels = list(table[columns.label])
    candidates = [name for name in columns.names if any(table[name])]
    agreeing = [name for name in candidates if not contradiction(labels, table[name])]
    numbers = all(_is_number(label) for label in labels if label)
    worded = [name for name in agreeing if not all(_is_number(cell) for cell in table[name] if cell)]
    if worded:
        chosen = worded[0]
        notes.append(f"class names are read from the column {chosen}, not {columns.label}")
        name_of = {label: name for label, name in zip(labels, table[chosen], strict=True) if label and name}
        label_of = {name: label for label, name in name_of.items()}
        names = [name or name_of.get(label, label) for label, name in zip(labels, table[chosen], strict=True)]
        return names, [label or label_of.get(name, name) for label, name in zip(labels, names, strict=True)]
    other = next((name for name in candidates if name not in agreeing), "")
    if other and numbers and any(labels):
        raise DataError(
            f"its columns {columns.label} and {other} group the photos differently: "
            f"{contradiction(labels, table[other])}.",
            "Remove the column that does not name the classes.",
        )
    if other:
        notes.append(f"class names are read from the column {columns.label}; {other} groups the photos differently")
    return labels, labels


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?\d+(?:\.0*)?", text))


def contradiction(labels: Cells, names: Cells) -> str:
    """The first contradiction between labels and names; empty if they correspond one to one."""
    for kind, ones, others in (("label", labels, names), ("name", names, labels)):
        first: dict[str, str] = {}
        for one, other in zip(ones, others, strict=True):
            if one and other and first.setdefault(one, other) != other:
                return f"the {kind} '{one[:80]}' is paired with '{first[one][:80]}' and '{other[:80]}'"
    return ""


def read_splits(table: Mapping[str, Cells], columns: Columns) -> tuple[list[str], str]:
    """The split of each row.

    Args:
        table: Cells by column.
        columns: From `find_columns`; they are not searched for a split.

    Returns:
        "train", "test", "val", or another word of the column, for each of N rows; and the names of the columns, empty
        if there are none and all rows are training photos.

    Raises:
        DataError: two columns contradict each other, or a column of another name looks like a split.
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
                f"its column '{name[:80]}' has {words[:80]}, but no column has the name of a split.",
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
                "Remove the column that is not the split.",
            )
    return readings[chosen], chosen


def _by_word(cells: Cells) -> list[str]:
    parts = parts_of(dict.fromkeys(cells))
    if any(part != "train" for part in parts.values()):  # numbers beside "test" are folds of training photos
        parts |= {cell: "train" for cell in cells if _is_number(cell)}
    return [parts.get(cell, cell) for cell in cells]


def _tells(cells: Cells) -> bool:
    """Whether a cell names a split other than the training photos."""
    return any(part != "train" for part in parts_of(dict.fromkeys(cells)).values())


def _looks_like_split(cells: Cells) -> bool:
    """Whether a column of any name contains splits: only splits, or train and another one."""
    words = [cell for cell in dict.fromkeys(cells) if cell]
    parts = set(parts_of(words).values())
    return bool(parts - {"train"}) and ("train" in parts or all(split_of(word) for word in words))


def _flagged(name: str, cells: Cells) -> str:
    """The split of a flag column such as is_test; empty for other columns."""
    match = _FLAG.fullmatch(name)
    part = split_of(match[1]) if match else ""
    if not part:
        return ""
    odd = next((cell for cell in cells if cell.casefold() not in (*_YES, *_NO)), None)
    if odd is None:
        return part
    if name.startswith("is"):
        raise DataError(f"its column {name} has '{odd[:80]}', expected 0 or 1, true or false.", "Fix the column.")
    return ""


def _by_flags(flags: Mapping[str, str], table: Mapping[str, Cells]) -> list[str]:
    """The split of each row by one or several flag columns."""
    known = set(flags.values())
    other = "test" if known == {"train"} else "train" if "train" not in known else "none of " + ", ".join(flags)
    rows = []
    for cells in zip(*(table[name] for name in flags), strict=True):
        found = sorted({part for part, cell in zip(flags.values(), cells, strict=True) if cell.casefold() in _YES})
        rows.append(" and ".join(found) or other)
    return rows
