"""Names of photos: listing folders, and keeping list files inside the data folder."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.natural import natural_key
from jclip_adapter.core.problems import SHOWN, Problems, one_line, why_unfit

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
    return why_unfit(relative)


def check_files(photos: Iterable[Photo], problems: Problems, *, follow_links: bool = False) -> None:
    """Note each photo that is missing, is no file, or is a link that leads out of the data folder.

    Args:
        photos: Photos named by a list file.
        problems: Where the faults go.
        follow_links: Whether links may lead out of the data folder.
    """
    folders: dict[tuple[Path, str], str] = {}
    for photo in photos:
        folder, _, name = photo.relative.rpartition("/")
        key = (photo.base, folder)
        # A folder is resolved once; after that a photo costs one lstat, as only a link needs resolving itself.
        if key not in folders:
            folders[key] = "" if follow_links else _folder_state(photo.base, folder)
        text = folders[key] or _file_state(photo.base, photo.base / folder / name, follow_links)
        if text == _OUTSIDE:
            problems.add(OUT_OF_DATA, f"{photo.relative} {text}", _FOLLOW)
        elif text:
            problems.add("missing photos", f"{photo.relative} {text}", _MISSING_HINT)


def check_links(photos: Iterable[Photo], root: Path, problems: Problems) -> None:
    """Note each photo that is, or lies in, a link that leads out of the data folder.

    Unlike `check_files` it passes over photos that are missing: a test photo without a file keeps its line.

    Args:
        photos: Photos that were found by listing folders.
        root: The data folder.
        problems: Where the faults go.
    """
    folders: dict[Path, bool] = {}
    for photo in photos:
        folder = photo.path.parent
        if folder not in folders:
            folders[folder] = _inside(root, folder)
        if not folders[folder] or (photo.path.is_symlink() and _leaves(root, photo.path)):
            problems.add(OUT_OF_DATA, f"{photo.relative} {_OUTSIDE}", _FOLLOW)


OUT_OF_DATA = "paths out of the data folder"
_OUTSIDE = "is a link that leads out of the data folder"
_FOLLOW = "Add --follow-links to follow links out of the data folder, or copy the photos there."


def _leaves(root: Path, path: Path) -> bool:
    """Whether a link leads to a file outside; one to nothing or in a circle does not."""
    try:
        return path.exists() and not _inside(root, path)
    except OSError:  # to a name that is too long
        return False


def _inside(base: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(base.resolve())
    except (OSError, RuntimeError):  # links that go round in a circle
        return False


def _folder_state(base: Path, folder: str) -> str:
    return "" if _inside(base, base / folder) else _OUTSIDE


def _file_state(base: Path, path: Path, follow_links: bool) -> str:
    try:
        if path.is_symlink() and not follow_links and not _inside(base, path):
            return _OUTSIDE
        return "" if path.is_file() else "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


class Listing(NamedTuple):
    """What lies directly in a folder: photos and folders by name, in natural order, and how many other files."""

    photos: list[str]
    folders: list[str]
    others: int


def list_folder(folder: Path) -> Listing:
    """List a folder.

    Links count: whoever links photos into a folder means them to be there. A link to nothing or in a circle counts
    too, as does a pipe, so that the photo is reported as unreadable instead of losing its line in result.txt. Only
    photos whose names no list file can hold have no line; they are named in a warning. Folders that file managers,
    notebooks and archives leave behind are passed over, as are hidden ones.

    Args:
        folder: The folder.

    Returns:
        The listing.

    Raises:
        DataError: the folder cannot be read.
    """
    photos, folders, unfit, others = [], [], [], 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if _is_folder(entry):
                    if not is_debris(name):
                        folders.append(name)
                elif not is_photo(name):
                    others += 1
                elif why_unfit(name) or name != name.strip():
                    unfit.append(name)
                else:
                    photos.append(name)
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}.", "Check its permissions.") from error
    if unfit:
        shown = ", ".join(f"'{one_line(name)}' {_why_left_out(name)}" for name in sorted(unfit)[:SHOWN])
        _log.warning(
            "%s: left out %d photos whose names fit no list, rename them: %s", one_line(str(folder)), len(unfit), shown
        )
    return Listing(sorted(photos, key=natural_key), sorted(folders, key=natural_key), others)


def _why_left_out(name: str) -> str:
    return why_unfit(name) or "begins or ends with a blank"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or to a name that is too long
        return False


_DEBRIS = frozenset(
    {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information", "#recycle", "__pycache__"}
)


def is_debris(name: str) -> bool:
    """Whether a folder is one that systems and programs leave behind, which nobody means as data.

    >>> is_debris("@eaDir"), is_debris(".ipynb_checkpoints"), is_debris("cat")
    (True, True, False)
    """
    return name.startswith(".") or name.lower() in _DEBRIS


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
