"""Overlap of shots and scored photos, and photos that are in two classes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.problems import counted, first_of
from jclip_adapter.core.task import Array
from jclip_adapter.data.sets import Photo
from jclip_adapter.data.sets.model import labels_of, paths_of
from jclip_adapter.models.backbones.encoder import BackboneEncoder
from jclip_adapter.models.base import ImageEncoder

from .encoding import PhotoFeatures
from .shots import Shots
from .task_encoder import TaskEncoder

logger = logging.getLogger(__name__)
NEAR = {"efficientnet-lite0": 0.90, "efficientnet-lite2": 0.90, "clip": 0.99}
"""Cosine above which two photos count as near duplicates, by network; results/near-duplicates.md has the shares of
copies and of different photos above it. CLIP's was chosen by different photos alone."""

_SHOWN = 3
_ROWS = 2048  # features compared at once
_NEARLY_ALL = 0.999
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Overlap:
    """Overlap of shots and M scored photos.

    Attributes:
        identical: (M,) whether the photo's bytes are those of a shot.
        near: (M,) whether it is a near duplicate of a shot, but not identical.
        pairs: Names of these photos with their shots, identical ones first.
        two_classes: Pairs of names with the same bytes and different classes.
        stale: Sentences on shots that were removed or changed since training.
    """

    identical: Mask
    near: Mask
    pairs: tuple[tuple[str, str], ...]
    two_classes: tuple[tuple[str, str], ...]
    stale: tuple[str, ...] = ()

    def warnings(self) -> list[str]:
        """A sentence per kind of overlap."""
        same = int(self.identical.sum())
        found = []
        for count, what, pairs in (
            (same, "byte-identical to shots", self.pairs[:same]),
            (int(self.near.sum()), "near duplicates of shots", self.pairs[same:]),
        ):
            if count:
                found.append(f"{count} of {len(self.identical)} scored photos are {what}: {_some(pairs)}")
        return [*self.stale, *found, *two_class_warning(self.two_classes)]


def two_class_warning(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """A sentence on photos in two classes, if there are any."""
    if not pairs:
        return []
    return [f"in two classes with the same bytes: {counted(len(pairs), 'photo')}, {_some(pairs)}"]


def find_overlap(
    tasks: TaskEncoder,
    shots: Shots,
    scored: Sequence[Photo],
    features: PhotoFeatures,
    truth: npt.NDArray[np.int64] | None = None,
) -> Overlap:
    """Compare scored photos with the shots by bytes and features.

    Bytes are compared with the shots' bytes at training, even if a shot was removed or changed since; features with
    those of the unchanged shots. Sounds are compared by their bytes only: no threshold was measured for them.

    Args:
        tasks: Encodes the shots.
        shots: The shots.
        scored: M photos.
        features: Their features.
        truth: (M,) their class indices, to find photos in two classes; None if unknown.

    Returns:
        The overlap.
    """
    rows_of = list(zip(shots.keys, shots.photos, strict=True))
    first = {key: photo.relative for key, photo in reversed(rows_of) if key}
    support = shots.same
    known = tasks.photos(paths_of(support))
    identical = np.array([key in first for key in features.keys], dtype=bool)
    near = np.zeros(len(scored), dtype=bool)
    pairs = [(scored[row].relative, first[features.keys[row]]) for row in np.flatnonzero(identical)]
    rows = np.flatnonzero(features.readable & ~identical)
    if len(support) and len(rows) and tasks.encoder.kind == "photo":
        highest, at = _nearest(features.normalised[rows], known.normalised)
        near[rows] = highest > near_threshold(tasks.encoder, labels_of(support), known.normalised)
        best = dict(zip(rows.tolist(), at.tolist(), strict=True))
        pairs += [(scored[row].relative, support[best[row]].relative) for row in np.flatnonzero(near).tolist()]
    labels = [photo.label for photo in shots.photos]
    photos, keys = list(shots.photos), list(shots.keys)
    if truth is not None:
        photos, keys, labels = [*photos, *scored], [*keys, *features.keys], [*labels, *truth.tolist()]
    return Overlap(identical, near, tuple(pairs), in_two_classes(photos, keys, labels), tuple(shots.warnings()))


def _nearest(rows: Array, others: Array) -> tuple[Array, npt.NDArray[np.int64]]:
    """(M,) largest cosine of each row (M, d) with others (N, d), and (M,) its index."""
    highest = np.full(len(rows), -1.0, dtype=np.float32)
    at = np.zeros(len(rows), dtype=np.int64)
    for first in range(0, len(rows), _ROWS):
        cosines = rows[first : first + _ROWS] @ others.T
        highest[first : first + _ROWS], at[first : first + _ROWS] = cosines.max(axis=1), cosines.argmax(axis=1)
    return highest, at


def near_threshold(encoder: ImageEncoder, labels: npt.NDArray[np.int64], features: Array) -> float:
    """The cosine above which a photo counts as a near duplicate of another.

    It is the network's value in NEAR, or a high quantile of the cosines between photos of different classes if that is
    larger, so that a network that barely separates photos does not report duplicates everywhere.

    Args:
        encoder: The network.
        labels: (N,) class indices of photos.
        features: (N, d) L2-normalised, of the same.
    """
    name = encoder.network.name if isinstance(encoder, BackboneEncoder) else "clip"
    chosen = np.unique(np.linspace(0, len(labels) - 1, min(_ROWS, len(labels))).astype(int))
    rows, own = features[chosen], labels[chosen]
    other = (rows @ rows.T)[own[:, None] != own[None, :]]
    return max(NEAR[name], float(np.quantile(other, _NEARLY_ALL)) if len(other) else -1.0)


def in_two_classes(
    photos: Sequence[Photo], keys: Sequence[bytes], labels: Sequence[int | None]
) -> tuple[tuple[str, str], ...]:
    """Pairs of names with the same bytes and different classes: the first photo, and each other one."""
    first: dict[bytes, int] = {}
    found = []
    for number, key in enumerate(keys):
        other = first.setdefault(key, number) if key else number
        if labels[other] != labels[number]:
            found.append((photos[other].relative, photos[number].relative))
    return tuple(found)


def warn_of_overlap(tasks: TaskEncoder, shots: Shots, scored: Sequence[Photo], features: PhotoFeatures) -> None:
    """Log the overlap that `find_overlap` finds."""
    for text in find_overlap(tasks, shots, scored, features).warnings():
        logger.warning("%s", text)


def _some(pairs: Sequence[tuple[str, str]]) -> str:
    return first_of([f"{one} = {other}" for one, other in pairs], _SHOWN)
