"""Choosing hyper-parameters: on the shots themselves or on photos set apart for it, never on the queries.

The candidates are the product of the grids that a method declares. They are scored on a validation set where the
user gives one, else by leaving shots out: fold j holds out every class's j-th shots and fits on the others, so
each shot is judged by a method that has not seen it. With one shot per class there is nothing to leave out, and
the documented defaults stay.
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
from tqdm import tqdm

from .methods import Method, get
from .task import FewShotTask, Labelled, Queries, softmax

logger = logging.getLogger(__name__)
MAX_FOLDS = 4


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        values: The hyper-parameters chosen, those given included.
        source: "given", "defaults", "support" (shots left out) or "validation".
        accuracy: Of the choice on the left-out or validation photos, 0 to 1; NaN where nothing was scored.
        candidates: How many were scored.
    """

    values: dict[str, Any]
    source: str
    accuracy: float
    candidates: int


def grids(method: type[Method], given: Mapping[str, Any]) -> tuple[dict[str, Sequence[Any]], dict[str, Sequence[Any]]]:
    """A method's grids without the hyper-parameters given: those that need another fit, and those that do not."""
    refit: dict[str, Sequence[Any]] = {}
    free: dict[str, Sequence[Any]] = {}
    for item in dataclasses.fields(method.Hyper):
        if item.metadata["grid"] and item.name not in given:
            (refit if item.metadata["refit"] else free)[item.name] = item.metadata["grid"]
    return refit, free


def _product(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def folds(task: FewShotTask, most: int = MAX_FOLDS) -> list[tuple[FewShotTask, Labelled]]:
    """Split the shots of a task into what is fitted on and what is held out.

    Args:
        task: The task.
        most: Folds at most; with more shots per class, several are held out together.

    Returns:
        Pairs of a smaller task and the left-out shots; none where no class has two shots. A class with one shot
        keeps it in every fold.
    """
    place = np.zeros(len(task.support_labels), dtype=np.int64)
    for label in task.seen:
        rows = np.flatnonzero(task.support_labels == label)
        place[rows] = np.arange(len(rows)) if len(rows) > 1 else -1
    count = min(most, int(place.max(initial=-1)) + 1)
    if count < 2:
        return []
    pairs = []
    for fold in range(count):
        held = (place >= 0) & (place % count == fold)
        pairs.append((_without(task, ~held), _shots(task, held)))
    return pairs


def _without(task: FewShotTask, kept: npt.NDArray[np.bool_]) -> FewShotTask:
    return dataclasses.replace(
        task,
        support_features=task.support_features[kept],
        support_labels=task.support_labels[kept],
        support_raw=None if task.support_raw is None else task.support_raw[kept],
        support_views=None if task.support_views is None else task.support_views[:, kept],
        auxiliary=None if task.auxiliary is None else task.auxiliary[kept],
    )


def _shots(task: FewShotTask, held: npt.NDArray[np.bool_]) -> Labelled:
    queries = Queries(task.support_features, task.support_raw, task.auxiliary)
    return Labelled(queries[held], task.support_labels[held])


def select(name: str, task: FewShotTask, *, seed: int = 0, given: Mapping[str, Any] | None = None) -> Choice:
    """Choose a method's hyper-parameters for a task.

    The most accurate candidate wins; of equally accurate ones that with the higher likelihood, and of equal ones
    the first.

    Args:
        name: Of the method.
        task: The task; its validation set is used where it has one.
        seed: For everything random in the fits.
        given: Values that are fixed already.

    Returns:
        The choice.
    """
    given = dict(given or {})
    method = get(name)
    refit, free = grids(method, given)
    if not refit and not free:
        return Choice(given, "given" if given else "defaults", float("nan"), 0)
    if task.validation is not None:
        source, trials = "validation", [(dataclasses.replace(task, validation=None), task.validation)]
    else:
        source, trials = "support", folds(task)
    if not trials:
        return Choice(given, "defaults", float("nan"), 0)
    outers, inners = list(_product(refit)), list(_product(free))
    candidates = [{**outer, **inner} for outer in outers for inner in inners]
    correct = np.zeros(len(candidates))
    likelihood = np.zeros(len(candidates))
    total = sum(len(held.labels) for _, held in trials)
    rounds = list(itertools.product(trials, enumerate(outers)))
    for (part, held), (row, outer) in tqdm(rounds, desc=f"choosing for {name}", unit="fit", leave=False, delay=2):
        fitted = method(seed=seed, **given, **outer).fit(part)
        for number, inner in enumerate(inners, row * len(inners)):
            candidate = fitted.with_values(**inner) if inner else fitted
            hits, evidence = _score(candidate.logits(held.queries), held.labels)
            correct[number] += hits
            likelihood[number] += evidence
    best = max(range(len(candidates)), key=lambda number: (correct[number], likelihood[number], -number))
    logger.debug("%s: %s scored %.4f on %s", name, candidates[best], correct[best] / total, source)
    return Choice({**given, **candidates[best]}, source, float(correct[best] / total), len(candidates))


def _score(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> tuple[float, float]:
    """How many are right, and the log-likelihood of the right classes."""
    rows = np.arange(len(labels))
    right = float((logits.argmax(axis=1) == labels).sum())
    return right, float(np.log(softmax(logits)[rows, labels] + 1e-12).sum())
