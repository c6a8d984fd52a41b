"""TransCLIP: joint classification of all queries by a Gaussian mixture with a neighbourhood term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import FewShotTask, Queries, softmax

from .base import Meta, hyper
from .training.refinement import Refinement, RefinementHyper
from .training.transduction import affinity, transclip


class TransClip(Refinement):
    """Zanella, Gérin, Ben Ayed, "Boosting Vision-Language Models with Transduction", NeurIPS 2024: TransCLIP.

    All queries are classified jointly, so that similar photos get the same class: one Gaussian per class with a shared
    diagonal covariance, a Laplacian term over nearest neighbours, and a KL term towards CLIP's predictions.

    With ŷ = softmax of the base's logits, z = ŷ, μ_c = normalised mean of z·f over the 8 queries most confidently
    predicted as c (with shots: of its shots), σ² = 1/d, and W the cosines with the 3 nearest neighbours among the
    queries, repeat: (a) ℓ = −½ Σ_j (f_j − μ_cj)²/σ_j²; (b) five times z ∝ ŷ^λ·exp((ℓ + (50/6)(Wᵀz + Wz))/50); (c) μ =
    normalised mean of the queries weighted by z; (d) σ² = their mean squared distance; finally (a) and (b) once more.
    Shots enter (b) with their labels, and (c) and (d) with weight γ·50/N, where queries have weight 1/M. The scores are
    ln z.

    `base` refines the logits of another method instead of zero-shot. That method was fitted on the shots, so they are
    not used again, as in the authors' code.

    Differences from the authors' code, with shots only: it multiplies rows of W ordered [shots; queries] by z ordered
    [queries; shots]; here the order is the same. It removes every shot's nearest query as if it were the shot itself;
    here only a query itself is removed (`drop_nearest` is theirs). It continues z, μ and σ² from one γ to the next and
    returns the last instead of the best; here each γ starts anew.

    The method assumes that most classes occur among the queries. Every prototype is initialised with eight of them, so
    a batch of few classes loses accuracy (75 photos of 5 of 62 classes: 66 %, zero-shot 92 %); `em-dirichlet` is made
    for those.

    Held-out shots contain every class, with hardly a photo of the same class beside each, so neighbours mislead more
    among them than among real queries. They are used to choose the weights of the shots (γ) and of ŷ (λ), not the
    number of neighbours. The authors use the test photos nearest to validation photos; here no query is used for
    selection.

    The prototype of a class without shots is initialised with the queries most confidently predicted as it.

    Learnt arrays: `shots_` (N, d) and `labels_` (N,), none where `base` is not zero-shot, and the base's own
    arrays with `base_` before their names.

    See Also:
        EmDirichlet: clusters class probabilities instead of features. ZeroShot: the default base.

    >>> import numpy as np
    >>> task = FewShotTask(np.zeros((0, 2)), [], np.eye(2), ("cat", "dog"))
    >>> TransClip().fit(task).logits([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]).argmax(axis=1).tolist()
    [0, 0, 1]
    """

    meta = Meta(
        name="transclip",
        summary="classifies all queries at once: Gaussian classes, neighbours' votes, and another method's opinion",
        paper="Zanella, Gérin, Ben Ayed, Boosting Vision-Language Models with Transduction",
        year=2024,
        arxiv="2406.01837",
        code="MaxZanella/transduction-for-vlms",
        trains="assignments of the queries, prototypes and a diagonal covariance, at prediction",
        transductive=True,
        needs=(),
        uses=("support",),
    )

    @dataclass(frozen=True)
    class Hyper(RefinementHyper):
        """Hyper-parameters of TransCLIP."""

        gamma: float = hyper(
            0.002, "weight γ of the shots", low=0, high=1000, grid=(0.002, 0.01, 0.02, 0.2), refit=False
        )
        lambda_zero_shot: float = hyper(
            1.0, "weight λ of the prediction ŷ, without shots or with `base`", low=0, high=100, refit=False
        )
        lambda_few_shot: float = hyper(
            0.5, "weight λ of the prediction ŷ, with shots", low=0, high=100, grid=(0.5, 1.0, 2.0), refit=False
        )
        neighbours: int = hyper(3, "number of nearest queries in the affinity matrix", low=0, high=10_000, refit=False)
        iterations: int = hyper(10, "updates of the prototypes", low=0, high=10_000, refit=False)
        drop_nearest: bool = hyper(False, "leave out each shot's nearest query, as the authors' code does")

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        self._fit_base(task)
        rows = len(task.support_labels) if self.hyper.base == "zero-shot" else 0
        self.shots_, self.labels_ = task.support_features[:rows], task.support_labels[:rows]

    def _logits(self, queries: Queries) -> npt.NDArray[np.float64]:
        features, shots = queries.features.astype(np.float64), self.shots_.astype(np.float64)
        votes = affinity(features, features, self.hyper.neighbours, skip="self")
        given: dict[str, Any] = {"pull": self.hyper.lambda_zero_shot}
        if len(shots):
            from scipy.sparse import vstack

            skip = "nearest" if self.hyper.drop_nearest else "none"
            votes = vstack([votes, affinity(shots, features, self.hyper.neighbours, skip=skip)], format="csr")
            given = {
                "pull": self.hyper.lambda_few_shot,
                "shots": shots,
                "labels": self.labels_,
                "gamma": self.hyper.gamma,
            }
        prior = softmax(self._base_logits(queries))
        return transclip(features, prior, votes, iterations=self.hyper.iterations, **given)[0]
