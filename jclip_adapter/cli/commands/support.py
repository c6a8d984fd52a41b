"""The shots: drawn, checked to be readable, and replaced where they are not."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Container, Sequence
from pathlib import Path

from jclip_adapter.cli.settings import ALL_SHOTS, Settings
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.data.sets import ImageSet, Photo, first_support, read_support, sample_support

from .stage import Stage

logger = logging.getLogger(__name__)
_SHOWN = 5


def choose_support(stage: Stage) -> tuple[Photo, ...]:
    """The training photos that the stage's settings choose, as `draw_support` says; a list of the user's as it is.

    Raises:
        DataError: as `draw_support`, or the list is faulty.
        UsageError: there is no such list.
    """
    settings = stage.settings
    if settings.support in ("random", "first"):
        return draw_support(stage, settings.shots, settings.seed)
    if not Path(settings.support).is_file():
        raise UsageError(f"there is no list {settings.support}.", "Give --support a file, or 'first' or 'random'.")
    return read_support(settings.support, stage.images)


def draw_support(stage: Stage, shots: int, seed: int) -> tuple[Photo, ...]:
    """Draw readable training photos of every class.

    A photo that cannot be read gives way to the next of its class in the order of the draw; a class with fewer
    photos than shots gives what it has. Both are logged. With `Settings.strict` either is refused. Where all photos
    are readable and enough, the draw is that of `sample_support` or `first_support`.

    Args:
        stage: The stage; its first network encodes the photos, to see that they can be read.
        shots: Photos per class; ALL_SHOTS takes every photo.
        seed: Seed of the draw.

    Returns:
        The photos, by class and within a class in list order.

    Raises:
        DataError: no training photo of a class can be read, or chosen photos are missing.
    """
    draw = drawing(stage.settings, stage.images, shots, seed)
    support = draw(())
    if stage.settings.strict:
        return support
    readable: set[str] = set()
    unreadable: dict[str, str] = {}  # relative name → reason
    while True:
        new = [photo for photo in support if photo.relative not in readable]
        bad = stage.photos([photo.path for photo in new]).bad if new else {}
        readable |= {photo.relative for photo in new}
        if not bad:
            break
        for number, reason in bad.items():
            unreadable[new[number].relative] = reason
        support = draw(unreadable)
    _report(stage.images, support, unreadable)
    note_short(stage.images, support, shots)
    return support


def drawing(
    settings: Settings, images: ImageSet, shots: int, seed: int
) -> Callable[[Container[str]], tuple[Photo, ...]]:
    """The draw that settings ask for, given the names of photos to pass over; it reads no photo."""
    few = not settings.strict
    if settings.support == "first":
        return lambda without: first_support(images, shots, allow_fewer=few, without=without)
    return lambda without: sample_support(images, shots, seed, allow_fewer=few, without=without)


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
