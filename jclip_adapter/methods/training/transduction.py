"""The algorithm of TransCLIP: the affinity of neighbours and block-coordinate updates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import normalise

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = npt.NDArray[np.float64]
TAU = 50.0  # the authors': divides the likelihood and the neighbours' vote, and multiplies γ
INNER = 5  # the authors' updates of z per iteration
CONFIDENT = 8  # the queries that a prototype starts from


def affinity(rows: Floats, queries: Floats, neighbours: int, *, skip: str, block: int = 1024) -> csr_matrix:
    """Affinity matrix: cosines with the nearest queries.

    Args:
        rows: (R, d) normalised features.
        queries: (M, d) normalised features.
        neighbours: Number of neighbours per row, at most all queries.
        skip: "self" leaves out query i in row i, "nearest" the nearest query, "none" nothing.
        block: Rows computed at once, which bounds the memory.

    Returns:
        (R, M) sparse.
    """
    from scipy.sparse import csr_matrix

    kept = max(0, min(neighbours, len(queries) - (skip != "none")))
    columns, values = [], []
    for first in range(0, len(rows), block):
        cosines = rows[first : first + block] @ queries.T
        ranked = cosines.copy()
        if skip == "self":
            ranked[np.arange(len(ranked)), first + np.arange(len(ranked))] = np.inf
        order = np.argsort(-ranked, axis=1, kind="stable")[:, int(skip != "none") :][:, :kept]
        columns.append(order)
        values.append(np.take_along_axis(cosines, order, axis=1))
    pointers = np.arange(len(rows) + 1) * kept
    entries = (np.concatenate(values).ravel(), np.concatenate(columns).ravel(), pointers)
    return csr_matrix(entries, shape=(len(rows), len(queries)))


def transclip(
    queries: Floats,
    prior: Floats,
    votes: csr_matrix,
    *,
    pull: float,
    iterations: int,
    shots: Floats | None = None,
    labels: npt.NDArray[np.int64] | None = None,
    gamma: float = 0.0,
    start: tuple[Floats, Floats, Floats] | None = None,
) -> tuple[Floats, Floats, Floats]:
    """Block-coordinate updates of assignments, prototypes and variances: the steps (a) to (d) of TransCLIP.

    Args:
        queries: (M, d) normalised features.
        prior: (M, C) class probabilities ŷ.
        votes: (M, M) affinity of the queries; with shots (M+N, M), theirs below.
        pull: λ, the exponent of ŷ.
        iterations: Updates of the prototypes.
        shots: (N, d) normalised features; None for none.
        labels: (N,) their classes.
        gamma: Weight of the shots.
        start: Initial z, prototypes and variances (the authors use those of the previous γ); None for the default.

    Returns:
        ln z (M, C), prototypes (C, d), variances (d,).
    """
    size, classes = prior.shape
    known = np.zeros((0, classes)) if labels is None else np.eye(classes)[labels]
    sums = np.zeros((classes, queries.shape[1])) if shots is None else known.T @ shots
    weight, squares = 0.0, np.zeros(queries.shape[1])
    if shots is not None and len(shots):
        weight, squares = gamma * TAU / len(shots), np.sum(shots**2, axis=0)
    anchor = pull * np.log(np.maximum(prior, np.finfo(np.float64).tiny))
    z, centres, variance = start or (
        prior,
        _centres(queries, prior, sums),
        np.full(queries.shape[1], 1 / queries.shape[1]),
    )
    mutual = (votes[:size].T + votes[:size]) / 6
    from_shots = votes[size:].T @ known / 6
    for iteration in range(iterations + 1):
        # Σ f²/σ² is the same for every class and cancels in z.
        likelihood = (queries / variance) @ centres.T - 0.5 * (centres**2 / variance).sum(axis=1)
        fixed = anchor + likelihood / TAU + from_shots
        for _ in range(INNER):
            log_z = fixed + mutual @ z
            log_z -= log_z.max(axis=1, keepdims=True)
            z = np.exp(log_z)
            total = z.sum(axis=1, keepdims=True)
            z /= total
        if iteration == iterations:
            break
        mass = z.sum(axis=0) / size + weight * known.sum(axis=0)
        moment = z.T @ queries / size + weight * sums
        centres = normalise(moment).astype(np.float64)
        spread = (queries**2).sum(axis=0) / size + weight * squares
        spread = spread - 2 * (moment * centres).sum(axis=0) + mass @ centres**2
        # Avoids a division by zero in a dimension in which all photos are equal.
        variance = np.maximum(spread / mass.sum(), 1e-8)
    return log_z - np.log(total), centres, variance


def _centres(queries: Floats, prior: Floats, sums: Floats) -> Floats:
    """(C, d) initial prototypes: from the shots, or from the most confident queries of classes without shots."""
    confident = np.argsort(-prior, axis=0, kind="stable")[:CONFIDENT]
    weights = np.take_along_axis(prior, confident, axis=0)
    means = np.einsum("kc,kcd->cd", weights, queries[confident])
    seen = np.linalg.norm(sums, axis=1, keepdims=True) > 0
    return np.asarray(normalise(np.where(seen, sums, normalise(means))), dtype=np.float64)
