"""APE-T: one trained residual per class on the most discriminative channels, for keys and texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries

from .ape import best_channels, criterion
from .base import Hyperparameters, Meta, hyper
from .tip_adapter import cache_keys, class_sums
from .tip_adapter_f import sorted_views
from .training.seen_classes import SeenClassMethod


class ApeT(SeenClassMethod):
    """Zhu et al., "Not All Features Matter: Enhancing Few-shot CLIP with Adaptive Prior Refinement", ICCV 2023, §3.4.

    One residual per class is trained, which is added to the class's keys and to its text in the channels that APE
    chooses, and one weight per key: logits = s·Q·(T+R)ᵀ + α·exp(−β(1 − Q·(F+R_y)ᵀ))·(Y∘v). The residuals R (C, d) start
    at zero and stay zero outside the chosen channels, R_y is that of each key's class, and the weights v (N,) start at
    1. Unlike APE, features keep their full width, and nothing is normalised again.

    The optimizer is AdamW with ε = 1e-3 and weight decay 0.1, which also applies to v; the learning rate falls along a
    cosine over all steps. The published code does not run: it reads `feat_num`, which no configuration has, and the
    residual's width differs from the number of chosen channels. Here both are the same number. The authors encode newly
    augmented shots in every epoch, keep the epoch with the best validation accuracy, and search α and β afterwards.
    Here each epoch uses the next augmented view, or the shots themselves if there are none; the last epoch is kept. α
    and β for prediction are searched on the shots, and those for training are fixed.

    A class without shots keeps its zero-shot score, rescaled to the scores of the others (`training.seen_classes`).

    Learnt arrays: `residual_` (S, d), `keys_` (N, d) residuals included, sorted by class, `votes_` (N,),
    `key_labels_` (N,) counted among the classes with shots, `seen_` (S,) their indices, `text_` (C, d), `scale_` ().

    See Also:
        Ape: without training. TipAdapterF: trains every key.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [1, 0], [[1.0, 0.0], [1.0, 0.0]], ("cat", "dog"))
    >>> ApeT(epochs=1).fit(task).logits(np.eye(2)).argmax(axis=1).tolist()
    [1, 0]
    """

    meta = Meta(
        name="ape-t",
        summary="a trained residual per class for a cache's keys and the texts, on chosen channels",
        paper="Zhu et al., Not All Features Matter: Enhancing Few-shot CLIP with Adaptive Prior Refinement",
        year=2023,
        arxiv="2304.01195",
        code="yangyangyang127/APE",
        trains="a residual per class on q channels (C×q) and a weight per shot (N)",
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of APE-T."""

        alpha: float = hyper(
            1.0, "weight α of the cache logits", low=0, high=1000, grid=(0.0, 0.5, 1.0, 2.0, 4.0), refit=False
        )
        beta: float = hyper(
            1.0, "sharpness β of the cache affinity", low=0, high=1000, grid=(1.0, 3.0, 5.5), refit=False
        )
        train_alpha: float = hyper(1.0, "α during training", low=0, high=1000)
        train_beta: float = hyper(1.0, "β during training", low=0, high=1000)
        channels: float = hyper(0.7, "share of the channels that get a residual", low=1e-6, high=1)
        similarity: float = hyper(0.7, "weight w of similarity against variance in the channels' choice", low=0, high=1)
        epochs: int = hyper(20, "passes over the shots", low=0, high=100_000)
        batch_size: int = hyper(256, "shots per step", low=1, high=1_000_000)
        lr: float = hyper(1e-3, "peak learning rate of AdamW, with cosine decay", low=0, high=10, grid=(1e-4, 1e-3))
        weight_decay: float = hyper(0.1, "weight decay of AdamW", low=0, high=10)

    hyper: Hyper

    def _fit_seen(self, task: FewShotTask) -> None:
        from jclip_adapter.runtime import jt

        from .training.class_columns import ClassColumns
        from .training.loop import Step, classification, shuffled, train
        from .training.optimizers import AdamW, cosine

        keys, labels = cache_keys(task)
        score = criterion(task.text_features, keys, labels, self.hyper.similarity)
        channels = best_channels(score, self.hyper.channels)
        residual, votes = jt.zeros((task.num_classes, len(channels))), jt.ones(len(keys))
        start, text = (jt.array(part).stop_grad() for part in (keys, task.text_features))
        columns = ClassColumns(labels, task.num_classes)
        views = sorted_views(task)
        alpha, beta = self.hyper.train_alpha, self.hyper.train_beta
        batches = shuffled(len(keys), self.hyper.batch_size, self.hyper.epochs, np.random.default_rng(self.seed))
        optimizer = AdamW([residual, votes], self.hyper.lr, eps=1e-3, weight_decay=self.hyper.weight_decay)

        def step(rows: npt.NDArray[np.int64]) -> Step:
            view = views[optimizer.steps // batches.per_epoch % len(views)][rows]
            batch, part = jt.array(view), jt.array(view[:, channels])
            # Q·(F+R_y)ᵀ = Q·Fᵀ + (Q·Rᵀ)_y: neither the keys nor the texts are built again in every step.
            moved = jt.nn.matmul_transpose(part, residual)
            nearness = jt.nn.matmul_transpose(batch, start) + columns.of_shots(moved)
            cast = jt.exp(beta * (nearness - 1)) * votes
            logits = task.logit_scale * (jt.nn.matmul_transpose(batch, text) + moved) + alpha * columns.sums(cast)
            return classification(logits, labels[rows])

        self.history_, self.step_losses_ = train(
            step, optimizer, batches, schedule=lambda number: cosine(number, self.hyper.lr, batches.steps)
        )
        self.residual_ = np.zeros((task.num_classes, task.width), dtype=np.float32)
        self.residual_[:, channels] = residual.numpy()
        self.keys_, self.key_labels_ = keys + self.residual_[labels], labels
        self.votes_ = np.asarray(votes.numpy(), dtype=np.float32)

    def _scores(self, queries: Queries, zero_shot: Array) -> Array:
        votes = np.exp(np.float32(self.hyper.beta) * (queries.features @ self.keys_.T - 1)) * self.votes_
        moved = zero_shot + self.scale_ * (queries.features @ self.residual_.T)
        return np.asarray(moved + np.float32(self.hyper.alpha) * class_sums(votes, self.key_labels_), dtype=np.float32)
