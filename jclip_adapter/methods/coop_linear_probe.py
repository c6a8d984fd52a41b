"""CoOp's linear probe: logistic regression with a search for its L2 penalty."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import LOGIT_SCALE, Array, FewShotTask, Labelled, Queries

from .base import Hyperparameters, Meta, Method, hyper
from .training.seen_classes import with_unseen

# The coarse grid of the authors, from the strongest penalty to the weakest.
GRID = tuple(10.0**power for power in range(-6, 7, 2))
# With fewer held-out photos, too many candidates have the same accuracy.
ENOUGH = 300


class CoopLinearProbe(Method):
    """Radford et al., 2021, §3, as CoOp runs it (Zhou et al., "Learning to Prompt for Vision-Language Models", 2022).

    Logistic regression on the image features before normalisation: it minimises C·ΣCE + ½‖W‖² with an unpenalised bias.
    C is chosen on held-out photos, first among 1e−6, 1e−4 … 1e6; then the interval of one decade on both sides is
    repeatedly halved in log₁₀ C towards its better end.

    The authors use the validation set, halve the interval 8 times, train every candidate from scratch and report the
    mean test accuracy of ten runs. Here the task's validation set is used if there is one, otherwise held-out shots: as
    many folds as contain 300 photos together. The interval is halved `steps` times, no candidate is trained twice, and
    each starts from the weights of the next stronger penalty. If no class has two shots, nothing can be held out, and C
    is `unsearched` divided by the features' mean squared norm. A tenth of the authors' tolerance is used on the
    features' own scale; it stops early if the penalty is weak. The solver is scikit-learn's newton-cg in place of their
    lbfgs, which converts all features to float64 for every product and takes several times as long.

    A class without shots keeps its zero-shot score, rescaled to the mean and standard deviation of the probe's.

    Learnt arrays: `weight_` (C, d), `bias_` (C,), `c_` (), `unseen_` (C,) bool, `text_` (C, d).

    See Also:
        LinearProbe: normalised features and a given C. UniModalLinear: trained for a number of steps instead.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(4)[[0, 0, 1, 1]], [0, 0, 1, 1], np.eye(4)[:2], ("cat", "dog"))
    >>> CoopLinearProbe().fit(task).logits(np.eye(4)[:1]).argmax()
    0
    """

    meta = Meta(
        name="coop-linear-probe",
        summary="logistic regression on un-normalised features, its penalty found by a binary search",
        paper="Radford et al., Learning Transferable Visual Models From Natural Language Supervision",
        year=2021,
        arxiv="2103.00020",
        code="KaiyangZhou/CoOp",
        trains="a linear layer (C×d + C)",
        uses=("raw", "validation"),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of CoOp's linear probe."""

        c: float = hyper(0.0, "inverse strength C of the L2 penalty; 0 searches for it", low=0, high=1e8)
        steps: int = hyper(4, "steps of the binary search for C; the authors take 8", low=0, high=30)
        unsearched: float = hyper(
            100.0, "C times the mean squared feature norm, if no shots can be held out", low=0, high=1e8
        )
        max_iter: int = hyper(1000, "maximum number of Newton iterations", low=1, high=1_000_000)

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        classes, width = task.num_classes, task.width
        self.text_ = task.text_features
        self.weight_ = np.zeros((classes, width), dtype=np.float32)
        self.bias_ = np.zeros(classes, dtype=np.float32)
        self.unseen_ = np.ones(classes, dtype=bool)
        seen = task.seen
        self.unseen_[seen] = False
        c = self.hyper.c
        if len(seen) > 1:
            c = c or self._search(task)
            regression = _Regression(task, self.hyper.max_iter)
            for stronger in (number for number in GRID if number < c):
                regression.fit(stronger)
            self.weight_[seen], self.bias_[seen] = regression.fit(c)
        self.c_ = np.array(c)

    def _search(self, task: FewShotTask) -> float:
        """The C with the best accuracy on held-out photos."""
        trials = _trials(task)
        if not trials:
            return self.hyper.unsearched / max(float((task.raw**2).sum(axis=1).mean()), 1e-12)
        regressions = [_Regression(part, self.hyper.max_iter) for part, _ in trials]
        known: dict[float, int] = {}

        def correct(c: float) -> int:
            if c not in known:
                pairs = zip(regressions, trials, strict=True)
                known[c] = sum(_correct(regression.fit(c), part, held) for regression, (part, held) in pairs)
            return known[c]

        return binary_search(correct, self.hyper.steps)

    def _logits(self, queries: Queries) -> Array:
        raw = queries.features if queries.raw is None else queries.raw
        known = ~self.unseen_
        scores = raw @ self.weight_[known].T + self.bias_[known]
        return with_unseen(scores, LOGIT_SCALE * (queries.features @ self.text_.T), np.flatnonzero(known))


def binary_search(accuracy: Any, steps: int) -> float:
    """CoOp's binary search for C.

    Args:
        accuracy: Takes C, returns the accuracy.
        steps: Number of halvings.

    Returns:
        The better end of the last interval; the lower one if both are equal, as in the authors' code.
    """
    # Among equal accuracies the authors keep the first, and their grid begins with the weakest penalty.
    scores = [accuracy(c) for c in GRID]
    peak = max(range(len(GRID)), key=lambda number: (scores[number], number))
    low, high = np.log10(GRID[peak]) - 1, np.log10(GRID[peak]) + 1
    best = GRID[peak]
    for _ in range(steps):
        middle = (low + high) / 2
        if accuracy(10.0**low) < accuracy(10.0**high):
            best, low = 10.0**high, middle
        else:
            best, high = 10.0**low, middle
    return float(best)


def _trials(task: FewShotTask) -> list[tuple[FewShotTask, Labelled]]:
    """Pairs of training task and held-out photos; empty if nothing can be held out."""
    if task.validation is not None and len(task.validation.labels):
        return [(task, task.validation)]
    from .training.folds import folds

    trials: list[tuple[FewShotTask, Labelled]] = []
    for part, held in folds(task):
        if len(part.seen) > 1 and sum(len(other.labels) for _, other in trials) < ENOUGH:
            trials.append((part, held))
    return trials


def _correct(learnt: tuple[npt.NDArray[Any], npt.NDArray[Any]], part: FewShotTask, held: Labelled) -> int:
    """Number of held-out photos that a regression on the other shots classifies correctly."""
    weight, bias = learnt
    photos = held.queries.features if held.queries.raw is None else held.queries.raw
    return int((part.seen[(photos @ weight.T + bias).argmax(axis=1)] == held.labels).sum())


class _Regression:
    """Logistic regressions on the same rows, each initialised with that of the next stronger penalty.

    With a weak penalty, the tolerance stops the regression early, so the result depends on the initial weights.
    The search and the final fit therefore use the same sequence.
    """

    def __init__(self, task: FewShotTask, max_iter: int) -> None:
        from sklearn.linear_model import LogisticRegression

        self.rows, self.labels = task.raw, task.support_labels
        self.known: dict[float, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}
        # The authors' tolerance is 1e-4 for features whose norm is about 10, and the gradient grows with the norm.
        # Where it ends Newton's method, the order of the shots shows in the scores; at a tenth it does not.
        tolerance = 1e-6 * float(np.sqrt((self.rows**2).sum(axis=1).mean()))
        self.model = LogisticRegression(
            solver="newton-cg", max_iter=max_iter, tol=max(tolerance, 1e-12), warm_start=True
        )

    def fit(self, c: float) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """(seen, d) weights and (seen,) biases at one C."""
        from sklearn.exceptions import ConvergenceWarning

        from .training.regression import fit_softmax

        if self.known:
            start = max((number for number in self.known if number < c), default=min(self.known))
            self.model.coef_, self.model.intercept_ = (part.copy() for part in self.known[start])
        with warnings.catch_warnings():
            # The authors' iteration limit is part of the method. Where float32 cannot lower the loss any further, a
            # line search fails and the fit ends.
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", "(?i).*line search.*")
            learnt = fit_softmax(self.model, c, self.rows, self.labels)
        self.known[c] = self.model.coef_.copy(), self.model.intercept_.copy()
        return learnt
