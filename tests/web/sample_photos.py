"""A few photos of the sample, unsorted."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

from jclip_adapter.data.sample import PHOTOS

NAMES = ("Bear", "Butterfly", "Elephant")
PER_CLASS = 6


def write_unsorted(folder: Path, names: tuple[str, ...] = NAMES, per_class: int = PER_CLASS) -> Path:
    """Write photos as "Bear-1.jpg" into one folder; returns it."""
    folder.mkdir(parents=True)
    counts = dict.fromkeys(names, 0)
    with zipfile.ZipFile(PHOTOS) as archive:
        for entry in sorted(archive.namelist()):
            match = re.fullmatch(r"TrainSet/[\w-]+/(\w+)/(.+)", entry)
            if match and counts.get(match[1], per_class) < per_class:
                counts[match[1]] += 1
                (folder / f"{match[1]}-{counts[match[1]]}.jpg").write_bytes(archive.read(entry))
    return folder


def more_photos(name: str, count: int) -> list[bytes]:
    """Photos of a class that `write_unsorted` leaves out."""
    with zipfile.ZipFile(PHOTOS) as archive:
        entries = [entry for entry in sorted(archive.namelist()) if f"/{name}/" in entry]
        return [archive.read(entry) for entry in entries[PER_CLASS : PER_CLASS + count]]


def zip_names(data: bytes) -> list[str]:
    """The names in a zip."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return archive.namelist()
