"""Linear probe: logistic regression on the shots' features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jclip_adapter.core.task import Array, FewShotTask, Queries

from .base import Hyperparameters, Meta, hyper
from .training.seen_classes import SeenClassMethod


class LinearProbe(SeenClassMethod):
    """The contest's trained baseline (uyzhang/JCLIP, `baseline_ft.py`), after Radford et al., 2021, §3.

    Multinomial logistic regression on L2-normalised image features: it minimises C·ΣCE + ½‖W‖² with an unpenalised
    bias. The original stops scikit-learn's L-BFGS at its loose default tolerance; where it did not converge, it was
    reported to predict the same five classes for every photo. Here the optimum is computed in float64.

    The probe does not use texts, so the original never predicts a class without shots. Here such a class keeps its
    zero-shot score, rescaled to the scores of the others (`training.seen_classes`).

    Learnt arrays: `weight_` (S, d) and `bias_` (S,) of the classes with shots, `seen_` (S,) their indices,
    `text_` (C, d), `scale_` ().

    See Also:
        ZeroShot: text only. JclipAdapter: keeps the text as its classifier.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [0, 1], np.eye(2), ("cat", "dog"))
    >>> LinearProbe().fit(task).logits([[1.0, 0.0]]).argmax()
    0
    """

    meta = Meta(
        name="linear-probe",
        summary="logistic regression on the shots' features, without text (the contest's trained baseline)",
        paper="Radford et al., Learning Transferable Visual Models From Natural Language Supervision",
        year=2021,
        arxiv="2103.00020",
        code="uyzhang/JCLIP",
        trains="a linear layer (C×d + C)",
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of the linear probe."""

        c: float = hyper(8.96, "inverse strength C of the L2 penalty", low=1e-8, high=1e8, grid=(0.1, 1.0, 8.96, 100.0))
        max_iter: int = hyper(1000, "maximum number of L-BFGS iterations", low=1, high=1_000_000)

    hyper: Hyper

    def _fit_seen(self, task: FewShotTask) -> None:
        classes, width = task.num_classes, task.width
        self.weight_ = np.zeros((classes, width), dtype=np.float32)
        self.bias_ = np.zeros(classes, dtype=np.float32)
        if classes > 1:
            from sklearn.linear_model import LogisticRegression

            from .training.regression import fit_softmax

            model = LogisticRegression(max_iter=self.hyper.max_iter, tol=1e-10)
            rows = task.support_features.astype(np.float64)
            self.weight_[:], self.bias_[:] = fit_softmax(model, self.hyper.c, rows, task.support_labels)

    def _scores(self, queries: Queries, zero_shot: Array) -> Array:
        return np.asarray(queries.features @ self.weight_.T + self.bias_, dtype=np.float32)
