"""Selection of hyper-parameters on held-out shots or a validation set, never on the queries.

The candidates are the Cartesian product of a method's grids. They are scored on a validation set if there is one, else
by cross-validation: fold j holds out the j-th shot of every class and fits on the others. With one shot per class the
defaults are used.
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
from jclip_adapter.core.task import FewShotTask, softmax
from jclip_adapter.methods import Method, get
from jclip_adapter.methods.training.folds import folds

logger = logging.getLogger(__name__)


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
    """Scores of K candidates on held-out photos.

    Attributes:
        candidates: Their values, without those common to all.
        accuracy: (K,) accuracy, 0 to 1.
        likelihood: (K,) mean log-likelihood of the true classes.
        source: "support" (held-out shots) or "validation".
    """

    candidates: list[dict[str, Any]]
    accuracy: npt.NDArray[np.float64]
    likelihood: npt.NDArray[np.float64]
    source: str

    def best(self, defaults: Mapping[str, Any]) -> int:
        """Index of the best by accuracy, then likelihood, then equality with the defaults, then order."""

        def rank(number: int) -> tuple[float, float, bool, int]:
            usual = all(defaults[key] == value for key, value in self.candidates[number].items())
            return self.accuracy[number], self.likelihood[number], usual, -number

        return max(range(len(self.candidates)), key=rank)


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
    likelihood = np.zeros((len(outers), len(inners)))
    rounds = list(itertools.product(trials, enumerate(outers)))
    for (part, held), (row, outer) in progress(rounds, desc=f"choosing for {name}", unit="fit", leave=False, delay=2):
        try:
            fitted = method(seed=seed, **given, **outer).fit(part)
        except DivergedError as error:
            logger.info("%s", error.message)
            correct[row] -= np.inf
            likelihood[row] -= np.inf
            continue
        for column, inner in enumerate(inners):
            candidate = fitted.with_values(**inner) if inner else fitted
            hits, evidence = _score(candidate.logits(held.queries), held.labels)
            correct[row, column] += hits
            likelihood[row, column] += evidence
    total = sum(len(held.labels) for _, held in trials)
    candidates = [{**outer, **inner} for outer in outers for inner in inners]
    return Scores(candidates, correct.ravel() / total, likelihood.ravel() / total, source)


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


def _score(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Number of correct rows, and the log-likelihood of the true classes."""
    rows = np.arange(len(labels))
    right = float((logits.argmax(axis=1) == labels).sum())
    return right, float(np.log(softmax(logits)[rows, labels] + 1e-12).sum())
