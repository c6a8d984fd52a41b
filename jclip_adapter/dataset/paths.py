"""Names of photos: listing folders, and keeping list files inside the data folder."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from jclip_adapter.errors import DataError
from jclip_adapter.natural import natural_key
from jclip_adapter.problems import SHOWN, Problems, fits_a_line

from .model import PHOTO_SUFFIXES, Photo

_log = logging.getLogger(__name__)
_DRIVE = re.compile(r"^[A-Za-z]:")
_MISSING_HINT = "Take it out of the list, or fetch the photo again."


def unsafe(relative: str) -> str:
    """Say what is wrong with a path in a list file, judged by its text alone.

    Args:
        relative: The path as the list has it.

    Returns:
        The objection, or an empty string for a plain path relative to the data folder.

    >>> unsafe("TrainSet/Animal/Bear/1.jpg")
    ''
    >>> unsafe("../1.jpg")
    'leaves the data folder'
    """
    if relative.startswith("/") or _DRIVE.match(relative):
        return "is an absolute path"
    if "\\" in relative:
        return "holds a backslash (folders are separated by /)"
    parts = relative.split("/")
    if ".." in parts:
        return "leaves the data folder"
    if "" in parts or "." in parts:
        return "is not a plain path of folders and a file"
    return "" if fits_a_line(relative) else "holds control characters"


def check_files(photos: Iterable[Photo], problems: Problems) -> None:
    """Note each photo that is missing, is no file, or is a link that leads out of the data folder.

    Args:
        photos: Photos named by a list file.
        problems: Where the faults go.
    """
    folders: dict[tuple[Path, str], str] = {}
    for photo in photos:
        folder, _, name = photo.relative.rpartition("/")
        key = (photo.base, folder)
        # A folder is resolved once; after that a photo costs one lstat, as only a link needs resolving itself.
        if key not in folders:
            folders[key] = _folder_state(photo.base, folder)
        text = folders[key] or _file_state(photo.base, photo.base / folder / name)
        if text:
            kind = "paths out of the data folder" if text == _OUTSIDE else "missing photos"
            problems.add(kind, f"{photo.relative} {text}", _MISSING_HINT)


_OUTSIDE = "is a link that leads out of the data folder"


def _inside(base: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(base.resolve())
    except (OSError, RuntimeError):  # links that go round in a circle
        return False


def _folder_state(base: Path, folder: str) -> str:
    return "" if _inside(base, base / folder) else _OUTSIDE


def _file_state(base: Path, path: Path) -> str:
    if path.is_symlink() and not _inside(base, path):
        return _OUTSIDE
    try:
        return "" if path.is_file() else "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def list_photos(folder: Path) -> tuple[list[str], int]:
    """Names of the photos that lie directly in a folder.

    Links count: whoever links photos into a folder means them to be there. A link to nothing or in a circle counts
    too, as does a pipe, so that the photo is reported as unreadable instead of losing its line in result.txt. Only
    photos whose names no list file can hold have no line; they are named in a warning.

    Args:
        folder: The folder.

    Returns:
        The names in natural order, and how many other files were passed over (other endings, hidden files).

    Raises:
        DataError: the folder cannot be read.
    """
    names, unfit, others = [], [], 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_folder(entry):
                    continue
                if not is_photo(entry.name):
                    others += 1
                elif fits_a_line(entry.name) and entry.name == entry.name.strip():
                    names.append(entry.name)
                else:
                    unfit.append(entry.name)
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}.", "Check its permissions.") from error
    if unfit:
        shown = ", ".join(repr(name) for name in sorted(unfit)[:SHOWN])
        _log.warning("%s: left out %d photos whose names fit no list, rename them: %s", folder, len(unfit), shown)
    return sorted(names, key=natural_key), others


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or to a name that is too long
        return False


def list_folders(folder: Path) -> list[str]:
    """Names of a folder's sub-folders in natural order, hidden ones left out.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        names = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}.", "Check its permissions.") from error
    return sorted(names, key=natural_key)


def is_photo(name: str) -> bool:
    """Whether a file counts as a photo by its name.

    >>> is_photo("a.JPG"), is_photo("Thumbs.db"), is_photo("._a.jpg")
    (True, False, False)
    """
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES  # noqa: PTH122 (speed)


def warn_ignored(folder: Path, count: int) -> None:
    """Log that files were passed over."""
    if count:
        _log.warning("%s: ignored %d files that are not photos by their names", folder, count)
