"""What Jittor has compiled: whether the files are whole, and as they were when they were last tried.

A library that was cut short, by a full disk or a copy that was stopped, ends the process that loads it with a bus
error. Another program that uses the same cache with other flags compiles Jittor's core anew, and the next import
then asks for a rerun and leaves. Both show in the files, before they are loaded.
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
    """Whether a compiled library is as long as its own header says; True for kinds that are not told by this.

    An ELF file's table of sections stands at its end, so whatever cuts the file short cuts that.
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
    """Remove the compiled libraries below a folder that are cut short; Jittor compiles them again.

    Returns:
        Those that were removed.
    """
    broken = [path for path in sorted(folder.rglob("*.so")) if path.is_file() and not is_whole(path)]
    for path in broken:
        path.unlink(missing_ok=True)
    return broken


def remove_core(folder: Path) -> list[Path]:
    """Remove Jittor's own libraries below a folder, where they crash; it compiles them again."""
    found = sorted(path for pattern in CORE for path in folder.rglob(pattern))
    for path in found:
        path.unlink(missing_ok=True)
    return found


def stamp(folder: str) -> dict[str, Any]:
    """Size and time of Jittor's own libraries in the folder that it uses."""
    paths = sorted(path for pattern in CORE for path in Path(folder).glob(pattern)) if folder else []
    return {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}


def note(marker: Path, folder: str) -> None:
    """Note in a file that Jittor's libraries in a folder work as they are."""
    write_checked_json(marker, {"folder": folder, "core": stamp(folder)}, KEPT)


def is_noted(marker: Path) -> bool:
    """Whether Jittor's libraries are still those that were noted."""
    if not marker.is_file():
        return False
    try:
        noted = read_checked_json(marker)
    except DataError:
        return False
    return bool(noted.get("core") == stamp(str(noted.get("folder", ""))))
