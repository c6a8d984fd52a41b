"""EM clustering with Dirichlet distributions, for the EM-Dirichlet methods.

scipy is imported inside the functions, because listing the methods must not wait for it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
SMALL = 1e-4  # below it the curvature's formula cancels, and its Taylor series is exact in float64
EPSILON = 1e-15  # the authors': added to probabilities before ln, and the weight below which a cluster is empty


def curvature(alpha: Floats, slope: Floats) -> Floats:
    """Curvature c(α) = |2·(ψ(α+1)·α − lnΓ(α+1))/α²| of the parabola that bounds lnΓ(α+1) in the MM step.

    The authors' float32 formula cancels near 0 (5e4 at α = 1e-6, where the truth is 1.645); here the Taylor series
    ψ′(1) − 4/3·ζ(3)·α + 3/2·ζ(4)·α² replaces it there.

    Args:
        alpha: Parameters ≥ 0, any shape.
        slope: ψ(α+1), which costs most of the time and which the caller needs too.

    Returns:
        The same shape; ψ′(1) = π²/6 at 0.
    """
    from scipy.special import gammaln

    safe = np.maximum(alpha, SMALL)
    direct = np.abs(2 * (slope * safe - gammaln(safe + 1)) / safe**2)
    series = np.pi**2 / 6 - 4 / 3 * 1.2020569031595943 * alpha + 1.5 * np.pi**4 / 90 * alpha**2
    return np.where(alpha < SMALL, series, direct)


def fit_dirichlet(
    means: npt.ArrayLike, start: npt.ArrayLike, steps: int, *, every: int = 50, tolerance: float = 1e-11
) -> Floats:
    """Fit Dirichlet parameters to mean log-probabilities by majorise-minimise steps (Martin et al., 2024).

    Minimises Σ_j lnΓ(α_j) − lnΓ(Σ_j α_j) − Σ_j (α_j − 1)·y_j per row: with a parabola of curvature c above
    lnΓ(α+1) and a tangent below lnΓ(Σα), every α_j has the closed form (−b + √(b² + 4c))/(2c) with
    b = ψ(α_j+1) − ψ(Σα) − c·α_j − y_j.

    Args:
        means: (…, K, D) mean log-probabilities y of K distributions over D outcomes.
        start: (…, K, D) initial parameters > 0.
        steps: Maximum number of steps.
        every: Steps between two tests of convergence, as in the authors' code.
        tolerance: Stop when ‖Δα‖²/‖α‖² over all rows together is smaller.

    Returns:
        (…, K, D) parameters.

    >>> fit_dirichlet([[-1.0, -1.0]], [[5.0, 5.0]], 1000).round(3).tolist()
    [[1.0, 1.0]]
    """
    from scipy.special import digamma

    means = np.asarray(means, dtype=np.float64)
    alpha = np.asarray(start, dtype=np.float64)
    for step in range(steps):
        slope = digamma(alpha + 1)
        bound = curvature(alpha, slope)
        linear = slope - digamma(alpha.sum(axis=-1, keepdims=True)) - bound * alpha - means
        following = (-linear + np.sqrt(linear**2 + 4 * bound)) / (2 * bound)
        if step and step % every == 0 and np.sum((following - alpha) ** 2) < tolerance * np.sum(alpha**2):
            return following
        alpha = following
    return alpha


def log_density(logs: Floats, alpha: Floats) -> Floats:
    """(n, K) log-density of n distributions, given by their (n, D) logarithms, under (K, D) parameters.

    >>> log_density(np.log([[0.5, 0.5]]), np.array([[1.0, 1.0], [2.0, 2.0]])).round(4).tolist()
    [[0.0, 0.4055]]
    """
    from scipy.special import gammaln

    return np.asarray(gammaln(alpha.sum(axis=-1)) - gammaln(alpha).sum(axis=-1) + logs @ (alpha - 1).T)


def em_dirichlet(
    probabilities: npt.ArrayLike,
    support_sum: npt.ArrayLike,
    support_count: npt.ArrayLike,
    *,
    penalty: float,
    iterations: int,
    mm_steps: int,
    hard: bool,
) -> tuple[Floats, Floats, Floats]:
    """Cluster class distributions by EM with one Dirichlet per class and a penalty on the number of clusters.

    Args:
        probabilities: (n, C) class probabilities of the queries.
        support_sum: (C, C) sum of the logarithms of each class's support rows' probabilities; zeros for none.
        support_count: (C,) number of these rows.
        penalty: λ/n, the weight of the logarithm of a cluster's share.
        iterations: EM steps.
        mm_steps: Maximum number of steps of `fit_dirichlet` in each.
        hard: Whether each query is assigned to its best cluster only.

    Returns:
        The assignments u (n, C), the parameters alpha (C, C), and v (C,).
    """
    u = np.asarray(probabilities, dtype=np.float64)
    logs = np.log(u + EPSILON)
    support_sum, support_count = np.asarray(support_sum, np.float64), np.asarray(support_count, np.float64)
    alpha = np.ones((u.shape[1], u.shape[1]))
    v = np.zeros(u.shape[1])
    for _ in range(iterations):
        weight = u.sum(axis=0) + support_count
        nonempty = weight > EPSILON  # an empty cluster keeps its parameters
        means = (u.T @ logs + support_sum)[nonempty] / weight[nonempty, None]
        alpha[nonempty] = fit_dirichlet(means, alpha[nonempty], mm_steps)
        v = np.log(u.mean(axis=0) + EPSILON) + 1
        scores = log_density(logs, alpha) + penalty * v
        if hard:
            u = np.eye(u.shape[1])[scores.argmax(axis=1)]
        else:
            u = np.exp(scores - scores.max(axis=1, keepdims=True))
            u /= u.sum(axis=1, keepdims=True)
    return u, alpha, v


def match_clusters(u: npt.ArrayLike, probabilities: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Assign a class to every nonempty cluster by Hungarian assignment, as the authors do.

    A cluster's prototype is the mean class distribution of its queries; the assignment maximises the sum of the
    probabilities that the prototypes give to their classes.

    Args:
        u: (n, C) assignments; a query belongs to its best cluster.
        probabilities: (n, C) class probabilities.

    Returns:
        (C,) class of each cluster, −1 for empty clusters.

    >>> match_clusters([[0.9, 0.1], [0.8, 0.2]], [[0.1, 0.9], [0.2, 0.8]]).tolist()
    [1, -1]
    """
    from scipy.optimize import linear_sum_assignment

    member, probabilities = np.asarray(u).argmax(axis=1), np.asarray(probabilities, dtype=np.float64)
    # In the order of their first query, as in the authors' code: it decides ties.
    clusters = member[np.sort(np.unique(member, return_index=True)[1])]
    prototypes = np.stack([probabilities[member == cluster].mean(axis=0) for cluster in clusters])
    rows, columns = linear_sum_assignment(prototypes, maximize=True)
    classes = np.full(probabilities.shape[1], -1, dtype=np.int64)
    classes[clusters[rows]] = columns
    return classes
