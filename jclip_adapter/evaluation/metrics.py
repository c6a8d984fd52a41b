"""Accuracies with intervals, per domain and in total, and confusions of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import DataError, UsageError

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

TOP = 5
"""Guesses of a photo of which one must be right for top-5."""
_FEW = 16  # best classes that are searched for one by one
BINS = 15
"""Bins of the expected calibration error."""


@dataclass(frozen=True)
class Score:
    """Accuracy on some photos.

    Args:
        domain: The photos' domain, or "total".
        n: Number of photos.
        top1: Top-1 accuracy, 0 to 1.
        top5: Top-5 accuracy, 0 to 1.
        top1_interval: 95 % Wilson interval of `top1`, low and high.
        top5_interval: The same of `top5`.
    """

    domain: str
    n: int
    top1: float
    top5: float
    top1_interval: tuple[float, float]
    top5_interval: tuple[float, float]

    def in_percent(self) -> dict[str, Any]:
        """The fields by name, accuracies in percent, as in every result file."""
        shares = {"top1": 100 * self.top1, "top5": 100 * self.top5}
        ends = {name: [100 * end for end in getattr(self, name)] for name in ("top1_interval", "top5_interval")}
        return {"domain": self.domain, "n": self.n, **shares, **ends}


@dataclass(frozen=True)
class ConfusedPair:
    """A class that is predicted as another.

    Args:
        true: Name of the true class.
        predicted: Name of the predicted class.
        count: Number of photos.
        share: Their share of all photos of `true`, 0 to 1.
    """

    true: str
    predicted: str
    count: int
    share: float


def top_k_ids(logits: npt.ArrayLike, k: int, class_ids: Sequence[int] | None = None) -> Ints:
    """The k best classes of each photo, best first; ties go to the lower class index.

    Args:
        logits: (M, C) scores; infinities are allowed, NaN is not.
        k: At least 1; more than C means C.
        class_ids: C ids to return instead of class indices, `ImageSet.class_ids` for a submission.

    Returns:
        (M, min(k, C)) class indices, or ids.

    Raises:
        DataError: the scores are not an (M, C) matrix, or contain NaN.
        UsageError: `k` is less than 1.

    >>> top_k_ids([[0.1, 0.7, 0.7]], 2).tolist()
    [[1, 2]]
    """
    scores = _checked_logits(logits)
    if k < 1:
        raise UsageError(f"k is {k}, expected at least 1.")
    best = _few_best(scores, k) if k <= _FEW and k < scores.shape[1] else None
    if best is None:
        # A stable sort of the negated scores keeps ties in index order.
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int64)
    return best if class_ids is None else np.asarray(class_ids, dtype=np.int64)[best]


def _few_best(scores: npt.NDArray[Any], k: int) -> Ints | None:
    """`top_k_ids` by k searches, which take a tenth of a sort's time; None if −infinity is among the best."""
    left = scores.copy()
    best = np.empty((len(left), k), dtype=np.int64)
    for rank in range(k):
        best[:, rank] = left.argmax(axis=1)
        if np.isneginf(np.take_along_axis(left, best[:, rank : rank + 1], axis=1)).any():
            return None
        np.put_along_axis(left, best[:, rank : rank + 1], -np.inf, axis=1)
    return best


def _checked_logits(logits: npt.ArrayLike) -> Floats:
    scores = np.asarray(logits)
    if scores.ndim != 2 or scores.shape[1] == 0 or scores.dtype.kind not in "fiu":
        raise DataError(f"expected logits (photos, classes) of numbers, got {scores.dtype} {scores.shape}.")
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)  # unsigned numbers cannot be negated
    if np.isnan(scores.max(initial=-np.inf)):
        broken = int(np.isnan(scores).any(axis=1).sum())
        raise DataError(
            f"the logits of {broken} of {len(scores)} photos are NaN.",
            "Lower the method's learning rate, or check the input features.",
        )
    return scores


def _checked_labels(labels: npt.ArrayLike, rows: int, classes: int) -> Ints:
    values = np.asarray(labels)
    if values.shape != (rows,):
        raise DataError(f"expected {rows} labels, one per prediction, got shape {values.shape}.")
    if rows == 0:
        raise DataError("there are no labelled photos to score.")
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= classes:
        raise DataError(f"expected labels that are class indices from 0 to {classes - 1}.")
    return values.astype(np.int64)


def _hits(logits: npt.ArrayLike, labels: npt.ArrayLike, k: int) -> npt.NDArray[np.bool_]:
    best = top_k_ids(logits, k)
    truth = _checked_labels(labels, len(best), np.asarray(logits).shape[1])
    return (best == truth[:, None]).any(axis=1)


def accuracy(logits: npt.ArrayLike, labels: npt.ArrayLike, k: int = 1, readable: npt.ArrayLike = True) -> float:
    """Top-k accuracy.

    Args:
        logits: (M, C) scores.
        labels: (M,) class indices.
        k: At least 1.
        readable: (M,) whether the photo could be read; an unreadable one counts as wrong.

    Returns:
        A share from 0 to 1.

    Raises:
        DataError: logits or labels are malformed, do not match, or are empty.

    >>> accuracy([[0.9, 0.1], [0.8, 0.2]], [0, 1])
    0.5
    """
    return float((_hits(logits, labels, k) & np.asarray(readable, dtype=bool)).mean())


def confidence_bins(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> list[tuple[int, float, float]]:
    """Photos by their confidence, the probability of the predicted class, in `BINS` bins of equal width.

    Args:
        probabilities: (M, C) class probabilities.
        labels: (M,) class indices.

    Returns:
        Number of photos, mean confidence and top-1 accuracy of each bin, by increasing confidence; NaN for an empty
        bin. A confidence of k/15 belongs to the bin above, 1 to the last bin.

    Raises:
        DataError: as `accuracy`.
    """
    right = _hits(probabilities, labels, 1)
    confidence = np.asarray(probabilities, dtype=np.float64).max(axis=1)
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        means, shares = (np.bincount(place, values, BINS) / counts for values in (confidence, right))
    return list(zip(counts.tolist(), means.tolist(), shares.tolist(), strict=True))


def calibration_error(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Expected calibration error of the predicted class.

    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equation 3: the difference
    between mean confidence and accuracy in each bin of `confidence_bins`, weighted by the bin's share of the photos.

    Args:
        probabilities: (M, C) class probabilities.
        labels: (M,) class indices.

    Returns:
        From 0, where confidence and accuracy agree, to 1.

    Raises:
        DataError: as `accuracy`.

    >>> round(calibration_error([[0.9, 0.1], [0.9, 0.1]], [0, 1]), 6)
    0.4
    """
    bins = [(count, abs(mean - share)) for count, mean, share in confidence_bins(probabilities, labels) if count]
    return sum(count * gap for count, gap in bins) / sum(count for count, _ in bins)


def wilson_interval(correct: float, total: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927), 209–212. With p = correct/total and z the normal quantile:
    (p + z²/2n ± z·sqrt(p(1−p)/n + z²/4n²)) / (1 + z²/n). Unlike p ± z·sqrt(p(1−p)/n) it stays within 0 and 1 and
    keeps its coverage for p near 0 or 1.

    Args:
        correct: Correct photos, 0 to `total`.
        total: All photos, above 0.

    Returns:
        The low and the high end.

    >>> [round(end, 4) for end in wilson_interval(8, 10)]
    [0.4902, 0.9433]
    """
    z = NormalDist().inv_cdf(0.975)
    share = correct / total
    middle = share + z * z / (2 * total)
    half = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    # The formula gives exactly 0 and 1 at the ends; rounding may not.
    low = 0.0 if correct == 0 else (middle - half) / scale
    high = 1.0 if correct == total else (middle + half) / scale
    return low, high


def by_domain(
    logits: npt.ArrayLike, labels: npt.ArrayLike, domains: Sequence[str], readable: npt.ArrayLike = True
) -> list[Score]:
    """Top-1 and top-5 for each domain and in total.

    Args:
        logits: (M, C) scores.
        labels: (M,) class indices.
        domains: C domains, "" for none; a photo has its true class's domain.
        readable: (M,) whether the photo could be read; an unreadable one counts as wrong.

    Returns:
        One row per named domain with photos, in the order of the classes, and the row "total".

    Raises:
        DataError: as `accuracy`, or the number of domains is not C.
    """
    classes = np.asarray(logits).shape[-1]
    if len(domains) != classes:
        raise DataError(f"expected one domain per class ({classes}), got {len(domains)}.")
    first, five = (_hits(logits, labels, k) & np.asarray(readable, dtype=bool) for k in (1, TOP))
    of_photo = np.asarray(domains, dtype=object)[np.asarray(labels)]
    rows = [(domain, of_photo == domain) for domain in dict.fromkeys(domains) if domain]
    rows.append(("total", np.ones(len(first), dtype=bool)))
    return [_score(name, first[mask], five[mask]) for name, mask in rows if mask.any()]


def _score(name: str, first: npt.NDArray[np.bool_], five: npt.NDArray[np.bool_]) -> Score:
    n, ones, fives = len(first), int(first.sum()), int(five.sum())
    return Score(name, n, ones / n, fives / n, wilson_interval(ones, n), wilson_interval(fives, n))


def confusion_matrix(labels: npt.ArrayLike, predictions: npt.ArrayLike, n_classes: int) -> Ints:
    """Count the predictions by true class.

    Args:
        labels: (M,) true class indices.
        predictions: (M,) predicted class indices.
        n_classes: C.

    Returns:
        (C, C) counts: row = true class, column = predicted class.

    Raises:
        DataError: the arrays do not match, are empty, or contain other numbers than class indices.
    """
    given = np.asarray(predictions)
    truth = _checked_labels(labels, given.shape[0] if given.ndim else 0, n_classes)
    given = _checked_labels(given, len(truth), n_classes)
    return np.bincount(truth * n_classes + given, minlength=n_classes**2).reshape(n_classes, n_classes)


def worst_pairs(counts: Ints, class_names: Sequence[str]) -> list[ConfusedPair]:
    """The 20 pairs of classes that are confused most often.

    Args:
        counts: (C, C) confusion matrix, row = true class.
        class_names: C names.

    Returns:
        The pairs by decreasing count, then by decreasing share of the true class, then by class index.
    """
    totals = counts.sum(axis=1)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    true, predicted = np.nonzero(wrong)
    pairs = [
        (int(wrong[i, j]), float(wrong[i, j] / totals[i]), int(i), int(j)) for i, j in zip(true, predicted, strict=True)
    ]
    pairs.sort(key=lambda pair: (-pair[0], -pair[1], pair[2], pair[3]))
    return [ConfusedPair(class_names[i], class_names[j], count, share) for count, share, i, j in pairs[:20]]


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % confidence interval (Student's t); NaN half-width for one value.

    >>> mean, half = mean_interval([1.0, 2.0, 3.0])
    >>> round(mean, 3), round(half, 3)
    (2.0, 2.484)
    """
    from scipy.special import stdtrit  # scipy.stats takes longer to import

    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return float(array.mean()), float("nan")
    half = stdtrit(len(array) - 1, 0.975) * array.std(ddof=1) / len(array) ** 0.5
    return float(array.mean()), float(half)


def seen_and_unseen(
    logits: npt.ArrayLike, labels: Ints, seen: Ints, readable: npt.ArrayLike = True
) -> dict[str, float]:
    """Top-1 accuracy on classes with shots, on classes without, and their harmonic mean.

    The harmonic mean is the measure of generalised zero-shot learning (Xian, Schiele and Akata, "Zero-Shot Learning:
    The Good, the Bad and the Ugly", CVPR 2017). Every photo can be predicted as any class, as in the contest; in CoOp's
    base-to-new protocol (Zhou et al., 2022) only as one of its own group, which hides a bias to the trained classes.

    Args:
        logits: (M, C) scores.
        labels: (M,) class indices.
        seen: Class indices that have shots.
        readable: As for `by_domain`.

    Returns:
        "base", "new" and "harmonic" in percent; NaN for a group without photos.

    >>> seen_and_unseen([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]], np.array([0, 1, 1]), np.array([0]))
    {'base': 100.0, 'new': 50.0, 'harmonic': 66.66666666666667}
    """
    right = (np.asarray(logits).argmax(axis=1) == labels) & np.asarray(readable, dtype=bool)
    known = np.isin(labels, seen)
    base, new = (100 * float(right[rows].mean()) if rows.any() else float("nan") for rows in (known, ~known))
    harmonic = 2 * base * new / (base + new) if base + new else 0.0
    return {"base": base, "new": new, "harmonic": harmonic}
