"""The support set: drawn, checked to be readable, and replaced where it is not."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jclip_adapter.core.choices import ALL_SHOTS
from jclip_adapter.core.errors import DataError, UsageError

from .model import ImageSet, Photo
from .sampling import first_support, read_support, sample_support

logger = logging.getLogger(__name__)
_SHOWN = 5
Check = Callable[[Sequence[Photo]], Mapping[int, str]]
"""Tells which of some photos cannot be read: what is wrong, by place in the list."""


@dataclass(frozen=True)
class Draw:
    """How the support set is chosen.

    Attributes:
        shots: Photos per class; ALL_SHOTS takes every photo.
        seed: Seed of the draw.
        order: "random"; "first" in list order; or the path of a list of photos.
        strict: Refuse classes with fewer photos than shots, and unreadable photos.
    """

    shots: int
    seed: int = 0
    order: str = "random"
    strict: bool = False


def choose_support(images: ImageSet, draw: Draw, check: Check) -> tuple[Photo, ...]:
    """The support set: a list's photos as they are, or readable training photos of every class.

    A photo that cannot be read gives way to the next of its class in the order of the draw; a class with fewer
    photos than shots gives what it has. Both are logged. A strict draw refuses either. Where all photos are readable
    and enough, the draw is that of `sample_support` or `first_support`.

    Args:
        images: The data set.
        draw: How photos are chosen.
        check: Tells which photos cannot be read.

    Returns:
        The photos, by class and within a class in list order.

    Raises:
        DataError: no training photo of a class can be read, chosen photos are missing, or the list is faulty.
        UsageError: there is no such list.
    """
    if draw.order not in ("random", "first"):
        if not Path(draw.order).is_file():
            raise UsageError(f"there is no list {draw.order}.", "Give --support a file, or 'first' or 'random'.")
        return read_support(draw.order, images)
    support = draw_unchecked(images, draw)
    if draw.strict:
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
    """The photos that a draw chooses, or a list names, whether they can be read or not.

    Args:
        images: The data set.
        draw: How photos are chosen.
        without: Relative names of photos to pass over.

    Raises:
        DataError: chosen photos are missing, or the list is faulty.
    """
    few = not draw.strict
    if draw.order == "first":
        return first_support(images, draw.shots, allow_fewer=few, without=without)
    if draw.order == "random":
        return sample_support(images, draw.shots, draw.seed, allow_fewer=few, without=without)
    return read_support(draw.order, images)


def _report(images: ImageSet, support: Sequence[Photo], unreadable: dict[str, str]) -> None:
    """Log what was replaced; refuse classes without any readable photo."""
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
            f"no training photo of {_some(lost)} can be read, the first: {first}",
            "Replace the photos, or take the class out.",
            list(unreadable.values()),
        )
    logger.warning(
        "%d training photos cannot be read; others of their classes take their places, if there are more: %s (%s)",
        len(unreadable),
        _some(list(unreadable)),
        first,
    )


def note_short(images: ImageSet, support: Sequence[Photo], shots: int) -> None:
    """Log which classes with training photos have fewer shots than were asked for."""
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
            "%d shots were asked for, but %d classes have fewer photos: %s; --strict refuses that",
            shots,
            len(short),
            _some(short),
        )


def shots_of(support: Sequence[Photo], asked: int) -> int:
    """How many shots a class has: as many as were asked for, or the most that any has where all were."""
    if asked != ALL_SHOTS:
        return asked
    return max(Counter(photo.label for photo in support).values(), default=0)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
