"""The only writer of files.

Whatever the program leaves on disk goes through `atomic_write`: a reader sees the old file or the new one, never
half of one, whenever the power fails or the process is killed. Several files belong together only when a
manifest, written last, names each of them with its size and SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .errors import DataError, SetupError

MANIFEST = "manifest.json"
_STRAY = re.compile(r"^\..+\.[0-9a-f]{12}\.partial$")
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
_STRAY_AGE_S = 3600.0  # younger ones may belong to a process that still writes


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
    partial = target.with_name(f".{target.name}.{secrets.token_hex(6)}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        raise SetupError(
            f"cannot write {target}: {error.strerror or error}.",
            "Check the folder's permissions and free space.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes atomically."""
    with atomic_write(path) as handle:
        handle.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with LF line ends atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given, readable by a person."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def npz_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The bytes of an uncompressed .npz that holds `arrays`; object arrays are refused."""
    buffer = io.BytesIO()
    for name, value in arrays.items():
        if value.dtype.hasobject:
            raise ValueError(f"array {name} holds Python objects")
    np.savez(buffer, **dict(arrays))
    return buffer.getvalue()


def write_safetensors(path: str | Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, str]) -> None:
    """Write arrays as safetensors atomically; the same content gives the same bytes.

    The format is eight bytes of header length, a JSON header and the raw little-endian numbers
    (https://github.com/huggingface/safetensors). The library's own writer holds the whole file in memory and
    orders the metadata at random.

    Args:
        path: Of the file.
        arrays: By name, of float, integer or bool kinds.
        facts: Kept in the header as its metadata.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(facts.items()))}
    solid = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    position = 0
    for name, value in solid.items():
        end = position + value.nbytes
        header[name] = {"dtype": _KINDS[value.dtype.str[1:]], "shape": value.shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of eight bytes
    with atomic_write(path) as handle:
        handle.write(struct.pack("<Q", len(text)) + text)
        for value in solid.values():
            handle.write(value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes())


def read_safetensors(path: str | Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Read a safetensors file: its arrays, and its header's metadata by name (the library gives it in any order).

    Raises:
        DataError: it is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as handle:  # type: ignore[no-untyped-call]
            arrays = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118  (no dict, no iterator)
            return arrays, dict(sorted((handle.metadata() or {}).items()))
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}.", "Run the command that makes it again.") from error


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: it is missing, unreadable or no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror or error}.", "Run the command that makes it again."
        ) from error
    except ValueError as error:
        raise DataError(
            f"{path} is not JSON ({error}).", "Delete it and run the command that made it again."
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
    lines = text.split("\n")  # not splitlines: that also breaks at U+2028 and others, which file names may hold
    return lines if lines[-1] else lines[:-1]


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_manifest(folder: str | Path, names: list[str], **facts: Any) -> None:
    """Declare a folder's files complete: written last, it names each with its size and SHA-256.

    Args:
        folder: The folder.
        names: Files in it that belong together.
        facts: Anything else worth keeping, as JSON.
    """
    base = Path(folder)
    parts = {name: {"bytes": (base / name).stat().st_size, "sha256": sha256_file(base / name)} for name in names}
    write_json(base / MANIFEST, {**facts, "files": parts})


def check_manifest(folder: str | Path) -> dict[str, Any]:
    """Read a folder's manifest and check every file that it names.

    Returns:
        The manifest.

    Raises:
        DataError: there is none, or a file is missing or has other content than it had.
    """
    base = Path(folder)
    if not (base / MANIFEST).is_file():
        raise DataError(
            f"{base} holds no finished result ({MANIFEST} is missing).",
            "Run the command that makes it again.",
        )
    manifest: Any = read_json(base / MANIFEST)
    parts = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(part, dict) for part in parts.values()):
        raise DataError(f"{base / MANIFEST} is no list of files.", "Run the command that makes it again.")
    for name, part in parts.items():
        path = base / name
        size, digest = part.get("bytes"), part.get("sha256")
        if not path.is_file() or path.stat().st_size != size or sha256_file(path) != digest:
            raise DataError(f"{path} is missing or damaged.", "Run the command that makes it again.")
    return dict(manifest)


def sweep_strays(folder: str | Path) -> int:
    """Remove what interrupted writers left in a folder (older than an hour).

    Returns:
        How many files were removed.
    """
    count = 0
    now = time.time()
    for path in Path(folder).glob(".*.partial"):
        with contextlib.suppress(OSError):
            if _STRAY.match(path.name) and now - path.stat().st_mtime > _STRAY_AGE_S:
                path.unlink()
                count += 1
    return count
