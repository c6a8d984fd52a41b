"""GDA: Gaussian discriminant analysis of the shots, added to zero-shot, without training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries, class_means

from .base import Hyperparameters, Meta, hyper
from .training.seen_classes import SeenClassMethod

Matrix = npt.NDArray[np.float64]


def precision(features: npt.NDArray[Any], labels: npt.NDArray[np.int64], means: Matrix) -> Matrix:
    """Kubokawa and Srivastava's estimate of the inverse of the covariance that all classes share.

    Σ̂ = XᵀX / (n−1) of the rows X minus their class's mean; P = d·((n−1)·Σ̂ + tr(Σ̂)·I)⁺. It stays well
    conditioned where there are fewer rows than channels.

    Args:
        features: (n, d).
        labels: (n,) class indices.
        means: (C, d) class means.

    Returns:
        (d, d); zeros where no row differs from its class's mean, as with one row per class.
    """
    rows, width = features.shape
    centred = features - means[labels]
    scatter = centred.T @ centred
    trace = float(np.trace(scatter)) / max(1, rows - 1)
    # The trace is never exactly zero, because the mean of equal rows is rounded.
    if trace <= np.finfo(np.float32).eps * max(1.0, float((features**2).sum())) / rows:
        return np.zeros((width, width))
    return np.asarray(width * np.linalg.inv(scatter + trace * np.eye(width)))


class Gda(SeenClassMethod):
    """Wang et al., "A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation", ICLR 2024.

    If the photos of every class are Gaussian with a common covariance, Bayes' rule is a linear classifier. It is added
    to zero-shot: logits = s·Q·Tᵀ + α·(Q·P·μᵀ + b), with class means μ (C, d), the shrunk precision matrix P
    (`precision`) and b_c = −ln C − ½·μ_cᵀ·P·μ_c.

    Each augmented view is one row, as in the authors' code. With one row per class the covariance is unknown: P is 0,
    as their pseudo-inverse gives it, and zero-shot remains. The authors choose α among the powers of ten from 0.0001 to
    100 by validation accuracy (for ImageNet by test accuracy), starting from 0.1. The grid here is finer in the middle,
    and the default was chosen on three shots per class without augmented views (results/defaults.csv). The best α grows
    with the number of rows.

    A class without shots keeps its zero-shot score, rescaled to the scores of the others (`training.seen_classes`). In
    their base-to-new experiment the authors instead use the base photos nearest to the class's text.

    Learnt arrays: `weight_` (S, d) and `bias_` (S,) of the classes with shots, `seen_` (S,) their indices,
    `text_` (C, d), `scale_` ().

    See Also:
        LpPlusPlus: a trained linear classifier on top of zero-shot. Proker: a kernel instead of a Gaussian.

    >>> import numpy as np
    >>> shots = [[0.9, 0.1], [0.7, 0.3], [0.1, 0.9], [0.3, 0.7]]
    >>> task = FewShotTask(shots, [1, 1, 0, 0], [[1.0, 0.0], [1.0, 0.0]], ("cat", "dog"))
    >>> Gda().fit(task).logits(np.eye(2)).argmax(axis=1).tolist()
    [1, 0]
    """

    meta = Meta(
        name="gda",
        summary="Gaussian discriminant analysis with one covariance, added to zero-shot",
        paper="Wang et al., A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation",
        year=2024,
        arxiv="2402.04087",
        code="mrflogs/ICLR24",
        trains="nothing",
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of GDA."""

        alpha: float = hyper(
            0.02,
            "weight α of the Gaussian classifier's logits",
            low=0,
            high=10_000,
            grid=(0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0, 100.0),
            refit=False,
        )

    hyper: Hyper

    def _fit_seen(self, task: FewShotTask) -> None:
        rows, labels = task.photo_rows()
        features = rows.astype(np.float64)
        means = class_means(features, labels, task.num_classes)
        shared = precision(features, labels, means)
        weight = means @ shared
        # Without scatter nothing is added: otherwise rounding would decide between equal scores.
        prior = -np.log(task.num_classes) if shared.any() else 0.0
        self.weight_ = weight.astype(np.float32)
        self.bias_ = (prior - (weight * means).sum(axis=1) / 2).astype(np.float32)

    def _scores(self, queries: Queries, zero_shot: Array) -> Array:
        gaussian = queries.features @ self.weight_.T + self.bias_
        return zero_shot + np.float32(self.hyper.alpha) * gaussian
