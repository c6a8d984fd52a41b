"""Tip-Adapter: a cache of the shots, added to zero-shot, without training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries

from .base import Hyperparameters, Meta, hyper
from .training.seen_classes import SeenClassMethod


def cache_keys(task: FewShotTask) -> tuple[Array, npt.NDArray[np.int64]]:
    """The keys of the cache, sorted by class.

    Args:
        task: The task.

    Returns:
        keys (N, d), the normalised mean of each shot's augmented views where the task has them, and their labels
        (N,), ascending.
    """
    order = np.argsort(task.support_labels, kind="stable")
    return task.shot_means()[order], task.support_labels[order]


def class_sums(values: Array, labels: npt.NDArray[np.int64]) -> Array:
    """Sum the columns of each class: values·Y for one-hot Y.

    Args:
        values: (M, N).
        labels: (N,) class indices, ascending, each of 0…C−1 at least once.

    Returns:
        (M, C).
    """
    starts = np.searchsorted(labels, np.arange(labels[-1] + 1))
    return np.asarray(np.add.reduceat(values, starts, axis=1), dtype=np.float32)


class TipAdapter(SeenClassMethod):
    """Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022.

    A cache of the shots votes by similarity, in addition to zero-shot: logits = s·Q·Tᵀ + α·exp(−β(1 − Q·Fᵀ))·Y, with
    the shots' features F (N, d) as keys and their one-hot labels Y as values.

    The authors average ten augmented views of each shot before normalising. Here the views are normalised first, which
    changes the keys little; without augmented views the shot itself is the key. They search α and β on a validation
    set, on up to 200×20 points, and for ImageNet on the test set. Here a small grid that contains α = 0 (zero-shot) is
    searched on the shots.

    A class without shots keeps its zero-shot score, rescaled to the scores of the others (`training.seen_classes`).

    Learnt arrays: `keys_` (N, d) sorted by class, `key_labels_` (N,) counted among the classes with shots,
    `seen_` (S,) their indices, `text_` (C, d), `scale_` ().

    See Also:
        TipAdapterF: the same with the keys trained. Ape: fewer channels, values weighted by how wrong text is.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [1, 0], [[1.0, 0.0], [1.0, 0.0]], ("cat", "dog"))
    >>> TipAdapter().fit(task).logits(np.eye(2)).argmax(axis=1).tolist()
    [1, 0]
    """

    meta = Meta(
        name="tip-adapter",
        summary="a cache of the shots, asked by similarity, on top of zero-shot",
        paper="Zhang et al., Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification",
        year=2022,
        arxiv="2207.09519",
        code="gaopengcuhk/Tip-Adapter",
        trains="nothing",
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of Tip-Adapter; the defaults are the authors' for ImageNet."""

        alpha: float = hyper(
            1.17,
            "weight α of the cache logits",
            low=0,
            high=1000,
            grid=(0.0, 0.5, 1.17, 2.0, 3.0, 5.0, 8.0),
            refit=False,
        )
        beta: float = hyper(
            1.0, "sharpness β of the cache affinity", low=0, high=1000, grid=(1.0, 3.0, 5.5, 10.0), refit=False
        )

    hyper: Hyper

    def _fit_seen(self, task: FewShotTask) -> None:
        self.keys_, self.key_labels_ = cache_keys(task)

    def _scores(self, queries: Queries, zero_shot: Array) -> Array:
        votes = np.exp(np.float32(self.hyper.beta) * (queries.features @ self.keys_.T - 1))
        return zero_shot + np.float32(self.hyper.alpha) * class_sums(votes, self.key_labels_)
