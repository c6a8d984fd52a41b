"""CLAP: a linear probe with a penalty on its distance from the text, weighted by zero-shot's accuracy per class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries, class_means, normalise, softmax

from .base import Hyperparameters, Meta, hyper
from .training.seen_classes import SeenClassMethod

CONSTRAINTS = ("l2", "corrected", "constant", "balanced", "none")


def multipliers(zero_shot: npt.NDArray[Any], labels: npt.NDArray[np.int64], constraint: str) -> Array:
    """The weight of each class's penalty, from zero-shot's probabilities on the shots.

    Args:
        zero_shot: (N, C) zero-shot logits of the shots.
        labels: (N,) class indices; every class has shots.
        constraint: "l2": α_c, the mean zero-shot probability of c over its shots; "corrected": the same with mean 1;
            "constant": their mean for all; "balanced": 1; "none": 0.

    Returns:
        (C,).
    """
    classes = zero_shot.shape[1]
    right = softmax(zero_shot)[np.arange(len(labels)), labels]
    alpha = class_means(right[:, None], labels, classes)[:, 0]
    values = {
        "l2": alpha,
        "corrected": alpha * (classes / max(float(alpha.sum()), 1e-12)),
        "constant": np.full(classes, alpha.mean()),
        "balanced": np.ones(classes),
        "none": np.zeros(classes),
    }
    return values[constraint].astype(np.float32)


def scores(features: Any, prototypes: Any, scale: float) -> Any:
    """s·cos(f, w) in Jittor: of (B, d) L2-normalised features and (C, d) prototypes of any norm, (B, C)."""
    from jclip_adapter.runtime import jt

    from .training.layers import unit_rows

    return scale * jt.nn.matmul_transpose(features, unit_rows(prototypes))


def penalty(prototypes: Any, base: Any, alpha: Any) -> Any:
    """Mean over classes of α_c·‖w_c − t_c‖² in Jittor: of (C, d), (C, d) and (C,)."""
    return (alpha * ((prototypes - base) * (prototypes - base)).sum(dim=1)).mean()


class Clap(SeenClassMethod):
    """Silva-Rodríguez et al., "A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models", CVPR 2024.

    A linear probe whose class prototypes w are initialised with the text features t and penalised for leaving them: the
    loss is the cross-entropy of s·cos(f, w) plus the mean over classes of α_c·‖w_c − t_c‖², where α_c is the mean
    zero-shot probability of class c over its own shots (`multipliers`). Nothing is searched, which is the paper's
    point, so there is no grid. `constraint="none"` is their ZS-LP, and the other values are their ablations. The
    multipliers are fixed; the adaptive step of the authors' code is disabled in their published command and is not
    implemented.

    w and t are not normalised: t is the mean of the raw features of a class's templates, and distances are measured in
    that space. If the task has no raw text features, the normalised ones are scaled to the norm `text_norm`, which is
    about that of CLIP's.

    The optimizer is SGD with momentum; the learning rate is 1e-5 in the first epoch and then falls along a cosine per
    epoch. The authors train for 300 epochs on 20 augmented views of each shot, a random twentieth of them per epoch.
    Here each epoch uses the next augmented view, or the shots themselves if there are none, and 50 epochs suffice
    because cached features do not change.

    A class without shots keeps its zero-shot score, rescaled to the scores of the others (`training.seen_classes`).

    Learnt arrays: `prototypes_` (S, d) of the classes with shots, `seen_` (S,) their indices, `text_` (C, d),
    `scale_` ().

    See Also:
        LpPlusPlus: learns how much text it wants. LinearProbe: without text.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [1, 0], [[0.6, 0.8], [0.8, 0.6]], ("cat", "dog"))
    >>> Clap(epochs=5).fit(task).logits(np.eye(2)).argmax(axis=1).tolist()
    [1, 0]
    """

    meta = Meta(
        name="clap",
        summary="a linear probe started at the text and held near it, class by class",
        paper="Silva-Rodríguez et al., A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models",
        year=2024,
        arxiv="2312.12730",
        code="jusiro/CLAP",
        trains="a classifier row per class (C×d)",
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of CLAP."""

        constraint: str = hyper("l2", "class weights α of the penalty; none is ZS-LP", choices=CONSTRAINTS)
        epochs: int = hyper(50, "passes over the shots", low=0, high=100_000)
        batch_size: int = hyper(256, "shots per step", low=1, high=1_000_000)
        lr: float = hyper(0.1, "peak learning rate of SGD, with cosine decay", low=0, high=10)
        momentum: float = hyper(0.9, "momentum μ of SGD", low=0, high=1)
        text_norm: float = hyper(
            10.0, "norm given to the text features where the original norms are unknown", low=1e-3, high=1e4
        )

    hyper: Hyper

    def _fit_seen(self, task: FewShotTask) -> None:
        from jclip_adapter.runtime import jt

        from .training.loop import Step, classification, shuffled, train
        from .training.optimizers import SGD, constant_warmup_cosine

        text = task.text_features * np.float32(self.hyper.text_norm) if task.text_raw is None else task.text_raw
        labels = task.support_labels
        zero_shot = task.logit_scale * (task.support_features @ normalise(text).T)
        prototypes, base = jt.array(text), jt.array(text).stop_grad()
        alpha = jt.array(multipliers(zero_shot, labels, self.hyper.constraint)).stop_grad()
        views = task.photo_views()
        batches = shuffled(len(labels), self.hyper.batch_size, self.hyper.epochs, np.random.default_rng(self.seed))
        optimizer = SGD([prototypes], self.hyper.lr, self.hyper.momentum)
        floor = min(1e-5, self.hyper.lr)

        def loss(logits: Any, target: Any) -> Any:
            return jt.nn.cross_entropy_loss(logits, target) + penalty(prototypes, base, alpha)

        def step(rows: npt.NDArray[np.int64]) -> Step:
            view = views[optimizer.steps // batches.per_epoch % len(views)]
            return classification(scores(jt.array(view[rows]), prototypes, task.logit_scale), labels[rows], loss)

        def schedule(number: int) -> float:
            epoch = number // batches.per_epoch
            return constant_warmup_cosine(epoch, self.hyper.lr, self.hyper.epochs, floor=floor)

        self.history_, self.step_losses_ = train(step, optimizer, batches, schedule=schedule)
        self.prototypes_ = np.asarray(prototypes.numpy(), dtype=np.float32)

    def _scores(self, queries: Queries, zero_shot: Array) -> Array:
        return np.asarray(self.scale_ * (queries.features @ normalise(self.prototypes_).T), dtype=np.float32)
