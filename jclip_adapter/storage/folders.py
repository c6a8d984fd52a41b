"""Files that belong together: a manifest, written last, names each of them with its size and SHA-256."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jclip_adapter.errors import DataError

from .atomic import flush_folder, partial_path, sweep_once, unwritable
from .files import read_sealed_json, sha256_file, write_sealed_json

MANIFEST = "manifest.json"
_NEXT = ".next"  # files that belong together, whole, on their way into the folder around it
_ELSEWHERE = frozenset(["", ".", ".."])  # parts of a path that leads out of its folder, or is absolute


@contextlib.contextmanager
def write_together(folder: str | Path) -> Iterator[Path]:
    """Replace files of a folder that belong together, all of them or none.

    They are written into a folder of their own, with a manifest. Its renaming is the moment from which they count:
    before it the old files are there untouched, after it `check_manifest` moves what an interrupted writer has not
    moved yet.

    Args:
        folder: Where the files shall be; other files in it stay.

    Yields:
        A folder to write them into, each whole, by the functions of this module.

    Raises:
        SetupError: something cannot be written.
    """
    base = Path(folder)
    staging = partial_path(base / "together")
    try:
        base.mkdir(parents=True, exist_ok=True)
        sweep_once(base.absolute())
        try:
            staging.mkdir()
            yield staging
            write_manifest(staging, sorted(path.name for path in staging.iterdir()))
            _take_over(base)  # what an interrupted writer left to be moved is older than this
            staging.rename(base / _NEXT)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        flush_folder(base)
        _take_over(base)
    except OSError as error:
        raise unwritable(base, error) from error


def _take_over(base: Path) -> None:
    """Move the files of a finished `write_together` to their places; nothing where there are none."""
    ready = base / _NEXT
    if not ready.is_dir():
        return
    # The manifest last: until then the folder's own one says that files are missing or others.
    for path in sorted(ready.iterdir(), key=lambda path: path.name == MANIFEST):
        with contextlib.suppress(FileNotFoundError):  # another process moves them too
            path.replace(base / path.name)
    flush_folder(base)
    with contextlib.suppress(FileNotFoundError):
        ready.rmdir()


@contextlib.contextmanager
def replace_folder(folder: str | Path) -> Iterator[Path]:
    """Make a folder anew; it appears under its name, in place of an older one, only when it is whole.

    Args:
        folder: Where it shall be.

    Yields:
        A folder to fill by the functions of this module.

    Raises:
        SetupError: something cannot be written; an older folder then stays.
    """
    target = Path(folder)
    fresh, aside = partial_path(target), partial_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep_once(target.parent.absolute())
        try:
            fresh.mkdir()
            yield fresh
            if target.exists():
                target.rename(aside)
            fresh.rename(target)
        except BaseException:
            if aside.exists() and not target.exists():
                aside.rename(target)
            raise
        finally:
            for path in (fresh, *([aside] if target.exists() else [])):
                shutil.rmtree(path, ignore_errors=True)
        flush_folder(target.parent)
    except OSError as error:
        raise unwritable(target, error) from error


def write_manifest(folder: str | Path, names: list[str], **facts: Any) -> None:
    """Declare a folder's files complete: written last, it names each with its size and SHA-256.

    Args:
        folder: The folder.
        names: Files in it that belong together.
        facts: Anything else worth keeping, as JSON.
    """
    base = Path(folder)
    parts = {name: {"bytes": (base / name).stat().st_size, "sha256": sha256_file(base / name)} for name in names}
    write_sealed_json(base / MANIFEST, {**facts, "files": parts})


def check_manifest(folder: str | Path) -> dict[str, Any]:
    """Read a folder's manifest and check every file that it names.

    Returns:
        The manifest.

    Raises:
        DataError: there is none, it is damaged, it names a file elsewhere, or a file is missing or has other content
            than it had.
        SetupError: what an interrupted `write_together` left to be moved cannot be moved.
    """
    base = Path(folder)
    try:
        _take_over(base)
    except OSError as error:
        raise unwritable(base, error) from error
    if not (base / MANIFEST).is_file():
        raise DataError(
            f"{base} holds no finished result ({MANIFEST} is missing).",
            "Run the command that makes it again.",
        )
    manifest = read_sealed_json(base / MANIFEST)
    parts = manifest.get("files")
    if not isinstance(parts, dict) or not all(isinstance(part, dict) for part in parts.values()):
        raise DataError(f"{base / MANIFEST} is no list of files.", "Run the command that makes it again.")
    for name, part in parts.items():
        if not _ELSEWHERE.isdisjoint(re.split(r"[/\\]", name)) or "\0" in name or re.match("[A-Za-z]:", name):
            raise DataError(f"{base / MANIFEST} names {name!r}, which is no file of its folder.", "Do not use it.")
        path = base / name
        size, digest = part.get("bytes"), part.get("sha256")
        if not path.is_file() or path.stat().st_size != size or sha256_file(path) != digest:
            raise DataError(f"{path} is missing or damaged.", "Run the command that makes it again.")
    return manifest
