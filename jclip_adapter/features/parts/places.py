"""Files on this machine or, as in s3://bucket/photos, on any file system that fsspec knows."""

from __future__ import annotations

import fnmatch
import os
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from jclip_adapter.core.errors import DataError, PhotoError, SetupError
from jclip_adapter.data.photos.decode import MAX_BYTES, read_file


def is_remote(place: str) -> bool:
    """Whether a place is an address.

    >>> is_remote("s3://bucket/photos"), is_remote("/data/photos")
    (True, False)
    """
    return "://" in place


def joined(folder: str, name: str) -> str:
    """A place in a folder; `name` itself if it is absolute or an address."""
    return name if is_remote(name) else posixpath.join(folder, name)


def parent(place: str) -> str:
    """The folder of a place.

    >>> parent("a/b.csv"), parent("memory://b.csv"), parent("s3://bucket/b.csv")
    ('a', 'memory://', 's3://bucket')
    """
    folder = posixpath.dirname(place)
    return f"{folder}//" if is_remote(place) and folder.endswith(":") else folder


def open_file(place: str) -> IO[bytes]:
    """Open a file for reading, from its start to its end.

    Raises:
        OSError: it cannot be opened.
    """
    if not is_remote(place):
        return Path(place).open("rb")
    system, path = _system(place)
    opened: IO[bytes] = system.open(path, mode="rb")
    return opened


def read_photo(place: str) -> bytes:
    """A photo's bytes.

    Raises:
        PhotoError: it is missing, unreadable or too large.
        DataError: the remote file system fails, which says nothing about the photo.
    """
    if not is_remote(place):
        return read_file(place)
    system, path = _system(place)
    try:
        about = system.info(path)
        if about["type"] != "file":
            raise PhotoError(f"{place} cannot be read (it is no file).")
        if (about.get("size") or 0) > MAX_BYTES:
            raise PhotoError(f"{place} cannot be read (it has {about['size']:,} bytes, more than {MAX_BYTES:,}).")
        data: bytes = system.cat_file(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise PhotoError(f"{place} cannot be read (there is no such file).") from error
    except OSError as error:
        raise _failed(place, error) from error
    return data


def size_of(place: str) -> int:
    """A file's size in bytes; 0 for a missing one."""
    if not is_remote(place):
        return os.path.getsize(place) if os.path.isfile(place) else 0  # noqa: PTH113, PTH202  (strings throughout)
    system, path = _system(place)
    return int(system.size(path) or 0) if system.isfile(path) else 0


def is_folder(place: str) -> bool:
    """Whether there is a folder."""
    if not is_remote(place):
        return os.path.isdir(place)  # noqa: PTH112
    system, path = _system(place)
    return bool(system.isdir(path))


def is_file(place: str) -> bool:
    """Whether there is a file."""
    if not is_remote(place):
        return os.path.isfile(place)  # noqa: PTH113
    system, path = _system(place)
    return bool(system.isfile(path))


def walk(folder: str, prefix: str = "") -> Iterator[str]:
    """Names of all files below a folder, its own before those of its folders; hidden ones are left out.

    Args:
        folder: The folder.
        prefix: Comes before the names.
    """
    files, folders = _listed(folder)
    yield from (f"{prefix}{name}" for name in sorted(files))
    for name in sorted(folders):
        yield from walk(joined(folder, name), f"{prefix}{name}/")


def _listed(folder: str) -> tuple[list[str], list[str]]:
    """Names of the files and the folders in a folder, without hidden ones."""
    if is_remote(folder):
        system, path = _system(folder)
        try:
            pairs = [(posixpath.basename(found["name"]), found["type"]) for found in system.ls(path, detail=True)]
        except OSError as error:
            raise _failed(folder, error) from error
    else:
        with os.scandir(folder) as entries:
            pairs = [
                (entry.name, "directory" if entry.is_dir(follow_symlinks=False) else "file" if entry.is_file() else "")
                for entry in entries
            ]
    shown = [(name, kind) for name, kind in pairs if not name.startswith(".")]
    return [name for name, kind in shown if kind == "file"], [name for name, kind in shown if kind == "directory"]


def matching(pattern: str) -> list[str]:
    """The files that match a pattern such as "shards/*.tar", sorted."""
    if is_remote(pattern):
        system, path = _system(pattern)
        try:
            return sorted(str(system.unstrip_protocol(found)) for found in system.glob(path))
        except OSError as error:
            raise _failed(pattern, error) from error
    folder, name = os.path.split(pattern)
    if any(mark in folder for mark in "*?["):
        import glob

        return sorted(found for found in glob.glob(pattern) if os.path.isfile(found))  # noqa: PTH113, PTH207
    if not is_folder(folder or "."):
        return []
    files, _ = _listed(folder or ".")
    return [joined(folder, found) for found in sorted(fnmatch.filter(files, name))]


def _system(place: str) -> tuple[Any, str]:
    """The file system of an address, and the path on it.

    Raises:
        SetupError: its package is not installed.
        DataError: it is unknown.
    """
    if "::" in place:
        raise DataError(f"{place} is an address within another one.", "Unpack the outer file first.")
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise SetupError(f"{place} needs fsspec.", "Run `pip install fsspec`.") from error
    try:
        found: tuple[Any, str] = url_to_fs(place)
    except ImportError as error:
        raise SetupError(f"{place}: {str(error).rstrip('.')}.", "See `pip install '.[remote]'`.") from error
    except ValueError as error:
        raise DataError(f"{place}: {str(error).rstrip('.')}.", "Check the address.") from error
    return found


def _failed(place: str, error: OSError) -> DataError:
    return DataError(f"{place} cannot be read ({error.strerror or error}).", "Check the address and the connection.")
