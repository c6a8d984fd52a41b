"""A data set: classes, labelled training photos, unlabelled test photos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.problems import counted

_SUFFIXES = (
    ".jpg .jpeg .jpe .jfif .jif .mpo .png .apng .bmp .dib .webp .gif .tif .tiff .pbm .pgm .ppm .pnm "
    ".avif .avifs .heic .heics .heif .heifs .hif"
)
PHOTO_SUFFIXES = frozenset(_SUFFIXES.split())
"""Suffixes, in lower case, of photos in a folder.

Unsupported formats such as camera raw are not included: they are often beside the JPEG of the same photo.
"""

PARTS = "parts"
"""Layout of photos that are features in parts, without their files."""

FileKind = Literal["photo", "sound"]
"""What the files of a data set are."""


@dataclass(frozen=True)
class ClassInfo:
    """One class.

    Args:
        id: The class id in the contest's lists and in result.txt.
        name: The full name, such as "Animal_Bear".
        domain: The name's first part, such as "Animal"; empty without domains.
        folder: The folder of its training photos, relative to the data folder ("TrainSet/Animal/Bear"); empty if there
            is not exactly one.
    """

    id: int
    name: str
    domain: str
    folder: str


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo, or one sound.

    Args:
        base: The folder that `relative` starts from.
        relative: The path with "/": for a training photo as in the list file ("TrainSet/Animal/Bear/1.jpg"), for a test
            photo as in result.txt ("image_1.jpg").
        label: Its class index in `ImageSet.classes` (not the class id); None for test photos.
    """

    base: Path
    relative: str
    label: int | None

    @property
    def path(self) -> Path:
        """The file's path, joined on demand: creating 180,000 Path objects takes longer than reading the list."""
        return self.base / self.relative


@dataclass(frozen=True)
class ImageSet:
    """A data set.

    Args:
        name: Name of the folder or file.
        root: The data folder, to which paths in lists are relative.
        layout: "contest", "folders", "csv", "published", "esc50", "typed", or "parts", whose photos have no files.
        classes: The classes in the order of their ids; labels are indices into it.
        train: Labelled photos, in the order of the list file or the natural order of names.
        test: Photos to be classified, in natural order, without labels (see `find_labels` and `load_labels`).
        split: The contest's test set and class list, "A" or "B".
        source: The given file or folder, for messages.
        reading: The layout in words, such as "train/class and test/class".
        notes: A sentence per inferred decision or ignored part.
        test_folders: Class index of each folder of test photos, for `find_labels`.
        follow_links: Whether photos may be links out of the data folder.
        validation: Labelled photos for choosing hyper-parameters, of a published split.
        kind: What the files are; sounds take the place of photos in all attributes.
        folds: ESC-50's fold of each training sound, 1 to 5; empty for others.
    """

    name: str
    root: Path
    layout: str
    classes: tuple[ClassInfo, ...] = field(repr=False)
    train: tuple[Photo, ...] = field(repr=False)
    test: tuple[Photo, ...] = field(repr=False)
    split: str = "A"
    source: Path = Path()
    reading: str = ""
    notes: tuple[str, ...] = field(default=(), repr=False)
    test_folders: Mapping[str, int] = field(default_factory=dict, repr=False)
    follow_links: bool = False
    validation: tuple[Photo, ...] = field(default=(), repr=False)
    kind: FileKind = "photo"
    folds: tuple[int, ...] = field(default=(), repr=False)

    @property
    def summary(self) -> str:
        """Numbers of classes and photos, and the layout, for messages."""
        if self.layout == "typed":
            return counted(len(self.classes), "class")
        counts = counted(len(self.train), f"training {self.kind}" if self.test else self.kind)
        if self.test:
            counts += f", {counted(len(self.test), f'test {self.kind}')}"
        reading = "a folder per class" if self.reading == f"class/{self.kind}" else f"read as {self.reading}"
        return f"{counted(len(self.classes), 'class')}, {counts}, {reading}"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Full name of each class."""
        return tuple(info.name for info in self.classes)

    @property
    def class_ids(self) -> tuple[int, ...]:
        """Id of each class."""
        return tuple(info.id for info in self.classes)

    @property
    def domains(self) -> tuple[str, ...]:
        """Domain of each class."""
        return tuple(info.domain for info in self.classes)

    @property
    def test_names(self) -> tuple[str, ...]:
        """Name of each test photo, as in result.txt."""
        return tuple(photo.relative for photo in self.test)

    @cached_property
    def index_of_id(self) -> dict[int, int]:
        """Class index by class id."""
        return {info.id: index for index, info in enumerate(self.classes)}

    @cached_property
    def train_by_class(self) -> tuple[tuple[Photo, ...], ...]:
        """Training photos of each class, in list order."""
        groups: list[list[Photo]] = [[] for _ in self.classes]
        for photo in self.train:
            if photo.label is not None:
                groups[photo.label].append(photo)
        return tuple(tuple(group) for group in groups)


def paths_of(photos: Iterable[Photo]) -> list[Path]:
    """Paths of N photos."""
    return [photo.path for photo in photos]


def labels_of(photos: Iterable[Photo]) -> npt.NDArray[np.int64]:
    """(N,) class indices of N labelled photos."""
    return np.array([photo.label for photo in photos], dtype=np.int64)


def split_name(name: str) -> tuple[str, str]:
    """Domain and rest of a full class name, as the contest writes it.

    >>> split_name("Caltech-101_car_side")
    ('Caltech-101', 'car_side')
    >>> split_name("bear")
    ('', 'bear')
    """
    domain, separator, rest = name.partition("_")
    return (domain, rest) if separator else ("", name)
