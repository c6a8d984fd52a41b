"""Files that belong together: a manifest, written last, names each of them with its size and SHA-256."""

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
_OUR_MANIFEST = Kind("a manifest", unchanged_json("files", damaged=True))
_NEXT = ".next"  # files that belong together, whole, on their way into the folder around it
_ELSEWHERE = frozenset(["", ".", ".."])  # parts of a path that leads out of its folder, or is absolute


def check_folder(folder: str | Path, name: str, kinds: Mapping[str, Kind]) -> None:
    """Refuse a folder that is not this program's, or that cannot be written, before the long work.

    A folder is this program's if it is missing or empty, if its manifest is this program's, or if it holds nothing
    but files of these kinds. Hidden files do not count.

    Args:
        folder: The folder.
        name: What it is called in an error, with its article: "a run folder".
        kinds: The kinds of its files, by file name.

    Raises:
        UsageError: it, or a folder above it, is a file; it holds other things; or a file in it, which would be
            replaced, is foreign.
        SetupError: it cannot be written.
    """
    base = Path(folder)
    existing = next(path for path in (base, *base.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UsageError(f"{existing} is a file, so {base} cannot be {name}.", "Check the path, and name a folder.")
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
            raise UsageError(f"{base} is not {name}: it holds {others[0]}{more}.", "Name a new folder.")
    for file, kind in kinds.items():
        path = base / file
        if not is_listed(path):
            kind.check(path)


def _listed(base: Path) -> dict[str, str]:
    """SHA-256 by name of the files that the folder's own manifest lists; empty where there is none of ours."""
    path = base / MANIFEST
    if not path.is_file() or not _OUR_MANIFEST.owns(path):
        return {}
    try:
        parts = read_checked_json(path)["files"]
        return {name: str(part["sha256"]) for name, part in parts.items()} | {MANIFEST: sha256_file(path)}
    except (AdapterError, KeyError, TypeError, AttributeError):
        return {MANIFEST: sha256_file(path)}  # ours, but damaged


def is_listed(path: Path) -> bool:
    """Whether a file is as the manifest beside it says, or that of an interrupted `write_together`."""
    base = path.parent
    if not path.is_file() or not any(path.name in _listed(folder) for folder in (base, base / _NEXT)):
        return False
    digest = sha256_file(path)
    return any(_listed(folder).get(path.name) == digest for folder in (base, base / _NEXT))


@contextlib.contextmanager
def write_together(folder: str | Path, name: str, kinds: Mapping[str, Kind]) -> Iterator[Path]:
    """Replace files of a folder that belong together, all of them or none.

    They are written into a folder of their own, with a manifest. Its renaming is the moment from which they count:
    before it the old files are there untouched, after it `check_manifest` moves what an interrupted writer has not
    moved yet.

    Args:
        folder: Where the files shall be; other files in it stay.
        name: What the folder is called in an error, with its article.
        kinds: The kinds of the files that may stand in it, by file name; no others may be written.

    Yields:
        A folder to write them into, each whole, by the functions of this module.

    Raises:
        UsageError: the folder is not this program's (`check_folder`).
        SetupError: something cannot be written.
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
            files = sorted(path.name for path in staging.iterdir())
            unknown = set(files) - kinds.keys()
            if unknown:
                raise ValueError(f"{sorted(unknown)} are of no kind")
            write_manifest(staging, files)
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
        folder: Where it shall be. An older one must hold the files of its own manifest and no others.

    Yields:
        A folder to fill by the functions of this module.

    Raises:
        UsageError: something else is there.
        SetupError: something cannot be written; an older folder then stays.
    """
    target = Path(folder)
    _check_all_listed(target)
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


def _check_all_listed(target: Path) -> None:
    """Refuse to replace a folder with anything in it that its own manifest does not list."""
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(f"{target} is a file, where a folder is to be written.", "Move it away.")
    listed = _listed(target)
    for path in sorted(target.rglob("*")):
        hidden = path.name.startswith(".")
        if not path.is_dir() and not hidden and path.relative_to(target).as_posix() not in listed:
            raise UsageError(f"{target} holds {path.name}, which this program did not write.", "Move it away.")


def write_manifest(folder: str | Path, names: list[str], **facts: Any) -> None:
    """Declare a folder's files complete: written last, it names each with its size and SHA-256.

    Args:
        folder: The folder.
        names: Files in it that belong together.
        facts: Anything else worth keeping, as JSON.
    """
    base = Path(folder)
    parts = {name: {"bytes": (base / name).stat().st_size, "sha256": sha256_file(base / name)} for name in names}
    write_checked_json(base / MANIFEST, {**facts, "files": parts}, _OUR_MANIFEST)


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
    manifest = read_checked_json(base / MANIFEST)
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
