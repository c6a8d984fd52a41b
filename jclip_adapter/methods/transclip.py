"""TransCLIP: all queries classified at once, as Gaussians around class prototypes that agree with neighbours."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import FewShotTask, Queries, softmax

from .base import Hyperparameters, Meta, Method, hyper
from .training.transduction import affinity, transclip

PREFIX = "base_"  # of the learnt arrays that belong to the method below


class TransClip(Method):
    """Zanella, Gérin, Ben Ayed, "Boosting Vision-Language Models with Transduction", NeurIPS 2024: TransCLIP.

    All queries are classified at once, so that photos alike get the same class: a Gaussian per class with one
    shared diagonal covariance, a vote of the nearest neighbours, and a pull towards CLIP's own probabilities.

    With ŷ = softmax of the base's logits, z = ŷ, μ_c = normalised mean of z·f over c's 8 most confident queries
    (with shots: of its shots), σ² = 1/d, and W the cosines to the 3 nearest neighbours among the queries, repeat:
    (a) ℓ = −½ Σ_j (f_j − μ_cj)²/σ_j²; (b) five times z ∝ ŷ^λ·exp((ℓ + (50/6)(Wᵀz + Wz))/50); (c) μ = normalised
    mean of the queries weighted by z; (d) σ² = their mean square distance; and (a), (b) once more in the end.
    With shots, they vote in (b) with their labels and weigh γ·50/N in (c) and (d), where the queries weigh 1/M.
    Scores: ln z.

    `base` refines another method's logits ("on top") rather than zero-shot's: that method has learnt from the
    shots already, so they do not take part again, as in the authors' code.

    Where the authors' code differs, with shots only: it multiplies rows of W ordered [shots; queries] with z
    ordered [queries; shots], so wrong rows vote; here they are aligned. It drops every shot's nearest query as if
    that were the shot itself; here only a query itself is dropped (`drop_nearest` brings theirs back). It keeps z,
    μ and σ² from one γ tried to the next and returns the last, not the best; here each starts afresh.

    It expects that most classes are among the queries. A prototype starts from eight of them whether its class is
    there or not, so a batch of few classes loses much (75 photos of 5 of 62 classes: 66 % where zero-shot has
    92 %); `em-dirichlet` is made for those.

    Shots that are left out for choosing γ are queries with every class present and hardly a photo of the same
    class beside it, so neighbours mislead there more than among real queries: they can tell how far to trust the
    shots (γ) and ŷ (λ), not how many neighbours to ask. The authors look at validation photos' nearest test
    photos; here no query takes part in the choice.

    An unseen class's prototype starts from the queries that ŷ is most confident of; later it is like any other.

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
    class Hyper(Hyperparameters):
        """Hyper-parameters of TransCLIP."""

        gamma: float = hyper(
            0.002, "weight γ of the shots", low=0, high=1000, grid=(0.002, 0.01, 0.02, 0.2), refit=False
        )
        lambda_zero_shot: float = hyper(
            1.0, "weight λ of the initial prediction ŷ, without shots or with `base`", low=0, high=100, refit=False
        )
        lambda_few_shot: float = hyper(
            0.5, "weight λ of the initial prediction ŷ, with shots", low=0, high=100, grid=(0.5, 1.0, 2.0), refit=False
        )
        neighbours: int = hyper(3, "number of nearest queries in the affinity matrix", low=0, high=10_000, refit=False)
        iterations: int = hyper(10, "updates of the prototypes", low=0, high=10_000, refit=False)
        drop_nearest: bool = hyper(False, "leave out each shot's nearest query, as the authors' code does")
        base: str = hyper("zero-shot", "method whose logits are refined")
        base_values: str = hyper("", "hyper-parameters of `base`, as name=value,name=value")

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        # Prototypes that stand in for texts do so for the base too.
        base = self._base().fit(dataclasses.replace(task, has_text=True))
        for name in [name for name in vars(self) if name.startswith(PREFIX)]:
            delattr(self, name)
        for name, value in base.learnt().items():
            setattr(self, PREFIX + name, value)
        rows = len(task.support_labels) if self.hyper.base == "zero-shot" else 0
        self.shots_, self.labels_ = task.support_features[:rows], task.support_labels[:rows]

    def _base(self) -> Method:
        """The method below, not fitted."""
        from . import get

        if self.hyper.base == self.meta.name:
            raise UsageError(f"base={self.hyper.base} cannot lie below itself.", "zero-shot can, for one.")
        pairs = [pair.partition("=") for pair in self.hyper.base_values.split(",") if pair]
        return get(self.hyper.base)(seed=self.seed, **{name.strip(): value for name, _, value in pairs})

    def _logits(self, queries: Queries) -> npt.NDArray[np.float64]:
        base = self._base()
        base.classes_, base.width_, base.raw_ = self.classes_, self.width_, self.raw_
        for name, value in self.learnt().items():
            if name.startswith(PREFIX):
                setattr(base, name.removeprefix(PREFIX), value)
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
        prior = softmax(base.logits(queries))
        return transclip(features, prior, votes, iterations=self.hyper.iterations, **given)[0]
