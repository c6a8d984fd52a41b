"""auto-transductive: auto that also learns from the photos to be classified, without labels, all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries, softmax

from .auto import Auto
from .base import Meta, hyper
from .training.stack import covariance, fit_linear, noise_of

_SURE = 0.5


class AutoTransductive(Auto):
    """Of this repository: auto with a linear classifier that is fitted again with the photos to be classified.

    Queries to which `auto` gives a class with a probability above one half are added to the shots as photos of that
    class, with a small weight, and `linear` is fitted again. The other heads and all weights stay as they are. Classes
    are not balanced: assuming that all are equally frequent gains where they are, and loses more where they are not.

    The scores of a photo depend on the other photos, so they do not compare with those of inductive methods. A class
    without shots is treated as by `auto`; its photos that are classified with confidence become its shots.

    Learnt arrays: those of `auto`, `noise_` (d, d), and the shots `shots_` (n, d) and `labels_` (n,).

    See Also:
        Auto: each photo by itself. TransClip: all queries at once, with their neighbours.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [1, 0], [[0.6, 0.8], [0.6, 0.8]], ("cat", "dog"))
    >>> AutoTransductive().fit(task).logits(np.eye(2)).argmax(axis=1).tolist()
    [1, 0]
    """

    meta = Meta(
        name="auto-transductive",
        summary="auto, fitted again with the photos to be classified where it is sure of their class",
        paper="of this repository",
        year=2026,
        trains="a linear layer (C×d), again at prediction",
        transductive=True,
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Auto.Hyper):
        """Hyper-parameters of auto-transductive."""

        pseudo: float = hyper(0.25, "weight of a photo whose class was predicted; a shot has 1", low=0, high=1)

    hyper: Hyper
    noise_: Array
    shots_: Array
    labels_: npt.NDArray[np.int64]

    def _fit(self, task: FewShotTask) -> None:
        super()._fit(task)
        self.noise_ = noise_of(*covariance(task.shot_means(), task.support_labels), self.hyper.noise)
        self.shots_, self.labels_ = task.shot_means(), task.support_labels

    def _logits(self, queries: Queries) -> npt.NDArray[Any]:
        logits = super()._logits(queries)
        p = softmax(logits)
        sure = np.flatnonzero(p.max(axis=1) > _SURE)
        rows = np.concatenate([self.shots_, queries.features[sure]])
        labels = np.concatenate([self.labels_, p[sure].argmax(axis=1)])
        share = np.repeat(np.array([1, self.hyper.pseudo], np.float32), [len(self.shots_), len(sure)])
        again = fit_linear(
            rows, labels, self.scale_ * self.text_, self.noise_, strength=self.hyper.strength, weights=share
        )
        change = queries.features @ (again - self.linear_).T
        weight = self.weights_[self._names().index("linear")]
        return np.asarray(logits + weight * (change - change.mean(axis=1, keepdims=True)))
