"""The predictions of the page's photos: the best classes of each, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.calibration import Calibration, certainty
from jclip_adapter.core.task import Array, chunks
from jclip_adapter.evaluation.metrics import top_k_ids

TOP = 5
_ROWS = 4096  # photos whose probabilities are computed at once


@dataclass
class Table:
    """Predictions of N photos; rows without a prediction have NaN as certainty.

    Attributes:
        classes: The classes that `best` counts.
        best: (N, k) class indices, best first.
        probabilities: (N, k) of these classes.
        certainty: (N,) as `core.calibration.certainty`.
        old: (N,) whether the row has to be computed again.
    """

    classes: tuple[str, ...]
    best: npt.NDArray[np.int64]
    probabilities: Array
    certainty: Array
    old: npt.NDArray[np.bool_]

    @classmethod
    def empty(cls, rows: int, classes: tuple[str, ...] = ()) -> Table:
        """A table of rows without predictions."""
        top = min(TOP, len(classes))
        return cls(
            classes,
            np.zeros((rows, top), dtype=np.int64),
            np.zeros((rows, top), dtype=np.float32),
            np.full(rows, np.nan, dtype=np.float32),
            np.ones(rows, dtype=bool),
        )

    def grow(self, rows: int) -> None:
        """Add rows without predictions until there are so many."""
        fresh = Table.empty(max(0, rows - len(self.old)), self.classes)
        for name in ("best", "probabilities", "certainty", "old"):
            setattr(self, name, np.concatenate([getattr(self, name), getattr(fresh, name)]))

    def fill(self, rows: npt.NDArray[np.int64], logits: Array, known: Calibration) -> None:
        """Set the predictions of n rows from their (n, C) logits."""
        for part in chunks(np.arange(len(rows)), _ROWS):
            shares, best = known.probabilities(logits[part]), top_k_ids(logits[part], TOP)
            at = rows[part]
            self.best[at] = best
            self.probabilities[at] = np.take_along_axis(shares, best, axis=1)
            self.certainty[at] = certainty(shares)
            self.old[at] = False

    def has(self, row: int) -> bool:
        """Whether a row has a prediction."""
        return row < len(self.certainty) and not np.isnan(self.certainty[row])

    def name(self, row: int) -> str:
        """The class predicted; empty without a prediction."""
        return self.classes[self.best[row, 0]] if self.has(row) else ""

    def top(self, row: int) -> list[tuple[str, float]]:
        """The best classes with their probabilities; empty without a prediction."""
        if not self.has(row):
            return []
        names = [self.classes[index] for index in self.best[row].tolist()]
        return list(zip(names, self.probabilities[row].tolist(), strict=True))
