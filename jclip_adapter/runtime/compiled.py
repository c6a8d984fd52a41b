"""Checks of Jittor's compiled libraries before they are loaded.

A truncated library (a full disk, an interrupted copy) kills the process that loads it with a bus error. Another program
that uses the same cache with other flags recompiles Jittor's core, and the next import then exits.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from jclip_adapter.core.errors import DataError
from jclip_adapter.storage import KEPT, read_checked_json, write_checked_json

CORE = ("jit_utils_core*.so", "jittor_core*.so")
_ELF = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_HEADER_SIZE = 64


def is_whole(path: Path) -> bool:
    """Whether a compiled library is as long as its header says; True for formats other than ELF.

    An ELF file's section table is at its end, so truncation removes it.
    """
    with path.open("rb") as handle:
        head = handle.read(_HEADER_SIZE)
    if len(head) < _HEADER_SIZE:
        return False
    if not head.startswith(_ELF):
        return head[:4] != bytes(4)
    offset = struct.unpack_from("<Q", head, 0x28)[0]
    width, count = struct.unpack_from("<HH", head, 0x3A)
    return bool(path.stat().st_size >= offset + width * count)


def remove_broken(folder: Path) -> list[Path]:
    """Remove truncated libraries below a folder; Jittor compiles them again.

    Returns:
        The removed files.
    """
    broken = [path for path in sorted(folder.rglob("*.so")) if path.is_file() and not is_whole(path)]
    for path in broken:
        path.unlink(missing_ok=True)
    return broken


def remove_core(folder: Path) -> list[Path]:
    """Remove Jittor's core libraries below a folder; Jittor compiles them again."""
    found = sorted(path for pattern in CORE for path in folder.rglob(pattern))
    for path in found:
        path.unlink(missing_ok=True)
    return found


def stamp(folder: str) -> dict[str, Any]:
    """Size and modification time of Jittor's core libraries in a folder."""
    paths = sorted(path for pattern in CORE for path in Path(folder).glob(pattern)) if folder else []
    return {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}


def record(marker: Path, folder: str) -> None:
    """Record in a file the state of Jittor's working libraries in a folder."""
    write_checked_json(marker, {"folder": folder, "core": stamp(folder)}, KEPT)


def is_recorded(marker: Path) -> bool:
    """Whether Jittor's libraries are as recorded."""
    if not marker.is_file():
        return False
    try:
        recorded = read_checked_json(marker)
    except DataError:
        return False
    return bool(recorded.get("core") == stamp(str(recorded.get("folder", ""))))
