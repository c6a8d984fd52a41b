"""Class scores of a task from the predictions of an ImageNet network."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import softmax

_FLOOR = 1e-3  # probability divided among all classes, so that logarithms stay finite


def imagenet_scores(logits: npt.ArrayLike, means: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Log-probabilities of a task's classes from an ImageNet network's logits.

    The probability of a class is proportional to a sum of the network's probabilities of its n ImageNet classes over
    √n. The sum itself (a class is as frequent as its ImageNet classes together) gives a class of all 118 dogs the
    photos of each breed. Their mean (all classes are equally frequent) takes probability from classes of several
    ImageNet classes. The power of n was chosen between the two on training photos (results/imagenet-names.csv). The
    probability of ImageNet classes that no class has is divided evenly among the classes without any.

    Args:
        logits: (M, K) logits of the network.
        means: (K, C) as `ImageNetHead.matrix`.

    Returns:
        (M, C).

    >>> imagenet_scores([[0.0, 0.0]], np.array([[1, 0], [0, 0]])).round(2).tolist()
    [[-0.69, -0.69]]
    """
    every = softmax(logits)
    p = every @ means
    nameless = ~means.any(axis=0)
    p[:, nameless] = every[:, ~means.any(axis=1)].sum(axis=1, keepdims=True) / max(1, nameless.sum())
    p /= np.maximum(p.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return np.asarray(np.log(p * (1 - _FLOOR) + _FLOOR / means.shape[1]))
