"""A CSV file with the columns path, label and, where there are test photos, split."""

from __future__ import annotations

import warnings
from pathlib import Path

from jclip_adapter.errors import DataError
from jclip_adapter.natural import natural_key, natural_sorted
from jclip_adapter.problems import Problems

from .model import ClassInfo, ImageSet, Photo
from .paths import check_files, unsafe

_SPLITS = ("train", "test")


def is_table(path: Path) -> bool:
    """Whether a CSV file's first line names the columns path and label."""
    try:
        with path.open(encoding="utf-8-sig") as handle:
            header = handle.readline(10_000)
    except (OSError, UnicodeDecodeError):
        return False
    return {"path", "label"} <= {name.strip().strip('"').lower() for name in header.split(",")}


def load_table(path: Path, problems: Problems) -> ImageSet:
    """Read a CSV file of photos.

    Paths are relative to the CSV's folder. Every row is a training photo unless a column split says "test". The
    label is the class name; ids follow the natural order of the names. Other columns are ignored.

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
    for row, (relative, label, split) in enumerate(_rows(path), 2):
        where = f"row {row}"
        objection = unsafe(relative) if relative else "is empty"
        if objection:
            problems.add("paths that are refused", f"{where}: {relative or 'the path'} {objection}")
        elif split not in _SPLITS:
            problems.add("unknown splits", f"{where}: {split!r} is neither train nor test")
        elif not label and split == "train":
            problems.add("missing labels", f"{where}: {relative} has no label")
        elif relative not in seen:
            seen[relative] = (label, split)
        elif seen[relative] == (label, split):
            problems.add("duplicate rows", f"{where}: {relative} is listed already")
        else:
            problems.add("photos with two labels", f"{where}: {relative} is listed with another label or split already")
    names = natural_sorted({label for label, _ in seen.values() if label})
    index_of = {name: index for index, name in enumerate(names)}
    train = tuple(Photo(root, name, index_of[label]) for name, (label, split) in seen.items() if split == "train")
    test = [Photo(root, name, None) for name, (_, split) in seen.items() if split == "test"]
    if not train and not problems:
        problems.add("empty lists", "no row is a training photo")
    if problems:
        check_files([*train, *test], problems)  # as the load fails anyway, let its message name the missing photos too
    classes = tuple(ClassInfo(index, name, "", "") for name, index in index_of.items())
    test.sort(key=lambda photo: natural_key(photo.relative))
    return ImageSet(path.stem, root, "csv", classes, train, tuple(test), source=path)


def table_labels(image_set: ImageSet) -> dict[str, int]:
    """Class index of each test photo by the CSV's label column; photos without a label are left out."""
    index_of = {info.name: index for index, info in enumerate(image_set.classes)}
    return {
        relative: index_of[label]
        for relative, label, split in _rows(image_set.source)
        if split == "test" and label in index_of
    }


def _rows(path: Path) -> list[tuple[str, str, str]]:
    """Path, label and split of each row."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            # A row longer than the header would otherwise lose its last cells, or shift by one.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Without keep_default_na a class called "NA" or "null" would be read as missing.
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.", "Check its permissions.") from error
    except (ValueError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not a CSV file that can be read ({reason}).", _QUOTES) from error
    table.columns = table.columns.str.strip().str.lower()
    lacking = {"path", "label"} - set(table.columns)
    if lacking:
        raise DataError(f"{path} has no column {' and no column '.join(sorted(lacking))}.", _COLUMNS)
    splits = table["split"].str.strip().str.lower() if "split" in table else ["train"] * len(table)
    return list(zip(table["path"].str.strip(), table["label"].str.strip(), splits, strict=True))


_QUOTES = 'A path or label that holds a comma must stand in "quotes".'
_COLUMNS = "Its first line must name the columns path, label and, if there are test photos, split."
