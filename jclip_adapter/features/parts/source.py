"""Units of work: the photos of a folder, a list, or tar files, without reading all names first.

A unit is some thousand paths, or one tar file. The same source gives the same units in the same order, so that a
stopped run goes on with those that are missing.
"""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from jclip_adapter.core.choices import PART_PHOTOS
from jclip_adapter.core.errors import DataError, PhotoError, UsageError
from jclip_adapter.data.sets.paths import is_photo

from .lists import LISTS, listed
from .places import is_file, is_folder, joined, matching, parent, read_photo, size_of, walk
from .tars import Entry, tar_entries, tar_photo


@dataclass(frozen=True)
class Unit:
    """The photos of one part.

    Attributes:
        number: The part's number, from 0.
        tar: The tar file; empty for paths.
        root: What the keys of paths start from.
        photos: Pairs of key and label.
    """

    number: int
    tar: str = ""
    root: str = ""
    photos: tuple[tuple[str, str], ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of what the unit holds: another list of photos is another part."""
        size = size_of(self.tar) if self.tar else 0
        content = json.dumps([PurePosixPath(self.tar).name if self.tar else "", size, self.photos])
        return hashlib.sha256(content.encode()).hexdigest()

    def entries(self) -> Iterator[Entry]:
        """The photos, read one by one; a tar file is read from its start to its end.

        Raises:
            DataError: a tar file is damaged, or the file system fails.
        """
        if self.tar:
            yield from tar_entries(self.tar)
            return
        for key, label in self.photos:
            try:
                yield Entry(key, label, read_photo(joined(self.root, key)), "")
            except PhotoError as error:
                yield Entry(key, label, b"", error.message)


def units(source: str, size: int = PART_PHOTOS) -> Iterator[Unit]:
    """Cut a source into units, as its names are read.

    Args:
        source: A folder; a list (.txt with a path per line; .csv or .parquet with the columns path and optionally
            label); or tar files: one, or a pattern such as "shards/*.tar". On this machine, or an address such as
            s3://bucket/photos.
        size: Photos per unit of a folder or list.

    Raises:
        DataError: there is no photo at the source.
        UsageError: it is none of these.
    """
    if source.endswith(".tar"):
        tars = _tars(source)
        if not tars:
            raise DataError(f"no tar file matches {source}.", "Check --photos.")
        name, uses = collections.Counter(PurePosixPath(tar).name for tar in tars).most_common(1)[0]
        if uses > 1:
            raise DataError(f"{uses} tar files have the name {name}, which keys begin with.", "Rename them.")
        yield from (Unit(number, tar=tar) for number, tar in enumerate(tars))
        return
    suffix = PurePosixPath(source).suffix.lower()
    if is_folder(source):
        pairs: Iterator[tuple[str, str]] = ((key, "") for key in walk(source) if is_photo(PurePosixPath(key).name))
        root = source
    elif not is_file(source):
        raise DataError(f"there is no {source}.", "Give --photos a folder, a list, or tar files.")
    elif suffix in LISTS:
        pairs, root = listed(source, suffix), parent(source)
    else:
        raise UsageError(
            f"{source} is neither a folder nor a list of photos.", "Give a folder, a .txt, .csv or .parquet, or .tar."
        )
    for number in itertools.count():
        photos = tuple(itertools.islice(pairs, size))
        if not photos and number:
            return
        if not photos:
            raise DataError(f"{source} has no photo.", "Give a folder with photos at any depth, or a list of paths.")
        yield Unit(number, root=root, photos=photos)


def photo_of(source: str, key: str) -> bytes:
    """The bytes of one photo of a source, by its key.

    Raises:
        PhotoError: it is missing, unreadable or too large.
        DataError: a remote file system fails.
    """
    if not source.endswith(".tar"):
        return read_photo(joined(source if is_folder(source) else parent(source), key))
    name, _, inner = key.partition("/")
    for tar in _tars(source):
        if PurePosixPath(tar).name == name:
            return tar_photo(tar, inner)
    raise PhotoError(f"{key} cannot be read (no tar file of this name matches {source}).")


def _tars(source: str) -> list[str]:
    """The tar files that match a source."""
    return [source] if is_file(source) else matching(source)
