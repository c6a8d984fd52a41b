"""Selection of hyper-parameters on held-out shots or a validation set, never on the queries.

The candidates are the Cartesian product of a method's grids. They are scored on a validation set if there is one, else
by cross-validation: fold j holds out the j-th shot of every class and fits on the others. With one shot per class the
defaults are used.

Few held-out photos cannot tell candidates apart that are nearly as good. So of those that are not clearly less likely
than the best, the one nearest to zero-shot is chosen (`Scores.best`).
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.console import progress
from jclip_adapter.core.errors import DivergedError
from jclip_adapter.core.task import Array, FewShotTask, softmax
from jclip_adapter.methods import Method, get
from jclip_adapter.methods.training.folds import folds

from .calibration import temperature

logger = logging.getLogger(__name__)
MARGIN = 0.5
"""Standard errors of the mean difference in log-likelihood by which a candidate must be worse to be ruled out."""
_ENOUGH = 250  # photos of a fold that determine a candidate's temperature


@dataclass(frozen=True)
class Choice:
    """Selected hyper-parameters.

    Attributes:
        values: The hyper-parameters, including those given.
        source: "given", "defaults", "support" (held-out shots) or "validation".
        accuracy: Accuracy on the held-out or validation photos, 0 to 1; NaN if nothing was scored.
        candidates: Number of candidates scored.
    """

    values: dict[str, Any]
    source: str
    accuracy: float
    candidates: int


def grids(method: type[Method], given: Mapping[str, Any]) -> tuple[dict[str, Sequence[Any]], dict[str, Sequence[Any]]]:
    """A method's grids without the given hyper-parameters: those that need another fit, and those that do not."""
    refit: dict[str, Sequence[Any]] = {}
    free: dict[str, Sequence[Any]] = {}
    for item in dataclasses.fields(method.Hyper):
        if item.metadata["grid"] and item.name not in given:
            (refit if item.metadata["refit"] else free)[item.name] = item.metadata["grid"]
    return refit, free


def _product(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


@dataclass(frozen=True)
class Scores:
    """Scores of K candidates on n held-out photos.

    Attributes:
        candidates: Their values, without those common to all.
        accuracy: (K,) accuracy, 0 to 1.
        rows: (K, n) log-likelihood of the photos' classes, calibrated by one temperature per fold; −inf for a candidate
            that diverged.
        zero_shot: (n,) the same of zero-shot; None for a network without a text encoder.
        source: "support" (held-out shots) or "validation".
    """

    candidates: list[dict[str, Any]]
    accuracy: npt.NDArray[np.float64]
    rows: npt.NDArray[np.float64]
    zero_shot: npt.NDArray[np.float64] | None
    source: str

    @property
    def likelihood(self) -> npt.NDArray[np.float64]:
        """(K,) mean log-likelihood."""
        return np.asarray(self.rows.mean(axis=1))

    def best(self, defaults: Mapping[str, Any], margin: float = MARGIN) -> int:
        """Index of the candidate to use.

        The candidate k* of the highest likelihood is compared with every k on the same photos. Those whose mean
        difference is at most `margin` standard errors remain: the rule of Breiman et al. ("Classification and
        Regression Trees", 1984), where zero-shot is the simplest model. Of them the one whose log-likelihoods differ
        least from zero-shot's is chosen, then the most likely one, the defaults, and the first.
        """
        mean = self.likelihood
        top = int(mean.argmax())
        lead = self.rows[top] - self.rows

        def rank(number: int) -> tuple[float, float, bool, int]:
            usual = all(defaults[key] == value for key, value in self.candidates[number].items())
            away = 0.0 if self.zero_shot is None else float(np.abs(self.rows[number] - self.zero_shot).mean())
            return -away, mean[number], usual, -number

        near = [
            number
            for number, each in enumerate(lead)
            if number == top or (np.isfinite(each).all() and each.mean() <= margin * each.std() / np.sqrt(each.size))
        ]
        return max(near if self.zero_shot is not None else [*np.flatnonzero(mean == mean[top])], key=rank)


def score_candidates(
    name: str,
    task: FewShotTask,
    refit: Mapping[str, Sequence[Any]],
    free: Mapping[str, Sequence[Any]],
    *,
    seed: int = 0,
    given: Mapping[str, Any] | None = None,
) -> Scores | None:
    """Score every combination of values on the task's validation set if any, else on held-out shots.

    Args:
        name: The method.
        task: The task.
        refit: Values of the hyper-parameters that need another fit, by name.
        free: Values of the others.
        seed: Seed of everything random in the fits.
        given: Fixed values.

    Returns:
        The scores; None if there is nothing to score on.
    """
    method, given = get(name), dict(given or {})
    if task.validation is not None:
        # A method that needs a validation set to train gets the same one, as in the authors' programs.
        own = task if "validation" in method.meta.uses else dataclasses.replace(task, validation=None)
        source, trials = "validation", [(own, task.validation)]
    else:
        source, trials = "support", folds(task)
    if not trials:
        return None
    outers, inners = list(_product(refit)), list(_product(free))
    correct = np.zeros((len(outers), len(inners)))
    ends = np.cumsum([0, *(len(held.labels) for _, held in trials)])
    rows = np.zeros((len(outers), len(inners), ends[-1]))
    rounds = list(itertools.product(enumerate(trials), enumerate(outers)))
    for (fold, (part, held)), (row, outer) in progress(
        rounds, desc=f"choosing for {name}", unit="fit", leave=False, delay=2
    ):
        try:
            fitted = method(seed=seed, **given, **outer).fit(part)
        except DivergedError as error:
            logger.info("%s", error.message)
            correct[row] -= np.inf
            rows[row, :, ends[fold] : ends[fold + 1]] = -np.inf
            continue
        for column, inner in enumerate(inners):
            candidate = fitted.with_values(**inner) if inner else fitted
            logits = candidate.logits(held.queries)
            correct[row, column] += (logits.argmax(axis=1) == held.labels).sum()
            rows[row, column, ends[fold] : ends[fold + 1]] = log_likelihood(logits, held.labels)
    candidates = [{**outer, **inner} for outer in outers for inner in inners]
    zero_shot = None
    if task.has_text:
        texts = task.text_features.T
        zero_shot = np.concatenate([log_likelihood(held.queries.features @ texts, held.labels) for _, held in trials])
    return Scores(candidates, correct.ravel() / ends[-1], rows.reshape(len(candidates), -1), zero_shot, source)


def choose(
    where: str, name: str, task: FewShotTask, *, seed: int = 0, given: Mapping[str, Any] | None = None
) -> Choice:
    """Choose a method's hyper-parameters by `--select`.

    Args:
        where: "support" for held-out shots, "validation" for the task's validation set, or "none" for the defaults.
        name: The method.
        task: The task.
        seed: Seed of everything random in the fits.
        given: Fixed values.
    """
    if where == "none":
        return Choice(dict(given or {}), "given" if given else "defaults", float("nan"), 0)
    return select(
        name, dataclasses.replace(task, validation=None) if where == "support" else task, seed=seed, given=given
    )


def select(name: str, task: FewShotTask, *, seed: int = 0, given: Mapping[str, Any] | None = None) -> Choice:
    """Choose a method's hyper-parameters for a task.

    Args:
        name: The method.
        task: The task; its validation set is used if it has one.
        seed: Seed of everything random in the fits.
        given: Fixed values.

    Returns:
        `Scores.best` of the method's grids, or the defaults if there is nothing to score on.
    """
    given = dict(given or {})
    method = get(name)
    refit, free = grids(method, given)
    if not refit and not free:
        return Choice(given, "given" if given else "defaults", float("nan"), 0)
    scores = score_candidates(name, task, refit, free, seed=seed, given=given)
    if scores is None:
        return Choice(given, "defaults", float("nan"), 0)
    best = scores.best(method.Hyper().as_dict())
    values, accuracy = scores.candidates[best], float(scores.accuracy[best])
    logger.debug("%s: %s scored %.4f on %s", name, values, accuracy, scores.source)
    return Choice({**given, **values}, scores.source, accuracy, len(scores.candidates))


def log_likelihood(logits: Array, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(n,) log-likelihood of the labels by logits divided by the temperature that suits some of them best."""
    some = slice(None, None, -(-len(labels) // _ENOUGH))
    p = softmax(logits / temperature(logits[some], labels[some]))
    return np.asarray(np.log(p[np.arange(len(labels)), labels] + 1e-12))
