"""The classifiers that `auto` adds up, and their weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, class_means, normalise

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
_STEPS = 25  # of L-BFGS
_LEAST_VARIANCE = 1e-12
_LEAST_SPREAD = 0.02  # variance between classes that the prior does not explain, in units of that within classes


class Gaussian(NamedTuple):
    """Classes that are Gaussian with one covariance, in the space where that is the identity.

    Attributes:
        whiten: (d, d) the symmetric inverse square root of the covariance.
        centre: (d,) mean of the class means, whitened.
        means: (C, d) unit directions of the class means from the centre.
    """

    whiten: Array
    centre: Array
    means: Array

    def scores(self, rows: npt.NDArray[Any]) -> Array:
        """(M, C) cosines of (M, d) rows with the class means, seen from the centre."""
        return np.asarray(normalise(rows @ self.whiten - self.centre) @ self.means.T, dtype=np.float32)


def fit_gaussian(
    rows: npt.NDArray[Any],
    labels: Labels,
    classes: int,
    texts: npt.NDArray[Any] | None,
    spread: tuple[Matrix, Matrix],
    *,
    same_space: bool,
) -> Gaussian:
    """Fit class means by empirical Bayes: each between its shots' mean and what its text predicts.

    In the space whitened by Σ^−½ (`covariance`) the mean M_c of K shots varies by 1/K around the class's. Its prior is
    m_c = g·Σ^½(t_c − t̄) plus what a ridge regression on t_c − t̄ predicts of the rest without class c; g is a least
    square, the ridge's λ the mean diagonal of its Gram matrix. What varies between the classes beyond the prior is
    b = mean (M − m)² − 1/K, and the posterior mean is m_c + bK/(1 + bK)·(M_c − m_c); m_c without shots.

    Args:
        rows: (n, d) unit features.
        labels: (n,) class indices.
        classes: C.
        texts: (C, e) unit features of the class texts; None for a prior of zeros.
        spread: Eigenvalues and eigenvectors of Σ.
        same_space: Whether the texts are in the space of `rows`, so that Σ^½(t_c − t̄) means something.

    Returns:
        The fitted classes.
    """
    points = np.asarray(rows, dtype=np.float64)
    count = np.bincount(labels, minlength=classes)
    seen, width = count > 0, points.shape[1]
    sample = class_means(points, labels, classes)
    values, vectors = spread
    whiten, colour = ((vectors * values**power) @ vectors.T for power in (-0.5, 0.5))
    means = sample @ whiten
    centre = means[seen].mean(axis=0)
    means -= centre
    prior = np.zeros((classes, width))
    if texts is not None:
        away = np.asarray(texts, dtype=np.float64) - np.mean(texts, axis=0, dtype=np.float64)
        if same_space:
            prior = away @ colour
            prior *= (prior[seen] * means[seen]).sum() / max(float((prior[seen] ** 2).sum()), 1e-12)
        prior = prior + _left_out_ridge(away, (means - prior)[seen], seen)
    shots = count[seen][:, None]
    between = max(float(((means - prior)[seen] ** 2).mean() - (1 / shots).mean()), _LEAST_SPREAD)
    prior[seen] += between * shots / (1 + between * shots) * (means - prior)[seen]
    return Gaussian(whiten.astype(np.float32), centre.astype(np.float32), normalise(prior))


def covariance(rows: npt.NDArray[Any], labels: Labels) -> tuple[Matrix, Matrix]:
    """The covariance within classes, shrunk: Σ = (1 − ρ)S + ρ·(tr S/d)·I.

    S has n − C degrees of freedom, and ρ = d/(d + n − C). With one shot per class nothing varies within classes; half
    of the variance of all shots stands in for it.

    Args:
        rows: (n, d) unit features.
        labels: (n,) class indices.

    Returns:
        (d,) eigenvalues and (d, d) eigenvectors of Σ.
    """
    points = np.asarray(rows, dtype=np.float64)
    width, degrees = points.shape[1], len(points) - len(np.unique(labels))
    if not degrees:
        return np.full(width, max(float(points.var(axis=0).mean()) / 2, _LEAST_VARIANCE)), np.eye(width)
    residuals = points - class_means(points, labels, int(labels.max()) + 1)[labels]
    sample = residuals.T @ residuals / degrees
    shrinkage = width / (width + degrees)
    values, vectors = np.linalg.eigh((1 - shrinkage) * sample + shrinkage * np.trace(sample) / width * np.eye(width))
    return np.maximum(values, _LEAST_VARIANCE), vectors


def noise_of(values: Matrix, vectors: Matrix, factor: float) -> Array:
    """(d, d) covariance of noise: a multiple of that within classes; 2 is that of the difference of two photos.

    Args:
        values: (d,) eigenvalues of the covariance within classes.
        vectors: (d, d) its eigenvectors.
        factor: The multiple.
    """
    return np.asarray(factor * (vectors * values) @ vectors.T, dtype=np.float32)


def _left_out_ridge(inputs: Matrix, wanted: Matrix, seen: npt.NDArray[np.bool_]) -> Matrix:
    """(C, d) predictions of a ridge regression from (C, e) to (S, d), for a class with shots without itself."""
    known = inputs[seen]
    gram = known @ known.T
    level = max(float(np.trace(gram)) / len(gram), 1e-12)
    inverse = np.linalg.inv(gram + level * np.eye(len(gram)))
    hat = gram @ inverse
    leverage = np.diag(hat)[:, None]
    predicted = inputs @ known.T @ (inverse @ wanted)
    predicted[seen] = (hat @ wanted - leverage * wanted) / np.maximum(1 - leverage, 1e-6)
    return np.asarray(predicted)


def fit_linear(
    rows: Array,
    labels: Labels,
    start: Array,
    noise: Array,
    *,
    strength: float = 0.1,
    weights: Array | None = None,
) -> Array:
    """Logistic regression on noisy rows, held near a given classifier.

    The shots of one class do not show how much its photos vary, but those of all classes together do. So each row
    stands for a normal distribution around it with covariance Σ. The expected cross-entropy is at most
    −log softmax(z)_y with z_j = w_j·x + ½(w_j − w_y)ᵀΣ(w_j − w_y) (Wang et al., "Implicit Semantic Data Augmentation
    for Deep Networks", NeurIPS 2019, proposition 1). Minimises the sum of this over the rows plus λ/2·‖W − W₀‖² by 25
    steps of L-BFGS from W₀.

    Args:
        rows: (n, d) unit features.
        labels: (n,) class indices; the softmax runs over the classes that occur, and the others keep W₀.
        start: (C, d) W₀, a factor included.
        noise: (d, d) Σ.
        strength: λ.
        weights: (n,) factor of each row's loss; None for 1.

    Returns:
        (C, d) W.
    """
    from scipy.optimize import minimize

    order = np.argsort(labels, kind="stable")
    seen, firsts, own = np.unique(labels[order], return_index=True, return_inverse=True)
    points, places = rows[order], np.arange(len(rows))
    share = np.ones(len(rows), np.float32) if weights is None else weights[order]
    anchor = np.ascontiguousarray(start[seen], dtype=np.float32)

    def objective(flat: Matrix) -> tuple[float, Matrix]:
        weight = flat.reshape(anchor.shape).astype(np.float32)
        spread = weight @ noise
        product = spread @ weight.T
        size = np.diag(product)
        scores = points @ weight.T + ((size + size[:, None]) / 2 - product)[own]
        scores -= scores.max(axis=1, keepdims=True)
        chosen = scores[places, own]
        np.exp(scores, out=scores)
        total = scores.sum(axis=1)
        loss = float((share * (np.log(total) - chosen)).sum())
        scores *= (share / total)[:, None]
        mass = np.add.reduceat(scores, firsts)
        scores[places, own] -= share
        away = weight - anchor
        slope = scores.T @ points + strength * away
        slope += (mass.sum(axis=0) + mass.sum(axis=1))[:, None] * spread - (mass + mass.T) @ spread
        return loss + strength / 2 * float((away**2).sum()), slope.ravel().astype(np.float64)

    found = minimize(
        objective, anchor.ravel().astype(np.float64), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}
    )
    result = np.array(start, dtype=np.float32)
    result[seen] = found.x.reshape(anchor.shape)
    return result


def weigh(scores: Array, labels: Labels, usual: Matrix) -> Matrix:
    """Weights of a sum of scores, by the likelihood of held-out labels, shrunk towards equal shares.

    A head alone would have the factor T_h that maximises its likelihood, with a penalty (log T_h − log(H·usual_h))².
    The weights w minimise Σ −log softmax(Σ_h w_h·z_h)_y + Σ_h (log w_h − log(T_h/H))². Few rows leave them as usual.

    Args:
        scores: (H, n, C) scores z of the heads.
        labels: (n,) class indices.
        usual: (H,) weights without any row.

    Returns:
        (H,) weights.
    """
    from scipy.optimize import minimize

    places, count = np.arange(len(labels)), len(scores)

    def likely(logs: Matrix, views: Array, start: Matrix) -> tuple[float, Matrix]:
        weights = np.exp(logs)
        p = np.tensordot(weights.astype(np.float32), views, 1)
        p -= p.max(axis=1, keepdims=True)
        chosen = p[places, labels]
        np.exp(p, out=p)
        total = p.sum(axis=1)
        p /= total[:, None]
        p[places, labels] -= 1
        slopes = weights * np.array([np.vdot(view, p) for view in views], dtype=np.float64)
        away = logs - start
        return float((np.log(total) - chosen).sum() + away @ away), slopes + 2 * away

    def best(views: Array, start: Matrix) -> Matrix:
        return np.asarray(minimize(likely, start, (views, start), jac=True, method="L-BFGS-B").x)

    alone = [best(scores[head : head + 1], np.log(usual[head : head + 1] * count))[0] for head in range(count)]
    return np.exp(best(scores, np.array(alone) - np.log(count)))
