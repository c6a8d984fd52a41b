"""Which existing files a writer may replace: those that are exactly as this program wrote them.

A file's form is no evidence, as other programs write "name 1 2 3" lines and JSON with the same keys. A checksum of the
content is: inside the file if its format allows (checksums.py), else in a file of this program beside it. A file that a
user has changed is not replaced. Caches and checkpoints, which nobody edits, are replaced even if damaged.

Every writer takes a `Kind`; without one it only creates new files, so a forgotten kind destroys nothing. An empty file
may always be replaced.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jclip_adapter.core.errors import DataError, UsageError

from . import checksums

SOFTWARE = "jclip-adapter"
"""The software entry of a PNG."""
_PNG_START = b"\x89PNG\r\n\x1a\n"
_CHECKSUM_AT = re.compile(rb'.{8}\{"__metadata__":\{"seal":"[0-9a-f]{64}"', re.DOTALL)
_NPZ_END = re.compile(rb"seal [0-9a-f]{64}\Z")
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{16,64}(?![0-9a-f])")
_FAULTS = (
    *(OSError, ValueError, KeyError, EOFError, struct.error, zipfile.BadZipFile, zlib.error, DataError),
    RuntimeError,  # an encrypted zip, one of an unknown version, too deeply nested JSON
)


@dataclass(frozen=True)
class Kind:
    """A kind of file that this program writes.

    Attributes:
        name: Its name for errors, with an article: "a result file".
        recognise: Whether an existing, non-empty file is of this kind and as this program wrote it.
        evidence: Gives the reason in errors, if another file proves the kind; None if the file itself does.
    """

    name: str
    recognise: Callable[[Path], bool]
    evidence: Callable[[Path], str] | None = None

    def owns(self, path: Path) -> bool:
        """Whether an existing file is as this program wrote it, or empty; False if it cannot be read."""
        try:
            return path.is_file() and (path.stat().st_size == 0 or self.recognise(path))
        except _FAULTS:
            return False

    def check(self, path: str | Path) -> None:
        """Refuse to replace a file that is not as this program wrote it.

        Args:
            path: The file to be written.

        Raises:
            UsageError: it exists and is something else.
        """
        target = Path(path)
        if target.is_symlink() and not target.exists():
            raise UsageError(f"{target} is a link to a missing file.", "Give another path, or delete the link.")
        if not target.exists() or self.owns(target):
            return
        why = f" ({self.evidence(target)})" if self.evidence else ""
        raise UsageError(
            f"{target} exists and is not {self.name} as this program wrote it{why}, so it is not replaced.",
            "Give another path, or move this file away.",
        )


def head(path: Path, count: int) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as handle:
        return handle.read(count)


def text_of(path: Path) -> str:
    """The content of a UTF-8 text file; raises ValueError for any other."""
    return path.read_bytes().decode("utf-8")


def unchanged_text(mark: str) -> Callable[[Path], bool]:
    """Recognises text with a valid checksum in its last line, such as `checksums.MARKDOWN_MARK`."""
    return lambda path: checksums.text_is_unchanged(text_of(path), mark)


def unchanged_json(*keys: str, damaged: bool = False) -> Callable[[Path], bool]:
    """Recognises a JSON object of this program that has all these keys.

    Args:
        keys: Of the object.
        damaged: Whether its checksum may be wrong, or a part of it missing.
    """

    def recognise(path: Path) -> bool:
        data = path.read_bytes()
        if not data.startswith(checksums.JSON_START):
            return False
        try:
            value: Any = json.loads(data) if damaged else checksums.parse_json(data, path)
        except (ValueError, DataError):
            return damaged
        return isinstance(value, dict) and value.keys() >= set(keys)

    return recognise


def unchanged_safetensors(*keys: str, damaged: bool = False, **facts: str) -> Callable[[Path], bool]:
    """Recognises safetensors of this program by keys and values of their metadata.

    Args:
        keys: Required keys.
        damaged: Whether the checksum may be wrong.
        facts: Required values.
    """

    def recognise(path: Path) -> bool:
        start = head(path, checksums.MAX_HEADER + 8)
        if not _CHECKSUM_AT.match(start):
            return False
        metadata: Mapping[str, Any] = json.loads(start[8 : 8 + struct.unpack("<Q", start[:8])[0]])["__metadata__"]
        if not metadata.keys() >= set(keys) or any(metadata.get(name) != value for name, value in facts.items()):
            return False
        if not damaged:
            checksums.check_safetensors(path)
        return True

    return recognise


def unchanged_npz(*names: str) -> Callable[[Path], bool]:
    """Recognises a .npz of this program that has arrays of these names."""

    def recognise(path: Path) -> bool:
        with path.open("rb") as handle:
            handle.seek(max(0, path.stat().st_size - 69))
            if not _NPZ_END.search(handle.read()):
                return False
        with zipfile.ZipFile(path) as archive:
            if not set(archive.namelist()) >= {f"{name}.npy" for name in names}:
                return False
        checksums.check_npz(path.read_bytes())
        return True

    return recognise


def unchanged_png(path: Path) -> bool:
    """Whether a PNG is as this program wrote it."""
    return head(path, len(_PNG_START)) == _PNG_START and checksums.png_is_unchanged(path.read_bytes())


def named_by_digest(path: Path) -> bool:
    """Whether a file's name contains a digest, as only this program's cache files do."""
    return bool(_DIGEST.search(path.name))


TRAINING_STATE = Kind("the state of a training", unchanged_safetensors("fingerprint", damaged=True))
"""The checkpoint of a training through CLIP."""
NEW = Kind("a new file", lambda _: False)
"""Replaces nothing; the default of every writer."""
KEPT = Kind("a file kept by this program", named_by_digest)
"""A cache file, named by a digest of what it depends on; replaced even if damaged."""
ANY = Kind("a file", lambda _: True)
"""Replaces anything; for benchmarks/ writing results/, not for commands."""
