"""Free memory, for work whose need is known beforehand: an operating system may end a process that takes too much."""

from __future__ import annotations

from pathlib import Path

from .errors import OutOfMemoryError

_PROC = Path("/proc")
_GROUP = Path("/sys/fs/cgroup")  # of a container; its files are absent outside of one
_LIMITS = {"Max data size": "VmData", "Max address space": "VmSize"}  # of the process (ulimit), and what is used of it


def available() -> int | None:
    """Bytes that this process can take without swapping; None where the system does not say (not Linux)."""
    try:
        free = [_kilobytes(_PROC / "meminfo")["MemAvailable"] * 1024]
        used = _kilobytes(_PROC / "self" / "status")
        limits = (_PROC / "self" / "limits").read_text("utf-8").splitlines()
    except (OSError, KeyError):
        return None
    for line in limits:
        name, soft = line[:26].strip(), line[26:].split()[0]
        if name in _LIMITS and soft.isdigit():
            free.append(int(soft) - used[_LIMITS[name]] * 1024)
    try:
        limit, taken = (int((_GROUP / name).read_text("utf-8")) for name in ("memory.max", "memory.current"))
        free.append(limit - taken)
    except (OSError, ValueError):  # "max": no limit
        pass
    return max(0, min(free))


def _kilobytes(path: Path) -> dict[str, int]:
    """The lines `Name: 123 kB` of a file."""
    rows = (line.split() for line in path.read_text("utf-8").splitlines())
    return {row[0].rstrip(":"): int(row[1]) for row in rows if row[2:] == ["kB"]}


def require(needed: int, what: str, hint: str) -> None:
    """Refuse work that does not fit into the free memory.

    Args:
        needed: Bytes at its peak.
        what: The work, such as "proker on 40,000 rows".
        hint: What to do instead, as a sentence.

    Raises:
        OutOfMemoryError: it does not fit.
    """
    free = available()
    if free is not None and needed > free:
        raise OutOfMemoryError(f"{what} needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free.", hint)
