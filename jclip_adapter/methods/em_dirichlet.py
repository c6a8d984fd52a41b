"""EM-Dirichlet: joint clustering of the queries' class distributions, one Dirichlet per class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import FewShotTask, Queries, softmax

from .base import Meta, hyper
from .training import dirichlet
from .training.refinement import Refinement, RefinementHyper

FLOOR = 1e-6  # below 1/C for every C that fits in memory, so that it never exceeds the assigned class


class EmDirichlet(Refinement):
    """Martin et al., "Transductive Zero-Shot and Few-Shot CLIP", CVPR 2024: EM-Dirichlet.

    All queries are classified jointly. Zero-shot gives each a distribution over the classes, and these are clustered
    with one Dirichlet distribution per class and a penalty on the number of clusters.

    With z = softmax(T·cosine), u = z and α = 1, repeat: (1) y_k = mean of ln z over the queries, weighted by u_k, and
    over the shots of class k; (2) α_k = maximum-likelihood Dirichlet of y_k, by majorise-minimise steps from the
    previous α_k (`training.dirichlet.fit_dirichlet`); (3) v = ln(mean u) + 1; (4) u = softmax over k of (ln
    Dirichlet(z; α_k) + (λ/n)·v_k) with λ/n = ⌊C/k_eff⌋. Without shots, clusters are then assigned to classes by
    Hungarian assignment; with shots, cluster k is class k.

    The scores are ln max(u, 1e-6·z), with the columns of u in the order of the assigned classes. The highest score is
    that of the assigned class, and the classes that u excludes follow in zero-shot's order.

    Differences from the authors' code: without shots its k_eff is always 5; here it is the given value, and 0 means the
    number of classes that zero-shot predicts. It takes 1,000 majorise-minimise steps; 10 warm-started steps take a
    hundredth of the time, and stopping early keeps small clusters from collapsing (`mm_steps=1000` is theirs). It
    computes in float32, this in float64. Its tasks are 75 queries of 3 to 10 classes: pass such groups to `logits` one
    by one. `batch_size` splits queries at random, because a list sorted by class would reveal the labels.

    It helps only in batches with many queries per class; on hundreds of classes with a few photos each it reduces
    accuracy. Held-out shots are such a case, so selection on them can tell whether EM hurts there (`iterations=0` is
    zero-shot), but not k_eff, which is a property of the queries.

    `base` replaces zero-shot's class probabilities by another method's: z = softmax(T/s·logits) with CLIP's scale s,
    which for zero-shot's logits is the z above. That method was fitted on the shots, so they are not used again:
    clusters are assigned to classes as without shots.

    A class without shots is initialised with its text like the others and fitted on the queries alone.

    Learnt arrays: `scale_` () s, `support_sum_` (C, C) sum of ln z over each class's shots, `support_count_` (C,), and
    those of the base with `base_` before their names.

    See Also:
        HardEmDirichlet: each query in one cluster only. TransClip: clusters in feature space.

    >>> import numpy as np
    >>> task = FewShotTask(np.zeros((0, 2)), [], np.eye(2), ("cat", "dog"))
    >>> EmDirichlet().fit(task).logits([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]).argmax(axis=1).tolist()
    [0, 0, 1]
    """

    meta = Meta(
        name="em-dirichlet",
        summary="clusters all queries' class distributions at once, one Dirichlet per class",
        paper="Martin et al., Transductive Zero-Shot and Few-Shot CLIP",
        year=2024,
        arxiv="2405.18437",
        code="SegoleneMartin/transductive-CLIP",
        trains="assignments of the queries and C Dirichlet distributions, at prediction",
        transductive=True,
        needs=(),
        uses=("support",),
    )
    hard: ClassVar[bool] = False

    @dataclass(frozen=True)
    class Hyper(RefinementHyper):
        """Hyper-parameters of EM-Dirichlet."""

        temperature: float = hyper(30.0, "factor T of the cosines before the softmax", low=0, high=1000)
        iterations: int = hyper(20, "EM steps; 0 is zero-shot", low=0, high=10_000, grid=(0, 20), refit=False)
        mm_steps: int = hyper(
            10, "maximum number of majorise-minimise steps per EM step", low=1, high=100_000, refit=False
        )
        k_eff: int = hyper(
            0, "expected classes in a batch; 0 for those that zero-shot predicts", low=0, high=1_000_000, refit=False
        )
        batch_size: int = hyper(
            0, "queries clustered together, chosen at random; 0 for all", low=0, high=10_000_000, refit=False
        )

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        self._fit_base(task)
        self.scale_ = np.array(task.logit_scale, dtype=np.float32)
        alone = (self.hyper.base, self.hyper.base_values) == ("zero-shot", "")
        rows = len(task.support_labels) if alone else 0
        features, labels = task.support_features[:rows], task.support_labels[:rows]
        sums = np.zeros((task.num_classes, task.num_classes))
        np.add.at(sums, labels, np.log(self._probabilities(Queries(features)) + dirichlet.EPSILON))
        self.support_sum_ = sums.astype(np.float32)
        self.support_count_ = np.bincount(labels, minlength=task.num_classes).astype(np.float32)

    def _probabilities(self, queries: Queries) -> npt.NDArray[np.float64]:
        return softmax(self.hyper.temperature / self.scale_ * self._base_logits(queries).astype(np.float64))

    def _logits(self, queries: Queries) -> npt.NDArray[np.float64]:
        rows = len(queries)
        size = self.hyper.batch_size or rows
        order = np.arange(rows) if size >= rows else np.random.default_rng(self.seed).permutation(rows)
        scores = np.empty((rows, len(self.classes_)))
        probabilities = self._probabilities(queries)
        for first in range(0, rows, size):
            chosen = order[first : first + size]
            scores[chosen] = self._batch(probabilities[chosen])
        return scores

    def _batch(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(n, C) class probabilities of queries to be clustered together → (n, C) scores."""
        classes = probabilities.shape[1]
        expected = self.hyper.k_eff or len(np.unique(probabilities.argmax(axis=1)))
        u, _, _ = dirichlet.em_dirichlet(
            probabilities,
            self.support_sum_,
            self.support_count_,
            penalty=classes // expected,
            iterations=self.hyper.iterations,
            mm_steps=self.hyper.mm_steps,
            hard=self.hard,
        )
        if not self.support_count_.any():
            matched = dirichlet.match_clusters(u, probabilities)
            # An empty cluster keeps its own class unless another cluster was assigned to it.
            own = np.arange(classes)
            matched = np.where((matched < 0) & ~np.isin(own, matched), own, matched)
            clusters = np.flatnonzero(matched >= 0)
            u_of_classes = np.zeros_like(u)
            u_of_classes[:, matched[clusters]] = u[:, clusters]
            u = u_of_classes
        return np.log(np.maximum(np.maximum(u, FLOOR * probabilities), np.finfo(np.float64).tiny))
