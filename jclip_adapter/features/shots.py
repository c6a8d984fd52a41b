"""Photos that a method was fitted on, and whether their files are still what they were."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from jclip_adapter.data.sets import Photo

from .encoding import photo_keys

_SHOWN = 3


@dataclass(frozen=True)
class Shots:
    """Photos that were learnt from.

    Attributes:
        photos: N photos, by class; some may be gone, or others by now.
        learnt: N SHA-256 digests of their bytes when they were learnt from; None where they were not kept.
    """

    photos: tuple[Photo, ...] = ()
    learnt: tuple[bytes, ...] | None = None

    @cached_property
    def now(self) -> tuple[bytes, ...]:
        """N SHA-256 digests of their bytes; b"" for a file that is gone or cannot be read."""
        return tuple(photo_keys([photo.path for photo in self.photos])[0])

    @property
    def keys(self) -> tuple[bytes, ...]:
        """N digests of what was learnt from, as far as is known."""
        return self.now if self.learnt is None else self.learnt

    @property
    def same(self) -> tuple[Photo, ...]:
        """Those that are there as they were."""
        rows = zip(self.photos, self.keys, self.now, strict=True)
        return tuple(photo for photo, then, now in rows if now and then == now)

    def warnings(self) -> list[str]:
        """A sentence for each way in which shots are no longer what was learnt from."""
        rows = list(zip(self.photos, self.keys, self.now, strict=True))
        gone = [photo.relative for photo, _, now in rows if not now]
        changed = [photo.relative for photo, then, now in rows if now and then != now]
        known = "" if self.learnt is None else "; copies of what was learnt from are found by their SHA-256"
        said = []
        for names, what in ((gone, "cannot be read any more"), (changed, "have changed since training")):
            if names:
                shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
                said.append(f"{len(names)} of {len(rows)} shots {what}: {shown}{known}")
        return said
