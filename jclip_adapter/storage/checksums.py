"""Files with a checksum inside, so that any changed bit is detected.

The checksum is the SHA-256 of the file with the checksum's 64 characters replaced by zeros: the first entry in the
header of a safetensors file and in a JSON object, the comment of a .npz archive. In a PNG it is the last text chunk, in
text the last line, and both are the SHA-256 of the file without them. Other programs read such files as usual. It
detects damage, not malice. Its name in files is "seal", from the first version.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import struct
import tokenize
import zipfile
import zlib
from binascii import crc32
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import DataError

ZEROS = b"0" * 64
SAFETENSORS_START = b'{"__metadata__":{"seal":"'
JSON_START = b'{\n  "seal": "'
# Bytes of a safetensors header: 21,000 class names need a tenth; parsed JSON takes 25 times that.
MAX_HEADER = 4_000_000
MARKDOWN_MARK = "<!-- jclip-adapter: {} -->\n"
"""The last line of Markdown with a checksum, a comment; the braces are replaced by the checksum."""
LIST_MARK = "# jclip-adapter\t{}\n"
"""The last line of a list of names and reasons."""
_NPZ_COMMENT = b"seal "
_PNG_KEY = b"tEXtjclip-adapter\0"
_PNG_END_SIZE = 12
_PNG_CHUNK_SIZE = 4 + len(_PNG_KEY) + len(ZEROS) + 4
_ZIP_END = b"PK\x05\x06"
_ZIP_END_SIZE = 22
_CHECKSUM = re.compile(rb"[0-9a-f]{64}")
_BLOCK = 1 << 20
_MAX_GROWTH, _SLACK = 4, 1 << 24  # features hardly compress; an archive that expands far more is a zip bomb
_KINDS = frozenset("biufU")  # of numpy's dtypes: numbers, truth values and text
_AGAIN = "Run the command that makes it again."
_NPZ_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
    OSError,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    SyntaxError,
    OverflowError,
    RecursionError,
    NotImplementedError,  # a compression or version that zipfile does not know
    RuntimeError,  # an encrypted entry
)


def checksum_of(parts: Iterable[bytes]) -> bytes:
    """The checksum of a file given in parts, with ZEROS in the checksum's place."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest().encode()


def check_safetensors(path: str | Path) -> None:
    """Check the checksum of a safetensors file that `storage.write_safetensors` wrote.

    Raises:
        DataError: there is none, or it is broken.
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as handle:
        head = handle.read(8 + len(SAFETENSORS_START) + len(ZEROS))
        checksum = head[8 + len(SAFETENSORS_START) :]
        if head[8:].startswith(SAFETENSORS_START) and _CHECKSUM.fullmatch(checksum):
            if struct.unpack("<Q", head[:8])[0] > MAX_HEADER:
                raise DataError(f"cannot read {path}: its header is too long.", _AGAIN)

            def blocks() -> Iterator[bytes]:
                yield head[: 8 + len(SAFETENSORS_START)] + ZEROS
                while block := handle.read(_BLOCK):
                    yield block

            if checksum_of(blocks()) == checksum:
                return
    raise DataError(f"cannot read {path}: it is damaged, its checksum is wrong or missing.", _AGAIN)


def json_bytes(value: dict[str, Any]) -> bytes:
    """A JSON object without a key "seal" as indented text with a checksum."""
    text = json.dumps({"seal": ZEROS.decode(), **value}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    data = text.encode("utf-8")
    return JSON_START + checksum_of([data]) + data[len(JSON_START) + len(ZEROS) :]


def parse_json(data: bytes, path: str | Path) -> dict[str, Any]:
    """The object in JSON from `json_bytes`, without its checksum.

    Args:
        data: The JSON.
        path: The path for errors.

    Raises:
        DataError: the checksum is missing or wrong.
    """
    end = len(JSON_START) + len(ZEROS)
    checksum = data[len(JSON_START) : end]
    if not data.startswith(JSON_START) or checksum_of([JSON_START, ZEROS, data[end:]]) != checksum:
        raise DataError(f"{path} is damaged: its checksum is wrong or missing.", _AGAIN)
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({type(error).__name__}).", _AGAIN) from error
    value.pop("seal")
    return dict(value)


def npz_with_checksum(data: bytes) -> bytes:
    """An archive without a comment, with its checksum as comment."""
    comment = _NPZ_COMMENT + ZEROS
    whole = data[:-2] + struct.pack("<H", len(comment)) + comment
    return whole[: -len(ZEROS)] + checksum_of([whole])


def png_with_checksum(data: bytes) -> bytes:
    """A PNG without a checksum, with its checksum as last text chunk."""
    body = _PNG_KEY + checksum_of([data])
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", crc32(body))
    return data[:-_PNG_END_SIZE] + chunk + data[-_PNG_END_SIZE:]


def png_is_unchanged(data: bytes) -> bool:
    """Whether these bytes come from `png_with_checksum`."""
    body, end = data[: -_PNG_CHUNK_SIZE - _PNG_END_SIZE], data[-_PNG_END_SIZE:]
    return _PNG_KEY in data[len(body) :] and png_with_checksum(body + end) == data


def text_with_checksum(text: str, mark: str) -> str:
    """Text with its checksum as its last line.

    Args:
        text: Empty, or ending in LF.
        mark: MARKDOWN_MARK or LIST_MARK.
    """
    return text + mark.format(checksum_of([text.encode("utf-8")]).decode())


def text_is_unchanged(text: str, mark: str) -> bool:
    """Whether this text comes from `text_with_checksum`."""
    body = text[: len(text) - len(mark.format(ZEROS.decode()))]
    return len(body) < len(text) and text_with_checksum(body, mark) == text


def read_npz(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Read a .npz of plain arrays without unpickling; a checksum is checked if it has one.

    Args:
        data: The file.

    Returns:
        Name → array; read-only.

    Raises:
        DataError: it is damaged, holds Python objects, or expands to far more than its size. The caller adds the path.
    """
    check_npz(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            unfolded = sum(max(0, entry.file_size) for entry in entries)
            if unfolded > _MAX_GROWTH * len(data) + _SLACK:
                raise DataError(f"its {len(data)} bytes would expand to {unfolded}.", "Store it uncompressed.")
            return {entry.filename.removesuffix(".npy"): _array(archive.read(entry)) for entry in entries}
    except _NPZ_FAULTS as error:
        raise DataError(f"it is not a .npz of plain arrays ({error}).", "Give one that numpy.savez wrote.") from error


def check_npz(data: bytes) -> None:
    """Check the checksum of a .npz; one without a comment, as numpy writes it, passes.

    Raises:
        DataError: the checksum is wrong, or the file is cut short.
    """
    length = len(_NPZ_COMMENT) + len(ZEROS)
    end = data[-_ZIP_END_SIZE:]
    if end.startswith(_ZIP_END) and end.endswith(b"\0\0"):
        return  # an archive without comment, as numpy writes it
    body, checksum = data[: -len(ZEROS)], data[-len(ZEROS) :]
    tail = struct.pack("<H", length) + _NPZ_COMMENT
    if not body.endswith(tail) or checksum_of([body, ZEROS]) != checksum:
        raise DataError("it is damaged or not a .npz: its end is wrong.", _AGAIN)


def _array(member: bytes) -> npt.NDArray[Any]:
    """The array in a .npy file.

    Raises:
        ValueError: or others of _NPZ_FAULTS: it is malformed.
    """
    handle = io.BytesIO(member)
    version = np.lib.format.read_magic(handle)  # type: ignore[no-untyped-call]
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, kind = readers[version](handle)  # type: ignore[no-untyped-call]
    if kind.kind not in _KINDS or kind.itemsize == 0:
        raise ValueError(f"an array of {kind}, not of numbers or text")
    if any(size < 0 for size in shape) or math.prod(shape) * kind.itemsize != len(member) - handle.tell():
        raise ValueError(f"an array of shape {shape} does not fit its {len(member) - handle.tell()} bytes")
    values = np.frombuffer(member, kind, offset=handle.tell())
    return values.reshape(shape, order="F" if fortran else "C")
