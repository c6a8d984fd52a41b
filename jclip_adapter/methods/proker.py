"""ProKeR: kernel ridge regression on what zero-shot leaves over, without training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries

from .base import Hyperparameters, Meta, hyper
from .training.seen_classes import SeenClassMethod


def kernel(first: npt.NDArray[Any], second: npt.NDArray[Any], beta: float) -> npt.NDArray[Any]:
    """k(x, y) = exp(−β(1 − x·y)): of rows (M, d) and (n, d), the (M, n) similarities."""
    return np.asarray(np.exp(beta * (first @ second.T - 1)))


class Proker(SeenClassMethod):
    """Bendou et al., "ProKeR: A Kernel Perspective on Few-Shot Adaptation of Large Vision-Language Models", CVPR 2025.

    Tip-Adapter is a local smoother of labels; its kernel used globally, in ridge regression towards zero-shot, does
    not count near shots twice: A = (K/λ + I)⁻¹·(Y − F·Tᵀ) and logits = Q·Tᵀ + k(Q, F)·A, with the shots F (n, d),
    their one-hot labels Y and the kernel k(x, y) = exp(−β(1 − x·y)), K = k(F, F).

    The formula is that of a derivative of the authors' code (omarnust/BReg-Adapter), whose solution lacks the
    1/λ that ridge regression would have in front of A; the search for λ makes up for it. The cosines are not
    multiplied by the logit scale, so the scores lie near 0…1. λ → 0 is zero-shot. Defaults are the values fixed
    for 4 shots of ImageNet; the grid is coarser than the authors' 20×10 points.

    Augmented views are rows of their own, as in the authors' code, whose ten views cost a hundredfold memory; above
    `max_rows` rows the shots' normalised mean views are taken instead.

    A class without shots keeps its zero-shot score, on the scale of the others' (`training.seen_classes`).

    Learnt arrays: `keys_` (n, d) and `coefficients_` (n, S) of the classes with shots, `seen_` (S,) which these are,
    `text_` (C, d), `scale_` ().

    See Also:
        TipAdapter: the kernel without the regression. Gda: a Gaussian instead of a kernel.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [1, 0], [[1.0, 0.0], [1.0, 0.0]], ("cat", "dog"))
    >>> Proker().fit(task).logits(np.eye(2)).argmax(axis=1).tolist()
    [1, 0]
    """

    meta = Meta(
        name="proker",
        summary="kernel ridge regression on what zero-shot leaves over",
        paper="Bendou et al., ProKeR: A Kernel Perspective on Few-Shot Adaptation of Large Vision-Language Models",
        year=2025,
        arxiv="2501.11175",
        code="ybendou/ProKeR",
        trains="nothing",
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of ProKeR."""

        beta: float = hyper(1.5, "sharpness β of the kernel", low=1e-3, high=1000, grid=(1.5, 3.0))
        lmbda: float = hyper(
            0.05, "regularisation λ towards zero-shot", low=1e-9, high=1e9, grid=(0.003, 0.01, 0.03, 0.1, 0.3)
        )
        max_rows: int = hyper(
            6000, "maximum number of rows of the kernel; above it, augmented views are averaged", low=1, high=100_000
        )

    hyper: Hyper

    def _fit_seen(self, task: FewShotTask) -> None:
        from scipy.linalg import cho_factor, cho_solve

        keys, labels = self._rows(task)
        rows = keys.astype(np.float64)
        residual = np.eye(task.num_classes)[labels] - rows @ task.text_features.T.astype(np.float64)
        system = kernel(rows, rows, self.hyper.beta) / self.hyper.lmbda
        system[np.diag_indices_from(system)] += 1
        # The kernel is positive definite: e^(βx·y) is a power series of inner products with positive terms.
        solution = cho_solve(cho_factor(system, overwrite_a=True, check_finite=False), residual, check_finite=False)
        self.keys_ = keys
        self.coefficients_ = solution.astype(np.float32)

    def _rows(self, task: FewShotTask) -> tuple[Array, npt.NDArray[np.int64]]:
        rows, labels = task.photo_rows()
        return (task.shot_means(), task.support_labels) if len(rows) > self.hyper.max_rows else (rows, labels)

    def _scores(self, queries: Queries, zero_shot: Array) -> Array:
        adapted = kernel(queries.features, self.keys_, self.hyper.beta) @ self.coefficients_
        return np.asarray(zero_shot / self.scale_ + adapted, dtype=np.float32)
