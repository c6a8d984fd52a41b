"""The input of methods: few-shot tasks and queries, without query labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from .choices import MODALITIES
from .errors import DataError, suggest

T = TypeVar("T")
Number = TypeVar("Number", bound=np.generic)
Array = npt.NDArray[np.float32]
Weights = Mapping[str, Array]
"""CLIP's weights, or some of them, by OpenAI's key names."""
LOGIT_SCALE = 100.0  # exp(4.6052), the clamp that every published CLIP reached


def normalise(rows: npt.ArrayLike) -> Array:
    """L2-normalise rows (…, d); rows of zeros stay zeros."""
    array = np.asarray(rows, dtype=np.float32)
    norm = np.sqrt(np.square(array).sum(axis=-1, keepdims=True))  # as np.linalg.norm, with a copy less
    own = array if isinstance(rows, np.ndarray) and rows.dtype != array.dtype else None
    return np.asarray(np.divide(array, np.maximum(norm, np.finfo(np.float32).tiny), out=own))


def all_finite(rows: Array) -> bool:
    """Whether an array has neither NaN nor infinity; its sum of squares tells it faster than a search.

    >>> all_finite(np.float32([[1e30, 2]])), all_finite(np.float32([[1, np.nan]]))
    (True, False)
    """
    flat = rows.ravel()
    return bool(np.isfinite(np.dot(flat, flat)) or np.isfinite(flat).all())  # large numbers have an infinite square


def chunks(rows: npt.NDArray[Number], size: int) -> list[npt.NDArray[Number]]:
    """Split an array into chunks of at most `size` rows.

    >>> [part.tolist() for part in chunks(np.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def softmax(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Softmax over the last axis of (…, C), in float64."""
    array = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(array - array.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def text_classifier(views: npt.ArrayLike) -> Array:
    """Class text weights from several templates (golden: Tip-Adapter's `clip_classifier`).

    Args:
        views: (C, T, d) text features of each class's T templates, normalised or not.

    Returns:
        (C, d): each template's feature normalised, their mean, normalised again.
    """
    return normalise(normalise(views).mean(axis=-2))


def class_means(features: npt.ArrayLike, labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float64]:
    """Mean of each class's rows, in float64.

    Args:
        features: (N, d).
        labels: (N,) class indices.
        classes: C.

    Returns:
        (C, d); zeros for a class without rows.

    >>> class_means([[1.0, 0.0], [3.0, 0.0]], np.array([1, 1]), 2).tolist()
    [[0.0, 0.0], [2.0, 0.0]]
    """
    rows = np.asarray(features, dtype=np.float64)
    sums = np.zeros((classes, rows.shape[1]))
    np.add.at(sums, labels, rows)
    return sums / np.maximum(np.bincount(labels, minlength=classes), 1)[:, None]


@dataclass(frozen=True)
class Queries:
    """Photos to be classified, M of them.

    Attributes:
        features: (M, d) L2-normalised image features.
        raw: (M, d) features before normalisation; None if unknown.
        auxiliary: (M, d') raw features of a second backbone; None for none.
        encode: Encodes the photos again by a tuned CLIP: takes a function from all of CLIP's weights to the changed
            ones, returns (M, d) features, not normalised; None without photos.

    Raises:
        DataError: inconsistent shapes, or a value that is not finite.
    """

    features: Array
    raw: Array | None = None
    auxiliary: Array | None = None
    encode: Callable[[Callable[[Weights], Weights]], Array] | None = None

    def __post_init__(self) -> None:
        features = check_rows(self.features, "queries")
        object.__setattr__(self, "features", features)
        if self.raw is not None:
            object.__setattr__(self, "raw", check_rows(self.raw, "raw queries", features.shape[1], len(features)))
        if self.auxiliary is not None:
            object.__setattr__(self, "auxiliary", check_rows(self.auxiliary, "auxiliary queries", rows=len(features)))

    @classmethod
    def of_normalised(cls, features: Array, raw: npt.ArrayLike | None = None) -> Queries:
        """Queries of rows that were just normalised and found finite: a second look takes 2 % of a classification.

        Args:
            features: (M, d) read-only float32.
            raw: (M, d), looked at as always.
        """
        queries = object.__new__(cls)
        object.__setattr__(queries, "features", features)
        if raw is not None:
            object.__setattr__(queries, "raw", check_rows(raw, "raw queries", features.shape[1], len(features)))
        return queries

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Any) -> Queries:
        """The queries of some rows: an index array, a mask or a slice."""
        raw = None if self.raw is None else self.raw[rows]
        auxiliary = None if self.auxiliary is None else self.auxiliary[rows]
        encode = self.encode
        return Queries(
            self.features[rows], raw, auxiliary, None if encode is None else lambda change: encode(change)[rows]
        )


@dataclass(frozen=True)
class Labelled:
    """Queries with their labels, for scoring: a validation set's while hyper-parameters are chosen, a test set's after.

    Attributes:
        queries: M photos.
        labels: (M,) class indices.
    """

    queries: Queries
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageNetHead:
    """The classifier of an ImageNet network (the task's second one if any), and its classes that match the task's.

    Attributes:
        weight: (K, d') float32.
        bias: (K,) float32.
        ids: per class of the task, the indices of its ImageNet classes; empty if there are none.
    """

    weight: Array
    bias: Array
    ids: tuple[tuple[int, ...], ...]

    @property
    def matrix(self) -> Array:
        """(K, C) the weight of each ImageNet class in each class of the task.

        A class of the task with n ImageNet classes, which it may share with others, has weight 1/√n in each.
        """
        found = np.zeros((len(self.weight), len(self.ids)), dtype=np.float32)
        for number, ids in enumerate(self.ids):
            found[list(ids), number] = max(1, len(ids)) ** -0.5
        return found


class Lazy(Generic[T]):
    """A value that is computed on first use and then kept.

    Args:
        make: Computes it.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make: Callable[[], T] | None = make
        self._made: list[T] = []

    def get(self) -> T:
        """The value."""
        if self._make is not None:
            self._made.append(self._make())
            self._make = None  # frees its references
        return self._made[0]


@dataclass(frozen=True)
class EncoderLink:
    """CLIP itself, for methods that train through it.

    Attributes:
        source: The CLIP, or a `Lazy` one, as most methods do not need it.
        names: C class names in words.
        prompts: C prompts, the first template of each class.
        pixels: Takes support indices (B,), a generator and a share; returns (B, n, n, 3) uint8 photos: cropped and
            flipped at random with at least that share of the photo's area, or, if the generator is None,
            preprocessed as by CLIP.
    """

    source: Any
    names: tuple[str, ...]
    prompts: tuple[str, ...]
    pixels: Callable[[npt.NDArray[np.int64], np.random.Generator | None, float], npt.NDArray[np.uint8]]

    @property
    def model(self) -> Any:
        """The CLIP, a Jittor module; whoever changes it restores it."""
        return self.source.get() if isinstance(self.source, Lazy) else self.source

    def keep(self, rows: npt.NDArray[Any]) -> EncoderLink:
        """The link of some support rows, given as an index array."""
        return replace(self, pixels=lambda wanted, rng, share: self.pixels(rows[wanted], rng, share))


@dataclass(frozen=True)
class FewShotTask:
    """A few-shot classification task on features.

    Arrays are float32 (labels int64), checked and read-only. It never contains query labels. N is the number of support
    rows, C of classes, d the feature width.

    Attributes:
        support_features: (N, d) L2-normalised image features of the shots.
        support_labels: (N,) class indices 0…C−1; a class may have none.
        text_features: (C, d) L2-normalised class text weights.
        class_names: C names, as in the data set.
        domains: C domain names; empty for none.
        logit_scale: Factor of cosines.
        support_raw: (N, d) the support features before normalisation; None if unknown.
        text_raw: (C, d) mean of the un-normalised template features; None if unknown.
        support_views: (V, N, d) L2-normalised features of augmented views; None for none.
        text_views: one (T_c, d) array of L2-normalised template features per class; empty for none.
        validation: Labelled photos for selection; None for none.
        auxiliary: (N, d') raw features of the support photos by a second backbone; None for none.
        extra_features: (E, d) L2-normalised rows of further modalities in the same space; None for none.
        extra_labels: (E,) their class indices.
        extra_modalities: E names of `choices.MODALITIES`; empty with rows of one unnamed modality.
        extra_scale: Factor of cosines between queries and these rows.
        encoder: CLIP itself, for methods that train through it; None if there are only features.
        has_text: Whether `text_features` come from texts. Without a text encoder they are the classes' prototypes
            (`with_prototypes`), zeros for a class without shots.
        imagenet_head: The classifier of an ImageNet network; None without one.

    Raises:
        DataError: inconsistent shapes, a label out of range, or a value that is not finite.
    """

    support_features: Array
    support_labels: npt.NDArray[np.int64]
    text_features: Array
    class_names: tuple[str, ...]
    domains: tuple[str, ...] = ()
    logit_scale: float = LOGIT_SCALE
    support_raw: Array | None = None
    text_raw: Array | None = None
    support_views: Array | None = None
    text_views: tuple[Array, ...] = field(default=())
    validation: Labelled | None = None
    auxiliary: Array | None = None
    extra_features: Array | None = None
    extra_labels: npt.NDArray[np.int64] | None = None
    extra_modalities: tuple[str, ...] = ()
    extra_scale: float = LOGIT_SCALE
    encoder: EncoderLink | None = None
    has_text: bool = True
    imagenet_head: ImageNetHead | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("text_features", check_rows(self.text_features, "text_features"))
        classes, width = self.text_features.shape
        put("support_features", check_rows(self.support_features, "support_features", width))
        put("class_names", tuple(self.class_names))
        put("domains", tuple(self.domains))
        rows = len(self.support_features)
        for name, count in (("support_raw", rows), ("text_raw", classes)):
            value = getattr(self, name)
            if value is not None:
                put(name, check_rows(value, name, width, count))
        if self.support_views is not None:
            views = np.asarray(self.support_views, dtype=np.float32)
            flat = check_rows(views.reshape((-1, views.shape[-1])), "support_views", width, len(views) * rows)
            put("support_views", flat.reshape(views.shape))
        put("text_views", tuple(check_rows(view, "text_views", width) for view in self.text_views))
        if self.auxiliary is not None:
            put("auxiliary", check_rows(self.auxiliary, "auxiliary", rows=rows))
        put("support_labels", _check_labels(self.support_labels, rows, classes, "support"))
        for name in ("class_names", "domains", "text_views"):
            count = len(getattr(self, name))
            if count != classes and (count or name == "class_names"):
                raise DataError(f"{name} has {count} entries for {classes} classes.")
        self._check_further_rows()

    def _check_further_rows(self) -> None:
        """Check the rows of other modalities and the validation set."""
        if (self.extra_features is None) != (self.extra_labels is None):
            raise DataError("expected both extra_features and extra_labels, got one of them.")
        if self.extra_features is not None and self.extra_labels is not None:
            extra = check_rows(self.extra_features, "extra_features", self.width)
            object.__setattr__(self, "extra_features", extra)
            labels = _check_labels(self.extra_labels, len(extra), self.num_classes, "extra")
            object.__setattr__(self, "extra_labels", labels)
        self._check_modalities()
        if self.validation is not None:
            check_rows(self.validation.queries.features, "validation", self.width)
            _check_labels(self.validation.labels, len(self.validation.queries), self.num_classes, "validation")

    def _check_modalities(self) -> None:
        object.__setattr__(self, "extra_modalities", tuple(self.extra_modalities))
        count = 0 if self.extra_labels is None else len(self.extra_labels)
        if len(self.extra_modalities) not in (0, count):
            raise DataError(f"extra_modalities has {len(self.extra_modalities)} names for {count} rows.")
        for name in sorted({*self.extra_modalities} - {*MODALITIES}):
            raise DataError(f"unknown modality '{name[:40]}'.", suggest(name, MODALITIES))

    def extra_rows(self) -> dict[str, tuple[Array, npt.NDArray[np.int64]]]:
        """(R, d) features and (R,) labels of each further modality, by name; "" for an unnamed one."""
        if self.extra_features is None or self.extra_labels is None or not len(self.extra_labels):
            return {}
        names = np.array(self.extra_modalities or [""] * len(self.extra_labels))
        masks = {name: names == name for name in dict.fromkeys(names.tolist())}
        return {name: (self.extra_features[mask], self.extra_labels[mask]) for name, mask in masks.items()}

    def keep(self, rows: npt.NDArray[Any]) -> FewShotTask:
        """The task with some support rows, given as an index array or a mask (N,)."""
        numbers = np.arange(len(self.support_labels))[rows]
        kept = replace(
            self,
            encoder=None if self.encoder is None else self.encoder.keep(numbers),
            support_features=self.support_features[rows],
            support_labels=self.support_labels[rows],
            support_raw=None if self.support_raw is None else self.support_raw[rows],
            support_views=None if self.support_views is None else self.support_views[:, rows],
            auxiliary=None if self.auxiliary is None else self.auxiliary[rows],
        )
        # Prototypes must not contain the removed photos.
        return kept if self.has_text else kept.with_prototypes()

    def keep_extra(self, rows: npt.NDArray[np.bool_]) -> FewShotTask:
        """The task with some rows of further modalities, given as a mask (E,)."""
        if self.extra_features is None or self.extra_labels is None:
            return self
        return replace(
            self,
            extra_features=self.extra_features[rows],
            extra_labels=self.extra_labels[rows],
            extra_modalities=tuple(itertools.compress(self.extra_modalities, rows)),
        )

    def with_prototypes(self) -> FewShotTask:
        """The task with class means of the shots instead of texts."""
        labels, classes = self.support_labels, self.num_classes
        normal, raw = (class_means(rows, labels, classes) for rows in (self.shot_means(), self.raw))
        return replace(
            self, text_features=normalise(normal), text_raw=raw.astype(np.float32), text_views=(), has_text=False
        )

    def photo_views(self) -> Array:
        """(V, N, d) features of the shots' augmented views, or of the shots (V = 1) if there are none."""
        views = self.support_views
        return self.support_features[None] if views is None or not len(views) else views

    def shot_means(self) -> Array:
        """(N, d) the normalised mean of each shot's augmented views, or the shot itself if there are none."""
        views = self.support_views
        return self.support_features if views is None or not len(views) else normalise(views.mean(axis=0))

    def photo_rows(self) -> tuple[Array, npt.NDArray[np.int64]]:
        """(R, d) features and (R,) labels: one row per augmented view, or per shot if there are none."""
        views = self.photo_views()
        return views.reshape((-1, self.width)), np.tile(self.support_labels, len(views))

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return len(self.text_features)

    @property
    def width(self) -> int:
        """Width d of the features."""
        return int(self.text_features.shape[1])

    @property
    def raw(self) -> Array:
        """(N, d) un-normalised support features, or the normalised ones if the former are unknown."""
        return self.support_features if self.support_raw is None else self.support_raw

    @property
    def seen(self) -> npt.NDArray[np.int64]:
        """Indices of the classes that have support rows, ascending."""
        return np.unique(self.support_labels)


def _check_labels(labels: npt.ArrayLike, rows: int, classes: int, name: str) -> npt.NDArray[np.int64]:
    """(rows,) read-only class indices; DataError for anything else."""
    array = np.array(labels, dtype=np.int64)
    if array.shape != (rows,):
        raise DataError(f"expected {rows} {name} labels, got shape {array.shape}.")
    if array.size and not (array.min() >= 0 and array.max() < classes):
        raise DataError(f"{name} labels range from {array.min()} to {array.max()}, expected 0 to {classes - 1}.")
    array.flags.writeable = False
    return array


def check_rows(value: npt.ArrayLike, name: str, width: int | None = None, rows: int | None = None) -> Array:
    """Check a matrix of features.

    Args:
        value: (N, d), any real dtype.
        name: Its name for errors.
        width: Expected d; None for any.
        rows: Expected N; None for any.

    Returns:
        A read-only float32 copy, or `value` itself if it is read-only float32.

    Raises:
        DataError: another shape, no column, NaN or infinity.
    """
    array = np.asarray(value, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(f"{name} has shape {array.shape}; expected rows of features (N, d).")
    if width is not None and array.shape[1] != width:
        raise DataError(f"{name} has width {array.shape[1]}, expected {width} as in the task's features.")
    if rows is not None and len(array) != rows:
        raise DataError(f"{name} has {len(array)} rows, expected {rows}.")
    if not all_finite(array):
        raise DataError(f"{name} contains NaN or infinity.", "Extract the features again.")
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array
