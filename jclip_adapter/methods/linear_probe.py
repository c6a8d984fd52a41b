"""Linear probe: logistic regression on the shots' features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jclip_adapter.task import Array, FewShotTask, Queries

from .base import Hyperparameters, Meta, Method, hyper


class LinearProbe(Method):
    """The contest's trained baseline (uyzhang/JCLIP, `baseline_ft.py`), after Radford et al., 2021, §3.

    Multinomial logistic regression on L2-normalised image features, minimising C·ΣCE + ½‖W‖² with a free bias.
    The original stops scikit-learn's lbfgs at its loose default tolerance (and was reported to predict the same
    five classes everywhere when it did not converge); here the optimum itself is found, in float64.

    A class without support photos gets, for every query, a score just below the lowest of the others: the probe
    knows nothing about it.

    Learnt arrays: `weight_` (C, d), `bias_` (C,), `unseen_` (C,) bool.

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
        unseen="last",
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of the linear probe."""

        c: float = hyper(8.96, "inverse strength of the L2 penalty", low=1e-8, high=1e8, grid=(0.1, 1.0, 8.96, 100.0))
        max_iter: int = hyper(1000, "steps of lbfgs at most", low=1, high=1_000_000)

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        classes, width = task.num_classes, task.width
        self.weight_ = np.zeros((classes, width), dtype=np.float32)
        self.bias_ = np.zeros(classes, dtype=np.float32)
        self.unseen_ = np.ones(classes, dtype=bool)
        seen = task.seen
        self.unseen_[seen] = False
        if len(seen) > 1:
            weight, bias = self._optimum(task, len(seen))
            self.weight_[seen], self.bias_[seen] = weight, bias

    def _optimum(self, task: FewShotTask, seen: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        from sklearn.linear_model import LogisticRegression

        # Of two classes scikit-learn fits one row w, whose softmax twin (−w/2, w/2) has half the penalty ½‖w‖².
        inverse_penalty = self.hyper.c * (2 if seen == 2 else 1)
        model = LogisticRegression(C=inverse_penalty, max_iter=self.hyper.max_iter, tol=1e-10)
        model.fit(task.support_features.astype(np.float64), task.support_labels)
        weight, bias = model.coef_, model.intercept_
        if seen == 2:
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        return weight, bias

    def _logits(self, queries: Queries) -> Array:
        scores = queries.features @ self.weight_.T + self.bias_
        if self.unseen_.any() and not self.unseen_.all():
            scores[:, self.unseen_] = scores[:, ~self.unseen_].min(axis=1, keepdims=True) - 1
        return np.asarray(scores, dtype=np.float32)
