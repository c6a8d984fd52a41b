"""Expected accuracy at fewer shots than there are, from the shots alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jclip_adapter.core.console import progress
from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import FewShotTask
from jclip_adapter.methods import Method
from jclip_adapter.methods.training.folds import shots_as_queries

from .calibration import ENOUGH


class Point(NamedTuple):
    """Accuracy at a number of shots.

    Attributes:
        shots: Per class, fewer where a class has fewer.
        correct: Held-out photos whose class was predicted.
        tested: Held-out photos.
    """

    shots: int
    correct: int
    tested: int


def learning_curve(method: Method, task: FewShotTask, seed: int) -> list[Point]:
    """Fit a method to 1, 2, 4, … of the shots of each class, and to all but one; score the others.

    A class with n shots lends at most n − 1 for fitting, so it is scored at any number; with one shot it keeps that
    and is not scored. Until `ENOUGH` photos are scored, the fit is repeated with other shots.

    Args:
        method: A method; others with its hyper-parameters are fitted.
        task: The shots.
        seed: Draws their order.

    Returns:
        A point per number of shots.

    Raises:
        UsageError: no class has two shots, or the method is transductive.
    """
    labels, rng = task.support_labels, np.random.default_rng(seed)
    counts = np.bincount(labels, minlength=task.num_classes)
    most = int(counts.max(initial=0))
    if most < 2 or method.meta.transductive:
        why = "transductive methods classify many photos at once" if most > 1 else "no class has two shots"
        raise UsageError(f"--learning-curve: {why}, so no shot can be held out.", "Leave it out.")
    order = np.empty(len(labels), dtype=np.int64)
    for label in task.seen:
        rows = np.flatnonzero(labels == label)
        order[rows] = rng.permutation(len(rows))
    numbers = sorted({2**power for power in range(most.bit_length()) if 2**power < most} | {most - 1})
    points = []
    for shots in progress(numbers, desc="learning curve", unit="point", leave=False, delay=2):
        correct = tested = 0
        for turn in range(most):
            if tested >= ENOUGH:
                break
            place = (order - turn) % np.maximum(counts[labels], 1)
            held = (place >= np.minimum(shots, counts[labels] - 1)) & (counts[labels] > 1)
            fitted = type(method)(seed=method.seed, **method.hyper.as_dict()).fit(task.keep(~held))
            predicted = fitted.logits(shots_as_queries(task, held)).argmax(axis=1)
            correct += int((predicted == labels[held]).sum())
            tested += int(held.sum())
        points.append(Point(shots, correct, tested))
    return points
