"""The shots of a run, and whether their files are unchanged since training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jclip_adapter.core.problems import first_of
from jclip_adapter.data.sets import Photo

from .encoding import photo_keys

_SHOWN = 3


@dataclass(frozen=True)
class Shots:
    """N shots.

    Attributes:
        photos: The photos, by class; files may have been removed or changed since.
        learnt: SHA-256 digests of their bytes at training; None if they were not stored.
        read: Gives the current digests, as `encoding.photo_keys`.
    """

    photos: tuple[Photo, ...] = ()
    learnt: tuple[bytes, ...] | None = None
    read: Callable[[Sequence[Path]], tuple[list[bytes], dict[int, str]]] = photo_keys

    @cached_property
    def now(self) -> tuple[bytes, ...]:
        """N SHA-256 digests of the current bytes; b"" for a missing or unreadable file."""
        return tuple(self.read([photo.path for photo in self.photos])[0])

    @property
    def keys(self) -> tuple[bytes, ...]:
        """N digests at training, or the current ones if those were not stored."""
        return self.now if self.learnt is None else self.learnt

    @property
    def same(self) -> tuple[Photo, ...]:
        """The unchanged photos."""
        rows = zip(self.photos, self.keys, self.now, strict=True)
        return tuple(photo for photo, then, now in rows if now and then == now)

    def warnings(self) -> list[str]:
        """Sentences on shots that were removed or changed since training."""
        rows = list(zip(self.photos, self.keys, self.now, strict=True))
        gone = [photo.relative for photo, _, now in rows if not now]
        changed = [photo.relative for photo, then, now in rows if now and then != now]
        known = "" if self.learnt is None else "; copies of the original photos are found by their SHA-256"
        found = []
        absent = "are not in this data or can no longer be read"
        for names, what in ((gone, absent), (changed, "have changed since training")):
            if names:
                found.append(f"{len(names)} of {len(rows)} shots {what}: {first_of(names, _SHOWN)}{known}")
        return found
