"""ProKeR: kernel ridge regression on the residual of zero-shot, without training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.memory import require
from jclip_adapter.core.task import Array, FewShotTask, Queries

from .base import Hyperparameters, Meta, hyper
from .training.seen_classes import SeenClassMethod


def kernel(first: npt.NDArray[Any], second: npt.NDArray[Any], beta: float) -> npt.NDArray[Any]:
    """(M, n) kernel values k(x, y) = exp(−β(1 − x·y)) of rows (M, d) and (n, d)."""
    return np.asarray(np.exp(beta * (first @ second.T - 1)))


class Proker(SeenClassMethod):
    """Bendou et al., "ProKeR: A Kernel Perspective on Few-Shot Adaptation of Large Vision-Language Models", CVPR 2025.

    Tip-Adapter smooths labels locally. ProKeR uses its kernel globally, in ridge regression towards zero-shot, so that
    similar shots do not count twice: A = (K/λ + I)⁻¹·(Y − F·Tᵀ) and logits = Q·Tᵀ + k(Q, F)·A, with the shots F (n, d),
    their one-hot labels Y, the kernel k(x, y) = exp(−β(1 − x·y)) and K = k(F, F).

    The formula is that of a derivative of the authors' code (omarnust/BReg-Adapter), which omits the factor 1/λ of
    ridge regression in front of A; the search for λ compensates for it. Cosines are not multiplied by the logit scale,
    so logits are about 0 to 1. λ → 0 is zero-shot. The defaults are the authors' values for 4 shots on ImageNet; the
    grid is coarser than their 20×10 points.

    Each augmented view is one row, as in the authors' code, whose ten views need a hundred times the memory. Above
    `max_rows` rows, the mean view of each shot is used instead.

    A class without shots keeps its zero-shot score, rescaled to the scores of the others (`training.seen_classes`).

    Learnt arrays: `keys_` (n, d) and `coefficients_` (n, S) of the classes with shots, `seen_` (S,) their indices,
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
        max_rows: int = hyper(6000, "maximum rows of the kernel; above it, views are averaged", low=1, high=100_000)

    hyper: Hyper

    def _fit_seen(self, task: FewShotTask) -> None:
        from scipy.linalg import cho_factor, cho_solve

        keys, labels = self._rows(task)
        count, wide = len(keys), task.num_classes
        # The kernel; labels, residuals and the solution.
        require(
            8 * (count**2 + 3 * count * wide),
            f"proker's kernel of {count:,} rows and {wide:,} classes",
            "Give fewer shots or classes, or another method such as tip-adapter.",
        )
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
