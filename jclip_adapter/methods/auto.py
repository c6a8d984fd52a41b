"""auto: a stack of a few inspectable classifiers, weighted by the likelihood of held-out shots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import Array, FewShotTask, Queries, check_rows, normalise

from .base import Hyperparameters, Meta, Method, hyper
from .training.folds import folds
from .training.imagenet_head import imagenet_scores
from .training.seen_classes import unseen_offset
from .training.stack import Gaussian, covariance, fit_gaussian, fit_linear, noise_of, weigh

if TYPE_CHECKING:
    from typing import Self

USUAL = {"text": 0.305, "centred": 11.6, "gaussian": 6.0, "linear": 0.33, "second": 4.1, "names": 0.5}
"""Weights of the heads' scores where nothing can be held out, and what weights are shrunk towards."""


class Auto(Method):
    """Of this repository: a stack of a few inspectable classifiers that learns from the shots how far to trust each.

    Which method is best differs from data set to data set. Here each head is a classifier by itself, and the weights of
    their sum are learnt from held-out shots (`stack.weigh`), so that the probabilities are calibrated too:

    - `text`: zero-shot.
    - `centred`: cosines of the photo minus the shots' mean with the texts minus theirs.
    - `gaussian`: empirical-Bayes class means in whitened space, with a prior from the texts (`stack.fit_gaussian`).
    - `linear`: a linear classifier held near zero-shot, or near the class means without a text encoder, trained on
      shots with noise (`stack.fit_linear`): a new photo and a shot of its class differ by twice the covariance within
      classes, so that is the default.
    - `second`: `gaussian` on a second network's features, if the task has one.
    - `names`: log-probabilities of an ImageNet network's own classes, if some are the task's.

    The shots are held out in at most four folds, and all heads are fitted again in each. With one shot per class
    nothing can be held out; the weights are constants (`USUAL`). `text` and `linear` have the network's logit scale,
    so that the constants hold for networks with another one than CLIP's 100.

    A class without shots has the mean that its text predicts in `gaussian`, and its text in the others. A constant that
    is added to its score makes it comparable with the others (`seen_classes.unseen_offset`).

    Learnt arrays: `weights_` (H,) of the heads in the order above; `unseen_` (C,) the constant of classes without
    shots, 0 for the others; `text_` (C, d), `scale_` (); `centre_` (d,), `texts_` (C, d); `linear_` (C, d);
    `gaussian_whiten_` (d, d), `gaussian_centre_` (d,), `gaussian_means_` (C, d); of a second network the same with
    `second_`; `head_` (K, d'), `head_bias_` (K,), `means_` (K, C) of `names`; `has_text_` ().

    See Also:
        AutoTransductive: learns from the photos to be classified too. TwoViews: prototypes and a second network.
        Gda: a Gaussian without a prior from the texts.

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
        noise: float = hyper(
            2.0, "noise on the linear classifier's shots, in covariances within classes", low=0, high=100
        )

    hyper: Hyper
    weights_: Array
    unseen_: Array
    second_centre_: Array
    second_means_: Array

    @property
    def uses_auxiliary(self) -> bool:
        """True: a second network is used if the task has one."""
        return True

    @property
    def uses_raw(self) -> bool:
        """Whether the task's own network names ImageNet's classes."""
        return len(self.head_) > 0 and not len(self.second_centre_)

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
        weights = np.array([USUAL[name] for name in self._names()])
        held = [(self._fit_twin(part).scores(rest.queries), rest.labels) for part, rest in folds(task)]
        if held:
            scores = np.concatenate([each for each, _ in held], axis=1)
            weights = weigh(scores, np.concatenate([labels for _, labels in held]), weights)
        self.weights_ = weights.astype(np.float32)
        self.unseen_ = np.zeros(task.num_classes, dtype=np.float32)
        if task.has_text and len(task.seen) < task.num_classes:
            self.unseen_[:] = unseen_offset(task, self._scored_by_twin, self.seed)
            self.unseen_[task.seen] = 0

    def _fit_twin(self, task: FewShotTask) -> Auto:
        return Auto(strength=self.hyper.strength, noise=self.hyper.noise)._fit_heads(task)

    def _scored_by_twin(self, task: FewShotTask) -> Callable[[Queries], npt.NDArray[Any]]:
        """A function from queries to their (M, C) logits by heads that are fitted to a task, with these weights."""
        heads = self._fit_twin(task)
        return lambda queries: np.tensordot(self.weights_, heads.scores(queries), 1)

    def _fit_heads(self, task: FewShotTask) -> Self:
        """Set all learnt arrays but `weights_` and `unseen_`."""
        rows, labels, classes = task.shot_means(), task.support_labels, task.num_classes
        texts = task.text_features
        self.has_text_ = np.array(task.has_text)
        self.text_, self.scale_ = texts, np.array(task.logit_scale, dtype=np.float32)
        self.centre_, self.texts_ = rows.mean(axis=0), normalise(texts - texts.mean(axis=0))
        prior = texts if task.has_text else None
        spread = covariance(rows, labels)
        self._keep("gaussian", fit_gaussian(rows, labels, classes, prior, spread, same_space=True))
        noise = noise_of(*spread, self.hyper.noise)
        self.linear_ = fit_linear(rows, labels, self.scale_ * texts, noise, strength=self.hyper.strength)
        nothing, empty = np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
        second = Gaussian(nothing, empty, nothing)
        if task.auxiliary is not None:
            other = normalise(task.auxiliary)
            second = fit_gaussian(other, labels, classes, prior, covariance(other, labels), same_space=False)
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

    def scores(self, queries: Queries) -> Array:
        """(H, M, C) scores of each head in the order of `heads`, before their weights; each row has the mean 0."""
        rows = queries.features
        found: Mapping[str, Callable[[], npt.NDArray[Any]]] = {
            "text": lambda: self.scale_ * (rows @ self.text_.T),
            "centred": lambda: normalise(rows - self.centre_) @ self.texts_.T,
            "gaussian": lambda: self._gaussian("gaussian").scores(rows),
            "linear": lambda: rows @ self.linear_.T,
            "second": lambda: self._gaussian("second").scores(normalise(self._second(queries))),
            "names": lambda: imagenet_scores(self._second(queries) @ self.head_.T + self.head_bias_, self.means_),
        }
        every = np.stack([np.asarray(found[name](), dtype=np.float32) for name in self._names()])
        return np.asarray(every - every.mean(axis=2, keepdims=True))

    def _second(self, queries: Queries) -> Array:
        """(M, d') raw features of the second network, or of the only one if that is an ImageNet network.

        Raises:
            DataError: the queries lack them.
        """
        width = self.second_centre_.shape[0] or self.head_.shape[1]
        rows = queries.auxiliary if len(self.second_centre_) else queries.raw
        if rows is None:
            raise DataError(
                f"{self.meta.name} was fitted with features of an ImageNet network and needs the queries' too.",
                "Give --auxiliary as in training.",
            )
        return check_rows(rows, "features of the ImageNet network", width)

    def _logits(self, queries: Queries) -> npt.NDArray[Any]:
        return np.asarray(np.tensordot(self.weights_, self.scores(queries), 1) + self.unseen_)
