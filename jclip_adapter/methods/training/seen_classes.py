"""Methods that fit only the classes with shots: their base class, and the scores of the other classes."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries
from jclip_adapter.methods.base import Method

from .folds import shots_as_queries

PARTS = 4  # of the classes with shots, each hidden once


def only_seen(task: FewShotTask) -> FewShotTask:
    """The task reduced to the classes with shots; the same task if all have shots.

    >>> task = FewShotTask([[1.0, 0.0]], [1], [[1.0, 0.0], [0.0, 1.0]], ("cat", "dog"))
    >>> only_seen(task).class_names
    ('dog',)
    """
    seen = task.seen
    if len(seen) == task.num_classes:
        return task
    head = task.imagenet_head
    return dataclasses.replace(
        task,
        support_labels=np.searchsorted(seen, task.support_labels),
        text_features=task.text_features[seen],
        text_raw=None if task.text_raw is None else task.text_raw[seen],
        class_names=tuple(task.class_names[number] for number in seen),
        domains=tuple(task.domains[number] for number in seen) if task.domains else (),
        text_views=tuple(task.text_views[number] for number in seen) if task.text_views else (),
        imagenet_head=head and dataclasses.replace(head, ids=tuple(head.ids[number] for number in seen)),
        validation=None,
        extra_features=None,
        extra_labels=None,
        extra_modalities=(),
    )


def with_unseen(scores: npt.NDArray[Any], zero_shot: npt.NDArray[Any], seen: npt.NDArray[np.int64]) -> Array:
    """Add the classes without shots, by zero-shot scores on the same scale.

    Per query, zero-shot scores are shifted and scaled so that their mean and standard deviation over the classes with
    shots become those of `scores`. Otherwise a method that shifts or scales its scores would always or never predict
    the other classes.

    Args:
        scores: (M, S) scores of the classes with shots.
        zero_shot: (M, C) zero-shot scores of all classes.
        seen: (S,) indices of the classes with shots.

    Returns:
        (M, C).

    >>> with_unseen(np.array([[5.0, 9.0]]), np.array([[1.0, 2.0, 3.0]]), np.array([0, 1])).tolist()
    [[5.0, 9.0, 13.0]]
    """
    prior = zero_shot[:, seen]
    spread = prior.std(axis=1, keepdims=True)
    # A single class, or classes with equal texts, have no standard deviation.
    factor = np.where(spread > 1e-4, scores.std(axis=1, keepdims=True) / np.maximum(spread, 1e-4), 1.0)
    result = scores.mean(axis=1, keepdims=True) + factor * (zero_shot - prior.mean(axis=1, keepdims=True))
    result[:, seen] = scores
    return np.asarray(result, dtype=np.float32)


def unseen_offset(
    task: FewShotTask, fit: Callable[[FewShotTask], Callable[[Queries], npt.NDArray[Any]]], seed: int
) -> float:
    """Choose the offset that makes the scores of classes without shots comparable with those of the others.

    Calibrated stacking (Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot Learning", ECCV 2016)
    adds a constant to the scores of one group of classes. They choose it by the area under the curve of both groups'
    accuracies; here it maximises the mean log-likelihood of photos of both groups, which count alike. No other photos
    than the shots are used: a quarter of the classes with shots is hidden in turn, and so is one shot of each of the
    others. The model fitted on the rest has seen neither.

    Adding b changes the log-likelihood of a photo only through its log-odds d of "no class with shots" against "a class
    with shots", so b is the intercept of a logistic regression: Σ w·(u − σ(d + b)) = 0 with u = 1 for photos of hidden
    classes.

    Args:
        task: The task, in which some classes have no shots.
        fit: Fits a task; returns a function from M queries to (M, C) scores of all classes of the task.
        seed: Draws the hidden classes.

    Returns:
        b, in units of the scores; 0 if each class has one shot or only one class has shots.
    """
    from scipy.optimize import brentq
    from scipy.special import expit, logsumexp

    seen, labels = task.seen, task.support_labels
    part = np.full(task.num_classes, -1)
    part[seen] = np.random.default_rng(seed).permutation(len(seen)) % PARTS
    shot = np.array([np.count_nonzero(labels[:row] == label) for row, label in enumerate(labels)])
    alone = np.bincount(labels, minlength=task.num_classes)[labels] == 1
    odds, hidden = [], []
    for number in range(min(PARTS, len(seen))):
        concealed = part[labels] == number
        held = concealed | ((shot % PARTS == number) & ~alone)
        kept = task.keep(~held)
        if len(kept.seen):
            scores = np.asarray(fit(kept)(shots_as_queries(task, held)), dtype=np.float64)
            known = np.isin(np.arange(task.num_classes), kept.seen)
            odds.append(logsumexp(scores[:, ~known], axis=1) - logsumexp(scores[:, known], axis=1))
            hidden.append(concealed[held])
    if not hidden or np.concatenate(hidden).all():
        return 0.0
    log_odds, unseen = np.concatenate(odds), np.concatenate(hidden)

    def surplus(offset: float) -> float:
        probability = expit(log_odds + offset)
        return float(probability[unseen].mean() + probability[~unseen].mean() - 1)

    limit = float(np.abs(log_odds).max()) + 1
    return float(brentq(surplus, -limit, limit))


class SeenClassMethod(Method):
    """A method that fits the classes with shots; the others keep their zero-shot scores, rescaled to its own.

    A classifier trained with a class without photos would learn never to predict it. Here the classes with shots are
    fitted as a task of their own, and `with_unseen` adds the others.

    Learnt arrays: `seen_` (S,) the classes with shots, `text_` (C, d), `scale_` (), and those of the method.
    """

    seen_: npt.NDArray[np.int64]
    text_: Array
    scale_: Array

    def _fit(self, task: FewShotTask) -> None:
        self.seen_ = task.seen
        self.text_ = task.text_features
        self.scale_ = np.array(task.logit_scale, dtype=np.float32)
        self._fit_seen(only_seen(task))

    def _logits(self, queries: Queries) -> Array:
        zero_shot = self.scale_ * (queries.features @ self.text_.T)
        every = len(self.seen_) == len(self.text_)
        scores = self._scores(queries, zero_shot if every else zero_shot[:, self.seen_])
        return np.asarray(scores, dtype=np.float32) if every else with_unseen(scores, zero_shot, self.seen_)

    @abstractmethod
    def _fit_seen(self, task: FewShotTask) -> None:
        """Set the learnt arrays; every class of the task has shots, S in all."""

    @abstractmethod
    def _scores(self, queries: Queries, zero_shot: Array) -> npt.NDArray[Any]:
        """Checked queries and their (M, S) zero-shot scores s·Q·Tᵀ → (M, S)."""
