"""Groups of files with a manifest, written last, that lists each with size and SHA-256."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jclip_adapter.core.errors import AdapterError, DataError, UsageError

from .atomic import check_folder_writable, flush_folder, partial_path, sweep_once, unwritable
from .files import read_checked_json, sha256_file, write_checked_json
from .kinds import Kind, unchanged_json

MANIFEST = "manifest.json"
_AGAIN = "Run the command that makes it again."
_OUR_MANIFEST = Kind("a manifest", unchanged_json("files", damaged=True))
_NEXT = ".next"  # a complete group of files, to be moved into the parent folder
_ELSEWHERE = frozenset(["", ".", ".."])  # parts of a path that leaves its folder, or is absolute


def check_folder(folder: str | Path, name: str, kinds: Mapping[str, Kind]) -> None:
    """Refuse a folder that is not this program's or cannot be written, before the long computation.

    A folder is this program's if it is missing or empty, if its manifest is this program's, or if it has only files of
    these kinds. Hidden files are ignored.

    Args:
        folder: The folder.
        name: Its name for errors, with an article: "a run folder".
        kinds: The kinds of its files, by file name.

    Raises:
        UsageError: it or a parent is a file; it has other files; or a file to be replaced is not this program's.
        SetupError: it cannot be written.
    """
    base = Path(folder)
    existing = next(path for path in (base, *base.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UsageError(f"{existing} is a file, so {base} cannot be {name}.", "Give the path of a folder.")
    if base.is_dir():
        _check_owned(base, name, kinds)
    check_folder_writable(base)


def _check_owned(base: Path, name: str, kinds: Mapping[str, Kind]) -> None:
    if not _listed(base):
        others = [
            path.name
            for path in sorted(base.iterdir())
            if not path.name.startswith(".") and not (path.name in kinds and kinds[path.name].owns(path))
        ]
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            raise UsageError(f"{base} is not {name}: it has {others[0]}{more}.", "Give a new folder.")
    for file, kind in kinds.items():
        path = base / file
        if not is_listed(path):
            kind.check(path)


def _listed(base: Path) -> dict[str, str]:
    """SHA-256 by name of the files in the folder's manifest; empty without a manifest of this program."""
    path = base / MANIFEST
    if not path.is_file() or not _OUR_MANIFEST.owns(path):
        return {}
    try:
        parts = read_checked_json(path)["files"]
        return {name: str(part["sha256"]) for name, part in parts.items()} | {MANIFEST: sha256_file(path)}
    except (AdapterError, KeyError, TypeError, AttributeError):
        return {MANIFEST: sha256_file(path)}  # this program's, but damaged


def is_listed(path: Path) -> bool:
    """Whether a file matches the manifest beside it, or that of an interrupted `write_together`."""
    base = path.parent
    if not path.is_file() or not any(path.name in _listed(folder) for folder in (base, base / _NEXT)):
        return False
    digest = sha256_file(path)
    return any(_listed(folder).get(path.name) == digest for folder in (base, base / _NEXT))


@contextlib.contextmanager
def write_together(folder: str | Path, name: str, kinds: Mapping[str, Kind]) -> Iterator[Path]:
    """Replace a group of files of a folder atomically.

    They are written to a temporary folder with a manifest, whose rename is the commit: before it the old files are
    unchanged, after it `check_manifest` moves the files that an interrupted writer has not moved yet.

    Args:
        folder: The folder; other files in it stay.
        name: Its name for errors, with an article.
        kinds: The kinds of the files that may be written, by file name.

    Yields:
        The temporary folder, to be filled by the functions of this module.

    Raises:
        UsageError: the folder is not this program's (`check_folder`).
        SetupError: a file cannot be written.
    """
    base = Path(folder)
    check_folder(base, name, kinds)
    staging = partial_path(base / "together")
    try:
        base.mkdir(parents=True, exist_ok=True)
        sweep_once(base.absolute())
        try:
            staging.mkdir()
            yield staging
            write_manifest(staging, sorted(path.name for path in staging.iterdir()))
            _take_over(base)  # of an interrupted writer, older than these
            staging.rename(base / _NEXT)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        flush_folder(base)
        _take_over(base)
    except OSError as error:
        raise unwritable(base, error) from error


def _take_over(base: Path) -> None:
    """Move the files of a committed `write_together` to their places, if there are any."""
    ready = base / _NEXT
    if not ready.is_dir():
        return
    # The manifest last: until then the folder's old one does not match the files.
    for path in sorted(ready.iterdir(), key=lambda path: path.name == MANIFEST):
        with contextlib.suppress(FileNotFoundError):  # moved by another process
            path.replace(base / path.name)
    flush_folder(base)
    with contextlib.suppress(FileNotFoundError):
        ready.rmdir()


@contextlib.contextmanager
def replace_folder(folder: str | Path) -> Iterator[Path]:
    """Create or replace a folder atomically.

    Args:
        folder: The folder; an existing one must have only the files of its own manifest.

    Yields:
        A temporary folder, to be filled by the functions of this module.

    Raises:
        UsageError: the folder has other content.
        SetupError: a file cannot be written; an older folder then stays.
    """
    target = Path(folder)
    check_replaceable(target)
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


def check_replaceable(target: Path) -> None:
    """Refuse to replace a file, or a folder with files that its manifest does not list.

    Raises:
        UsageError: something is in the way.
    """
    listed = _listed(target)
    for path in [target] if target.is_file() else sorted(target.rglob("*")):
        hidden = path.name.startswith(".")
        if not path.is_dir() and not hidden and path.relative_to(target).as_posix() not in listed:
            raise UsageError(f"{path} is in the way: this program did not write it.", "Move it away.")


def write_manifest(folder: str | Path, names: list[str], **facts: Any) -> None:
    """Write the manifest of a folder's files, with size and SHA-256 of each.

    Args:
        folder: The folder.
        names: Its files.
        facts: Further JSON values.
    """
    base = Path(folder)
    parts = {name: {"bytes": (base / name).stat().st_size, "sha256": sha256_file(base / name)} for name in names}
    write_checked_json(base / MANIFEST, {**facts, "files": parts}, _OUR_MANIFEST)


def check_manifest(folder: str | Path) -> dict[str, Any]:
    """Read a folder's manifest and check every file in it.

    Returns:
        The manifest.

    Raises:
        DataError: the manifest is missing or damaged, it lists a file in another folder, or a file is missing or
            changed.
        OSError: the files of an interrupted `write_together` cannot be moved.
    """
    base = Path(folder)
    _take_over(base)
    if not (base / MANIFEST).is_file():
        raise DataError(f"{base} has no finished result ({MANIFEST} is missing).", _AGAIN)
    manifest = read_checked_json(base / MANIFEST)
    for name, part in manifest["files"].items():
        if not _ELSEWHERE.isdisjoint(re.split(r"[/\\]", name)) or "\0" in name or re.match("[A-Za-z]:", name):
            raise DataError(f"{base / MANIFEST} names {name!r}, which is not a file in its folder.", "Do not use it.")
        path = base / name
        size, digest = part.get("bytes"), part.get("sha256")
        if not path.is_file() or path.stat().st_size != size or sha256_file(path) != digest:
            raise DataError(f"{path} is missing or damaged.", _AGAIN)
    return manifest
