"""A few photos, unsorted: of the sample, or of a folder in the contest's layout."""

from __future__ import annotations

import io
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from jclip_adapter.data import sample

REAL = os.environ.get("JCLIP_PHOTOS_DIR", "")
"""A folder with TrainSet/Animal/NAME/NUMBER.jpg; empty for none."""
PER_CLASS = 6


@dataclass(frozen=True)
class Case:
    """Photos of three classes, and the network that looks at them.

    Attributes:
        names: Of the files.
        weights: Of the network.
        reads_names: Whether it has a text encoder.
    """

    names: tuple[str, str, str]
    weights: str
    reads_names: bool

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names as a person types them."""
        return tuple(name.lower() for name in self.names)

    def photos(self, name: str) -> list[bytes]:
        """The photos of a class."""
        if self is PHOTOS:
            folder = Path(REAL) / "TrainSet" / "Animal" / name
            return [(folder / f"{number}.jpg").read_bytes() for number in range(1, PER_CLASS + 2)]
        with zipfile.ZipFile(sample.PHOTOS) as archive:
            found = [entry for entry in sorted(archive.namelist()) if re.match(rf"TrainSet/[\w-]+/{name}/.", entry)]
            return [archive.read(entry) for entry in found]

    def write_unsorted(self, folder: Path) -> Path:
        """Write photos as "Bear-1.jpg" into one folder; returns it."""
        folder.mkdir(parents=True)
        for name in self.names:
            for number, data in enumerate(self.photos(name)[:PER_CLASS], 1):
                (folder / f"{name}-{number}.jpg").write_bytes(data)
        return folder

    def further(self, name: str) -> bytes:
        """A photo of a class that `write_unsorted` leaves out."""
        return self.photos(name)[PER_CLASS]


SAMPLE = Case(("Bear", "Butterfly", "Elephant"), "sample", reads_names=True)
PHOTOS = Case(("Bear", "Cat", "Snake"), "efficientnet-lite0", reads_names=False)


def zip_names(data: bytes) -> list[str]:
    """The names in a zip."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return archive.namelist()
