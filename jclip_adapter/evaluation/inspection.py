"""Which training photos do not fit their label, from features alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.console import progress
from jclip_adapter.core.task import Array, chunks, class_means, normalise
from jclip_adapter.methods.training.stack import covariance

MEAN = 6.0  # factor of the cosine to the class mean beside zero-shot's logits
_ROWS = 1024  # compared at once
_NEIGHBOURS = 5
_FAR = 5.0  # robust standard deviations below the median
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Fit(NamedTuple):
    """How well N photos fit their labels.

    Attributes:
        margin: (N,) score of the label less the highest score of another class; negative where another fits better.
            NaN where nothing is known of the label: no text, and no other photo.
        other: (N,) the other class that fits best.
    """

    margin: Floats
    other: Ints


class Neighbours(NamedTuple):
    """The photos nearest to each of N.

    Attributes:
        duplicate_of: (N,) an earlier photo whose cosine is above the threshold, the nearest; −1 for none.
        similarity: (N,) mean cosine to the five nearest other photos.
    """

    duplicate_of: Ints
    similarity: Floats


def fit_to_labels(features: Array, labels: Ints, texts: Array | None, scale: float, classes: int) -> Fit:
    """Score each photo's label by zero-shot, and by the class mean of the other photos.

    The score of class c is scale·x·t_c + 6·cos(W(x − m̄), W(m_c − m̄)): t_c is the text, m_c the mean of the class's
    photos without this one, m̄ the mean of the class means, and W whitens the covariance within classes, shrunk towards
    a multiple of the identity by ρ = d/(d + N − C). Texts that find less than half as many labels as the means do, such
    as those of names without meaning, do not count. A label without another photo is scored by zero-shot alone.

    Args:
        features: (N, d) L2-normalised.
        labels: (N,) class indices.
        texts: (C, d) L2-normalised texts; None without a text encoder.
        scale: Of zero-shot's cosines.
        classes: C.

    Returns:
        Margins and the other class.
    """
    count = np.bincount(labels, minlength=classes)
    means = class_means(features, labels, classes)
    values, vectors = covariance(features, labels)
    whiten = (vectors / np.sqrt(values)) @ vectors.T
    centre = means[count > 0].mean(axis=0)
    of_classes = normalise((means - centre) @ whiten)
    of_classes[count == 0] = 0

    def parts(rows: Ints) -> tuple[Floats, Floats]:
        """(R, C) zero-shot logits and cosines to class means of some photos."""
        here, place = labels[rows], np.arange(len(rows))
        zero_shot = np.zeros((len(rows), classes)) if texts is None else scale * (features[rows] @ texts.T)
        photos = normalise((features[rows] - centre) @ whiten)
        cosines = (photos @ of_classes.T).astype(np.float64)
        # The mean without this photo.
        own = means[here] + (means[here] - features[rows]) / np.maximum(count[here] - 1, 1)[:, None]
        cosines[place, here] = (photos * normalise((own - centre) @ whiten)).sum(axis=1)
        cosines[count[here] < 2] = 0
        return zero_shot, cosines

    some = np.unique(np.linspace(0, len(labels) - 1, min(_ROWS, len(labels))).astype(np.int64))
    zero_shot, cosines = parts(some)
    by_text, by_mean = ((scores.argmax(axis=1) == labels[some]).sum() for scores in (zero_shot, cosines))
    text = float(by_text >= by_mean / 2)
    margins, others = np.empty(len(labels)), np.empty(len(labels), dtype=np.int64)
    for rows in progress(chunks(np.arange(len(labels)), _ROWS), desc="comparing with classes", unit="part", delay=2):
        zero_shot, cosines = parts(rows)
        # Where nothing else is known of the label, the text counts in full.
        scores = np.where(count[labels[rows]] > 1, text, 1)[:, None] * zero_shot + MEAN * cosines
        place = np.arange(len(rows))
        own = scores[place, labels[rows]].copy()
        scores[place, labels[rows]] = -np.inf
        others[rows], margins[rows] = scores.argmax(axis=1), own - scores.max(axis=1)
    if texts is None:
        margins[count[labels] < 2] = np.nan
    return Fit(margins, others)


def neighbours(features: Array, threshold: float) -> Neighbours:
    """Compare all photos with all.

    Args:
        features: (N, d) L2-normalised.
        threshold: Cosine above which two are near duplicates.
    """
    count = len(features)
    duplicate_of, similarity = np.full(count, -1, dtype=np.int64), np.ones(count)
    near = min(_NEIGHBOURS, count - 1)
    for first in progress(range(0, count, _ROWS), desc="comparing photos", unit="part", delay=2):
        cosines = features[first : first + _ROWS] @ features.T
        rows = np.arange(len(cosines))
        cosines[rows, first + rows] = -1
        if near:
            similarity[first : first + _ROWS] = np.partition(cosines, -near, axis=1)[:, -near:].mean(axis=1)
        earlier = np.where(np.arange(count) < (first + rows)[:, None], cosines, -1)
        best = earlier.argmax(axis=1)
        duplicate_of[first : first + _ROWS] = np.where(earlier[rows, best] > threshold, best, -1)
    return Neighbours(duplicate_of, similarity)


def odd_ones(similarity: Floats) -> npt.NDArray[np.bool_]:
    """(N,) whether a photo is far from all others: five robust deviations below the median similarity."""
    if len(similarity) <= _NEIGHBOURS:
        return np.zeros(len(similarity), dtype=bool)
    middle = np.median(similarity)
    deviation = 1.4826 * np.median(np.abs(similarity - middle))
    return np.asarray(similarity < middle - _FAR * max(deviation, 1e-6))
