"""Listing of folders, and checks of the paths in list files."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.natural import natural_key
from jclip_adapter.core.problems import SHOWN, Problems, counted, one_line, why_unfit
from jclip_adapter.data.sounds import is_sound

from .model import PARTS, PHOTO_SUFFIXES, FileKind, ImageSet, Photo

_log = logging.getLogger(__name__)
_DRIVE = re.compile(r"^[A-Za-z]:")
_MISSING_HINT = "Remove it from the list, or fetch the photo again."


def unsafe(relative: str) -> str:
    """Why a path in a list file is unsafe, by its text.

    Args:
        relative: The path in the list.

    Returns:
        The reason; empty for a plain path relative to the data folder.

    >>> unsafe("TrainSet/Animal/Bear/1.jpg")
    ''
    >>> unsafe("../1.jpg")
    'leaves the data folder'
    """
    if relative.startswith("/") or _DRIVE.match(relative):
        return "is an absolute path"
    if "\\" in relative:
        return "contains a backslash (folders are separated by /)"
    parts = relative.split("/")
    if ".." in parts:
        return "leaves the data folder"
    if "" in parts or "." in parts:
        return "is not a plain path of folders and a file"
    return why_unfit(relative)


def check_files(photos: Iterable[Photo], problems: Problems, *, follow_links: bool = False) -> None:
    """Add a fault for each photo that is missing, not a file, or a link out of the data folder.

    Args:
        photos: Photos from a list file.
        problems: Gets the faults.
        follow_links: Whether links out of the data folder are allowed.
    """
    folders: dict[tuple[Path, str], str] = {}
    for photo in photos:
        folder, _, name = photo.relative.rpartition("/")
        key = (photo.base, folder)
        # A folder is resolved once; then a photo costs one lstat, as only links are resolved.
        if key not in folders:
            folders[key] = "" if follow_links else _folder_state(photo.base, folder)
        text = folders[key] or _file_state(photo.base, photo.base / folder / name, follow_links)
        if text == _OUTSIDE:
            problems.add(OUT_OF_DATA, f"{photo.relative} {text}", _FOLLOW)
        elif text:
            problems.add("missing photos", f"{photo.relative} {text}", _MISSING_HINT)


def check_photos(images: ImageSet, photos: Iterable[Photo], problems: Problems) -> None:
    """`check_files` of some photos of a data set, under its rule for links; features in parts have no files."""
    if images.layout != PARTS:
        check_files(photos, problems, follow_links=images.follow_links)


def check_links(photos: Iterable[Photo], root: Path, problems: Problems) -> None:
    """Add a fault for each photo that is, or is in, a link out of the data folder.

    Unlike `check_files` it accepts missing files: such a test photo keeps its line in result.txt.

    Args:
        photos: Photos from listed folders.
        root: The data folder.
        problems: Gets the faults.
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
    """Whether a link leads to a file outside; not if it is broken or circular."""
    try:
        return path.exists() and not _inside(root, path)
    except OSError:  # to a name that is too long
        return False


def _inside(base: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(base.resolve())
    except (OSError, RuntimeError):  # circular links
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
    """Content of a folder: names of photos (or sounds) and folders in natural order, and the number of other files."""

    photos: list[str]
    folders: list[str]
    others: int


def list_folder(folder: Path, kind: FileKind = "photo") -> Listing:
    """List a folder.

    Links are included, also broken and circular ones, and pipes: such photos are reported as unreadable and keep their
    line in result.txt. Photos whose names do not fit a list file are skipped with a warning. Hidden folders and those
    of file managers, notebooks and archives are skipped.

    Args:
        folder: The folder.
        kind: The files to list. Photos and sounds may be in one folder: the others of the two are not counted.

    Returns:
        The listing.

    Raises:
        DataError: the folder cannot be read.
    """
    photos, folders, unfit, others = [], [], [], 0
    wanted, known = {"photo": (is_photo, is_sound), "sound": (is_sound, is_photo)}[kind]
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if _is_folder(entry):
                    if not is_debris(name):
                        folders.append(name)
                elif not wanted(name):
                    others += not known(name)
                elif why_unfit(name) or name != name.strip():
                    unfit.append(name)
                else:
                    photos.append(name)
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}.", "Check its permissions.") from error
    if unfit:
        shown = ", ".join(f"'{one_line(name)}' {_why_left_out(name)}" for name in sorted(unfit)[:SHOWN])
        _log.warning(
            "%s: skipped %s whose names fit no list, rename them: %s",
            one_line(str(folder)),
            counted(len(unfit), kind),
            shown,
        )
    return Listing(sorted(photos, key=natural_key), sorted(folders, key=natural_key), others)


def _why_left_out(name: str) -> str:
    return why_unfit(name) or "begins or ends with a blank"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link, or one to a name that is too long
        return False


_DEBRIS = frozenset(
    {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information", "#recycle", "__pycache__"}
)


def is_debris(name: str) -> bool:
    """Whether a folder is a hidden one or one of the operating system or other programs.

    >>> is_debris("@eaDir"), is_debris(".ipynb_checkpoints"), is_debris("cat")
    (True, True, False)
    """
    return name.startswith(".") or name.lower() in _DEBRIS


def is_photo(name: str) -> bool:
    """Whether a file is a photo, by its name.

    >>> is_photo("a.JPG"), is_photo("Thumbs.db"), is_photo("._a.jpg")
    (True, False, False)
    """
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES  # noqa: PTH122 (speed)


def warn_ignored(folder: Path, count: int, kind: FileKind = "photo") -> None:
    """Log the number of skipped files."""
    if count:
        _log.warning("%s: ignored %s without a %s's suffix", folder, counted(count, "file"), kind)
