"""APE: Tip-Adapter on the most discriminative channels, with keys weighted by zero-shot's error on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries, normalise, softmax

from .base import Hyperparameters, Meta, hyper
from .tip_adapter import cache_keys, class_sums
from .training.seen_classes import SeenClassMethod

_ROWS = 4096  # whose probabilities are in memory at once


def criterion(
    text: npt.NDArray[Any], features: npt.NDArray[Any], labels: npt.NDArray[np.int64], similarity: float
) -> npt.NDArray[np.float64]:
    """Discriminative score of each channel: −w·S + (1−w)·Var.

    S is, per channel, the mean product of two rows (texts or photos) over all ordered pairs of different classes. With
    the sum σ_c of class c's n_c rows it is ((Σσ_c)² − Σσ_c²) / ((Σn_c)² − Σn_c²), where the authors' code sums over the
    pairs. Var is the unbiased variance of the class texts.

    Args:
        text: (C, d).
        features: (N, d); N is 0 for the texts alone.
        labels: (N,) class indices.
        similarity: w.

    Returns:
        (d,), larger for better channels; zeros with a single class, which has neither pairs nor variance.
    """
    sums = text.astype(np.float64)
    np.add.at(sums, labels, features.astype(np.float64))
    counts = 1.0 + np.bincount(labels, minlength=len(text))
    pairs = counts.sum() ** 2 - (counts**2).sum()
    if len(text) < 2:
        return np.zeros(text.shape[1])
    between = (sums.sum(axis=0) ** 2 - (sums**2).sum(axis=0)) / pairs
    return np.asarray(-similarity * between + (1 - similarity) * text.astype(np.float64).var(axis=0, ddof=1))


def best_channels(score: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.int64]:
    """Indices of this share of the channels, at least one, that have the highest scores; ascending."""
    count = max(1, round(share * len(score)))
    return np.sort(np.argsort(-score, kind="stable")[:count])


def surprise(keys: Array, labels: npt.NDArray[np.int64], text: Array) -> Array:
    """Zero-shot's error on each key, in bits: log₂((1 + 10⁻⁶)/(p + 10⁻⁶)), p = softmax(k·Tᵀ)_label.

    It is the divergence KL(Y‖p) of the one-hot label; the cosines are not multiplied by the logit scale.

    Args:
        keys: (N, q).
        labels: (N,) class indices.
        text: (C, q).

    Returns:
        (N,).
    """
    right = np.empty(len(labels), dtype=np.float32)
    for first in range(0, len(labels), _ROWS):
        rows = slice(first, first + _ROWS)
        chances = softmax(keys[rows] @ text.T)
        right[rows] = chances[np.arange(len(chances)), labels[rows]]
    return np.log2((1 + 1e-6) / (right + 1e-6)).astype(np.float32)


class Ape(SeenClassMethod):
    """Zhu et al., "Not All Features Matter: Enhancing Few-shot CLIP with Adaptive Prior Refinement", ICCV 2023.

    Tip-Adapter with fewer channels and weighted votes. The channels kept are those in which classes differ and texts
    vary (`criterion`). A key counts more if zero-shot disagrees with its label (`surprise`): logits = s·Q·Tᵀ +
    α·exp(−β(1 − Q'·F'ᵀ))·(Y∘exp(γ·KL)), where ' denotes the kept channels, normalised again.

    The authors keep 500 to 900 of 1024 channels and weight similarity against variance differently for each data set
    (0.7 to 0.3 for ImageNet). Here both have one default. Their sums over pairs need the same number of shots in every
    class; ours do not. Their code reuses a criterion stored under the data set's name, regardless of the seed; here
    nothing is stored. Their texts are descriptions by GPT-3, so their zero-shot accuracy is higher.

    A class without shots keeps its zero-shot score, rescaled to the scores of the others (`training.seen_classes`).

    Learnt arrays: `channels_` (q,), `keys_` (N, q) sorted by class, `key_labels_` (N,) counted among the classes
    with shots, `surprise_` (N,), `seen_` (S,) their indices, `text_` (C, d), `scale_` ().

    See Also:
        TipAdapter: all channels, equal votes. ApeT: the channels chosen get a trained residual.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [1, 0], [[1.0, 0.0], [1.0, 0.0]], ("cat", "dog"))
    >>> Ape(channels=1.0).fit(task).logits(np.eye(2)).argmax(axis=1).tolist()
    [1, 0]
    """

    meta = Meta(
        name="ape",
        summary="Tip-Adapter on the channels that tell classes apart, with votes weighted by surprise",
        paper="Zhu et al., Not All Features Matter: Enhancing Few-shot CLIP with Adaptive Prior Refinement",
        year=2023,
        arxiv="2304.01195",
        code="yangyangyang127/APE",
        trains="nothing",
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of APE."""

        alpha: float = hyper(
            1.0, "weight α of the cache logits", low=0, high=1000, grid=(0.0, 0.5, 1.0, 2.0, 4.0), refit=False
        )
        beta: float = hyper(
            1.0, "sharpness β of the cache affinity", low=0, high=1000, grid=(1.0, 3.0, 5.5), refit=False
        )
        gamma: float = hyper(
            0.1, "weight γ of zero-shot's error in a key's vote", low=0, high=10, grid=(0.0, 0.1, 0.2), refit=False
        )
        channels: float = hyper(0.7, "share of the channels that are kept", low=1e-6, high=1)
        similarity: float = hyper(0.7, "weight w of similarity against variance in the channels' choice", low=0, high=1)

    hyper: Hyper

    def _fit_seen(self, task: FewShotTask) -> None:
        keys, self.key_labels_ = cache_keys(task)
        score = criterion(task.text_features, keys, self.key_labels_, self.hyper.similarity)
        self.channels_ = best_channels(score, self.hyper.channels)
        self.keys_ = normalise(keys[:, self.channels_])
        self.surprise_ = surprise(self.keys_, self.key_labels_, normalise(task.text_features[:, self.channels_]))

    def _scores(self, queries: Queries, zero_shot: Array) -> Array:
        part = normalise(queries.features[:, self.channels_])
        votes = np.exp(np.float32(self.hyper.beta) * (part @ self.keys_.T - 1))
        votes *= np.exp(np.float32(self.hyper.gamma) * self.surprise_)
        return zero_shot + np.float32(self.hyper.alpha) * class_sums(votes, self.key_labels_)
