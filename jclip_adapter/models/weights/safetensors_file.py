"""Weights from safetensors files, including bfloat16, which the library does not support with numpy.

`storage.write_safetensors` describes the format.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np

from jclip_adapter.core.errors import DataError, WeightsError
from jclip_adapter.storage import checksums

from .origin import FORMAT
from .state import is_weight
from .tensors import BFLOAT16, Floats, bfloat16_values, dimensions, to_float32

_KINDS = {
    "F64": "f8",
    "F32": "f4",
    "F16": "f2",
    "BF16": BFLOAT16,
    "I64": "i8",
    "I32": "i4",
    "I16": "i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "b1",
}
_DAMAGED = "Download it again: it is damaged or truncated."


def looks_like(head: bytes, size: int) -> bool:
    """Whether a file with these first nine bytes and this size in bytes begins like safetensors."""
    return len(head) >= 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= size - 8


def read_parts(index: Path) -> dict[str, Floats]:
    """Read safetensors in several parts.

    Args:
        index: Its `…safetensors.index.json`: a table `weight_map` from names to files beside it.

    Returns:
        Name → float32 array, in the order of the index.

    Raises:
        WeightsError: the index is not such a table, or a part is missing, damaged, or lacks a name.
        OSError: a file cannot be read.
    """
    table = read_index(index)
    parts = {}
    for name in sorted(set(table.values())):
        if not (index.parent / name).is_file():
            raise WeightsError(f"its part {name} is missing.", "Put all parts into one folder.")
        parts[name], _ = read_with_facts(index.parent / name)
    for key, name in table.items():
        if is_weight(key) and key not in parts[name]:
            raise WeightsError(f"its part {name} lacks {key[:80]!r}.", _DAMAGED)
    extra = next((key for name, part in parts.items() for key in part if table.get(key) != name), None)
    if extra is not None:
        raise WeightsError(f"its index does not know {extra[:80]!r}.", _DAMAGED)
    return {key: parts[name][key] for key, name in table.items() if is_weight(key)}


def read_index(index: Path) -> dict[str, str]:
    """The table of an index: the name of the part that holds each array.

    Raises:
        WeightsError: it is not such a table, or names a file in another folder.
    """
    try:
        table = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise WeightsError(f"it is not an index of safetensors ({type(error).__name__}).", _DAMAGED) from error
    if not isinstance(table, dict) or not table:
        raise WeightsError("its weight_map is not a table of names and files.", _DAMAGED)
    for name in table.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise WeightsError(
                f"its weight_map names {str(name)[:80]!r}, which is not a file in the same folder.", _DAMAGED
            )
    return dict(table)


def read_with_facts(path: Path) -> tuple[dict[str, Floats], dict[str, str] | None]:
    """Read a safetensors file.

    Args:
        path: The file.

    Returns:
        Name → float32 array, in the order of the header, without entries that are not weights; and the metadata if
        this program wrote the file, else None.

    Raises:
        WeightsError: the file is damaged, or a dtype is not supported.
    """
    with path.open("rb") as handle:
        header, start = _header(handle)
        whole = _has_checksum(path, header)
        entries = _checked(header, path.stat().st_size - start)
        # A file with a checksum is never modified, only replaced, so it can be mapped.
        mapped = np.memmap(handle, np.uint8, "r") if whole else None
        found: dict[str, Floats] = {}
        for name, (code, shape, begin, end) in entries.items():
            if mapped is not None and is_weight(name):
                found[name] = _values(mapped[start + begin : start + end].data, code, shape)
            elif is_weight(name):
                handle.seek(start + begin)
                found[name] = _values(handle.read(end - begin), code, shape)
    facts = header["__metadata__"] if whole else None
    return found, facts and {str(key): str(value) for key, value in facts.items()}


def _has_checksum(path: Path, header: dict[str, Any]) -> bool:
    """Whether this program wrote the file, by either of two marks; its checksum is then checked."""
    facts = header.get("__metadata__")
    if not isinstance(facts, dict) or not ("seal" in facts or facts.get("format") == FORMAT):
        return False
    try:
        checksums.check_safetensors(path)
    except DataError as error:
        raise WeightsError("its checksum is wrong or missing: it is damaged.", "Convert it again.") from error
    return True


def _values(data: bytes | memoryview, code: str, shape: tuple[int, ...]) -> Floats:
    if code == BFLOAT16:
        return bfloat16_values(np.frombuffer(data, "<u2")).reshape(shape)
    return to_float32(np.frombuffer(data, "<" + code).reshape(shape))


def _header(handle: IO[bytes]) -> tuple[dict[str, Any], int]:
    length = struct.unpack("<Q", handle.read(8))[0]
    if length > checksums.MAX_HEADER:
        raise WeightsError("its header is too long for CLIP's weights.", _DAMAGED)
    try:
        header = json.loads(handle.read(length).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"its safetensors header is not JSON ({type(error).__name__}).", _DAMAGED) from error
    return header, 8 + length


def _checked(header: dict[str, Any], size: int) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """Dtype, shape and byte range of each tensor; together they fill the `size` bytes of data."""
    entries: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        match entry:
            case {"dtype": str(kind), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
                pass
            case _:
                raise WeightsError(f"its header has no valid entry for {name[:80]!r}.", _DAMAGED)
        if kind not in _KINDS:
            raise WeightsError(f"its tensor {name[:80]!r} has dtype {kind[:20]!r}, which is not supported.")
        if shape == [0] and 0 <= begin == end <= size:  # as AudioCLIP's fbsp.bias
            continue
        code = _KINDS[kind]
        sizes = dimensions(shape)
        width = 2 if code == BFLOAT16 else np.dtype(code).itemsize
        if not 0 <= begin <= end <= size or end - begin != math.prod(sizes) * width:
            raise WeightsError(f"its tensor {name[:80]!r} does not match its bytes.", _DAMAGED)
        entries[name] = code, sizes, begin, end
    places = sorted((begin, end) for _, _, begin, end in entries.values())
    ends = [0, *(end for _, end in places)]
    if any(begin != end for (begin, _), end in zip(places, ends, strict=False)) or ends[-1] != size:
        raise WeightsError("its tensors overlap or leave gaps.", _DAMAGED)
    return entries
