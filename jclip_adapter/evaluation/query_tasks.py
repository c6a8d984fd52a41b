"""Tasks of a few classes among many, on which transductive methods are published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import UsageError

CONCENTRATION = 2.0  # of the drawn class shares, as Veilleux et al. choose it
Rows = npt.NDArray[np.int64]


class Drawn(NamedTuple):
    """One task in three ways, as row numbers of its queries.

    Attributes:
        pooled: Drawn from all photos of the classes together.
        same_size: The first of these, as many as `resampled` has: what fewer queries alone change.
        resampled: With drawn class shares.
    """

    pooled: Rows
    same_size: Rows
    resampled: Rows


@dataclass(frozen=True)
class QueryTasks:
    """Tasks with queries of a few classes; all classes of the data set may be predicted.

    This is the protocol of Martin et al., "Transductive Zero-Shot and Few-Shot CLIP", CVPR 2024: a number of effective
    classes is drawn for each task, then the classes, then queries from all their photos together. The method knows
    neither the classes nor their number. If the classes have fewer photos than queries are wanted, all are taken.

    Classes of equal size then have nearly equal numbers of queries, and a method that balances its predictions gains
    from that. So each task is drawn a second time, with drawn class shares: shares from a symmetric Dirichlet
    distribution, then the class of each query independently from these (Veilleux et al., "Realistic Evaluation of
    Transductive Few-Shot Learning", NeurIPS 2021). Such a task ends where a class has no photo left. As a smaller task
    leaves less to gain, it is compared with as many queries of the first draw.

    Attributes:
        count: Number of tasks.
        queries: Most queries per task.
        fewest: Smallest number of effective classes.
        most: Largest number of effective classes.
    """

    count: int
    queries: int = 75
    fewest: int = 3
    most: int = 10

    def draw(self, labels: npt.NDArray[np.int64], seed: int) -> Iterator[Drawn]:
        """The tasks.

        Args:
            labels: (M,) class indices of all queries.
            seed: Seed of the draws.

        Yields:
            Each task.

        Raises:
            UsageError: there are fewer classes than effective classes.
        """
        known = np.unique(labels)
        if self.most > len(known):
            raise UsageError(
                f"--effective-classes {self}: there are queries of {len(known)} classes.", "Give fewer classes."
            )
        for number in range(self.count):
            rng = np.random.default_rng([seed, number])
            classes = rng.choice(known, rng.integers(self.fewest, self.most + 1), replace=False)
            photos = [rng.permutation(np.flatnonzero(labels == each)) for each in classes]
            shares = rng.dirichlet(np.full(len(classes), CONCENTRATION))
            pooled = rng.permutation(np.concatenate(photos))[: self.queries]
            resampled = self._resampled(photos, shares, rng)
            yield Drawn(pooled, pooled[: len(resampled)], resampled)

    def _resampled(self, photos: list[Rows], shares: npt.NDArray[np.float64], rng: np.random.Generator) -> Rows:
        taken = [0] * len(photos)
        rows = []
        for each in rng.choice(len(photos), self.queries, p=shares):
            if taken[each] == len(photos[each]):
                break
            rows.append(photos[each][taken[each]])
            taken[each] += 1
        return np.array(rows, dtype=np.int64)

    def __str__(self) -> str:
        return str(self.fewest) if self.fewest == self.most else f"{self.fewest}-{self.most}"
