"""Class scores of a task from the predictions of an ImageNet network."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import softmax

_FLOOR = 1e-3  # probability divided among all classes, so that logarithms stay finite


def imagenet_scores(logits: npt.ArrayLike, means: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Log-probabilities of a task's classes from an ImageNet network's logits.

    The probability of ImageNet classes that correspond to no class of the task is divided evenly among the classes that
    have no ImageNet class.

    Args:
        logits: (M, K) logits of the network.
        means: (K, C) as `ImageNetHead.matrix`.

    Returns:
        (M, C).

    >>> imagenet_scores([[0.0, 0.0]], np.array([[1, 0], [0, 0]])).round(2).tolist()
    [[-0.69, -0.69]]
    """
    p = softmax(logits) @ means
    unnamed = ~means.any(axis=0)
    if unnamed.any():
        p[:, unnamed] = np.maximum(0, 1 - p.sum(axis=1, keepdims=True)) / unnamed.sum()
    return np.asarray(np.log(np.maximum(p, 0) * (1 - _FLOOR) + _FLOOR / means.shape[1]))
