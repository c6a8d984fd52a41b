"""Columns of classes and columns of their shots, in Jittor, without the product with one-hot labels.

With C classes and N shots that product costs C·N multiplications per row, more than all else in a training step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.runtime import jt


class ClassColumns:
    """Takes (B, C) columns to (B, N) and back; each is the other's gradient.

    Args:
        labels: (N,) class indices of the shots.
        classes: C.
    """

    def __init__(self, labels: npt.NDArray[np.int64], classes: int) -> None:
        self.classes = classes
        self._labels = jt.array(labels.astype(np.int32)).stop_grad()

    def of_shots(self, columns: Any) -> Any:
        """(B, C) → (B, N): each shot gets its class's column."""
        shape = [int(columns.shape[0]), int(self._labels.shape[0])]
        return columns.reindex(shape, ["i0", "@e0(i1)"], extras=[self._labels])

    def sums(self, columns: Any) -> Any:
        """(B, N) → (B, C): the sum of the columns of each class's shots."""
        shape = [int(columns.shape[0]), self.classes]
        return columns.reindex_reduce("add", shape, ["i0", "@e0(i1)"], extras=[self._labels])
