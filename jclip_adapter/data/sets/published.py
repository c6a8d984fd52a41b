"""Published splits: the JSON files split_zhou_NAME.json of CoOp, which name training, validation and test photos."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.natural import natural_key
from jclip_adapter.core.problems import Problems, why_unfit

from .model import ClassInfo, ImageSet, Photo
from .names import canonical, note_clashes
from .paths import check_files, unsafe

PATTERN = "split_zhou_*.json"
_NAME = re.compile(r"(?:split_zhou_)?(.+)")
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
    rows = _rows(path, problems)
    words: dict[int, str] = {}
    seen: dict[str, str] = {}
    for part, listed in rows.items():
        for number, (relative, label, name) in enumerate(listed, 1):
            where = f"{part} row {number}"
            if words.setdefault(label, name) != name:
                problems.add(
                    "labels with two names", f"{where}: label {label} is {words[label]!r:.40} and {name!r:.40}"
                )
            if seen.setdefault(relative, part) != part:
                problems.add("photos in two splits", f"{where}: {relative} is also in {seen[relative]}")
    labels = sorted(words)
    names = [words[label] for label in labels]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.add("names with two labels", f"{name!r:.40} has several labels")
    note_clashes(names, problems)
    place = {label: number for number, label in enumerate(labels)}
    base = _photo_folder(path.parent, rows)

    def photos(part: str, labelled: bool) -> list[Photo]:
        found = dict.fromkeys((relative, place[label] if labelled else None) for relative, label, _ in rows[part])
        return [Photo(base, *each) for each in found]

    train, validation, test = (photos(part, labelled=part != "test") for part in _PARTS)
    if not train and not problems:
        problems.add("empty lists", "there are no training photos")
    if problems:
        check_files([*train, *validation, *test], problems)  # lists missing photos in the same error
    domain = _NAME.fullmatch(path.stem)
    classes = tuple(ClassInfo(label, words[label], domain[1] if domain else "", "") for label in labels)
    test.sort(key=lambda photo: natural_key(photo.relative))
    inner = "" if base == path.parent else f" of photos in {base.name}/"
    return ImageSet(
        path.stem,
        path.parent,
        "published",
        classes,
        tuple(train),
        tuple(test),
        source=path,
        reading=f"a published split{inner}",
        validation=tuple(validation),
    )


def published_labels(image_set: ImageSet) -> dict[str, int]:
    """Class index of each test photo of a published split."""
    rows = _rows(image_set.source, Problems(image_set.source))
    return {relative: image_set.index_of_id[label] for relative, label, _ in rows["test"]}


def _rows(path: Path, problems: Problems) -> dict[str, list[tuple[str, int, str]]]:
    """Path, label and class name of each photo by split; malformed rows are faults.

    Raises:
        DataError: the file has another form.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.", "Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON.", _FORM) from error
    lists: dict[str, list[Any]] = {}
    if isinstance(content, dict):
        lists = {part: content[part] for part in _PARTS if isinstance(content.get(part), list)}
    if len(lists) < len(_PARTS):
        raise DataError(f"{path} is not a published split: expected lists train, val and test.", _FORM)
    found: dict[str, list[tuple[str, int, str]]] = {}
    for part, listed in lists.items():
        found[part] = []
        for number, row in enumerate(listed, 1):
            objection = _objection(row)
            if objection:
                problems.add("malformed rows", f"{part} row {number}: {objection}")
            else:
                found[part].append((row[0], row[1], canonical(row[2].strip())))
    return found


def _objection(row: Any) -> str:
    """Why a row is refused; empty for a sound one."""
    if not isinstance(row, list) or [type(cell) for cell in row] != [str, int, str]:
        return f"expected [path, label, class name], got {row!r:.60}"
    path, label, name = row
    if unsafe(path):
        return f"{path!r:.60} {unsafe(path)}"
    if label < 0:
        return f"the label {label} is negative"
    if not name.strip() or why_unfit(name):
        return f"the class name {name!r:.40} {why_unfit(name) or 'is empty'}"
    return ""


def _photo_folder(folder: Path, rows: dict[str, list[tuple[str, int, str]]]) -> Path:
    """The folder that the paths start from: the file's own, or the one in it where the first training photo is."""
    first = next((relative for part in _PARTS for relative, _, _ in rows[part]), "")
    inner = sorted(path for path in folder.iterdir() if path.is_dir()) if first else []
    return next((base for base in (folder, *inner) if (base / first).is_file()), folder)
