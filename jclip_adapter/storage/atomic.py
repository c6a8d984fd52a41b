"""One file at a time, whole or not at all; and what interrupted writers leave."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from jclip_adapter.errors import SetupError

_STRAY = re.compile(r"^\..+\.[0-9a-f]{12}\.partial$")
_STRAY_AGE_S = 3600.0  # younger ones may belong to a process that still writes


def partial_path(target: Path) -> Path:
    """A new name beside `target`, for what is not whole yet; `sweep_strays` knows it."""
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.partial")


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only when it is whole.

    The bytes go to a uniquely named file in the same folder, which is flushed to disk and then renamed; the
    folder is flushed too, so that the rename survives a power cut. On any error the partial file is removed and
    an older file of that name stays as it was.

    Args:
        path: Where the file shall be; its folder is made if it is missing.

    Yields:
        A binary file handle.

    Raises:
        SetupError: the folder cannot be written, or the disk is full.
    """
    target = Path(path)
    partial = partial_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep_once(target.parent.absolute())
        try:
            with partial.open("xb") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            partial.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        flush_folder(target.parent)
    except OSError as error:
        raise unwritable(target, error) from error


def unwritable(target: Path, error: OSError) -> SetupError:
    """What to raise where a file or folder cannot be written."""
    return SetupError(
        f"cannot write {target}: {error.strerror or error}.", "Check the folder's permissions and free space."
    )


def discard(path: str | Path) -> None:
    """Remove a file that may be there.

    Raises:
        SetupError: its folder is none, or cannot be written.
    """
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
