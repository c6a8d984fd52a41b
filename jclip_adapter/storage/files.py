"""Reading and writing of bytes, text, JSON and arrays, with or without a checksum."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import DataError

from . import atomic, checksums
from .kinds import NEW, Kind

_KINDS = {
    "f8": "F64",
    "f4": "F32",
    "f2": "F16",
    "i8": "I64",
    "i4": "I32",
    "i2": "I16",
    "i1": "I8",
    "u1": "U8",
    "b1": "BOOL",
}


def write_bytes(path: str | Path, data: bytes, kind: Kind = NEW) -> None:
    """Write bytes atomically; an existing file is replaced only if it is of this kind."""
    with atomic.atomic_write(path, kind) as handle:
        handle.write(data)


def write_text(path: str | Path, text: str, kind: Kind = NEW) -> None:
    """Write UTF-8 text with LF line ends atomically."""
    write_bytes(path, text.encode("utf-8"), kind)


def write_json(path: str | Path, value: Any, kind: Kind = NEW) -> None:
    """Write indented JSON atomically, keys in the given order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", kind)


def npz_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The bytes of an uncompressed .npz of `arrays` with a checksum; object arrays raise ValueError."""
    buffer = io.BytesIO()
    for name, value in arrays.items():
        if value.dtype.hasobject:
            raise ValueError(f"array {name} holds Python objects")
    np.savez(buffer, **dict(arrays))
    return checksums.npz_with_checksum(buffer.getvalue())


def write_safetensors(
    path: str | Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, str], kind: Kind = NEW
) -> None:
    """Write arrays as safetensors atomically; equal content gives equal bytes.

    The format is eight bytes of header length, a JSON header and the raw little-endian numbers
    (https://github.com/huggingface/safetensors). The library's writer holds the whole file in memory and orders the
    metadata at random. The first entry of the metadata is the file's checksum.

    Args:
        path: The file.
        arrays: Float, integer or bool arrays by name.
        facts: The header's metadata, without a key "seal".
        kind: The kind of file that may be replaced.
    """
    header: dict[str, Any] = {"__metadata__": {"seal": checksums.ZEROS.decode(), **dict(sorted(facts.items()))}}
    solid = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    position = 0
    for name, value in solid.items():
        end = position + value.nbytes
        header[name] = {"dtype": _KINDS[value.dtype.str[1:]], "shape": value.shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)  # aligns the numbers to eight bytes
    head = struct.pack("<Q", len(text)) + text

    def numbers() -> Iterator[bytes]:
        for value in solid.values():
            yield value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()

    checksum = checksums.checksum_of(itertools.chain([head], numbers()))
    with atomic.atomic_write(path, kind) as handle:
        handle.write(head.replace(checksums.ZEROS, checksum, 1))
        for part in numbers():
            handle.write(part)


def read_safetensors(
    path: str | Path, names: Collection[str] | None = None
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Read arrays and metadata, without the checksum, from a file of `write_safetensors`.

    Args:
        path: The file.
        names: Arrays to read, if present; None for all.

    Raises:
        DataError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        checksums.check_safetensors(path)
        with safe_open(str(path), framework="numpy") as handle:  # type: ignore[no-untyped-call]
            there = [name for name in handle.keys() if names is None or name in names]  # noqa: SIM118  (no iterator)
            arrays = {name: handle.get_tensor(name) for name in there}
            facts = handle.metadata() or {}
    except DataError:
        raise
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"cannot read {path}: {error}.", "Run the command that makes it again.") from error
    return arrays, {name: facts[name] for name in sorted(facts) if name != "seal"}  # the library gives any order


def write_checked_json(path: str | Path, value: dict[str, Any], kind: Kind = NEW) -> None:
    """Write a JSON object atomically, with its checksum as its first key."""
    write_bytes(path, checksums.json_bytes(value), kind)


def read_checked_json(path: str | Path) -> dict[str, Any]:
    """Read a file of `write_checked_json`, without the checksum.

    Raises:
        DataError: it is missing, or changed since it was written.
    """
    return checksums.parse_json(_read(path), path)


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: it is missing, unreadable or not JSON.
    """
    try:
        return json.loads(_read(path).decode("utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path} is not JSON ({error}).", "Delete it and run the command that made it again."
        ) from error


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror or error}.", "Run the command that makes it again."
        ) from error


def read_lines(path: str | Path) -> list[str]:
    """Read the lines of a UTF-8 text file, without line ends; a byte-order mark and CRLF are accepted.

    Raises:
        DataError: it is missing, unreadable or not UTF-8.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}).", "Save it as UTF-8."
        ) from error
    lines = text.split("\n")  # not splitlines, which also splits at U+2028, allowed in file names
    return lines if lines[-1] else lines[:-1]


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
