"""Sharding: a command's photos split over processes that share only the feature store.

A photo's part is its rank among the sorted SHA-256 of all photos, modulo the number of parts. So parts differ by at
most one photo (digests modulo n would leave some parts a tenth larger), duplicates are in one part, and the data set
may be in different folders on different machines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.problems import one_line

if TYPE_CHECKING:
    from jclip_adapter.models.base import ImageEncoder

_FORM = re.compile(r"(\d{1,6})/(\d{1,6})", re.ASCII)


@dataclass(frozen=True)
class Part:
    """One of `count` parts, numbered from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"part {self.number} of {self.count}"

    def choose(self, keys: Iterable[bytes]) -> frozenset[bytes]:
        """The keys of this part: every `count`-th of the sorted unique keys."""
        return frozenset(sorted(set(keys))[self.number - 1 :: self.count])


def parse_part(text: str) -> Part:
    """Parse the value of --shard.

    >>> parse_part("3/8")
    Part(number=3, count=8)

    Raises:
        UsageError: it is not i/n with 1 <= i <= n.
    """
    match = _FORM.fullmatch(text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(
            f"--shard: expected i/n with 1 <= i <= n, got {one_line(text)[:40]}.",
            "Write --shard i/n, such as 1/8, with i from 1 to n.",
        )
    return Part(number, count)


@dataclass(frozen=True)
class Share:
    """Progress after a process has encoded its part.

    Attributes:
        part: The part.
        photos: Number of unique photos.
        own: Number of photos in this part.
        missing: Number of all photos that are neither encoded nor known to be unreadable.
    """

    part: Part
    photos: int
    own: int
    missing: int

    def summary(self, result: str | Path) -> str:
        """A line on the progress towards `result`."""
        return (
            f"{self.part} is done ({self.own} photos); {self.missing} of {self.photos} photos are missing: "
            f"the last part to finish writes {result}, or this command without --shard."
        )


def encode_part(
    encoders: Sequence[ImageEncoder], paths: Sequence[Path], cache: Path, workers: int, part: Part
) -> Share:
    """Encode one part of the photos into the store, and count the photos still missing there.

    Unreadable photos are recorded in the store, or the other parts would wait for them.

    Args:
        encoders: Each encodes the photos.
        paths: N photo files.
        cache: Folder of all stores, shared by the processes.
        workers: As for `decoders.decode`.
        part: The part.

    Returns:
        The progress.
    """
    from .encoding import encode_missing, image_store, photo_keys

    keys, bad = photo_keys(paths)
    photos = set(keys) - {b""}
    own = part.choose(photos)
    missing: set[bytes] = set()
    for encoder in encoders:
        store = image_store(encoder, cache)
        faults = dict(bad)
        encode_missing(encoder, store, paths, keys, faults, workers, own)
        unreadable = sorted({keys[number] for number in faults.keys() - bad.keys()} - store.unreadable)
        if unreadable:
            store.add_unreadable(unreadable)
        store.refresh()
        missing |= {key for key in keys if key and key not in store and key not in store.unreadable}
    return Share(part, len(photos), len(own), len(missing))
