"""Data sets of class folders, possibly below domains, folds, or train/ and test/ (see layout.py)."""

from __future__ import annotations

from pathlib import Path

from jclip_adapter.core.natural import natural_key
from jclip_adapter.core.problems import Problems, counted, first_of

from .layout import ClassFolder, read_layout
from .model import ClassInfo, FileKind, ImageSet, Photo
from .names import canonical, note_clashes
from .paths import warn_ignored
from .tree import Tree, scan

_SHOWN = 5


def load_folders(root: Path, problems: Problems, layout: str = "", kind: FileKind = "photo") -> ImageSet:
    """Read classes and photos from folders.

    Class names are in Unicode's composed form (NFC); folders with equal names are one class. Ids follow the natural
    order of the names.

    Args:
        root: The folder.
        problems: Gets the faults; the caller raises them.
        layout: "class" or "domain/class" from the user; empty to infer it.
        kind: The files to read.

    Returns:
        The data set.
    """
    tree = scan(root, problems, kind)
    reading = read_layout(tree, layout, problems)
    train, test = _by_name(reading.train, problems), _by_name(reading.test, problems)
    if not train and not problems:
        text = f"there is no folder of {kind}s in {root}"
        own = f"{text}, but {kind}s" if tree.photos else ""
        problems.add("empty folders", own or text, "Give the folder above it." if own else _EXPECTED[kind])
    note_clashes([*train, *(name for name in test if name not in train)], problems)
    notes = [*reading.notes, *_empty(tree), *_unseen(train, test, layout, problems)]
    if len(train) == 1 and not test:
        notes.append(f"only one class, '{next(iter(train))}'")
    warn_ignored(root, tree.others, kind)
    names = sorted({**train, **test}, key=natural_key)
    index_of = {name: index for index, name in enumerate(names)}
    classes = tuple(
        ClassInfo(index, name, canonical({**test, **train}[name][0].domain), _folder(train.get(name, [])))
        for name, index in index_of.items()
    )
    photos = tuple(
        Photo(root, relative, index_of[name])
        for name in names
        for relative in sorted(_files(train.get(name, [])), key=natural_key)
    )
    place = reading.test_tree.relative if reading.test_tree else ""
    queries = [file for parts in test.values() for file in _files(parts)] or reading.flat
    unlabelled = tuple(
        Photo(root / place, file, None)
        for file in sorted((file.removeprefix(f"{place}/") for file in queries), key=natural_key)
    )
    folders = {
        part.tree.relative.removeprefix(f"{place}/"): index_of[name] for name, parts in test.items() for part in parts
    }
    return ImageSet(
        root.name,
        root,
        "folders",
        classes,
        photos,
        unlabelled,
        source=root,
        reading=reading.text.replace("photo", kind),
        notes=tuple(notes),
        test_folders=folders,
        kind=kind,
    )


_EXPECTED = {
    "photo": "Expected classes.txt and train.txt, a folder per class, or a CSV file with the columns path and label.",
    "sound": "Expected a folder per class, audio/ and meta/esc50.csv, or a CSV file with the columns path and label.",
}


def folder_labels(image_set: ImageSet) -> dict[str, int]:
    """Class index of each test photo by its folder; empty for a flat test folder."""
    labels = {}
    for photo in image_set.test:
        folder = photo.relative.rpartition("/")[0]
        while folder and folder not in image_set.test_folders:  # up to its class's folder
            folder = folder.rpartition("/")[0]
        if folder:
            labels[photo.relative] = image_set.test_folders[folder]
    return labels


def _by_name(folders: list[ClassFolder], problems: Problems) -> dict[str, list[ClassFolder]]:
    """The folders of each class by its full name; two domains giving the same name are a fault."""
    found: dict[str, list[ClassFolder]] = {}
    for item in folders:
        same = found.setdefault(item.name, [])
        if same and canonical(same[0].domain) != canonical(item.domain):
            text = f"{item.tree.relative} and {same[0].tree.relative} both give the name {item.name}"
            problems.add("repeated class names", text, "Rename one of the folders.")
        same.append(item)
    return found


def _files(parts: list[ClassFolder]) -> list[str]:
    return [file for part in parts for file in part.tree.all_photos()]


def _folder(parts: list[ClassFolder]) -> str:
    return parts[0].tree.relative if len(parts) == 1 else ""


def _empty(tree: Tree) -> list[str]:
    """A note on the folders without photos, which are not classes."""
    bare = [place for part in _with_empty(tree) for place in part]
    if not bare:
        return []
    if len(bare) == 1:
        return [f"{bare[0]} has no photo and is not a class"]
    return [f"{len(bare)} folders have no photo and are not classes: {first_of(bare, _SHOWN)}"]


def _with_empty(tree: Tree) -> list[list[str]]:
    prefix = f"{tree.relative}/" if tree.relative else ""
    inner = [part for child in tree.folders.values() for part in _with_empty(child)]
    return [[prefix + name for name in tree.empty], *inner]


def _unseen(
    train: dict[str, list[ClassFolder]], test: dict[str, list[ClassFolder]], layout: str, problems: Problems
) -> list[str]:
    """A note on test classes without training photos; a fault if that are all test classes."""
    new = sorted(set(test) - set(train), key=natural_key)
    if not new or not train:
        return []
    shown = first_of(new, _SHOWN)
    if len(new) == len(test) and not layout:
        text = (
            f"no class of the test photos ({shown}) is a class of the training photos ({', '.join([*train][:_SHOWN])})"
        )
        problems.add("foreign test classes", text, "Rename the folders, or confirm them by --layout.")
    return [f"without training photos: {counted(len(new), 'class')} of the test photos, {shown}"]
