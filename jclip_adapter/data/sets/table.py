"""Data sets in a CSV file with columns of paths, labels and, optionally, splits."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path
from typing import NamedTuple

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.problems import Problems, one_line

from .columns import Columns, find_columns, read_labels, read_splits
from .model import ImageSet
from .names import canonical
from .rows import Row, image_set_of, labels_of_test_photos

_log = logging.getLogger(__name__)

TABLE_SUFFIXES = (".csv", ".tsv")
"""Suffixes, in lower case, of tables."""

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_LEAST_COMMON = 0.8  # least share of common (GB2312) characters for a file to be read as GB18030


class _Form(NamedTuple):
    """A table's text, encoding, delimiter and columns."""

    text: str
    encoding: str
    delimiter: str
    columns: Columns


class _Table(NamedTuple):
    """A table: its rows, its layout in words, and notes on inferred decisions."""

    rows: list[Row]
    reading: str
    notes: tuple[str, ...]


def is_table(path: Path, *, exact: bool = False) -> bool:
    """Whether a file's first line has a column of paths and one of labels.

    Args:
        path: The file.
        exact: Whether their names must be path and label.
    """
    try:
        form = _form(path)
    except DataError:
        return False
    return not exact or form.columns[:2] == ("path", "label")


def load_table(path: Path, problems: Problems) -> ImageSet:
    """Read a CSV file of photos.

    Paths are relative to the CSV's folder. Every row is a training photo unless a column says otherwise
    (`columns.read_splits`). The label is the class name, in Unicode's composed form; ids follow the natural order of
    the names, or of the numbers in a second column. Other columns are ignored. The delimiter is a comma, semicolon or
    tab; the encoding UTF-8, UTF-16 with a byte-order mark, or GB18030 (GBK), by the file's bytes.

    Args:
        path: The file.
        problems: Gets the faults; the caller raises them.

    Returns:
        The data set; test photos carry no label.

    Raises:
        DataError: the file cannot be read as such a CSV.
    """
    table = _read(path)
    facts = image_set_of(path, path.parent, table.rows, problems)
    return ImageSet(layout="csv", reading=table.reading, notes=table.notes, **facts)


def table_labels(image_set: ImageSet) -> dict[str, int]:
    """Class index of each labelled test photo in the CSV."""
    return labels_of_test_photos(image_set, _read(image_set.source).rows)


def _read(path: Path) -> _Table:
    """Read the rows of a table.

    Raises:
        DataError: it cannot be read, or its columns contradict each other.
    """
    form = _form(path)
    cells = _cells(path, form)
    notes = [] if form.encoding != "gb18030" else [_AS_GB18030]
    try:
        splits, parting = read_splits(cells, form.columns)
        labels, keys = read_labels(cells, form.columns, notes)
    except DataError as error:
        raise DataError(f"{path}: {one_line(error.message)}", error.hint) from error
    used = ", ".join(name for name in (*form.columns[:2], parting) if name)
    reading = f"a table with the columns {used}, separated by {_DELIMITERS[form.delimiter]}s"
    rows = zip(cells[form.columns.path], map(canonical, labels), map(canonical, keys), splits, strict=True)
    return _Table([Row(*row, f"row {number}") for number, row in enumerate(rows, 2)], reading, tuple(notes))


_AS_GB18030 = "its text is read as GB18030 (Chinese), as it is not UTF-8: check the class names"


def _cells(path: Path, form: _Form) -> dict[str, list[str]]:
    """The stripped cells of each column, by name in lower case."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            # Otherwise a row longer than the header would lose its last cells, or shift by one.
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
    found: dict[str, list[str]] = {}
    for number, column in enumerate(table.columns):
        name = str(column).strip().lower()
        # For columns that differ only in case, among those that `find_columns` does not use.
        found[name if name not in found else f"{name}.{number}"] = table.iloc[:, number].str.strip().tolist()
    return found


def _form(path: Path) -> _Form:
    """Find a table's encoding, delimiter and columns.

    Raises:
        DataError: it cannot be read, or its first line has no columns of paths and labels.
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
        columns, objection = find_columns(cells)
        if columns is not None:
            return _Form(text, encoding, delimiter, columns)
        objections.append((len(cells), objection, cells))
    if not objections:
        shown = one_line(header[:80])
        raise DataError(f"{path} has one column, '{shown}', without comma, semicolon or tab.", _HEADER)
    _, objection, cells = max(objections)
    raise DataError(f"{path} {objection}; its columns are {one_line(', '.join(cells))[:200]}.", _HEADER)


def _text(path: Path) -> tuple[str, str]:
    """The file's text and encoding.

    Raises:
        DataError: it cannot be read or decoded, or contains a NUL, at which a cell would be truncated.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.", "Check its permissions.") from error
    text, encoding = _decode(path, data)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}: line {line} contains a NUL character.", "Save it as UTF-8.")
    return text, encoding


def _decode(path: Path, data: bytes) -> tuple[str, str]:
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
    # Text in Latin, Japanese and Korean encodings often decodes as GB18030, but to rare characters.
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


_QUOTES = 'Put paths and labels with a comma in "quotes".'
_HEADER = "Its first line must have the columns path, label and, if there are test photos, split."
