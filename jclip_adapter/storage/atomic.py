"""One file at a time, whole or not at all; and what interrupted writers leave."""

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
_STRAY_AGE_S = 3600.0  # younger ones may belong to a process that still writes


def partial_path(target: Path) -> Path:
    """A new name beside `target`, for what is not whole yet; `sweep_strays` knows it."""
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.partial")


@contextlib.contextmanager
def atomic_write(path: str | Path, kind: Kind = NEW) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only when it is whole.

    The bytes go to a uniquely named file in the same folder, which is flushed to disk and then renamed; the
    folder is flushed too, so that the rename survives a power cut. On any error the partial file is removed and
    an older file of that name stays as it was.

    Args:
        path: Where the file shall be; its folder is made if it is missing. A link is followed.
        kind: Of file, which an existing one must be to be replaced.

    Yields:
        A binary file handle.

    Raises:
        UsageError: a file is there that this program did not write.
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
    """A file's place and a new name beside it, for what is not whole yet; that file is gone at the end."""
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
    """Write files of one folder of which some show whose the others are.

    All of them are on disk, under other names, before the first takes its place: so one is hardly ever new while
    another is old.

    Args:
        files: Path, content and kind of each, in the order in which they take their places.

    Raises:
        UsageError: a file is there that is not as this program wrote it; nothing is written then.
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
    """What to raise where a file or folder cannot be written."""
    return SetupError(
        f"cannot write {target}: {error.strerror or error}.", "Check the folder's permissions and free space."
    )


def check_place(path: str | Path, kind: Kind = NEW) -> None:
    """Refuse a place that a file cannot be written to, before the long work.

    Args:
        path: Where the file is going to be.
        kind: Of file, which an existing one must be to be replaced.

    Raises:
        UsageError: a file is there that this program did not write.
        SetupError: its folder cannot be made or written.
    """
    kind.check(path)
    target = Path(path)
    check_folder_writable((target.resolve() if target.is_symlink() else target).parent, target)


def check_folder_writable(folder: str | Path, wanted: Path | None = None) -> None:
    """Refuse a folder that nothing can be written into, by writing a file and removing it.

    Args:
        folder: The folder; where it is missing, the nearest folder above it is tried, and nothing is made.
        wanted: What an error names; None for the folder.

    Raises:
        SetupError: it cannot be written, or a folder above it is a file.
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
    """Remove a file of this program that may be there.

    Args:
        path: Of the file.
        kind: Of file; another one stays.

    Raises:
        UsageError: a file is there that this program did not write.
        SetupError: its folder is none, or cannot be written.
    """
    kind.check(path)
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise SetupError(
            f"cannot remove {path}: {error.strerror or error}.", "Check the folder's permissions."
        ) from error


def flush_folder(folder: Path) -> None:
    """Flush a folder to disk, so that renamings in it survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep_strays(folder: str | Path) -> int:
    """Remove what interrupted writers left in a folder (older than an hour).

    Every writer of this module does so when a process first writes into a folder.

    Returns:
        How many files and folders were removed.
    """
    count = 0
    now = time.time()
    for path in Path(folder).glob(".*.partial"):
        with contextlib.suppress(OSError):
            if _STRAY.match(path.name) and now - path.lstat().st_mtime > _STRAY_AGE_S:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                count += 1
    return count


@functools.cache
def sweep_once(folder: Path) -> None:
    """Sweep a folder when this process first writes into it."""
    sweep_strays(folder)
