"""Exact search in the features of parts, and photos that are nearly the same."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array
from jclip_adapter.data.parts import columns, stream

_ROWS = 16_384  # compared at once


class Hit(NamedTuple):
    """A photo that was found.

    Attributes:
        score: Cosine with the query.
        key: The photo's.
        label: Its label; empty for none.
    """

    score: float
    key: str
    label: str


class Pair(NamedTuple):
    """Two photos that are nearly the same, the first one earlier.

    Attributes:
        score: Their cosine.
        first: Key of the earlier one.
        second: Key of the later one.
    """

    score: float
    first: str
    second: str


def feature_of(folder: Path, key: str) -> Array | None:
    """(1, d) the L2-normalised feature of the photo with this key, the first of several; None without one.

    Raises:
        DataError: the folder is not finished, or damaged.
    """
    for part, found in enumerate(columns(folder, ("key", "error"))):
        if key in found["key"]:
            row = found["key"].index(key)
            if not found["error"][row]:
                whole = np.concatenate([rows.normalised() for rows in stream(folder, parts=iter([part]))])
                return np.asarray(whole[row : row + 1])
    return None


def search(folder: Path, queries: Array, top: int) -> list[list[Hit]]:
    """The photos nearest to each query, in one pass over the parts and in memory that their number does not change.

    Args:
        folder: A finished folder of parts.
        queries: (Q, d) L2-normalised, of the same network.
        top: Photos per query.

    Returns:
        Q lists of at most `top` hits, best first; of equal ones the earlier first.
    """
    best: list[list[tuple[float, int, Hit]]] = [[] for _ in queries]
    seen = 0
    for rows in stream(folder, _ROWS):
        scores = rows.normalised() @ queries.T
        scores[~rows.readable] = -np.inf
        for found, column in zip(best, scores.T, strict=True):
            least = found[0][0] if len(found) == top else -np.inf
            for row in _largest(column, top, least):
                hit = Hit(float(column[row]), rows.text("key", row), rows.text("label", row))
                (heapq.heappush if len(found) < top else heapq.heappushpop)(found, (hit.score, -(seen + row), hit))
        seen += len(scores)
    return [[hit for *_, hit in sorted(found, reverse=True)] for found in best]


def _largest(scores: npt.NDArray[np.float32], top: int, least: float) -> list[int]:
    """Indices of the largest `top` scores above `least`, in order of index."""
    some = np.flatnonzero(scores > least)
    if len(some) > top:
        some = some[np.sort(np.argsort(-scores[some], kind="stable")[:top])]
    return some.tolist()


def near_duplicates(folder: Path, threshold: float) -> Iterator[Pair]:
    """Pairs of photos whose features are nearly the same: every block of rows with itself and all before it.

    The time grows with the square of the number of photos: a million take 10¹² cosines.

    Args:
        folder: A finished folder of parts.
        threshold: Least cosine.

    Yields:
        The pairs, by the later photo.
    """
    for number, later in enumerate(stream(folder, _ROWS)):
        features = later.normalised()
        for place, earlier in enumerate(stream(folder, _ROWS)):
            if place > number:
                break
            scores = features @ earlier.normalised().T
            if place == number:
                scores = np.tril(scores, -1)
            for second, first in np.argwhere(scores >= threshold).tolist():
                yield Pair(float(scores[second, first]), earlier.text("key", first), later.text("key", second))
