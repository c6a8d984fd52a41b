"""Data sets in the contest's layout, a folder per class, a CSV file, a published split, or ESC-50's layout."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Literal

from jclip_adapter.core.errors import DataError, MissingError, UsageError, suggest
from jclip_adapter.core.problems import Problems
from jclip_adapter.data.parts import is_parts

from .contest import load_contest, numbered_pairs
from .esc50 import ESC50, load_esc50, with_classes
from .folders import folder_labels, load_folders
from .kind import is_contest
from .model import PARTS, PHOTO_SUFFIXES, ClassInfo, FileKind, ImageSet, Photo
from .names import canonical
from .parts import load_parts
from .paths import check_links
from .published import PATTERN, load_published, published_labels
from .sampling import first_support, read_support, remaining, sample_support, support_lines
from .table import TABLE_SUFFIXES, is_table, load_table, table_labels

__all__ = [
    "PHOTO_SUFFIXES",
    "ClassInfo",
    "ImageSet",
    "Photo",
    "check_test_links",
    "find_labels",
    "first_support",
    "load_dataset",
    "load_labels",
    "read_support",
    "remaining",
    "sample_support",
    "support_lines",
    "with_classes",
]

_log = logging.getLogger(__name__)


def load_dataset(
    root: str | Path,
    *,
    split: Literal["A", "B"] = "A",
    layout: str = "",
    follow_links: bool = False,
    kind: FileKind = "photo",
) -> ImageSet:
    """Read a data set; its layout is recognised from the folder's content.

    - the contest's: classes.txt (classes_b.txt for split B), train.txt, TrainSet/, TestSetA/ or TestSetB/;
    - a CSV file, or a folder with exactly one, with the columns path, label and optionally split;
    - a published split, split_zhou_NAME.json, or a folder with exactly one;
    - a folder per class, or per domain and class, optionally in folds, optionally below train/ and test/;
    - for sounds, ESC-50's: audio/ and meta/esc50.csv, see `esc50.load_esc50`;
    - a folder of features in parts, whose labelled rows are the training photos.

    Folders may hold photos and sounds: one call reads the photos, another the sounds.

    Photo files are not checked, as the contest has 181,729: `sample_support`, `read_support` and `remaining` check the
    photos that they return. Labels of test photos are not read.

    Args:
        root: The folder, the CSV file or the published split.
        split: The contest's test set.
        layout: "class" or "domain/class", if the folders are ambiguous; empty to infer it.
        follow_links: Whether photos may be links out of the data folder.
        kind: The files to read; sounds are read from folders, CSV files and ESC-50's layout.

    Returns:
        The data set.

    Raises:
        DataError: there is no data set, it is inconsistent, or its folders are ambiguous; `details` lists all faults.
        UsageError: `layout` is given for a data set that is not folders.
    """
    root = Path(root)
    problems = Problems(root)
    image_set = dataclasses.replace(_load(root, split, layout, problems, kind), follow_links=follow_links, kind=kind)
    if layout and image_set.layout != "folders":
        raise UsageError(f"--layout needs class folders, but {root} has lists.", "Leave --layout out.")
    problems.raise_if_any("Fix what is listed, or fetch the data again.")
    return image_set


def _load(root: Path, split: str, layout: str, problems: Problems, kind: FileKind) -> ImageSet:
    if not root.exists():
        raise MissingError(f"there is no data set at {root}.", _nearby(root))
    if root.is_file():
        return _load_file(root, problems)
    if is_parts(root):
        return load_parts(root, problems)
    if kind == "sound" and (root / ESC50).is_file():
        return load_esc50(root, problems)
    if kind == "photo" and is_contest(root):
        return load_contest(root, split, problems)
    if kind == "photo":
        _refuse_outer(root)
    listed = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
    tables = [] if layout else sorted(root.glob(PATTERN)) or [path for path in listed if is_table(path, exact=True)]
    loose = [] if layout or tables else [path for path in listed if is_table(path)]
    if loose:
        # Columns with names similar to path and label may be something else, so folders per class take precedence.
        found = Problems(root)
        image_set = load_folders(root, found, kind=kind)
        if not found and len({photo.label for photo in image_set.train}) > 1:
            note = f"{loose[0].name} is not read; use --data {loose[0]} for it"
            return dataclasses.replace(image_set, notes=(*image_set.notes, note))
        tables = loose
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise DataError(f"{root} has more than one list of {kind}s ({names}).", "Give one of them.")
    return _load_file(tables[0], problems) if tables else load_folders(root, problems, layout, kind)


def _refuse_outer(root: Path) -> None:
    """Refuse the folder that a data set in the contest's layout is in."""
    inner = next((folder for folder in sorted(root.glob("*/classes.txt")) if folder.is_file()), None)
    if inner is not None:
        raise DataError(f"{root} is not a data set, but {inner.parent} is.", f"Use --data {inner.parent}.")


def _load_file(path: Path, problems: Problems) -> ImageSet:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return load_published(path, problems)
    if suffix in TABLE_SUFFIXES:
        return load_table(path, problems)
    raise DataError(
        f"{path} is a file, but neither a CSV file nor a published split.", "Give the folder of the data set."
    )


def _nearby(root: Path) -> str:
    parent = root.parent
    siblings = [path.name for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    near = suggest(root.name, siblings) if siblings else ""
    return near if near.startswith("Did you mean") else "Give the folder by --data."


def check_test_links(image_set: ImageSet) -> None:
    """Refuse test photos that are links out of the data folder, unless `follow_links` was set.

    Raises:
        DataError: there are such links; `details` lists them.
    """
    if image_set.follow_links or image_set.layout == PARTS:
        return
    problems = Problems(image_set.source)
    check_links(image_set.test, image_set.root, problems)
    problems.raise_if_any("Add --follow-links to follow links out of the data folder, or copy the photos there.")


def load_labels(path: str | Path, image_set: ImageSet) -> dict[str, int]:
    """Read labels of the test photos. For scoring only: training and tuning must not call this.

    Args:
        path: A file of lines "image_1.jpg 142" with class ids.
        image_set: The data set.

    Returns:
        Class index by photo name as in result.txt; photos without a label are logged.

    Raises:
        DataError: lines that are malformed or repeated, or have an unknown photo or id.
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
            problems.add("duplicate lines", f"{where}: {name} is already listed")
        else:
            labels[name] = index
    if not labels and not problems:
        problems.add("empty lists", f"{path.name} names no photo")
    problems.raise_if_any("Its lines name a test photo and its class id, as in 'image_1.jpg 142'.")
    if len(labels) < len(known):
        _log.warning("%s: %d of %d test photos have no label", path, len(known) - len(labels), len(known))
    return labels


def find_labels(image_set: ImageSet) -> dict[str, int]:
    """Find a data set's test labels. For scoring only, as with `load_labels`.

    In the contest's layout they are TestSetA_labels.txt or TestSetB_labels.txt beside the test folder; otherwise the
    folders of test/, the label column of the CSV's test rows, or the test list of a published split.

    Args:
        image_set: The data set.

    Returns:
        Class index by photo name as in result.txt; empty without labels.

    Raises:
        DataError: the labels file is malformed.
    """
    if image_set.layout == "folders":
        return folder_labels(image_set)
    if image_set.layout == "csv":
        return table_labels(image_set)
    if image_set.layout == "published":
        return published_labels(image_set)
    if image_set.layout == PARTS:
        return {}
    path = image_set.root / f"TestSet{image_set.split}_labels.txt"
    return load_labels(path, image_set) if path.exists() else {}
