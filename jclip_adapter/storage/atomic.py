"""Atomic writing of single files; removal of files left by interrupted writers."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from jclip_adapter.core.errors import SetupError

from .kinds import NEW, Kind

_STRAY = re.compile(r"^\..+\.[0-9a-f]{12}\.partial$")
_STRAY_AGE_S = 3600.0  # younger files may belong to a running writer


def partial_path(target: Path) -> Path:
    """A temporary name beside `target`, which `sweep_strays` recognises."""
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.partial")


@contextlib.contextmanager
def atomic_write(path: str | Path, kind: Kind = NEW) -> Iterator[IO[bytes]]:
    """Open a file for writing that gets its name only when it is complete.

    The bytes go to a temporary file in the same folder, which is flushed and renamed; the folder is flushed too,
    so that the rename survives a power failure. On an error the temporary file is removed and an older file stays.

    Args:
        path: The file; its folder is created if missing. A link is followed.
        kind: The kind of file that may be replaced.

    Yields:
        A binary file handle.

    Raises:
        UsageError: the file exists and was not written by this program.
        SetupError: the folder cannot be written, or the disk is full.
    """
    kind.check(path)
    with _partial(path) as (target, partial):
        with partial.open("xb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(target)


@contextlib.contextmanager
def _partial(path: str | Path) -> Iterator[tuple[Path, Path]]:
    """A file's path and a temporary path beside it, which is removed on an error."""
    target = Path(path)
    target = target.resolve() if target.is_symlink() else target
    partial = partial_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep_once(target.parent.absolute())
        try:
            yield target, partial
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        flush_folder(target.parent)
    except OSError as error:
        raise unwritable(target, error) from error


def write_files(files: Sequence[tuple[str | Path, bytes, Kind]]) -> None:
    """Write files of one folder that recognise each other.

    All are on disk under temporary names before the first is renamed, so old and new files are hardly ever mixed.

    Args:
        files: Path, content and kind of each, in the order of the renames.

    Raises:
        UsageError: a file exists and is not as this program wrote it; nothing is written.
        SetupError: the folder cannot be written, or the disk is full.
    """
    for path, _, kind in files:
        kind.check(path)
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context(_partial(path)) for path, _, _ in files]
        for (target, partial), (_, data, _) in zip(places, files, strict=True):
            try:
                with partial.open("xb") as handle:
                    handle.write(data)
                    handle.flush()
                    os.fsync(handle.fileno())
            except OSError as error:
                raise unwritable(target, error) from error
        for target, partial in places:
            try:
                partial.replace(target)
            except OSError as error:
                raise unwritable(target, error) from error


def unwritable(target: Path, error: OSError) -> SetupError:
    """The error for a file or folder that cannot be written."""
    return SetupError(
        f"cannot write {target}: {error.strerror or error}.", "Check the folder's permissions and free space."
    )


def check_place(path: str | Path, kind: Kind = NEW) -> None:
    """Refuse a path that cannot be written, before the long computation.

    Args:
        path: The file to be written.
        kind: The kind of file that may be replaced.

    Raises:
        UsageError: the file exists and was not written by this program.
        SetupError: its folder cannot be created or written.
    """
    kind.check(path)
    target = Path(path)
    check_folder_writable((target.resolve() if target.is_symlink() else target).parent, target)


def check_folder_writable(folder: str | Path, wanted: Path | None = None) -> None:
    """Refuse a folder that cannot be written, by writing and removing a file.

    Args:
        folder: The folder; if it is missing, its nearest existing parent is tested.
        wanted: The path in the error; None for the folder.

    Raises:
        SetupError: it cannot be written, or a parent is a file.
    """
    base = Path(folder)
    existing = next(place for place in (base, *base.absolute().parents) if place.exists())
    probe = partial_path(existing / "probe")
    try:
        with probe.open("xb") as handle:
            handle.write(b"\n")
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise unwritable(wanted or base, error) from error


def discard(path: str | Path, kind: Kind) -> None:
    """Remove a file of this program, if it exists.

    Args:
        path: The file.
        kind: The kind of file that may be removed.

    Raises:
        UsageError: the file was not written by this program.
        SetupError: its folder cannot be written.
    """
    kind.check(path)
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise SetupError(
            f"cannot remove {path}: {error.strerror or error}.", "Check the folder's permissions."
        ) from error


def flush_folder(folder: Path) -> None:
    """Flush a folder to disk, so that renames in it survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_stray(path: Path) -> bool:
    """Whether a path has the name of a temporary file of this module."""
    return _STRAY.match(path.name) is not None


def sweep_strays(folder: str | Path) -> None:
    """Remove temporary files of interrupted writers, older than an hour, from a folder.

    Every writer of this module calls it when a process first writes to a folder.
    """
    now = time.time()
    for path in Path(folder).glob(".*.partial"):
        with contextlib.suppress(OSError):
            if is_stray(path) and now - path.lstat().st_mtime > _STRAY_AGE_S:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@functools.cache
def sweep_once(folder: Path) -> None:
    """Call `sweep_strays` once per process and folder."""
    sweep_strays(folder)
