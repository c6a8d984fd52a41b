"""AMU-Tuning: a linear classifier on an auxiliary network's features, weighted by CLIP's uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries, check_rows, class_means, normalise, softmax

from .base import Hyperparameters, Meta, hyper
from .training.seen_classes import SeenClassMethod

KINDS = ("moment", "none", "entropy", "energy", "max", "max-min", "var", "top5")
_TINY = 1e-12  # avoids a division by zero where all scores are equal, as with a single class


def uncertainty(zero_shot: npt.NDArray[Any], kind: str, power: float) -> npt.NDArray[np.float64]:
    """The factor κ of the auxiliary network's scores, from the uncertainty of zero-shot's prediction for each query.

    With p the softmax of the scores and ρ the power: "moment" (kurtosis(p)/250)^−ρ, "none" 1, "entropy"
    exp(ρ·H(p)/log C), "max" max(p)^−ρ, "max-min" (max − min)^−ρ, "top5" (first − fifth)^−ρ, "var" the standard
    deviation of p, and "energy" E^−ρ with E = 2·(log Σ exp((p − max)/2) + max). Deviations are unbiased; kurtosis
    is the mean fourth power of the standardised p, not of its logits.

    Args:
        zero_shot: (M, C) logits.
        kind: One of the above.
        power: ρ.

    Returns:
        (M, 1).
    """
    p = softmax(zero_shot)
    classes = p.shape[1]
    top = np.sort(p, axis=1)[:, ::-1]
    deviation = np.sqrt(((p - p.mean(axis=1, keepdims=True)) ** 2).sum(axis=1, keepdims=True) / max(1, classes - 1))
    if kind == "none":
        return np.ones((len(p), 1))
    if kind == "entropy":
        entropy = -(p * np.log(np.maximum(p, _TINY))).sum(axis=1, keepdims=True) / max(np.log(classes), _TINY)
        return np.asarray(np.exp(power * entropy))
    if kind == "var":
        return deviation
    if kind == "moment":
        standard = (p - p.mean(axis=1, keepdims=True)) / np.maximum(deviation, _TINY)
        sureness = (standard**4).mean(axis=1, keepdims=True) / 250
    elif kind == "energy":
        sureness = 2 * (np.log(np.exp((p - top[:, :1]) / 2).sum(axis=1, keepdims=True)) + top[:, :1])
    elif kind == "max":
        sureness = top[:, :1]
    else:
        place = classes - 1 if kind == "max-min" else min(5, classes) - 1
        sureness = top[:, :1] - top[:, place : place + 1]
    # Equal scores carry no information: κ is then 1, as with "none".
    return np.asarray(np.where(sureness > _TINY, np.maximum(sureness, _TINY) ** -power, 1.0))


def standardised(scores: Any) -> Any:
    """Rows of (M, C) minus their mean, divided by their unbiased standard deviation; in numpy and Jittor."""
    centred = scores - scores.mean(1).reshape((-1, 1))
    variance = (centred * centred).sum(1).reshape((-1, 1)) / max(1, scores.shape[1] - 1)
    return centred / (variance + _TINY) ** 0.5


def objective(fused: Any, auxiliary: Any, target: Any, merge: float) -> Any:
    """λ·CE(fused) + (1−λ)·CE(auxiliary) in Jittor: of (B, C) both, (B,) labels and λ."""
    from jclip_adapter.runtime import jt

    cross_entropy = jt.nn.cross_entropy_loss
    return merge * cross_entropy(fused, target) + (1 - merge) * cross_entropy(auxiliary, target)


class AmuTuning(SeenClassMethod):
    """Tang et al., "AMU-Tuning: Effective Logit Bias for CLIP-based Few-shot Learning", CVPR 2024.

    A logit bias from a second, auxiliary network is added to CLIP's logits, weighted by CLIP's uncertainty: logits =
    s·Q·Tᵀ + α·κ(s·Q·Tᵀ)·z. z are the scores A·Wᵀ of the auxiliary network's normalised features A, standardised per
    photo, and κ is computed from the kurtosis of CLIP's probabilities (`uncertainty`). W is initialised with class
    means and trained with λ·CE(logits) + (1−λ)·CE(z).

    The default is the paper's κ. The code's default is κ = 1, and it contains six more. The optimizer is AdamW with ε =
    1e-4, whose learning rate falls along a cosine. The authors train on a self-supervised ResNet-50 with batches of 8
    newly augmented images, and keep the epoch with the best test accuracy. Here batches of 64 cached features are used,
    and the last epoch is kept. α for prediction is searched on the shots; that for training is fixed. The authors
    divide class sums by the mean number of shots; here each sum is divided by the class's own number, which is the same
    if all classes have equally many.

    A class without shots keeps its zero-shot score, rescaled to the scores of the others (`training.seen_classes`).

    Learnt arrays: `weight_` (S, d') of the classes with shots, d' the auxiliary network's width, `seen_` (S,) their
    indices, `text_` (C, d), `scale_` ().

    See Also:
        TipAdapter: a bias from CLIP's own features. Gda: another.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [1, 0], [[0.6, 0.8], [0.6, 0.8]], ("cat", "dog"), auxiliary=np.eye(2))
    >>> AmuTuning(epochs=1).fit(task).logits(Queries(np.eye(2), auxiliary=np.eye(2))).argmax(axis=1).tolist()
    [1, 0]
    """

    meta = Meta(
        name="amu-tuning",
        summary="a second backbone's linear classifier that counts where CLIP is unsure",
        paper="Tang et al., AMU-Tuning: Effective Logit Bias for CLIP-based Few-shot Learning",
        year=2024,
        arxiv="2404.08958",
        code="TJU-sjyj/AMU-Tuning",
        trains="a linear layer on a second backbone's features (C×d')",
        needs=("support", "auxiliary"),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of AMU-Tuning."""

        alpha: float = hyper(
            0.5,
            "weight α of the auxiliary network's logits",
            low=0,
            high=1000,
            grid=(0.0, 0.25, 0.5, 1.0, 2.0, 4.0),
            refit=False,
        )
        train_alpha: float = hyper(0.5, "α during training", low=0, high=1000)
        uncertainty: str = hyper("moment", "measure of CLIP's uncertainty κ", choices=KINDS)
        power: float = hyper(0.4, "exponent ρ of the uncertainty κ", low=0, high=10)
        merge: float = hyper(0.35, "weight λ of the fused logits' loss against the auxiliary logits'", low=0, high=1)
        epochs: int = hyper(50, "passes over the shots", low=0, high=100_000)
        batch_size: int = hyper(64, "shots per step", low=1, high=1_000_000)
        lr: float = hyper(1e-3, "peak learning rate of AdamW, with cosine decay", low=0, high=10)
        weight_decay: float = hyper(0.01, "weight decay of AdamW", low=0, high=10)

    hyper: Hyper

    def _factor(self, zero_shot: npt.NDArray[Any]) -> Array:
        return uncertainty(zero_shot, self.hyper.uncertainty, self.hyper.power).astype(np.float32)

    def _fit_seen(self, task: FewShotTask) -> None:
        from jclip_adapter.runtime import jt

        from .training.loop import Step, classification, shuffled, train
        from .training.optimizers import AdamW, cosine

        rows, labels = normalise(cast("Array", task.auxiliary)), task.support_labels  # `meta.needs` guarantees it
        zero_shot = task.logit_scale * (task.support_features @ task.text_features.T)
        bias = self.hyper.train_alpha * self._factor(zero_shot)
        weight = jt.array(class_means(rows, labels, task.num_classes).astype(np.float32))

        def step(chosen: npt.NDArray[np.int64]) -> Step:
            auxiliary = standardised(jt.nn.matmul_transpose(jt.array(rows[chosen]), weight))
            fused = jt.array(zero_shot[chosen]) + jt.array(bias[chosen]) * auxiliary
            return classification(
                fused, labels[chosen], lambda logits, target: objective(logits, auxiliary, target, self.hyper.merge)
            )

        batches = shuffled(len(labels), self.hyper.batch_size, self.hyper.epochs, np.random.default_rng(self.seed))
        self.history_, self.step_losses_ = train(
            step,
            AdamW([weight], self.hyper.lr, eps=1e-4, weight_decay=self.hyper.weight_decay),
            batches,
            schedule=lambda number: cosine(number, self.hyper.lr, batches.steps),
        )
        self.weight_ = np.asarray(weight.numpy(), dtype=np.float32)

    def _scores(self, queries: Queries, zero_shot: Array) -> Array:
        rows = check_rows(cast("Array", queries.auxiliary), "auxiliary queries", self.weight_.shape[1])
        bias = standardised(normalise(rows) @ self.weight_.T)
        return np.asarray(zero_shot + self.hyper.alpha * self._factor(zero_shot) * bias, dtype=np.float32)
