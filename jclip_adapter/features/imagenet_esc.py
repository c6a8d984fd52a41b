"""Features of the ImageNet-ESC benchmark: photos and sounds of the same classes, in one .npz."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import Array, check_rows, normalise
from jclip_adapter.data.texts.imagenet_esc import SIZES, benchmark_classes
from jclip_adapter.storage import read_npz

FOLDS = range(1, 6)
_PART = re.compile(r"(audio_fold[1-5]|image_(train|val)[1-9]\d*_seed[1-5]|image_test)_(x|y)")


class Rows(NamedTuple):
    """Normalised rows with their labels.

    Attributes:
        features: (N, d) L2-normalised.
        labels: (N,) class indices.
    """

    features: Array
    labels: npt.NDArray[np.int64]

    def first(self, begin: int, end: int) -> Rows:
        """Rows `begin` to `end` − 1 of each class, in the order of the classes."""
        of_each = [np.flatnonzero(self.labels == label)[begin:end] for label in np.unique(self.labels)]
        chosen = np.concatenate(of_each)
        return Rows(self.features[chosen], self.labels[chosen])


class Split(NamedTuple):
    """Rows to train on, to choose by, and to score."""

    train: Rows
    val: Rows
    test: Rows


@dataclass(frozen=True)
class EscFeatures:
    """Features of the benchmark.

    Attributes:
        sha256: Digest of everything in them.
        text: (C, d) L2-normalised features of the classes' texts.
        parts: Rows by the names that a file has, such as "audio_fold1" and "image_train1_seed1"; labels are those of
            the largest benchmark.
    """

    sha256: str
    text: Array
    parts: Mapping[str, Rows]

    def of_classes(self, size: int) -> EscFeatures:
        """The features of a benchmark's classes, with labels among them."""
        whole = benchmark_classes(max(SIZES))
        known = np.array([whole.index(each) for each in benchmark_classes(size)])

        def kept(rows: Rows) -> Rows:
            chosen = np.isin(rows.labels, known)
            return Rows(rows.features[chosen], np.searchsorted(known, rows.labels[chosen]))

        return EscFeatures(self.sha256, self.text[known], {name: kept(rows) for name, rows in self.parts.items()})

    def split(self, task: str, number: int, shots: int) -> Split:
        """One of the five splits.

        Args:
            task: "audio": of each class the first sounds of fold `number` to train on, the next as many to choose by,
                and all sounds of the other folds to score; or "image": the photos of seed `number`.
            number: 1 to 5.
            shots: K per class.
        """
        if task == "image":
            names = (f"image_train{shots}_seed{number}", f"image_val{shots}_seed{number}", "image_test")
            return Split(*(self.parts[name] for name in names))
        own = self.parts[f"audio_fold{number}"]
        others = [self.parts[f"audio_fold{fold}"] for fold in FOLDS if fold != number]
        test = Rows(*(np.concatenate(parts) for parts in zip(*others, strict=True)))
        return Split(own.first(0, shots), own.first(shots, 2 * shots), test)

    def beside(self, task: str, number: int) -> Rows:
        """One row per class of the other modality: of photos by seed `number`, of sounds by fold."""
        return self.parts[f"image_train1_seed{number}"] if task == "audio" else self.split("audio", number, 1).train


def esc_features(text: npt.ArrayLike, parts: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]) -> EscFeatures:
    """Check and normalise features.

    Args:
        text: (27, d) features of the classes' texts in the order of ImageNet's indices.
        parts: (N, d) features and (N,) labels 0 to 26 by name: audio_fold{1…5}, image_train{K}_seed{1…5} and
            image_val{K}_seed{1…5} for each K, among them K = 1, and image_test.

    Raises:
        DataError: something is missing, or has another shape or range.
    """
    checked = check_rows(text, "text", rows=max(SIZES))
    found = {name: _rows(name, *pair, checked.shape[1]) for name, pair in parts.items()}
    counts = sorted({int(match[1]) for name in found if (match := re.match(r"image_train(\d+)_", name))} | {1})
    wanted = [f"audio_fold{fold}" for fold in FOLDS] + ["image_test"]
    wanted += [f"image_{part}{count}_seed{seed}" for part in ("train", "val") for count in counts for seed in FOLDS]
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"there are no features {missing[0]}.", "Give all folds of sounds, and photos of seeds 1 to 5.")
    digest = hashlib.sha256(checked.tobytes())
    for name in sorted(found):
        digest.update(name.encode() + found[name].features.tobytes() + found[name].labels.tobytes())
    return EscFeatures(digest.hexdigest(), normalise(checked), found)


def _rows(name: str, features: npt.ArrayLike, labels: npt.ArrayLike, width: int) -> Rows:
    rows, classes = normalise(check_rows(features, name, width)), np.asarray(labels)
    if classes.shape != (len(rows),) or classes.dtype.kind not in "iu":
        raise DataError(f"{name} has {len(rows)} rows, but labels of shape {classes.shape} and dtype {classes.dtype}.")
    absent = np.setdiff1d(np.arange(max(SIZES)), classes)
    if len(absent) or classes.min() < 0 or classes.max() >= max(SIZES):
        raise DataError(f"{name}: expected labels 0 to {max(SIZES) - 1}, each at least once.")
    return Rows(rows, classes.astype(np.int64))


def read_esc_file(path: str | Path) -> EscFeatures:
    """Read a feature file of the benchmark.

    Args:
        path: An .npz with `text`, `categories` (27,) the ESC-50 categories in the order of the labels, and `NAME_x`,
            `NAME_y` for each name of `esc_features`.

    Raises:
        DataError: it is missing, damaged, incomplete, or has other arrays or classes.
    """
    try:
        arrays = read_npz(Path(path).read_bytes())
        return _from_arrays(arrays)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.", "Check the path.") from error
    except DataError as error:
        raise DataError(f"{path}: {error.message}", error.hint or "See docs/sound.md.") from error


def _from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> EscFeatures:
    names = {name.rpartition("_")[0] for name in arrays if _PART.fullmatch(name)}
    strangers = [name for name in arrays if not _PART.fullmatch(name) and name not in ("text", "categories")]
    lacking = [name for name in ("text", "categories") if name not in arrays]
    lacking += [f"{name}_{axis}" for name in sorted(names) for axis in "xy" if f"{name}_{axis}" not in arrays]
    if strangers or lacking:
        what = f"no array {lacking[0]}" if lacking else f"an unknown array {strangers[0][:80]}"
        raise DataError(f"it has {what}.")
    if arrays["categories"].tolist() != [each.category for each in benchmark_classes(max(SIZES))]:
        raise DataError("its categories are not those of ImageNet-ESC, in the order of ImageNet's indices.")
    return esc_features(arrays["text"], {name: (arrays[f"{name}_x"], arrays[f"{name}_y"]) for name in names})
