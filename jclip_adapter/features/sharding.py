"""The photos of a command, split over processes that know nothing of each other but the feature store.

A photo's part is its place among the sorted SHA-256 of all photos' bytes, modulo the number of parts. Every process
has these digests anyway, as it looks for them in the store. So parts differ by one photo at most, where the digest
itself modulo n would leave some parts a tenth larger than others; a photo that lies there twice is in one part;
and paths do not matter, so that machines may find the data set in different folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jclip_adapter.core.errors import UsageError

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
        """The keys of this part: every `count`-th of the different ones in order, whatever order they come in."""
        return frozenset(sorted(set(keys))[self.number - 1 :: self.count])


def parse_part(text: str) -> Part:
    """Read the flag's value.

    >>> parse_part("3/8")
    Part(number=3, count=8)

    Raises:
        UsageError: it is not "i/n" with i from 1 to n.
    """
    match = _FORM.fullmatch(text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(f"--shard {text} is no part.", "Write --shard i/n, such as 1/8, with i from 1 to n.")
    return Part(number, count)


@dataclass(frozen=True)
class Share:
    """What a process's part came to.

    Attributes:
        part: Which it was.
        photos: All different photos.
        own: How many of them are in this part.
        missing: How many of all are neither encoded nor known to be unreadable.
    """

    part: Part
    photos: int
    own: int
    missing: int

    def told(self, result: str) -> str:
        """A line on what is missing for `result`."""
        return (
            f"{self.part} is done ({self.own} photos); {self.missing} of {self.photos} photos are missing: "
            f"the last part to end writes {result}, or this command without --shard."
        )


def encode_part(
    encoders: Sequence[ImageEncoder], paths: Sequence[Path], cache: Path, workers: int, part: Part
) -> Share:
    """Encode one part of some photos into the store, and look what the other parts have left there by then.

    A photo that cannot be decoded is noted in the store, or the other parts would wait for it for ever.

    Args:
        encoders: Each encodes the photos.
        paths: N photo files.
        cache: Folder of all stores, which the processes share.
        workers: As for `decoders.decode`.
        part: The part.

    Returns:
        What it came to.
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
            store.note_unreadable(unreadable)
        store.refresh()
        missing |= {key for key in keys if key and key not in store and key not in store.unreadable}
    return Share(part, len(photos), len(own), len(missing))
