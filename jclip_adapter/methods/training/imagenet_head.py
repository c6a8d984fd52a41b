"""Evidence of a network's own classes, such as ImageNet's, for those of a task."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import softmax

_FLOOR = 1e-3  # what a network that is sure leaves to the classes it does not think of


def imagenet_scores(logits: npt.ArrayLike, means: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Log-probabilities of a task's classes by those of a network that knows some of them by name.

    What means no class of the task is shared evenly by the classes that none of the network's means.

    Args:
        logits: (M, K) of the network.
        means: (K, C) the share of each of the K that means a class.

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
