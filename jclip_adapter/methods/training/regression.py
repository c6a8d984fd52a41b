"""Multinomial logistic regression with scikit-learn, also for two classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression


def fit_softmax(
    model: LogisticRegression, c: float, rows: npt.NDArray[Any], labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Minimise C·ΣCE + ½‖W‖² with a free bias.

    Args:
        model: Provides the solver's settings; its C is set here.
        c: C.
        rows: (N, d).
        labels: (N,) of S ≥ 2 classes.

    Returns:
        (S, d) weights and (S,) biases, classes ascending.
    """
    # For two classes scikit-learn fits one row w; the equivalent softmax (−w/2, w/2) has half the penalty ½‖w‖².
    binary = len(np.unique(labels)) == 2
    model.C = c * (2 if binary else 1)
    model.fit(rows, labels)
    weight, bias = model.coef_.copy(), model.intercept_.copy()
    if binary:
        return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias
