"""The support set: drawn, with unreadable photos replaced."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jclip_adapter.core.choices import ALL_SHOTS
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.problems import counted

from .model import ImageSet, Photo
from .sampling import first_support, read_support, sample_support

logger = logging.getLogger(__name__)
_SHOWN = 5
Check = Callable[[Sequence[Photo]], Mapping[int, str]]
"""Gives error messages of unreadable photos, by index."""


@dataclass(frozen=True)
class Draw:
    """How the support set is chosen.

    Attributes:
        shots: Photos per class; ALL_SHOTS takes every photo, 0 none.
        seed: Seed of the draw.
        order: "random"; "first" in list order; or the path of a list of photos.
        strict: Refuse classes with fewer photos than shots, and unreadable photos.
    """

    shots: int
    seed: int = 0
    order: str = "random"
    strict: bool = False


def choose_support(images: ImageSet, draw: Draw, check: Check) -> tuple[Photo, ...]:
    """The support set: the photos of a list, or readable training photos of every class.

    An unreadable photo is replaced by the next of its class in the order of the draw; a class with fewer photos than
    shots gives all. Both are logged; a strict draw refuses both.

    Args:
        images: The data set.
        draw: How photos are chosen.
        check: Finds unreadable photos.

    Returns:
        The photos, by class and within a class in list order.

    Raises:
        DataError: no training photo of a class can be read, files are missing, or the list is malformed.
        UsageError: the list is missing.
    """
    if draw.order not in ("random", "first"):
        if not Path(draw.order).is_file():
            raise UsageError(f"there is no list {draw.order}.", "Give --support a file, or 'first' or 'random'.")
        return read_support(draw.order, images)
    support = draw_unchecked(images, draw)
    if draw.strict or not draw.shots:
        return support
    readable: set[str] = set()
    unreadable: dict[str, str] = {}  # relative name → reason
    while True:
        new = [photo for photo in support if photo.relative not in readable]
        bad = check(new) if new else {}
        readable |= {photo.relative for photo in new}
        if not bad:
            break
        for number, reason in bad.items():
            unreadable[new[number].relative] = reason
        support = draw_unchecked(images, draw, unreadable)
    _report(images, support, unreadable)
    note_short(images, support, draw.shots)
    return support


def draw_unchecked(images: ImageSet, draw: Draw, without: Container[str] = ()) -> tuple[Photo, ...]:
    """The photos of a draw or a list, without checking that they can be read.

    Args:
        images: The data set.
        draw: How photos are chosen.
        without: Relative names of photos to skip.

    Raises:
        DataError: files are missing, or the list is malformed.
    """
    if not draw.shots and draw.order in ("random", "first"):
        return ()
    few = not draw.strict
    if draw.order == "first":
        return first_support(images, draw.shots, allow_fewer=few, without=without)
    if draw.order == "random":
        return sample_support(images, draw.shots, draw.seed, allow_fewer=few, without=without)
    return read_support(draw.order, images)


def _report(images: ImageSet, support: Sequence[Photo], unreadable: dict[str, str]) -> None:
    """Log replaced photos; refuse classes without a readable photo."""
    if not unreadable:
        return
    covered = {photo.label for photo in support}
    lost = [
        info.name
        for number, (info, photos) in enumerate(zip(images.classes, images.train_by_class, strict=True))
        if photos and number not in covered
    ]
    first = next(iter(unreadable.values()))
    if lost:
        raise DataError(
            f"no training {images.kind} of {_some(lost)} can be read, the first: {first}",
            "Replace the files, or remove the class.",
            list(unreadable.values()),
        )
    logger.warning(
        "%s cannot be read; others of the same classes take their places, if there are any: %s (%s)",
        counted(len(unreadable), f"training {images.kind}"),
        _some(list(unreadable)),
        first,
    )


def note_short(images: ImageSet, support: Sequence[Photo], shots: int) -> None:
    """Log classes with training photos, but fewer than the shots requested."""
    if shots >= ALL_SHOTS:
        return
    counts = Counter(photo.label for photo in support)
    short = [
        f"{info.name} ({counts[number]})"
        for number, info in enumerate(images.classes)
        if images.train_by_class[number] and counts[number] < shots
    ]
    if short:
        logger.warning(
            "%s with fewer %ss than %d shots: %s; --strict refuses that",
            counted(len(short), "class"),
            images.kind,
            shots,
            _some(short),
        )


def shots_in_words(images: ImageSet, draw: Draw) -> str:
    """The shots that a draw takes and the training photos that it leaves, for messages."""
    if draw.order not in ("random", "first"):
        return f"shots from {draw.order}"
    kind = images.kind
    counts = {min(draw.shots, len(photos)) for photos in images.train_by_class}
    total = sum(min(draw.shots, len(photos)) for photos in images.train_by_class)
    rest = len(images.train) - total
    left = f"{counted(rest, f'training {kind}')} not used" if images.test else f"{counted(rest, kind)} left to evaluate"
    if draw.shots == ALL_SHOTS:
        return f"all {total:,} training {kind}s as shots"
    even = counts == {draw.shots}
    return f"{counted(draw.shots if even else total, 'shot')}{' each' if even else ''}, {left}"


def shots_of(support: Sequence[Photo], asked: int) -> int:
    """Shots per class: the number asked for, or the largest of any class where all photos are shots."""
    if asked != ALL_SHOTS:
        return asked
    return max(Counter(photo.label for photo in support).values(), default=0)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
