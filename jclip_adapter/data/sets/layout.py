"""Infers which folders of a tree are splits, folds, domains and classes.

Ambiguous trees are refused, with the possible readings and the option `--layout` that chooses one. Every inferred
decision gives a note for the user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from jclip_adapter.core.problems import Problems, counted, first_of

from .names import canonical, is_container, is_fold, is_session, parts_of, split_of
from .tree import Tree

_AMBIGUOUS = "ambiguous folders"
_SHOWN = 3  # names in a message


class ClassFolder(NamedTuple):
    """A folder of one class's photos: its domain ("" without), the class's own name, and the folder."""

    domain: str
    own: str
    tree: Tree

    @property
    def name(self) -> str:
        """The full name, composed by Unicode."""
        return canonical(f"{self.domain}_{self.own}" if self.domain else self.own)


@dataclass
class Reading:
    """The roles of a tree's folders.

    Attributes:
        train: The class folders of training photos.
        test: The class folders of labelled test photos.
        test_tree: The test folder; None for none.
        flat: Paths of unlabelled test photos, relative to the data folder.
        text: The layout in words, such as "train/class and test/class".
        notes: A sentence per inferred decision or ignored part.
    """

    train: list[ClassFolder] = field(default_factory=list)
    test: list[ClassFolder] = field(default_factory=list)
    test_tree: Tree | None = None
    flat: list[str] = field(default_factory=list)
    text: str = ""
    notes: list[str] = field(default_factory=list)


def read_layout(root: Tree, layout: str, problems: Problems) -> Reading:
    """Infer the roles of a tree's folders.

    Args:
        root: The data folder.
        layout: One of `choices.LAYOUTS` from the user; empty to infer it.
        problems: Gets the faults, including ambiguities.

    Returns:
        The reading, incomplete if there are faults.
    """
    reading = Reading()
    outer = _unwrap(root, "", layout, reading.notes, problems)
    train, test = _splits(outer, reading.notes, problems)
    if train is None or problems:
        return reading
    train = _unwrap(train, "" if train.relative == outer.relative else "train", layout, reading.notes, problems)
    bases = [_out_of_container(base, reading.notes) for base in _folds(train, problems)]
    if len(bases) > 1:
        reading.notes.append(f"the photos of {len(bases)} folds ({_names(bases)}) are all training photos")
    for base in bases:
        _refuse_strays(base, problems)
    pattern = layout or _pattern(bases, test, reading.notes, problems)
    if not pattern:
        return reading
    for base in bases:
        reading.train += _classes(base, pattern, problems)
    parts = [_in_words(train, bases, pattern, reading.train)]
    if test is not None:
        reading.test_tree = test
        parts.append(_read_test(test, pattern, layout, reading, problems))
    reading.text = " and ".join(parts)
    return reading


def _in_words(tree: Tree, bases: list[Tree], pattern: str, folders: list[ClassFolder]) -> str:
    parts = [tree.relative, "fold" if len(bases) > 1 else "", pattern]
    parts.append("sub-folder" if any(item.tree.folders for item in folders) else "")
    return "/".join(part for part in (*parts, "photo") if part)


def _names(trees: list[Tree]) -> str:
    shown = [tree.relative for tree in trees]
    return ", ".join(shown) if len(shown) <= 4 else f"{shown[0]} … {shown[-1]}"


def _unwrap(
    tree: Tree,
    part: str,
    layout: str,
    notes: list[str],
    problems: Problems,
    known: Callable[[str], bool] = lambda _: False,
) -> Tree:
    """The folder of the classes, inside any wrapper folders.

    Args:
        tree: The data folder, or that of a split.
        part: Its split as by `split_of`; empty for none.
        layout: The user's layout; empty for none.
        notes: Gets the unwrapped folders.
        problems: Gets the faults.
        known: Whether a single folder of this name is a class or domain, not a wrapper.
    """
    while not tree.photos and len(tree.folders) == 1:
        (child,) = tree.folders.values()
        inner = list(child.folders)
        splits = bool(_parts(child)) or any(map(is_fold, inner))
        if not inner or child.photos or (split_of(child.name) not in ("", part)) or is_fold(child.name):
            break
        if not splits and (known(child.name) or (layout and _is_meant(child, layout))):
            break
        if not splits and not layout and not is_container(child.name) and all(map(is_session, inner)):
            problems.add(
                _AMBIGUOUS,
                f"{child.relative} is the only folder, and {first_of(inner, _SHOWN)} in it may be classes, or sessions "
                f"of one class '{child.name}'",
                "Use --layout class for one class, or give the inner folder as --data.",
            )
            break
        notes.append(_unwrapped(child))
        tree = child
    return tree


def _is_meant(child: Tree, layout: str) -> bool:
    """Whether a single folder is a class or domain of the user's layout, not a wrapper.

    These are a class whose folders are sessions, and a domain without folders below its classes; everything else is
    unwrapped, as without a layout.
    """
    if is_container(child.name):
        return False
    if layout == "class":
        return all(map(is_session, child.folders)) and not any(tree.folders for tree in child.folders.values())
    below = [name for tree in child.folders.values() for name in tree.folders]
    return all(map(is_session, below))


def _out_of_container(fold: Tree, notes: list[str]) -> Tree:
    """The folder of a fold's classes: the fold itself, or a single wrapper folder in it."""
    only = next(iter(fold.folders.values())) if len(fold.folders) == 1 and not fold.photos else None
    if only is None or not only.folders or only.photos or not is_container(only.name):
        return fold
    notes.append(_unwrapped(only))
    return only


def _unwrapped(tree: Tree) -> str:
    return f"'{tree.relative}' is a single folder; the folders in it are read instead"


def _parts(tree: Tree) -> dict[str, str]:
    """The split of each split folder in a folder, as by `parts_of`."""
    return parts_of(tree.folders, {name for name, child in tree.folders.items() if child.folders})


def _splits(root: Tree, notes: list[str], problems: Problems) -> tuple[Tree | None, Tree | None]:
    """The folder of the training classes, possibly the root itself, and that of the test photos."""
    found: dict[str, list[Tree]] = {"train": [], "test": [], "val": []}
    parts = _parts(root)
    rest = {name: tree for name, tree in root.folders.items() if name not in parts}
    for name, part in parts.items():
        found[part].append(root.folders[name])
    bare = {split_of(name): name for name in root.empty if split_of(name)}
    flat = not any(tree.folders for tree in root.folders.values())
    if len(root.folders) - len(rest) == 1 and found["train"] and rest and flat and not bare:
        notes.append(f"'{found['train'][0].name}' has photos beside other classes, and is read as a class")
        return root, None
    before = len(problems)
    for part, trees in found.items():
        if len(trees) > 1:
            text = f"{' and '.join(tree.relative for tree in trees)} may both be the {part} photos"
            problems.add(_AMBIGUOUS, text, "Keep one of them in the data folder.")
    train, test, val = (trees[0] if trees else None for trees in found.values())
    _check_train(root, train, val, bare, problems)
    if len(problems) > before:
        return None, None
    if train is None:
        return Tree("", root.relative, root.photos, rest, [], root.others), test
    left = [*(tree.name for tree in (val,) if tree), *rest]
    if left:
        read = " and ".join(tree.name for tree in (train, test) if tree)
        notes.append(f"only {read} {'are' if test else 'is'} read, not {', '.join(left)}")
    if root.photos:
        notes.append(f"{counted(len(root.photos), 'photo')} beside '{train.name}', in no split, not read")
    return train, test


def _check_train(root: Tree, train: Tree | None, val: Tree | None, bare: dict[str, str], problems: Problems) -> None:
    """Add faults of the training folder, or of its absence."""
    if train is None and "train" in bare:
        text = f"there is no folder of photos in {root.relative or '.'}/{bare['train']}"
        problems.add("empty folders", text, _EXPECT)
    elif train is None and val is not None:
        text = f"'{val.relative}' has the name of a validation set, but no folder that of a training set"
        problems.add(_AMBIGUOUS, text, "Rename the training folder to train, or rename this one.")
    elif train is not None and train.photos and not train.folders:
        text = f"'{train.relative}' has photos, but no folder per class"
        problems.add("empty folders", text, "Put the photos of each class into a folder.")


_EXPECT = "Expected classes.txt and train.txt, a folder per class, or a CSV file of paths and labels."


def _folds(tree: Tree, problems: Problems) -> list[Tree]:
    """The folders of classes: the folds in a tree, or the tree itself."""
    folds = [child for name, child in tree.folders.items() if is_fold(name)]
    if not folds:
        return [tree]
    others = [name for name in tree.folders if not is_fold(name)]
    if others or len(folds) == 1 or tree.photos:
        beside = first_of(others, _SHOWN) if others else "no other fold"
        text = f"'{folds[0].relative}' has the name of a fold, but beside it is {beside}"
        problems.add(_AMBIGUOUS, text, "Separate folds from classes, or rename the folder.")
        return []
    flat = [fold.relative for fold in folds if fold.photos]
    if flat:
        text = f"{first_of(flat, _SHOWN)} have photos, but no folder per class"
        problems.add("empty folders", text, "Put the photos of each class into a folder.")
        return []
    return folds


def _refuse_strays(base: Tree, problems: Problems) -> None:
    """Add faults for photos beside class folders, and split folders inside class folders."""
    if base.photos and base.folders:
        where = base.relative or "the data folder"
        text = f"{where} has both photos and folders of photos, such as {base.photos[0]}"
        problems.add("mixed folders", text, "Move the photos into the folder of their class, or away.")
    for tree in _below(base):
        splits = list(_parts(tree))
        flat = not any(inner.folders for inner in tree.folders.values())
        lone = flat and len(splits) == 1 and split_of(splits[0]) == "train"
        if splits and not (lone and len(tree.folders) > 1):
            where = f"'{tree.relative}'" if tree.relative else "the data folder"
            problems.add(
                "splits inside classes",
                f"{where} has {first_of(splits, _SHOWN)}, named like splits",
                "Put train and test outermost: train/<class>, test/<class>.",
            )


def _below(tree: Tree) -> Iterator[Tree]:
    yield tree
    for child in tree.folders.values():
        yield from _below(child)


def _pattern(bases: list[Tree], test: Tree | None, notes: list[str], problems: Problems) -> str:
    """The layout of the folders, one of `choices.LAYOUTS`; empty, with a fault, if it is ambiguous."""
    outer = [child for base in bases for child in base.folders.values()]
    nested = [child for child in outer if child.folders]
    if not nested:
        return "class"
    mixed = next((child for child in nested if child.photos), None)
    if mixed is not None:
        problems.add("mixed folders", f"{mixed.relative} has both photos and folders", _LAYOUT)
        return ""
    example = nested[0]
    inner = [name for child in nested for name in child.folders]
    first = next(iter(example.folders))
    as_class = f"class '{example.name}' with sub-folders such as '{first}' (--layout class)"
    as_domain = f"domain '{example.name}' with classes such as '{first}' (--layout domain/class)"
    if test is not None and {name.casefold() for name, tree in test.folders.items() if tree.photos} & {
        child.name.casefold() for child in nested
    }:
        notes.append(f"read as {as_class}, since the test photos are in folders of that name")
        return "class"
    deep = any(tree.folders for child in nested for tree in child.folders.values())
    if not deep and all(map(is_session, inner)):
        notes.append(f"read as {as_class}, since '{first}' is not a class name")
        return "class"
    open_question = _open_question(outer, f"'{example.relative}/{first}' may be {as_class}, or {as_domain}", deep)
    if open_question is not None:
        problems.add(_AMBIGUOUS, *open_question)
        return ""
    notes.append(f"read as {as_domain}, not as {as_class}")
    return "domain/class"


def _open_question(outer: list[Tree], readings: str, deep: bool) -> tuple[str, str] | None:
    """Why it is ambiguous whether outer or inner folders are the classes, and what to do; None if it is not."""
    owners: dict[str, set[str]] = {}
    for child in outer:
        for name in child.folders:
            owners.setdefault(canonical(name).casefold(), set()).add(child.name)
    repeated = next((name for name, above in owners.items() if len(above) > 1), "")
    if repeated and all(is_session(child.name) for child in outer):
        parts = first_of(sorted(owners[repeated]), _SHOWN)
        return f"'{repeated}' is in {parts}, which have names of parts, not of classes", _SPLITS_BY_NAME
    if repeated:
        hint = f"{_LAYOUT[:-1]}; if they are splits, rename them to train and test."
        return f"'{repeated}' is in several folders; {readings}", hint
    if deep or any(is_session(name) for child in outer for name in child.folders):
        return readings, _LAYOUT
    return None


_LAYOUT = "Choose the reading by --layout class or --layout domain/class."
_SPLITS_BY_NAME = "Rename them to train and test, or to fold_1, fold_2 and so on if all are training photos."


def _classes(base: Tree, pattern: str, problems: Problems) -> list[ClassFolder]:
    """The class folders below a folder of classes or domains."""
    found = []
    for outer in base.folders.values():
        if pattern == "class" or not outer.folders:
            found.append(ClassFolder("", outer.name, outer))
        elif outer.photos:
            text = f"the domain '{outer.relative}' has both photos and folders"
            problems.add("mixed folders", text, "Move the photos into the folder of their class, or away.")
        else:
            found += [ClassFolder(outer.name, inner.name, inner) for inner in outer.folders.values()]
    return found


def _read_test(test: Tree, pattern: str, layout: str, reading: Reading, problems: Problems) -> str:
    """Read the test folder with the training folder's layout; returns its layout in words."""
    if test.photos and not test.folders:
        reading.flat = list(test.all_photos())
        return f"{test.relative}/photo"
    names = {canonical(each).casefold() for item in reading.train for each in (item.domain, item.own) if each}

    def known(name: str) -> bool:
        return canonical(name).casefold() in names

    inner = _unwrap(test, "test", layout, reading.notes, problems, known)
    only = next(iter(inner.folders.values())) if len(inner.folders) == 1 and not inner.photos else None
    if only is not None and not only.folders and not known(only.name) and not layout:
        text = f"'{only.relative}' is the only folder of test photos and not a class: they have no labels"
        reading.notes.append(text)
        reading.flat = list(only.all_photos())
        return f"{only.relative}/photo"
    bases = [_out_of_container(base, reading.notes) for base in _folds(inner, problems)]
    for base in bases:
        _refuse_strays(base, problems)
        deeper = next((tree for tree in base.folders.values() if tree.folders and not known(tree.name)), None)
        if pattern == "class" and deeper is not None and not layout:
            text = f"'{deeper.relative}' has folders, but the layout of the training photos is class/photo"
            problems.add(_AMBIGUOUS, text, _LAYOUT)
        reading.test += _classes(base, pattern, problems)
    return _in_words(inner, bases, pattern, reading.test)
