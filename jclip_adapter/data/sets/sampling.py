"""Draws the support set, and photos from the rest.

The draw of a class depends only on the seed, its name and the list of its photos, not on other classes. With the same
seed the shots of a smaller count are among those of a larger one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import numpy as np

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.problems import Problems, counted

from .contest import numbered_pairs
from .model import ImageSet, Photo
from .names import canonical
from .paths import check_photos

_log = logging.getLogger(__name__)


def sample_support(
    image_set: ImageSet, shots: int, seed: int, *, allow_fewer: bool = False, without: Container[str] = ()
) -> tuple[Photo, ...]:
    """Draw the support set: `shots` training photos of every class.

    Args:
        image_set: The data set.
        shots: Photos per class, at least 1.
        seed: Seed of the draw, at least 0.
        allow_fewer: Accept classes with fewer photos. Classes without any training photo (the contest's cars) are
            always accepted.
        without: `Photo.relative` of photos to skip, such as unreadable ones; each is replaced by the next of its class
            in the order of the draw.

    Returns:
        The photos, by class and within a class in list order.

    Raises:
        DataError: classes with fewer photos than `shots`, or missing files; `details` lists them.
        UsageError: `shots` or `seed` is out of range.
    """
    _check_draw(shots, seed)
    chosen = [
        photo
        for info, photos in zip(image_set.classes, image_set.train_by_class, strict=True)
        for photo in _draw(photos, shots, seed, f"support/{info.name}", without)
    ]
    return _approved(image_set, chosen, shots, allow_fewer)


def first_support(
    image_set: ImageSet, shots: int, *, allow_fewer: bool = False, without: Container[str] = ()
) -> tuple[Photo, ...]:
    """The first `shots` training photos of every class, as in the contest's trained baseline; see `sample_support`."""
    _check_draw(shots, 0)
    chosen = [
        photo
        for photos in image_set.train_by_class
        for photo in [each for each in photos if each.relative not in without][:shots]
    ]
    return _approved(image_set, chosen, shots, allow_fewer)


def remaining(
    image_set: ImageSet, support: Iterable[Photo], per_class: int | None = None, seed: int = 0
) -> tuple[Photo, ...]:
    """Training photos that are not in the support set.

    Args:
        image_set: The data set.
        support: The support set.
        per_class: Largest number per class, drawn by `seed`; None for all.
        seed: Seed of the draw, at least 0.

    Returns:
        The photos, by class and within a class in list order.

    Raises:
        DataError: missing files; `details` lists them.
        UsageError: `per_class` or `seed` is out of range.
    """
    _check_draw(1 if per_class is None else per_class, seed, "photos per class")
    taken = {photo.relative for photo in support}
    chosen: list[Photo] = []
    for info, photos in zip(image_set.classes, image_set.train_by_class, strict=True):
        rest = [photo for photo in photos if photo.relative not in taken]
        chosen += rest if per_class is None else _draw(rest, per_class, seed, f"remaining/{info.name}")
    return _approved(image_set, chosen)


def read_support(path: str | Path, image_set: ImageSet) -> tuple[Photo, ...]:
    """Read a list of shots in the contest's line format ("TrainSet/Animal/Bear/1.jpg 0").

    Args:
        path: The list.
        image_set: The data set.

    Returns:
        The photos, by class and within a class in the order of the training list, whatever the order of the lines.

    Raises:
        DataError: lines that are malformed, repeated, or disagree with the training list, and missing files; `details`
            lists them.
    """
    path = Path(path)
    problems = Problems(path)
    at = {canonical(photo.relative): position for position, photo in enumerate(image_set.train)}
    at |= {photo.relative: position for position, photo in enumerate(image_set.train)}
    lines: dict[int, int] = {}
    for number, relative, identity in numbered_pairs(path, problems):
        where = f"{path.name} line {number}"
        position = at.get(relative, at.get(canonical(relative)))
        label = image_set.index_of_id.get(identity)
        if position is None:
            text = f"{where}: {relative} is not among the training photos of {image_set.source}"
            problems.add("unknown photos", text, "Choose photos of the training list.")
        elif label is None:
            problems.add("unknown ids", f"{where}: no class has id {identity}")
        elif label != image_set.train[position].label:
            problems.add(
                "photos with two labels", f"{where}: {relative} has another id than {identity} in the data set"
            )
        elif position in lines:
            problems.add("duplicate lines", f"{where}: {relative} is already on line {lines[position]}")
        else:
            lines[position] = number
    if not lines and not problems:
        problems.add("empty lists", f"{path.name} names no photo")
    photos = [image_set.train[position] for position in sorted(lines)]
    photos.sort(key=lambda photo: -1 if photo.label is None else photo.label)
    check_photos(image_set, photos, problems)
    problems.raise_if_any("Its lines are those of the training list, as in 'TrainSet/Animal/Bear/1.jpg 0'.")
    _log_uncovered(image_set, photos)
    return tuple(photos)


def support_lines(photos: Iterable[Photo], image_set: ImageSet) -> str:
    r"""Format a list of shots for `read_support`.

    Args:
        photos: Labelled photos.
        image_set: The data set.

    Returns:
        One line "path id" per photo, each ending in LF.

    Raises:
        DataError: a photo has no label.
    """
    lines = []
    for photo in photos:
        if photo.label is None:
            raise DataError(f"{photo.relative} has no label, so it cannot be a shot.")
        lines.append(f"{photo.relative} {image_set.classes[photo.label].id}\n")
    return "".join(lines)


def note_short_classes(image_set: ImageSet, shots: int, problems: Problems) -> None:
    """Add a fault for each class with training photos, but fewer than `shots`."""
    for info, photos in zip(image_set.classes, image_set.train_by_class, strict=True):
        if 0 < len(photos) < shots:
            text = f"{info.name} has {len(photos)} of {shots}"
            problems.add("classes with fewer photos than shots", text, "Choose fewer --shots, or leave --strict out.")


def _check_draw(count: int, seed: int, what: str = "shots") -> None:
    if count < 1:
        raise UsageError(f"{what} is {count}, expected at least 1.")
    if seed < 0:
        raise UsageError(f"seed is {seed}, expected at least 0.")


def _draw(photos: Sequence[Photo], count: int, seed: int, key: str, without: Container[str] = ()) -> list[Photo]:
    # Not hash(), which differs between processes.
    salt = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:8], "big")
    order = np.random.default_rng([seed, salt]).permutation(len(photos))
    kept = [position for position in order if photos[position].relative not in without] if without else order
    return [photos[position] for position in sorted(kept[:count])]


def _approved(
    image_set: ImageSet, photos: Sequence[Photo], shots: int = 0, allow_fewer: bool = True
) -> tuple[Photo, ...]:
    problems = Problems(image_set.source)
    if not allow_fewer:
        note_short_classes(image_set, shots, problems)
    check_photos(image_set, photos, problems)
    problems.raise_if_any("Fix what is listed, or fetch the data again.")
    return tuple(photos)


def _log_uncovered(image_set: ImageSet, photos: Iterable[Photo]) -> None:
    covered = {photo.label for photo in photos}
    bare = [
        info.name
        for index, info in enumerate(image_set.classes)
        if index not in covered and image_set.train_by_class[index]
    ]
    if bare:
        _log.warning("no shots in the support list: %s with photos, such as %s", counted(len(bare), "class"), bare[0])
