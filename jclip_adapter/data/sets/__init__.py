"""Photos and their classes: the contest's layout, a folder per class, or a CSV file; and few-shot sampling."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Literal

from jclip_adapter.core.choices import LAYOUTS
from jclip_adapter.core.errors import DataError, MissingError, UsageError, suggest
from jclip_adapter.core.problems import Problems

from .contest import load_contest, numbered_pairs
from .folders import folder_labels, load_folders
from .model import PHOTO_SUFFIXES, ClassInfo, ImageSet, Photo
from .names import canonical
from .paths import check_files, check_links
from .sampling import first_support, note_short_classes, read_support, remaining, sample_support, support_lines
from .table import TABLE_SUFFIXES, is_table, load_table, table_labels

__all__ = [
    "PHOTO_SUFFIXES",
    "ClassInfo",
    "ImageSet",
    "Photo",
    "check_dataset",
    "check_test_links",
    "find_labels",
    "first_support",
    "load_dataset",
    "load_labels",
    "read_support",
    "remaining",
    "sample_support",
    "support_lines",
]

_log = logging.getLogger(__name__)
_CONTEST_MARKS = ("classes.txt", "train.txt", "classes_b.txt", "TrainSet", "TestSetA", "TestSetB")
_MEND = "Mend what is listed, or fetch the data again."


def load_dataset(
    root: str | Path,
    *,
    split: Literal["A", "B"] = "A",
    shots: int | None = None,
    layout: str = "",
    follow_links: bool = False,
) -> ImageSet:
    """Read a data set's lists; its layout is recognised by what lies in the folder.

    - the contest's: classes.txt (classes_b.txt for split B), train.txt, TrainSet/, TestSetA/ or TestSetB/;
    - a CSV file, or a folder with exactly one, that has the columns path, label and perhaps split;
    - a folder per class, or per domain and class, perhaps in folds, perhaps below train/ and test/.

    How it was read is logged in one line. Photos are not looked for one by one, as the contest has 181,729: whoever
    chooses some (`sample_support`, `read_support`, `remaining`) checks those, and `check_dataset` with `deep=True`
    checks all. Labels of test photos are never read.

    Args:
        root: The folder or the CSV file.
        split: The contest's test set.
        shots: If given, classes with fewer training photos are faults too, named in the same message.
        layout: "class" or "domain/class": what the folders are, where they do not tell; empty to go by evidence.
        follow_links: Whether photos may be links that lead out of the data folder.

    Returns:
        The data set.

    Raises:
        DataError: there is no data set, it contradicts itself, or its folders are ambiguous; all faults are listed
            in `details`.
        UsageError: `split` is neither A nor B, `layout` is unknown, or given for another data set than folders.
    """
    root = Path(root)
    if split not in ("A", "B"):
        raise UsageError(f"there is no split {split!r}.", "The contest's test sets are A and B.")
    if layout and layout not in LAYOUTS:
        raise UsageError(f"unknown layout '{layout}'.", suggest(layout, LAYOUTS))
    problems = Problems(root)
    image_set = dataclasses.replace(_load(root, split, layout, problems), follow_links=follow_links)
    if layout and image_set.layout != "folders":
        raise UsageError(f"--layout is for class folders, but {root} is read by its lists.", "Leave --layout out.")
    if shots is not None:
        note_short_classes(image_set, shots, problems)
    problems.raise_if_any(_MEND)
    _log_reading(image_set)
    return image_set


def _log_reading(image_set: ImageSet) -> None:
    counts = (
        f"{len(image_set.classes)} classes, {len(image_set.train)} training photos, {len(image_set.test)} test photos"
    )
    text = f"{image_set.source}: read as {image_set.reading}: {counts}"
    _log.log(logging.WARNING if image_set.notes else logging.INFO, "%s", "; ".join([text, *image_set.notes]))


def _load(root: Path, split: str, layout: str, problems: Problems) -> ImageSet:
    if not root.exists():
        raise MissingError(f"there is no data set at {root}.", _nearby(root))
    if root.is_file():
        if root.suffix.lower() not in TABLE_SUFFIXES:
            raise DataError(f"{root} is a file, but not a CSV file.", "Name the folder that holds the data set.")
        return load_table(root, problems)
    if any((root / mark).exists() for mark in _CONTEST_MARKS):
        return load_contest(root, split, problems)
    inner = next((folder for folder in sorted(root.glob("*/classes.txt")) if folder.is_file()), None)
    if inner is not None:
        raise DataError(f"{root} holds no data set, but {inner.parent} does.", f"Use --data {inner.parent}.")
    listed = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
    tables = [] if layout else [path for path in listed if is_table(path, exact=True)]
    loose = [] if layout or tables else [path for path in listed if is_table(path)]
    if loose:
        # Columns that only resemble path and label may describe something else; folders per class go first.
        found = Problems(root)
        image_set = load_folders(root, found)
        if not found and len({photo.label for photo in image_set.train}) > 1:
            note = f"{loose[0].name} is not read; use --data {loose[0]} for it"
            return dataclasses.replace(image_set, notes=(*image_set.notes, note))
        tables = loose
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise DataError(f"{root} holds more than one CSV file of photos ({names}).", "Name the one to use.")
    return load_table(tables[0], problems) if tables else load_folders(root, problems, layout)


def _nearby(root: Path) -> str:
    parent = root.parent
    siblings = [path.name for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    near = suggest(root.name, siblings) if siblings else ""
    return near if near.startswith("Did you mean") else "Give the folder by --data."


def check_dataset(image_set: ImageSet, *, shots: int | None = None, deep: bool = False) -> None:
    """Check what `load_dataset` leaves out.

    Args:
        image_set: The data set.
        shots: If given, classes with training photos, but fewer than this, are faults.
        deep: Look for every photo of the data set.

    Raises:
        DataError: listing all faults in `details`.
    """
    problems = Problems(image_set.source)
    if shots is not None:
        note_short_classes(image_set, shots, problems)
    if deep:
        photos = (*image_set.train, *(image_set.test if image_set.layout == "csv" else ()))
        check_files(photos, problems, follow_links=image_set.follow_links)
    problems.raise_if_any(_MEND)


def check_test_links(image_set: ImageSet) -> None:
    """Refuse test photos that are links out of the data folder, unless the data set's reader has allowed them.

    Raises:
        DataError: there are such; all are listed in `details`.
    """
    if image_set.follow_links:
        return
    problems = Problems(image_set.source)
    check_links(image_set.test, image_set.root, problems)
    problems.raise_if_any("Add --follow-links to follow links out of the data folder, or copy the photos there.")


def load_labels(path: str | Path, image_set: ImageSet) -> dict[str, int]:
    """Read the answers for the test photos. For scoring only: nothing that trains or tunes may call this.

    Args:
        path: A file of lines "image_1.jpg 142", the number being a class id.
        image_set: The data set.

    Returns:
        Class index by the photo's name as it stands in result.txt. Photos that the file does not name are
        left out, and counted in the log.

    Raises:
        DataError: lines that are malformed or repeated, or name a photo or an id that the data set lacks.
    """
    path = Path(path)
    problems = Problems(path)
    exact, known = set(image_set.test_names), {canonical(name): name for name in image_set.test_names}
    labels: dict[str, int] = {}
    for number, written, identity in numbered_pairs(path, problems):
        where = f"{path.name} line {number}"
        name = written if written in exact else known.get(canonical(written), "")
        index = image_set.index_of_id.get(identity)
        if index is None:
            problems.add("unknown ids", f"{where}: no class has id {identity}")
        elif not name:
            problems.add("unknown photos", f"{where}: there is no test photo {written}")
        elif name in labels:
            problems.add("duplicate lines", f"{where}: {name} is listed already")
        else:
            labels[name] = index
    if not labels and not problems:
        problems.add("empty lists", f"{path.name} names no photo")
    problems.raise_if_any("Its lines name a test photo and its class id, as in 'image_1.jpg 142'.")
    if len(labels) < len(known):
        _log.warning("%s: %d of %d test photos have no label", path, len(known) - len(labels), len(known))
    return labels


def find_labels(image_set: ImageSet) -> dict[str, int]:
    """Find the answers that a data set brings along. For scoring only, as with `load_labels`.

    In the contest's layout they are TestSetA_labels.txt or TestSetB_labels.txt beside the test folder; otherwise
    the folders of test/, or the label column of the CSV's test rows.

    Args:
        image_set: The data set.

    Returns:
        Class index by the photo's name as it stands in result.txt; empty where there are no answers.

    Raises:
        DataError: the labels file is faulty.
    """
    if image_set.layout == "folders":
        return folder_labels(image_set)
    if image_set.layout == "csv":
        return table_labels(image_set)
    path = image_set.root / f"TestSet{image_set.split}_labels.txt"
    return load_labels(path, image_set) if path.exists() else {}
