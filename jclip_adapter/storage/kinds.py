"""Which existing files a writer may replace: those that this program wrote, recognised by their content.

Every writer of this package is given a `Kind`. Without one it only makes new files, so a writer that forgets its
kind cannot destroy anything. An empty file holds nothing that could be lost, and may always be filled.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jclip_adapter.errors import UsageError

from . import sealed

SOFTWARE = "jclip-adapter"
"""The mark in the files of other formats: a PNG's "Software", a Markdown file's last line."""
MARKDOWN_MARK = f"<!-- {SOFTWARE} -->\n"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_TEXT = b"Software\0" + SOFTWARE.encode()
_PNG_DENSITY = struct.pack(">IIB", 4331, 4331, 1)  # 110 dots per inch, which version 0.1.0 left as the only mark
_SEAL_AT = re.compile(rb'.{8}\{"__metadata__":\{"seal":"[0-9a-f]{64}"', re.DOTALL)
_NPZ_END = re.compile(rb"seal [0-9a-f]{64}\Z")
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{16,64}(?![0-9a-f])")
_MOST_TEXT = 1 << 28  # no text file of this program is larger


@dataclass(frozen=True)
class Kind:
    """A kind of file that this program writes.

    Attributes:
        name: What an error calls it, with its article: "a result file".
        recognise: Whether an existing, non-empty file is of this kind and was written by this program.
    """

    name: str
    recognise: Callable[[Path], bool]

    def owns(self, path: Path) -> bool:
        """Whether this program wrote an existing file, or the file is empty; a file that cannot be read is foreign."""
        try:
            return path.is_file() and (path.stat().st_size == 0 or self.recognise(path))
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error):
            return False

    def check(self, path: str | Path) -> None:
        """Refuse to replace a file that this program did not write.

        Args:
            path: Where a file of this kind is going to be written.

        Raises:
            UsageError: there is something else.
        """
        target = Path(path)
        if target.is_symlink() and not target.exists():
            raise UsageError(f"{target} is a link to nothing.", "Name another file, or delete the link.")
        if not target.exists() or self.owns(target):
            return
        if target.is_dir():
            raise UsageError(f"{target} is a folder, where {self.name} is to be written.", "Name a file.")
        raise UsageError(
            f"{target} exists and is not {self.name} of this program, so it is not replaced.",
            "Name another file, or move this one away.",
        )


def head(path: Path, count: int) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as handle:
        return handle.read(count)


def text_of(path: Path) -> str:
    """The whole of a UTF-8 text file; a ValueError for any other."""
    if path.stat().st_size > _MOST_TEXT:
        raise ValueError(f"{path} is no text of this program")
    return path.read_bytes().decode("utf-8")


def lines_like(pattern: str) -> Callable[[Path], bool]:
    """Recognises a text file whose every line fits a pattern."""
    fits = re.compile(pattern).fullmatch

    def recognise(path: Path) -> bool:
        text = text_of(path)
        return text.endswith("\n") and all(map(fits, text[:-1].split("\n")))

    return recognise


def begins_with(start: str) -> Callable[[Path], bool]:
    """Recognises a file by its first characters."""
    data = start.encode()
    return lambda path: head(path, len(data)) == data


def ends_with(end: str) -> Callable[[Path], bool]:
    """Recognises a file by its last characters."""
    return lambda path: path.read_bytes().endswith(end.encode())


def json_object(*keys: str) -> Callable[[Path], bool]:
    """Recognises a JSON object that has all these keys."""

    def recognise(path: Path) -> bool:
        value = json.loads(text_of(path))
        return isinstance(value, dict) and value.keys() >= set(keys)

    return recognise


def sealed_json(*keys: str) -> Callable[[Path], bool]:
    """Recognises a JSON object with a check sum, right or not, that has all these keys."""
    named = json_object("seal", *keys)
    return lambda path: head(path, len(sealed.JSON_START)) == sealed.JSON_START and named(path)


def sealed_safetensors(*keys: str, **facts: str) -> Callable[[Path], bool]:
    """Recognises safetensors with a check sum, right or not, whose metadata have these keys and these values."""

    def recognise(path: Path) -> bool:
        start = head(path, sealed.MAX_HEADER + 8)
        if not _SEAL_AT.match(start):
            return False
        metadata: Mapping[str, Any] = json.loads(start[8 : 8 + struct.unpack("<Q", start[:8])[0]])["__metadata__"]
        return metadata.keys() >= set(keys) and all(metadata.get(name) == value for name, value in facts.items())

    return recognise


def sealed_npz(*names: str) -> Callable[[Path], bool]:
    """Recognises a .npz with a check sum, right or not, that has arrays of these names."""

    def recognise(path: Path) -> bool:
        with path.open("rb") as handle:
            handle.seek(max(0, path.stat().st_size - 69))
            if not _NPZ_END.search(handle.read()):
                return False
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist()) >= {f"{name}.npy" for name in names}

    return recognise


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_PNG_START)
    while place + 8 <= len(data):
        length = struct.unpack(">I", data[place : place + 4])[0]
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += length + 12


def marked_png(path: Path) -> bool:
    """Whether a PNG names this program as its software."""
    data = head(path, 1 << 16)
    return data.startswith(_PNG_START) and (b"tEXt", _PNG_TEXT) in _png_chunks(data)


def plain_png(path: Path) -> bool:
    """Whether a PNG has the density that version 0.1.0 wrote, and no text; more is needed to call it ours."""
    data = head(path, 1 << 16)
    kinds = dict(_png_chunks(data)) if data.startswith(_PNG_START) else {}
    return kinds.get(b"pHYs") == _PNG_DENSITY and not {b"tEXt", b"iTXt", b"zTXt", b"eXIf"} & kinds.keys()


def named_by_digest(path: Path) -> bool:
    """Whether a file's name holds a digest that this program computed: nobody else gives a file such a name."""
    return bool(_DIGEST.search(path.name))


TRAINING_STATE = Kind("the state of a training", sealed_safetensors("fingerprint"))
"""The checkpoint of a training through CLIP."""
NEW = Kind("a new file", lambda _: False)
"""Replaces nothing; what a writer is given that is not told anything else."""
KEPT = Kind("a file kept by this program", named_by_digest)
"""Files of a cache, named by a digest of what they depend on: a damaged one is replaced too."""
ANY = Kind("a file", lambda _: True)
"""Replaces anything: for programs that own a file's name, as benchmarks/ owns results/. No command uses it."""
