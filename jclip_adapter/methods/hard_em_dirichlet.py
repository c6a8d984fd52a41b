"""Hard EM-Dirichlet: EM-Dirichlet with hard assignments."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from .base import hyper
from .em_dirichlet import EmDirichlet


class HardEmDirichlet(EmDirichlet):
    """Martin et al., "Transductive Zero-Shot and Few-Shot CLIP", CVPR 2024: Hard EM-Dirichlet.

    EM-Dirichlet whose step (4) replaces u by the one-hot vector of its largest entry. A cluster can then be empty, and
    keeps its α_k. The scores, the limits of selection, classes without shots and the differences from the authors' code
    are as in EmDirichlet; the authors take 10 iterations. The score of the assigned class is 0, and the others follow
    in zero-shot's order.

    Learnt arrays: `text_` (C, d), `support_sum_` (C, C) sum of ln z over each class's shots, `support_count_` (C,).

    See Also:
        EmDirichlet: soft assignments, and the algorithm.

    >>> import numpy as np
    >>> from jclip_adapter.core.task import FewShotTask
    >>> task = FewShotTask(np.zeros((0, 2)), [], np.eye(2), ("cat", "dog"))
    >>> HardEmDirichlet().fit(task).logits([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]).argmax(axis=1).tolist()
    [0, 0, 1]
    """

    meta = dataclasses.replace(
        EmDirichlet.meta,
        name="hard-em-dirichlet",
        summary="EM-Dirichlet with each query in one cluster only",
    )
    hard: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Hyper(EmDirichlet.Hyper):
        """Hyper-parameters of Hard EM-Dirichlet."""

        iterations: int = hyper(10, "EM steps; 0 is zero-shot", low=0, high=10_000, grid=(0, 10), refit=False)

    hyper: Hyper
