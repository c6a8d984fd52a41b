"""A file of lines that only grows, held by one process, and links to folders."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from jclip_adapter.core.errors import DataError, UsageError

from .atomic import flush_folder, unwritable


class AppendLog:
    """A file of UTF-8 lines that only grows.

    A line is written by one call and flushed to disk before `append` returns, so a kill loses none that was
    acknowledged. A last line without its end, which a kill may leave, is cut off when the file is opened.

    Args:
        path: The file; it is created if missing, with its folder.

    Raises:
        UsageError: another process holds the file.
        SetupError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(self._file)
                raise UsageError(
                    f"{path.parent} is open in another process.", "Use that one, end it, or give another folder."
                ) from error
            flush_folder(path.parent)
            data = path.read_bytes()
            self._end = data.rfind(b"\n") + 1
            os.ftruncate(self._file, self._end)
        except OSError as error:
            raise unwritable(path, error) from error

    def lines(self) -> list[str]:
        """All lines, without their ends.

        Raises:
            DataError: the file is not UTF-8.
        """
        try:
            return self._path.read_bytes()[: self._end].decode("utf-8").split("\n")[:-1]
        except UnicodeDecodeError as error:
            raise DataError(f"{self._path} is damaged: it is not UTF-8.", "Give another folder.") from error

    def append(self, line: str) -> None:
        """Add a line, which must not contain a line end.

        Raises:
            SetupError: it cannot be written; the file is as before.
        """
        data = line.encode("utf-8") + b"\n"
        try:
            written = os.write(self._file, data)
            if written < len(data):  # the disk is full
                os.write(self._file, data[written:])
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise unwritable(self._path, error) from error
        self._end += len(data)

    def close(self) -> None:
        """Let another process open the file."""
        os.close(self._file)


def link_folder(link: Path, folder: Path) -> None:
    """Create a link to a folder; one that exists must lead there.

    Raises:
        UsageError: it exists and leads elsewhere, or is no link.
        SetupError: it cannot be created.
    """
    target = folder.resolve()
    try:
        if not link.is_symlink() and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target, target_is_directory=True)
            flush_folder(link.parent)
    except OSError as error:
        raise unwritable(link, error) from error
    if not link.is_symlink() or link.resolve() != target:
        raise UsageError(
            f"{link.parent} belongs to {link.resolve()}, not to {target}.", "Give another folder by --project."
        )
