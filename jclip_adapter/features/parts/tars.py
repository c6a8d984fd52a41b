"""Tar files in webdataset's layout: key.jpg beside key.cls, key.json or key.txt with its label.

Python's tarfile takes a damaged header behind the first one, or a missing end, for the end of the archive. Photos would
be lost without a word, so here all of these are errors.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from jclip_adapter.core.errors import DataError, PhotoError
from jclip_adapter.core.problems import counted
from jclip_adapter.data.photos.decode import MAX_BYTES
from jclip_adapter.data.sets.paths import is_photo

from .places import open_file

logger = logging.getLogger(__name__)
_LABELS = ("cls", "json", "txt")
_BLOCK = 1 << 20
_ERRORS = (tarfile.TarError, EOFError, OSError, ValueError, KeyError)


class Entry(NamedTuple):
    """A photo of a unit: its key, its label if any, and its bytes or why they cannot be read."""

    key: str
    label: str
    data: bytes
    error: str


class _Member(tarfile.TarInfo):
    """A member whose header has to be whole."""

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> Any:
        """As the base class, but for errors that it would take for the archive's end."""
        try:
            return super().fromtarfile(tarfile)
        except _END:
            raise
        except _HEADER as error:
            raise _READ(f"a header is damaged or missing: {error}") from error


_END, _HEADER, _READ = tarfile.EOFHeaderError, tarfile.HeaderError, tarfile.ReadError  # type: ignore[attr-defined]


def tar_entries(path: str) -> Iterator[Entry]:
    """The photos of a tar file, read from its start to its end.

    Keys begin with the tar file's name, as several tar files may have the same ones.

    Raises:
        DataError: it is damaged, or the file system fails.
    """
    name = PurePosixPath(path).name
    lonely = 0
    try:
        with open_file(path) as handle, tarfile.open(fileobj=handle, mode="r|*", tarinfo=_Member) as archive:
            for _, members in itertools.groupby(_members(archive), lambda member: _split(member[0])[0]):
                found = list(members)
                labels = {_split(inner)[1]: data for inner, data, _ in found}
                suffix = next((each for each in _LABELS if each in labels), "")
                label = _label(labels[suffix], suffix) if suffix else ""
                photos = [member for member in found if is_photo(PurePosixPath(member[0]).name)]
                lonely += bool(suffix) and not photos
                yield from (Entry(f"{name}/{inner}", label, data, error) for inner, data, error in photos)
            _check_end(archive)
    except _ERRORS as error:
        raise DataError(f"{path} is not a whole tar file ({error}).", "Fetch it, or make it, again.") from error
    if lonely:
        logger.warning("%s: %s without a photo beside it", path, counted(lonely, "label"))


def tar_photo(path: str, inner: str) -> bytes:
    """The bytes of one photo in a tar file.

    Raises:
        PhotoError: it is not there, or cannot be read.
    """
    try:
        with open_file(path) as handle, tarfile.open(fileobj=handle) as archive:
            return (archive.extractfile(inner) or io.BytesIO()).read(MAX_BYTES)
    except _ERRORS as error:
        raise PhotoError(f"{path}/{inner} cannot be read ({error}).") from error


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes, str]]:
    """Name and bytes of each photo and label in a tar file, or why it is not read."""
    for member in archive:
        name = PurePosixPath(member.name).name
        wanted = is_photo(name) or _split(name)[1] in _LABELS
        if not member.isfile() or not wanted or name.startswith("."):
            continue
        if member.size > MAX_BYTES:
            yield member.name, b"", f"{member.name} has {member.size:,} bytes, more than {MAX_BYTES:,}."
        else:
            yield member.name, (archive.extractfile(member) or io.BytesIO()).read(), ""


def _check_end(archive: tarfile.TarFile) -> None:
    """Only zeros may come behind an archive's end: another archive, or a hole, would go unread."""
    stream: Any = archive.fileobj
    while block := stream.read(_BLOCK):
        if block.strip(b"\0"):
            raise tarfile.ReadError("there is more behind its end")


def _split(name: str) -> tuple[str, str]:
    """What the names of a photo and its label have in common, and the rest: webdataset's key ends at the first dot."""
    folder, base = posixpath.split(name)
    key, _, suffix = base.partition(".")
    return posixpath.join(folder, key), suffix.lower()


def _label(data: bytes, suffix: str) -> str:
    """The label in a file; empty for a JSON value that is neither a text nor a whole number."""
    text = data.decode("utf-8", "replace").strip()
    if suffix != "json":
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    found = value.get("label", value.get("cls", "")) if isinstance(value, dict) else value
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""
