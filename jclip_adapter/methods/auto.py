"""auto: a stack of a few inspectable classifiers, weighted by the likelihood of held-out shots."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries, check_rows, class_means, normalise, softmax

from .base import Hyperparameters, Meta, Method, hyper
from .training.folds import folds
from .training.imagenet_head import imagenet_scores

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
_STEPS = 25  # of L-BFGS
_LEAST_SPREAD = 0.02  # variance between classes that the prior does not explain, in units of that within classes
USUAL = {"text": 0.305, "centred": 11.6, "gaussian": 6.0, "linear": 0.33, "second": 4.1, "names": 0.5}
"""Weights of the heads' scores where nothing can be held out, and what weights are shrunk towards."""


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

    def scores(self, rows: npt.NDArray[Any]) -> Matrix:
        """(M, C) cosines of (M, d) rows with the class means, seen from the centre."""
        return np.asarray(normalise(rows @ self.whiten - self.centre) @ self.means.T, dtype=np.float64)


def fit_gaussian(
    rows: npt.NDArray[Any], labels: Labels, classes: int, texts: npt.NDArray[Any] | None, *, same_space: bool
) -> Gaussian:
    """Fit class means by empirical Bayes: each between its shots' mean and what its text predicts.

    The covariance within classes S, of n − C degrees of freedom, is shrunk to Σ = (1 − ρ)S + ρ·(tr S/d)·I with
    ρ = d/(d + n − C). In the space whitened by Σ^−½ the mean M_c of K shots varies by 1/K around the class's. Its prior
    is m_c = g·Σ^½(t_c − t̄) plus what a ridge regression on t_c − t̄ predicts of the rest without class c; g is a least
    square, the ridge's λ the mean diagonal of its Gram matrix. What varies between the classes beyond the prior is
    b = mean (M − m)² − 1/K, and the posterior mean is m_c + bK/(1 + bK)·(M_c − m_c); m_c without shots.

    Args:
        rows: (n, d) unit features.
        labels: (n,) class indices.
        classes: C.
        texts: (C, e) unit features of the class texts; None for a prior of zeros.
        same_space: Whether the texts are in the space of `rows`, so that Σ^½(t_c − t̄) means something.

    Returns:
        The fitted classes.
    """
    points = np.asarray(rows, dtype=np.float64)
    count = np.bincount(labels, minlength=classes)
    seen, width = count > 0, points.shape[1]
    sample = class_means(points, labels, classes)
    values, vectors = shrunk_covariance(points, sample, labels)
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
    spread = max(float(((means - prior)[seen] ** 2).mean() - (1 / shots).mean()), _LEAST_SPREAD)
    prior[seen] += spread * shots / (1 + spread * shots) * (means - prior)[seen]
    return Gaussian(whiten.astype(np.float32), centre.astype(np.float32), normalise(prior))


def shrunk_covariance(points: Matrix, means: Matrix, labels: Labels) -> tuple[Matrix, Matrix]:
    """Eigenvalues and eigenvectors of the shrunk covariance within classes (`fit_gaussian`).

    With one shot per class nothing varies within classes; half of the variance of all shots stands in for it.
    """
    width, degrees = points.shape[1], len(points) - len(np.unique(labels))
    if degrees:
        residuals = points - means[labels]
        covariance = residuals.T @ residuals / degrees
        shrinkage = width / (width + degrees)
        level = max(float(np.trace(covariance)) / width, 1e-12)
        values, vectors = np.linalg.eigh((1 - shrinkage) * covariance + shrinkage * level * np.eye(width))
        return np.maximum(values, 1e-12), vectors
    level = max(float(points.var(axis=0).mean()) / 2, 1e-12)
    return np.full(width, level), np.eye(width)


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


def fit_linear(rows: Array, labels: Labels, start: Array, weights: Array | None = None, strength: float = 0.1) -> Array:
    """Logistic regression that is held near a given classifier.

    Minimises Σ w·cross-entropy(W·x) + λ/2·‖W − W₀‖² by 25 steps of L-BFGS from W₀.

    Args:
        rows: (n, d) unit features.
        labels: (n,) class indices; the softmax runs over the classes that occur, and the others keep W₀.
        start: (C, d) W₀, a factor included.
        weights: (n,) w of each row; None for 1.
        strength: λ.

    Returns:
        (C, d) W.
    """
    from scipy.optimize import minimize

    seen = np.unique(labels)
    own, order = np.searchsorted(seen, labels), np.arange(len(labels))
    share = np.ones(len(labels), np.float32) if weights is None else weights
    anchor = np.ascontiguousarray(start[seen], dtype=np.float32)

    def objective(flat: Matrix) -> tuple[float, Matrix]:
        weight = flat.reshape(anchor.shape).astype(np.float32)
        scores = rows @ weight.T
        scores -= scores.max(axis=1, keepdims=True)
        chosen = scores[order, own]
        np.exp(scores, out=scores)
        total = scores.sum(axis=1, keepdims=True)
        loss = float((share * (np.log(total[:, 0]) - chosen)).sum())
        scores *= (share / total[:, 0])[:, None]
        scores[order, own] -= share
        away = weight - anchor
        slope = scores.T @ rows + strength * away
        return loss + strength / 2 * float((away**2).sum()), slope.ravel().astype(np.float64)

    found = minimize(
        objective, anchor.ravel().astype(np.float64), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}
    )
    result = np.array(start, dtype=np.float32)
    result[seen] = found.x.reshape(anchor.shape)
    return result


def weigh(scores: Matrix, labels: Labels, usual: Matrix) -> Matrix:
    """Weights of a sum of scores, by the likelihood of held-out labels, shrunk towards equal shares.

    A head alone would have the factor T_h that maximises its likelihood, with a penalty (log T_h − log(H·usual_h))².
    The weights w minimise Σ −log softmax(Σ_h w_h·z_h)_y + Σ_h (log w_h − log(T_h/H))². Few rows leave them as usual.

    Args:
        scores: (H, n, C) scores z of the heads, each row centred.
        labels: (n,) class indices.
        usual: (H,) weights without any row.

    Returns:
        (H,) weights.
    """
    from scipy.optimize import minimize

    order, count = np.arange(len(labels)), len(scores)

    def likely(logs: Matrix, views: Matrix, start: Matrix) -> tuple[float, Matrix]:
        weights = np.exp(logs)
        total = np.tensordot(weights, views, 1)
        p = softmax(total)
        loss = -np.log(np.maximum(p[order, labels], np.finfo(np.float64).tiny)).sum()
        p[order, labels] -= 1
        slopes = weights * (views * p).sum(axis=(1, 2))
        return float(loss + ((logs - start) ** 2).sum()), slopes + 2 * (logs - start)

    def best(views: Matrix, start: Matrix) -> Matrix:
        return np.asarray(minimize(likely, start, (views, start), jac=True, method="L-BFGS-B").x)

    alone = [best(scores[head : head + 1], np.log(usual[head : head + 1] * count))[0] for head in range(count)]
    return np.exp(best(scores, np.array(alone) - np.log(count)))


class Auto(Method):
    """Of this repository: a stack of a few inspectable classifiers that learns from the shots how far to trust each.

    Which method is best differs from data set to data set. Here each head is a classifier by itself, and the weights of
    their sum are learnt from held-out shots (`weigh`), so that the probabilities are calibrated too:

    - `text`: zero-shot.
    - `centred`: cosines of the photo minus the shots' mean with the texts minus theirs.
    - `gaussian`: empirical-Bayes class means in whitened space, with a prior from the texts (`fit_gaussian`).
    - `linear`: a linear classifier held near zero-shot (`fit_linear`); near the class means without a text encoder.
    - `second`: `gaussian` on a second network's features, if the task has one.
    - `names`: log-probabilities of an ImageNet network's own classes, if some are the task's.

    The shots are held out in at most four folds, and all heads are fitted again in each. With one shot per class
    nothing can be held out; the weights are constants (`USUAL`). A class without shots has the mean that its text
    predicts in `gaussian`, and its text in the others.

    With `refit`, the photos to be classified take part without labels: those whose class has a probability above one
    half are added to the shots with this class and a small weight, and `linear` is fitted again. Classes are not
    balanced, as that loses more where they are not equally frequent than it gains where they are. This is transductive.

    Learnt arrays: `weights_` (H,) of the heads in the order above; `text_` (C, d), `scale_` (); `centre_` (d,),
    `texts_` (C, d); `linear_` (C, d); `gaussian_whiten_` (d, d), `gaussian_centre_` (d,), `gaussian_means_` (C, d);
    of a second network the same with `second_`; `head_` (K, d'), `head_bias_` (K,), `means_` (K, C) of `names`;
    `has_text_` (); with `refit` also `shots_` (n, d) and `labels_` (n,).

    See Also:
        TwoViews: prototypes and a second network. Gda: a Gaussian without a prior from the texts.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [1, 0], [[0.6, 0.8], [0.6, 0.8]], ("cat", "dog"))
    >>> Auto().fit(task).logits(np.eye(2)).argmax(axis=1).tolist()
    [1, 0]
    """

    meta = Meta(
        name="auto",
        summary="a stack of a few classifiers, weighted by the likelihood of held-out shots",
        paper="of this repository",
        year=2026,
        trains="a linear layer (C×d), class means and a weight per classifier",
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of auto."""

        strength: float = hyper(0.1, "λ that holds the linear classifier near the text", low=1e-6, high=1e6)
        refit: bool = hyper(False, "learn from the photos to be classified too, without labels, all at once")
        pseudo: float = hyper(0.25, "with refit: weight of a photo whose class was predicted", low=0, high=1)

    hyper: Hyper
    weights_: Array
    second_centre_: Array
    second_means_: Array

    def __init__(self, /, *, seed: int = 0, **values: Any) -> None:
        super().__init__(seed=seed, **values)
        if self.hyper.refit:
            self.meta = dataclasses.replace(type(self).meta, transductive=True)  # type: ignore[misc]

    @property
    def uses_auxiliary(self) -> bool:
        """True: a second network is used if the task has one."""
        return True

    @property
    def heads(self) -> dict[str, float]:
        """The weights of the heads by name."""
        return dict(zip(self._names(), self.weights_.tolist(), strict=True))

    def _names(self) -> list[str]:
        text, second, named = bool(self.has_text_), len(self.second_means_) > 0, len(self.head_) > 0
        there = {"text": text, "centred": text, "gaussian": True, "linear": True, "second": second, "names": named}
        return [name for name, present in there.items() if present]

    def _fit(self, task: FewShotTask) -> None:
        self._fit_heads(task)
        usual = np.array([USUAL[name] for name in self._names()])
        held = [(self._twin()._fit_heads(part).scores(rest.queries), rest.labels) for part, rest in folds(task)]
        if held:
            scores = np.concatenate([each for each, _ in held], axis=1)
            usual = weigh(scores, np.concatenate([labels for _, labels in held]), usual)
        self.weights_ = usual.astype(np.float32)
        if self.hyper.refit:
            self.shots_, self.labels_ = task.shot_means(), task.support_labels

    def _twin(self) -> Auto:
        return type(self)(seed=self.seed, **{**self.hyper.as_dict(), "refit": False})

    def _fit_heads(self, task: FewShotTask) -> Auto:
        """Set all learnt arrays but the weights."""
        rows, labels, classes = task.shot_means(), task.support_labels, task.num_classes
        texts = task.text_features
        self.has_text_ = np.array(task.has_text)
        self.text_, self.scale_ = texts, np.array(task.logit_scale, dtype=np.float32)
        self.centre_, self.texts_ = rows.mean(axis=0), normalise(texts - texts.mean(axis=0))
        prior = texts if task.has_text else None
        self._keep("gaussian", fit_gaussian(rows, labels, classes, prior, same_space=True))
        self.linear_ = fit_linear(rows, labels, self.scale_ * texts, strength=self.hyper.strength)
        nothing, empty = np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
        second = Gaussian(nothing, empty, nothing)
        if task.auxiliary is not None:
            second = fit_gaussian(normalise(task.auxiliary), labels, classes, prior, same_space=False)
        self._keep("second", second)
        head = task.imagenet_head
        self.head_, self.head_bias_, self.means_ = (
            (head.weight, head.bias, head.matrix) if head is not None else (nothing, empty, nothing)
        )
        return self

    def _keep(self, name: str, fitted: Gaussian) -> None:
        for part, array in fitted._asdict().items():
            setattr(self, f"{name}_{part}_", array)

    def _gaussian(self, name: str) -> Gaussian:
        return Gaussian(*(getattr(self, f"{name}_{part}_") for part in Gaussian._fields))

    def scores(self, queries: Queries) -> Matrix:
        """(H, M, C) scores of each head in the order of `heads`, before their weights; each row is centred."""
        found: Mapping[str, Any] = {
            "text": lambda: self.scale_ * (queries.features @ self.text_.T),
            "centred": lambda: normalise(queries.features - self.centre_) @ self.texts_.T,
            "gaussian": lambda: self._gaussian("gaussian").scores(queries.features),
            "linear": lambda: queries.features @ self.linear_.T,
            "second": lambda: self._gaussian("second").scores(normalise(self._second(queries))),
            "names": lambda: imagenet_scores(self._second(queries) @ self.head_.T + self.head_bias_, self.means_),
        }
        every = np.stack([np.asarray(found[name](), dtype=np.float64) for name in self._names()])
        return np.asarray(every - every.mean(axis=2, keepdims=True))

    def _second(self, queries: Queries) -> Array:
        """(M, d') raw features of the second network, or of the only one if that is an ImageNet network."""
        rows = queries.raw if queries.auxiliary is None else queries.auxiliary
        width = self.head_.shape[1] if len(self.head_) else self.second_centre_.shape[0]
        return check_rows(queries.features if rows is None else rows, "features of the second network", width)

    def _logits(self, queries: Queries) -> Matrix:
        scores = self.scores(queries)
        logits = np.tensordot(self.weights_.astype(np.float64), scores, 1)
        if not self.hyper.refit:
            return np.asarray(logits)
        p = softmax(logits)
        sure = np.flatnonzero(p.max(axis=1) > 0.5)
        rows = np.concatenate([self.shots_, queries.features[sure]])
        labels = np.concatenate([self.labels_, p[sure].argmax(axis=1)])
        share = np.repeat(np.array([1, self.hyper.pseudo], np.float32), [len(self.shots_), len(sure)])
        again = fit_linear(rows, labels, self.scale_ * self.text_, share, self.hyper.strength)
        place = self._names().index("linear")
        fresh = (queries.features @ again.T).astype(np.float64)
        return np.asarray(logits + self.weights_[place] * (fresh - fresh.mean(axis=1, keepdims=True) - scores[place]))
