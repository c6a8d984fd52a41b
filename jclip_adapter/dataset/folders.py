"""A folder per class: root/<class>/*.jpg, root/<Domain>/<Class>/*.jpg, and both below root/train and root/test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from jclip_adapter.natural import natural_key
from jclip_adapter.problems import Problems, fits_a_line

from .model import ClassInfo, ImageSet, Photo
from .paths import list_folders, list_photos, warn_ignored

_log = logging.getLogger(__name__)


def load_folders(root: Path, problems: Problems) -> ImageSet:
    """Read classes and photos from the folders' names.

    Where root has a folder "train", the classes lie in it, and those of "test" beside it (which may also be flat,
    for photos without known labels). A folder that holds photos is a class; one that holds such folders is a
    domain, and its classes are called "<Domain>_<Class>". Ids follow the natural order of the names.

    Args:
        root: The folder.
        problems: Where the faults go; the caller raises them.

    Returns:
        The data set.
    """
    parts = {name.lower(): name for name in list_folders(root)}
    inner = parts.get("train", "")
    train = _classes(root, inner, problems, skip=() if inner else (parts.get("test", ""),))
    if not train:
        problems.add("empty folders", f"there is no folder of photos in {root / inner}", _LAYOUTS)
    test_base = root / parts.get("test", "")
    test = _classes(test_base, "", problems) if "test" in parts else {}
    flat, others = list_photos(test_base) if "test" in parts else ([], 0)
    warn_ignored(test_base, others)
    if flat and test:
        problems.add("mixed folders", f"{test_base.name} holds photos and folders of photos side by side")
    extra = sorted(set(parts) - {"train", "test"}) if inner else []
    if extra:
        _log.warning("%s: only train and test are read, not %s", root, ", ".join(parts[name] for name in extra))
    names = sorted({**train, **test}, key=natural_key)
    index_of = {name: index for index, name in enumerate(names)}
    classes = tuple(
        ClassInfo(index, name, {**test, **train}[name][0], train[name][1].rstrip("/") if name in train else "")
        for name, index in index_of.items()
    )
    photos = tuple(
        Photo(root, prefix + file, index_of[name])
        for name in names
        if name in train
        for _, prefix, files in [train[name]]
        for file in files
    )
    queries = [prefix + file for _, prefix, files in test.values() for file in files] or flat
    unlabelled = tuple(Photo(test_base, name, None) for name in sorted(queries, key=natural_key))
    return ImageSet(root.name, root, "folders", classes, photos, unlabelled, source=root)


_LAYOUTS = "Expected are classes.txt and train.txt, a folder per class, or a CSV file with the columns path and label."


def folder_labels(image_set: ImageSet) -> dict[str, int]:
    """Class index of each test photo by the folder that it lies in; empty for a flat test folder."""
    index_of = {info.name: index for index, info in enumerate(image_set.classes)}
    folders = {photo.relative: photo.relative.rpartition("/")[0].replace("/", "_") for photo in image_set.test}
    return {relative: index_of[name] for relative, name in folders.items() if name}


_Class = tuple[str, str, list[str]]  # domain, prefix of its photos' names, file names


def _classes(root: Path, part: str, problems: Problems, skip: tuple[str, ...] = ()) -> dict[str, _Class]:
    """The classes below root/part by full name; photo names start from root."""
    base, prefix = root / part, f"{part}/" if part else ""
    found: dict[str, _Class] = {}
    for name, domain, inner in _leaves(base, problems, skip):
        folder = base / inner
        files, others = list_photos(folder)
        warn_ignored(folder, others)
        if not fits_a_line(inner):
            problems.add("odd folder names", f"{inner!r} holds control characters")
        elif name in found:
            problems.add("repeated class names", f"{prefix}{inner} and {found[name][1]} both make {name}")
        elif files:
            found[name] = (domain, f"{prefix}{inner}/", files)
        else:
            _log.warning("%s holds no photo and is not taken for a class", folder)
    return found


def _leaves(base: Path, problems: Problems, skip: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Full name, domain and relative folder of each folder that may be a class."""
    for outer in list_folders(base):
        if outer in skip:
            continue
        inner = list_folders(base / outer)
        photos = list_photos(base / outer)[0] if inner else []
        if inner and photos:
            problems.add("mixed folders", f"{outer} holds photos and folders side by side")
        elif inner:
            yield from ((f"{outer}_{name}", outer, f"{outer}/{name}") for name in inner)
        else:
            yield outer, "", outer
