"""The support set of a run folder: the photos and their SHA-256."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jclip_adapter.cli.runs import DIGESTS, SUPPORT
from jclip_adapter.core.problems import Problems
from jclip_adapter.data.sets import ImageSet, Photo
from jclip_adapter.data.sets.contest import numbered_pairs
from jclip_adapter.data.sets.names import canonical
from jclip_adapter.data.sets.paths import check_photos
from jclip_adapter.features.shots import Shots
from jclip_adapter.features.task_encoder import TaskEncoder


def read_shots(folder: Path, images: ImageSet, tasks: TaskEncoder) -> Shots:
    """The shots of a run; photos that have since been removed are allowed.

    Args:
        folder: The run folder.
        images: The data set that it was trained on.
        tasks: Reads the photos.

    Raises:
        DataError: photos are links out of the data folder.
    """
    problems = Problems(folder / SUPPORT)
    known = {canonical(photo.relative): photo for photo in images.train}
    known |= {photo.relative: photo for photo in images.train}
    photos, names = [], []
    for _, relative, identity in numbered_pairs(folder / SUPPORT, problems):
        listed = known.get(relative, known.get(canonical(relative)))
        place = relative if listed is None else listed.relative
        photos.append(Photo(images.root, place, images.index_of_id[identity]))
        names.append(relative)
    check_photos(images, [photo for photo in photos if photo.path.exists()], problems)
    problems.raise_if_any("Train again.")
    digests = _digests(folder / DIGESTS)
    if digests is None:
        return Shots(tuple(photos), read=tasks.keys)
    return Shots(tuple(photos), tuple(digests.get(name, b"") for name in names), tasks.keys)


def _digests(path: Path) -> dict[str, bytes] | None:
    """SHA-256 by name; None for a run of a version that did not store them."""
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: bytes.fromhex(digest) for digest, _, name in (line.partition("  ") for line in lines)}


def digest_lines(photos: Sequence[Photo], keys: Sequence[bytes]) -> str:
    """The SHA-256 of N photos' bytes, in the format of `sha256sum --check`."""
    return "".join(f"{key.hex()}  {photo.relative}\n" for photo, key in zip(photos, keys, strict=True))
