"""What a data set is to the rest of the program: classes, training photos with labels, test photos without."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

_SUFFIXES = (
    ".jpg .jpeg .jpe .jfif .jif .mpo .png .apng .bmp .dib .webp .gif .tif .tiff .pbm .pgm .ppm .pnm "
    ".avif .avifs .heic .heics .heif .heifs .hif"
)
PHOTO_SUFFIXES = frozenset(_SUFFIXES.split())
"""Endings, in lower case, of the files that count as photos where a folder is listed.

Formats that are not read, such as camera raw, do not count: they often lie beside the JPEG of the same photo.
"""


@dataclass(frozen=True)
class ClassInfo:
    """One class.

    Args:
        id: The number that stands in the contest's lists and in result.txt.
        name: The full name, such as "Animal_Bear".
        domain: What the name begins with, such as "Animal"; empty for a data set without domains.
        folder: Where its training photos lie, relative to the data folder ("TrainSet/Animal/Bear"); empty where
            it has none, or where they do not lie in one folder.
    """

    id: int
    name: str
    domain: str
    folder: str


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo.

    Args:
        base: The folder that `relative` starts from.
        relative: The name with "/" between folders: for a training photo as it stands in the list file
            ("TrainSet/Animal/Bear/1.jpg"), for a test photo as it stands in result.txt ("image_1.jpg").
        label: The index of its class in `ImageSet.classes` (not the class id); None for test photos.
    """

    base: Path
    relative: str
    label: int | None

    @property
    def path(self) -> Path:
        """Where the file lies.

        Joined on demand: 180,000 Path objects would take longer to make than the list takes to read.
        """
        return self.base / self.relative


@dataclass(frozen=True)
class ImageSet:
    """A data set.

    Args:
        name: The folder's or file's name.
        root: The data folder; list files name photos relative to it.
        layout: "contest", "folders" or "csv".
        classes: The classes in the order of their ids; labels are indices into it.
        train: Labelled photos, in the order of the list file or the natural order of names.
        test: Photos to be classified, in natural order, without labels (`find_labels` and `load_labels` give
            the answers to whoever scores).
        split: Which test folder and class list: "A" or "B"; only the contest's layout has two.
        source: The file or folder that was given, as messages name it.
        reading: How the folder was understood, such as "train/class and test/class".
        notes: What of that was decided by evidence, and what was passed over; one sentence each.
        test_folders: Class index of each folder of test photos, for `find_labels` alone.
        follow_links: Whether photos may be links that lead out of the data folder.
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
        """Name of each test photo as it stands in result.txt."""
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
    """Where the files of N photos lie."""
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
