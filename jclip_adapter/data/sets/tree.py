"""A tree of folders with photos, or with sounds: they are called photos here too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jclip_adapter.core.problems import Problems, one_line, why_unfit

from .model import FileKind
from .paths import list_folder

_DEEPEST = 8  # levels of folders; data sets have up to four


@dataclass
class Tree:
    """A folder.

    Attributes:
        name: Its name; empty for the data folder.
        relative: Its path relative to the data folder; empty for the data folder.
        photos: Names of the photos directly in it, in natural order.
        folders: Its folders with photos at any depth, by name in natural order.
        empty: Names of its folders without photos.
        others: Number of other files at any depth.
    """

    name: str
    relative: str
    photos: list[str]
    folders: dict[str, Tree] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    others: int = 0

    def all_photos(self) -> Iterator[str]:
        """Paths of all photos at any depth, relative to the data folder."""
        prefix = f"{self.relative}/" if self.relative else ""
        yield from (prefix + name for name in self.photos)
        for folder in self.folders.values():
            yield from folder.all_photos()

    def count(self) -> int:
        """Number of photos at any depth."""
        return len(self.photos) + sum(folder.count() for folder in self.folders.values())


def scan(root: Path, problems: Problems, kind: FileKind = "photo") -> Tree:
    """Read a tree of folders; links are followed, circular ones are a fault.

    Args:
        root: The data folder.
        problems: Gets the faults.
        kind: The files to list.

    Raises:
        DataError: a folder cannot be read.
    """
    return _scan(root, "", "", (), problems, kind)


def _scan(
    path: Path, name: str, relative: str, above: tuple[tuple[int, int], ...], problems: Problems, kind: FileKind
) -> Tree:
    listing = list_folder(path, kind)
    tree = Tree(name, relative, listing.photos, others=listing.others)
    state = os.stat(path)  # noqa: PTH116 (of a folder that was just listed; pathlib's would follow links alike)
    chain = (*above, (state.st_dev, state.st_ino))
    for inner in listing.folders:
        place = f"{relative}/{inner}" if relative else inner
        objection = _objection(path / inner, inner, chain)
        if objection:
            problems.add("unreadable folders", f"'{one_line(place)}' {objection}")
            continue
        child = _scan(path / inner, inner, place, chain, problems, kind)
        tree.others += child.others
        if child.photos or child.folders:
            tree.folders[inner] = child
        else:
            tree.empty.append(inner)
    return tree


def _objection(path: Path, name: str, above: tuple[tuple[int, int], ...]) -> str:
    if why_unfit(name):
        return why_unfit(name)
    state = path.stat()
    if (state.st_dev, state.st_ino) in above:
        return "is a circular link"
    if len(above) > _DEEPEST:
        return f"is more than {_DEEPEST} folders deep"
    return "" if name == name.strip() else "has a name that begins or ends with a blank"
