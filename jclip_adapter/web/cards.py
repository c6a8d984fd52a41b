"""What the report shows of single photos: the predictions for them, and thumbnails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jclip_adapter.core.errors import PhotoError
from jclip_adapter.data.photos.decoders import in_threads
from jclip_adapter.data.photos.reading import Reading

from .thumbnails import data_uri, thumbnail


@dataclass(frozen=True)
class Card:
    """One photo.

    Attributes:
        path: The photo.
        name: Its name as the data set writes it.
        guesses: Predicted classes with their probabilities, best first; empty for a shot.
        truth: Its class; empty if it is not known.
    """

    path: Path
    name: str
    guesses: tuple[tuple[str, float], ...] = ()
    truth: str = ""


@dataclass(frozen=True)
class Group:
    """The first of some things.

    Attributes:
        cards: Those that are shown.
        count: Number of all.
    """

    cards: Sequence[Any]
    count: int


class _Job(NamedTuple):
    path: Path
    side: int
    reading: Reading


def _picture(job: _Job) -> str:
    """A thumbnail as an address; empty for a photo that cannot be read, or has been removed."""
    try:
        return data_uri(thumbnail(*job))
    except (PhotoError, OSError):
        return ""


def thumbnails_of(cards: Iterable[Card], side: int, most: int, reading: Reading) -> dict[Path, str]:
    """Thumbnails of photos, made in threads.

    Args:
        cards: The photos in the order of the report; a photo may be shown several times.
        side: Longest side in pixels.
        most: Bytes of all thumbnails, as often as they are shown; later photos get none.
        reading: How photo files are read.

    Returns:
        Addresses by path, empty where there is no thumbnail.
    """
    uses: dict[Path, int] = {}
    for card in cards:
        uses[card.path] = uses.get(card.path, 0) + 1
    found = dict.fromkeys(uses, "")
    jobs = [_Job(path, side, reading) for path in uses]
    for job, uri in zip(jobs, in_threads(_picture, jobs), strict=True):
        most -= len(uri) * uses[job.path]
        if most < 0:
            break
        found[job.path] = uri
    return found
