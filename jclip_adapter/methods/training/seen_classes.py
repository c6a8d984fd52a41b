"""The base class of methods that fit only the classes with shots, and the scores of the other classes."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries
from jclip_adapter.methods.base import Method


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
