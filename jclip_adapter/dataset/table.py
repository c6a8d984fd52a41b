"""A CSV file with a column of paths, one of labels and, where there are test photos, one of splits."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path
from typing import NamedTuple

from jclip_adapter.errors import DataError
from jclip_adapter.natural import natural_key, natural_sorted
from jclip_adapter.problems import Problems, one_line

from .model import ClassInfo, ImageSet, Photo
from .names import canonical, note_clashes, split_of
from .paths import check_files, unsafe

_log = logging.getLogger(__name__)

TABLE_SUFFIXES = (".csv", ".tsv")
"""Endings, in lower case, of the files that are read as tables."""

# What people call the three columns; the first name of each is never ambiguous.
_COLUMNS = {
    "path": (
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
    ),
    "label": (
        "label",
        "labels",
        "class",
        "class_name",
        "classname",
        "category",
        "category_name",
        "标签",
        "类别",
        "类名",
    ),
    "split": ("split", "subset", "partition"),
}
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_LEAST_COMMON = 0.8  # share of Chinese letters that GB2312, the common ones, must hold for a file to pass for GB18030


class _Form(NamedTuple):
    """How a table is written: its text and encoding, what parts its cells, and which column is which."""

    text: str
    encoding: str
    delimiter: str
    columns: dict[str, str]


def is_table(path: Path, *, exact: bool = False) -> bool:
    """Whether a file's first line names a column of paths and one of labels.

    Args:
        path: The file.
        exact: Whether they must be called path and label themselves.
    """
    try:
        form = _form(path)
    except DataError:
        return False
    return not exact or (form.columns["path"], form.columns["label"]) == ("path", "label")


def load_table(path: Path, problems: Problems) -> ImageSet:
    """Read a CSV file of photos.

    Paths are relative to the CSV's folder. Every row is a training photo unless a column split says "test". The
    label is the class name, in Unicode's composed form; ids follow the natural order of the names. Other columns are
    ignored. Cells may be parted by commas, semicolons or tabs, and the text be UTF-8, UTF-16 with a byte-order mark,
    or GB18030 (GBK), as far as its bytes tell.

    Args:
        path: The file.
        problems: Where the faults go; the caller raises them.

    Returns:
        The data set; test photos carry no label.

    Raises:
        DataError: the file is no such CSV.
    """
    root = path.parent
    seen: dict[str, tuple[str, str]] = {}
    form = _form(path)
    for row, (relative, label, split) in enumerate(_rows(path, form), 2):
        where = f"row {row}"
        objection = unsafe(relative) if relative else "is empty"
        if objection:
            problems.add("paths that are refused", f"{where}: {relative or 'the path'} {objection}")
        elif split_of(split) not in ("train", "test"):
            problems.add("unknown splits", f"{where}: {split!r} is neither train nor test")
        elif not label and split_of(split) == "train":
            problems.add("missing labels", f"{where}: {relative} has no label")
        elif relative not in seen:
            seen[relative] = (label, split_of(split))
        elif seen[relative] == (label, split_of(split)):
            problems.add("duplicate rows", f"{where}: {relative} is listed already")
        else:
            problems.add("photos with two labels", f"{where}: {relative} is listed with another label or split already")
    names = natural_sorted({label for label, _ in seen.values() if label})
    note_clashes(names, problems)
    index_of = {name: index for index, name in enumerate(names)}
    train = tuple(Photo(root, name, index_of[label]) for name, (label, split) in seen.items() if split == "train")
    test = [Photo(root, name, None) for name, (_, split) in seen.items() if split == "test"]
    if not train and not problems:
        problems.add("empty lists", "no row is a training photo")
    if problems:
        check_files([*train, *test], problems)  # as the load fails anyway, let its message name the missing photos too
    classes = tuple(ClassInfo(index, name, "", "") for name, index in index_of.items())
    test.sort(key=lambda photo: natural_key(photo.relative))
    return ImageSet(
        path.stem, root, "csv", classes, train, tuple(test), source=path, reading=_reading(form), notes=_notes(form)
    )


def _reading(form: _Form) -> str:
    used = ", ".join(form.columns[kind] for kind in _COLUMNS if kind in form.columns)
    return f"a table with the columns {used}, parted by {_DELIMITERS[form.delimiter]}s"


def _notes(form: _Form) -> tuple[str, ...]:
    if form.encoding != "gb18030":
        return ()
    return ("its text is read as GB18030 (Chinese), as it is not UTF-8: check the class names",)


def table_labels(image_set: ImageSet) -> dict[str, int]:
    """Class index of each test photo by the CSV's label column; photos without a label are left out."""
    index_of = {info.name: index for index, info in enumerate(image_set.classes)}
    return {
        relative: index_of[label]
        for relative, label, split in _rows(image_set.source, _form(image_set.source))
        if split_of(split) == "test" and label in index_of
    }


def _rows(path: Path, form: _Form) -> list[tuple[str, str, str]]:
    """Path, label and split of each row."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            # A row longer than the header would otherwise lose its last cells, or shift by one.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Without keep_default_na a class called "NA" or "null" would be read as missing.
            table = pd.read_csv(
                io.StringIO(form.text),
                dtype=str,
                keep_default_na=False,
                index_col=False,
                sep=form.delimiter,
            )
    except (ValueError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not a CSV file that can be read ({reason}).", _QUOTES) from error
    table.columns = table.columns.str.strip().str.lower()
    cells = {kind: table[name].str.strip() for kind, name in form.columns.items()}
    splits = cells["split"] if "split" in cells else ["train"] * len(table)
    return list(zip(cells["path"], cells["label"].map(canonical), splits, strict=True))


def _form(path: Path) -> _Form:
    """How a table is written.

    Raises:
        DataError: it cannot be read, or its first line does not tell which columns hold paths and labels.
    """
    text, encoding = _text(path)
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        raise DataError(f"{path} is not a CSV file that can be read (it is empty).", _HEADER)
    header = lines[0].strip("\r")
    parted = {
        delimiter: [cell.strip().strip('"').strip().lower() for cell in header.split(delimiter)]
        for delimiter in _DELIMITERS
        if delimiter in header
    }
    objections = []
    for delimiter, cells in parted.items():
        columns, objection = _columns(cells)
        if not objection:
            return _Form(text, encoding, delimiter, columns)
        objections.append((len(cells), objection, cells))
    if not objections:
        shown = one_line(header[:80])
        raise DataError(f"{path} has one column, '{shown}'; no comma, semicolon or tab parts its first line.", _HEADER)
    _, objection, cells = max(objections)
    raise DataError(f"{path} {objection}; its columns are {one_line(', '.join(cells))[:200]}.", _HEADER)


def _columns(cells: list[str]) -> tuple[dict[str, str], str]:
    """Which cell of the first line names which column; or what keeps that open."""
    columns, lacking = {}, []
    for kind, names in _COLUMNS.items():
        found = [cell for cell in cells if cell in names]
        if kind in found:
            found = [kind] if found.count(kind) == 1 else found
        if len(found) > 1:
            return {}, f"has several columns that may be the {kind} ({', '.join(found)})"
        if found:
            columns[kind] = found[0]
        elif kind != "split":
            lacking.append(kind)
    return columns, f"has no column {' and no column '.join(lacking)}" if lacking else ""


def _text(path: Path) -> tuple[str, str]:
    """The file's text, and the encoding that it was read by."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.", "Check its permissions.") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _decoded(path, data, "utf-16"), "utf-16"
    try:
        return data.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError as error:
        place = f"{error.reason} at byte {error.start}"
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError:
        text = ""
    # Latin, Japanese and Korean encodings often pass for GB18030, but then give rare letters.
    odd = [letter for letter in text if not letter.isascii()]
    common = sum(_is_gb2312(letter) for letter in odd)
    if odd and common >= _LEAST_COMMON * len(odd):
        return text, "gb18030"
    raise DataError(f"{path} is neither UTF-8 ({place}) nor clearly GB18030.", "Save it as UTF-8.")


def _decoded(path: Path, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not {encoding.upper()} text ({error.reason}).", "Save it as UTF-8.") from error


def _is_gb2312(letter: str) -> bool:
    try:
        letter.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return "\u4e00" <= letter <= "\u9fff" or letter in "，。、；：（）《》—·　"


_QUOTES = 'A path or label that holds a comma must stand in "quotes".'
_HEADER = "Its first line must name the columns path, label and, if there are test photos, split."
