"""The shots of a run: as they were when it learnt from them, and whether they still are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jclip_adapter.cli.runs import DIGESTS, SUPPORT
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.problems import Problems
from jclip_adapter.data.sets import ImageSet, Photo
from jclip_adapter.data.sets.contest import numbered_pairs
from jclip_adapter.data.sets.names import canonical
from jclip_adapter.data.sets.paths import check_files
from jclip_adapter.features.encoding import photo_keys

_SHOWN = 3


@dataclass(frozen=True)
class Shots:
    """Photos that were learnt from.

    Attributes:
        photos: N photos, by class; some may be gone, or others by now.
        learnt: N SHA-256 digests of their bytes when they were learnt from; None where they were not kept.
    """

    photos: tuple[Photo, ...] = ()
    learnt: tuple[bytes, ...] | None = None

    @cached_property
    def now(self) -> tuple[bytes, ...]:
        """N SHA-256 digests of their bytes; b"" for a file that is gone or cannot be read."""
        return tuple(photo_keys([photo.path for photo in self.photos])[0])

    @property
    def keys(self) -> tuple[bytes, ...]:
        """N digests of what was learnt from, as far as is known."""
        return self.now if self.learnt is None else self.learnt

    @property
    def same(self) -> tuple[Photo, ...]:
        """Those that are there as they were."""
        rows = zip(self.photos, self.keys, self.now, strict=True)
        return tuple(photo for photo, then, now in rows if now and then == now)

    def warnings(self) -> list[str]:
        """A sentence for each way in which shots are no longer what was learnt from."""
        rows = list(zip(self.photos, self.keys, self.now, strict=True))
        gone = [photo.relative for photo, _, now in rows if not now]
        changed = [photo.relative for photo, then, now in rows if now and then != now]
        known = "" if self.learnt is None else "; copies of what was learnt from are found by their SHA-256"
        said = []
        for names, what in ((gone, "cannot be read any more"), (changed, "have changed since training")):
            if names:
                shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
                said.append(f"{len(names)} of {len(rows)} shots {what}: {shown}{known}")
        return said


def read_shots(folder: Path, images: ImageSet) -> Shots:
    """The shots of a run.

    What was learnt is in the run, so that shots which are gone, or are no training photos any more, do no harm.

    Args:
        folder: Of the run.
        images: The data set that it was trained on.

    Raises:
        DataError: the run's list is damaged or names ids that the data set lacks, or photos are links that lead out
            of the data folder.
    """
    problems = Problems(folder / SUPPORT)
    known = {canonical(photo.relative): photo for photo in images.train}
    known |= {photo.relative: photo for photo in images.train}
    photos, names = [], []
    for number, relative, identity in numbered_pairs(folder / SUPPORT, problems):
        label = images.index_of_id.get(identity)
        if label is None:
            problems.add("unknown ids", f"line {number}: no class of {images.source} has id {identity}")
            continue
        listed = known.get(relative, known.get(canonical(relative)))
        photos.append(Photo(images.root, relative if listed is None else listed.relative, label))
        names.append(relative)
    check_files([photo for photo in photos if photo.path.exists()], problems, follow_links=images.follow_links)
    problems.raise_if_any("Train again.")
    digests = _digests(folder / DIGESTS)
    if digests is None:
        return Shots(tuple(photos))
    return Shots(tuple(photos), tuple(digests.get(name, b"") for name in names))


def _digests(path: Path) -> dict[str, bytes] | None:
    """SHA-256 by name; None for a run of a version that did not keep them."""
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return {name: bytes.fromhex(digest) for digest, _, name in (line.partition("  ") for line in lines)}
    except ValueError as error:
        raise DataError(f"{path} is damaged.", "Train again.") from error


def digest_lines(photos: Sequence[Photo], keys: Sequence[bytes]) -> str:
    """The SHA-256 of each photo in the form that `sha256sum --check` reads.

    Args:
        photos: N photos that can be read.
        keys: N digests of their bytes.
    """
    return "".join(f"{key.hex()}  {photo.relative}\n" for photo, key in zip(photos, keys, strict=True))
