"""Published splits: the JSON files split_zhou_NAME.json of CoOp, which name training, validation and test photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.problems import Problems, one_line

from .columns import contradiction
from .model import ImageSet, Photo
from .names import canonical
from .paths import check_files
from .rows import Row, image_set_of, labels_of_test_photos

PATTERN = "split_zhou_*.json"
_PARTS = ("train", "val", "test")
_FORM = "Fetch it again: CoOp's DATASETS.md links the files."


def load_published(path: Path, problems: Problems) -> ImageSet:
    """Read a published split.

    The file holds lists "train", "val" and "test" of [path, label, class name]. Classes keep the order of the labels,
    on which base-to-new depends. The name in the file's name (OxfordPets) becomes the classes' domain, so that a prompt
    set such as `coop` has a template for it. The paths start from the file's folder, or from the folder in it where the
    first training photo is.

    Args:
        path: The file.
        problems: Gets the faults; the caller raises them.

    Returns:
        The data set; test photos carry no label.

    Raises:
        DataError: the file cannot be read or has another form.
    """
    rows = _rows(path)
    base = _photo_folder(path.parent, rows)
    domain = path.stem.removeprefix("split_zhou_")
    facts = image_set_of(path, base, rows, problems, validation=True, domain=domain)
    inner = "" if base == path.parent else f" of photos in {base.name}/"
    return ImageSet(layout="published", reading=f"a published split{inner}", **facts)


def published_labels(image_set: ImageSet) -> dict[str, int]:
    """Class index of each test photo of a published split."""
    return labels_of_test_photos(image_set, _rows(image_set.source))


def _rows(path: Path) -> list[Row]:
    """The rows of all splits, each once.

    Raises:
        DataError: the file has another form, or a row has.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.", "Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON.", _FORM) from error
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in _PARTS):
        raise DataError(f"{path} is not a published split: expected lists train, val and test.", _FORM)
    found: dict[tuple[str, ...], Row] = {}
    for part in _PARTS:
        for number, row in enumerate(content[part], 1):
            where = f"{part} row {number}"
            if not _is_sound(row):
                shown = one_line(repr(row))[:80]
                raise DataError(f"{path}: {where}: expected [path, label, class name], got {shown}.", _FORM)
            new = Row(row[0], canonical(row[2].strip()), str(row[1]), part, where)
            found.setdefault(new[:4], new)
    rows = list(found.values())
    objection = contradiction([row.key for row in rows], [row.label for row in rows])
    if objection:
        raise DataError(f"{path}: {objection}.", _FORM)
    return rows


def _is_sound(row: Any) -> bool:
    """Whether a row is a path, a label from 0 and a class name."""
    typed = isinstance(row, list) and [type(cell) for cell in row] == [str, int, str]
    return typed and row[1] >= 0 and bool(row[2].strip())


def _photo_folder(folder: Path, rows: list[Row]) -> Path:
    """The folder that the paths start from: the file's own, or the one in it where the first training photo is."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir())

    def holds_first(base: Path) -> bool:
        missing = Problems(base)
        check_files([Photo(base, rows[0].path, None)], missing, follow_links=True)
        return not missing

    return next((base for base in (folder, *inner) if rows and holds_first(base)), folder)
