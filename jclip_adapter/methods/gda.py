"""GDA: Gaussian discriminant analysis of the shots beside the zero-shot classifier, without training."""

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

    Σ̂ = XᵀX / (n−1) of the rows X less their class's mean; P = d·((n−1)·Σ̂ + tr(Σ̂)·I)⁺. It stays well
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
    # Exactly zero is never reached in float: a mean of equal rows rounds.
    if trace <= np.finfo(np.float32).eps * max(1.0, float((features**2).sum())) / rows:
        return np.zeros((width, width))
    return np.asarray(width * np.linalg.inv(scatter + trace * np.eye(width)))


class Gda(SeenClassMethod):
    """Wang et al., "A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation", ICLR 2024.

    If the photos of every class are Gaussian with one common covariance, Bayes' rule is a linear classifier, which
    is added to zero-shot: logits = s·Q·Tᵀ + α·(Q·P·μᵀ + b), with class means μ (C, d), the shrunk precision P
    (`precision`) and b_c = −ln C − ½·μ_cᵀ·P·μ_c.

    Augmented views are rows of their own, not averaged, as the authors do. With one row per class there is no
    covariance to be seen: P is 0, as their pseudo-inverse makes it, and zero-shot is left; views help even then.
    They choose α out of the powers of ten from 0.0001 to 100 by validation accuracy (for ImageNet by test accuracy)
    and start from 0.1. The grid here is finer in the middle; the default was chosen on shots, three a class, without
    views (results/defaults.csv). The more rows P rests on, the larger the best α.

    A class without shots keeps its zero-shot score, on the scale of the others' (`training.seen_classes`); the
    authors take, in their base-to-new experiment, the base photos nearest to the class's text for its Gaussian.

    Learnt arrays: `weight_` (S, d) and `bias_` (S,) of the classes with shots, `seen_` (S,) which these are,
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
        # Nothing at all is added without scatter: equal scores would be told apart by their rounding.
        prior = -np.log(task.num_classes) if shared.any() else 0.0
        self.weight_ = weight.astype(np.float32)
        self.bias_ = (prior - (weight * means).sum(axis=1) / 2).astype(np.float32)

    def _scores(self, queries: Queries, zero_shot: Array) -> Array:
        gaussian = queries.features @ self.weight_.T + self.bias_
        return zero_shot + np.float32(self.hyper.alpha) * gaussian
