"""Probabilities of a fitted method: its temperature, and how sure it was of photos that it had not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .errors import UsageError
from .task import Array, softmax

Floats = npt.NDArray[np.float64]


def certainty(probabilities: npt.ArrayLike) -> Floats:
    """How sure probabilities are: Σ p·log p, the negative entropy.

    Args:
        probabilities: (M, C).

    Returns:
        (M,) from −log C, where all classes are equal, to 0, where one class has all.

    >>> certainty([[1.0, 0.0], [0.5, 0.5]]).round(4).tolist()
    [0.0, -0.6931]
    """
    from scipy.special import entr

    return np.asarray(-entr(np.asarray(probabilities, dtype=np.float64)).sum(axis=-1) + 0.0)


def _none() -> Array:
    return np.zeros(0, dtype=np.float32)


@dataclass(frozen=True)
class Calibration:
    """What held-out photos say about a method's logits.

    Attributes:
        temperature: The logits are divided by it before the softmax.
        source: What the temperature was fitted on; empty if it was not fitted.
        known: (n,) certainty of held-out photos.
        unknown: (m,) certainty of held-out photos whose own class was left out.
        correct: Held-out photos whose class was predicted.
        tested: Held-out photos that stand for new ones; 0 if none do.
        share: Shots that the method was fitted to when it scored them, as a share of all.

    >>> Calibration(temperature=2.0).probabilities([[2.0, 0.0]]).round(3).tolist()
    [[0.731, 0.269]]
    """

    temperature: float = 1.0
    source: str = ""
    known: Array = field(default_factory=_none)
    unknown: Array = field(default_factory=_none)
    correct: int = 0
    tested: int = 0
    share: float = 1.0

    def probabilities(self, logits: npt.ArrayLike) -> Floats:
        """(M, C) class probabilities of (M, C) logits."""
        return softmax(np.asarray(logits, dtype=np.float64) / self.temperature)

    def is_known(self, logits: npt.ArrayLike, reject: float) -> npt.NDArray[np.bool_]:
        """Whether photos are of one of the classes.

        Args:
            logits: (M, C).
            reject: Share of photos of the classes that may be refused, between 0 and 1.

        Returns:
            (M,) False for a photo of which the method is less sure than `threshold`.

        Raises:
            UsageError: as `threshold`.
        """
        return certainty(self.probabilities(logits)) >= self.threshold(reject)

    def threshold(self, reject: float) -> float:
        """The certainty below which a photo is refused: the k-th smallest of n held-out photos, k = ⌊reject·(n + 1)⌋.

        If a new photo and the held-out ones are exchangeable, it is refused with probability k/(n + 1) ≤ reject: the
        quantile of split conformal prediction (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World",
        2005).

        Raises:
            UsageError: there are too few held-out photos for this share.
        """
        return float(np.sort(self.known)[self._rank(reject) - 1])

    def kept_interval(self, reject: float) -> tuple[float, float]:
        """95 % interval of the share of photos of the classes that are kept, over draws of the n held-out photos.

        The share kept above the k-th smallest of n exchangeable values has the distribution Beta(n + 1 − k, k).

        Raises:
            UsageError: as `threshold`.
        """
        from scipy.special import betaincinv

        rank, count = self._rank(reject), len(self.known)
        low, high = betaincinv(count + 1 - rank, rank, [0.025, 0.975])
        return float(low), float(high)

    def passing(self, reject: float) -> int:
        """Number of `unknown` photos that are not refused.

        Raises:
            UsageError: as `threshold`.
        """
        return int((self.unknown >= self.threshold(reject)).sum())

    def _rank(self, reject: float) -> int:
        count = len(self.known)
        rank = math.floor(reject * (count + 1)) if 0 < reject < 1 else 0
        if not count:
            raise UsageError(
                "unknown photos cannot be told from others: no photos were held out of the training.",
                "Train again, with two or more shots per class and a method that is not transductive.",
            )
        if not 0 < rank <= count:
            least, most = math.ceil(1000 / (count + 1)) / 1000, math.floor(1000 * count / (count + 1)) / 1000
            raise UsageError(
                f"{count} held-out photos allow shares from {least:g} to {most:g}, got {reject:g}.",
                "Give another share, or train with more shots.",
            )
        return rank
