"""Scores of classes that a classifier has never seen a photo of."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.task import Array


def score_unseen(scores: npt.NDArray[Any], zero_shot: npt.NDArray[Any], unseen: npt.NDArray[np.bool_]) -> Array:
    """Give the classes that a head knows nothing about their zero-shot scores, on the head's own scale.

    Zero-shot and trained scores are comparable only after standardising: for each query, a zero-shot score is
    shifted and scaled by what brings the seen classes' mean and standard deviation to the head's.

    Args:
        scores: (M, C) of the head; the unseen classes' columns are not read.
        zero_shot: (M, C) zero-shot scores of the same queries.
        unseen: (C,) which classes they are.

    Returns:
        (M, C) with the unseen columns filled in.
    """
    result = np.array(scores, dtype=np.float32)
    if not unseen.any():
        return result
    if unseen.all():
        return np.asarray(zero_shot, dtype=np.float32)
    known, prior = result[:, ~unseen], zero_shot[:, ~unseen]
    # One seen class has no spread of its own; then only the shift is left.
    spread = known.std(axis=1, keepdims=True) / np.maximum(prior.std(axis=1, keepdims=True), 1e-12)
    factor = spread if known.shape[1] > 1 else np.ones_like(spread)
    shifted = zero_shot[:, unseen] - prior.mean(axis=1, keepdims=True)
    result[:, unseen] = known.mean(axis=1, keepdims=True) + factor * shifted
    return result
