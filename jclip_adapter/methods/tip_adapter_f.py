"""Tip-Adapter-F: Tip-Adapter with trained keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries

from .base import Hyperparameters, Meta, hyper
from .tip_adapter import cache_keys, class_sums
from .training.seen_classes import SeenClassMethod

if TYPE_CHECKING:
    from .training.class_columns import ClassColumns


def cache_logits(
    batch: Any, keys: Any, columns: ClassColumns, text: Any, *, alpha: float, beta: float, scale: float
) -> Any:
    """Tip-Adapter's logits in Jittor: s·Q·Tᵀ + α·exp(−β(1 − Q·Fᵀ))·Y.

    Args:
        batch: (B, d) L2-normalised features Q, a jt.Var as F and T.
        keys: (N, d) F.
        columns: Of the keys' labels; multiply by Y.
        text: (C, d) T.
        alpha: α.
        beta: β.
        scale: s.

    Returns:
        (B, C).
    """
    from jclip_adapter.runtime import jt

    votes = jt.exp(beta * (jt.nn.matmul_transpose(batch, keys) - 1))
    return scale * jt.nn.matmul_transpose(batch, text) + alpha * columns.sums(votes)


def sorted_views(task: FewShotTask) -> list[Array]:
    """The augmented views of the shots, or the shots themselves if there are none, sorted like `cache_keys`."""
    order = np.argsort(task.support_labels, kind="stable")
    return [view[order] for view in task.photo_views()]


class TipAdapterF(SeenClassMethod):
    """Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022, §3.2.

    Tip-Adapter whose keys F are the weights of a linear layer: they are initialised with the shots' features and
    trained with cross-entropy on logits = s·Q·Tᵀ + α·exp(−β(1 − Q·Fᵀ))·Y. The values Y are fixed, and the keys are not
    normalised again. The optimizer is AdamW with ε = 1e-4 and PyTorch's default weight decay of 0.01; the learning rate
    falls along a cosine over all steps.

    The authors encode a newly augmented copy of each shot in every epoch, keep the epoch with the best test accuracy,
    and search α and β afterwards. Here each epoch uses the next augmented view, or the shots themselves if there are
    none; the last epoch is kept. α and β for prediction are searched on the shots, and those for training are fixed.
    Without augmented views, a shot meets its own key during training.

    A class without shots keeps its zero-shot score, rescaled to the scores of the others (`training.seen_classes`).

    Learnt arrays: `keys_` (N, d) sorted by class, `key_labels_` (N,) counted among the classes with shots,
    `seen_` (S,) their indices, `text_` (C, d), `scale_` ().

    See Also:
        TipAdapter: without training. ApeT: trains a residual per class instead of every key.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [1, 0], [[1.0, 0.0], [1.0, 0.0]], ("cat", "dog"))
    >>> TipAdapterF(epochs=1).fit(task).logits(np.eye(2)).argmax(axis=1).tolist()
    [1, 0]
    """

    meta = Meta(
        name="tip-adapter-f",
        summary="Tip-Adapter with trained keys",
        paper="Zhang et al., Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification",
        year=2022,
        arxiv="2207.09519",
        code="gaopengcuhk/Tip-Adapter",
        trains="the cache's keys (N×d)",
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of Tip-Adapter-F; the defaults are the authors' for ImageNet."""

        alpha: float = hyper(
            1.17, "weight α of the cache logits", low=0, high=1000, grid=(0.0, 0.5, 1.17, 2.0, 3.0), refit=False
        )
        beta: float = hyper(
            1.0, "sharpness β of the cache affinity", low=0, high=1000, grid=(1.0, 3.0, 5.5), refit=False
        )
        train_alpha: float = hyper(1.17, "α during training", low=0, high=1000)
        train_beta: float = hyper(1.0, "β during training", low=0, high=1000)
        epochs: int = hyper(20, "passes over the shots", low=0, high=100_000)
        batch_size: int = hyper(256, "shots per step", low=1, high=1_000_000)
        lr: float = hyper(1e-3, "peak learning rate of AdamW, with cosine decay", low=0, high=10)
        weight_decay: float = hyper(0.01, "weight decay of AdamW", low=0, high=10)

    hyper: Hyper

    def _fit_seen(self, task: FewShotTask) -> None:
        from jclip_adapter.runtime import jt

        from .training.class_columns import ClassColumns
        from .training.loop import Step, classification, shuffled, train
        from .training.optimizers import AdamW, cosine

        keys, self.key_labels_ = cache_keys(task)
        views = sorted_views(task)
        weight, text = jt.array(keys), jt.array(task.text_features).stop_grad()
        columns = ClassColumns(self.key_labels_, task.num_classes)
        options = {"alpha": self.hyper.train_alpha, "beta": self.hyper.train_beta, "scale": task.logit_scale}
        batches = shuffled(len(keys), self.hyper.batch_size, self.hyper.epochs, np.random.default_rng(self.seed))
        optimizer = AdamW([weight], self.hyper.lr, eps=1e-4, weight_decay=self.hyper.weight_decay)

        def step(rows: npt.NDArray[np.int64]) -> Step:
            view = views[optimizer.steps // batches.per_epoch % len(views)]
            logits = cache_logits(jt.array(view[rows]), weight, columns, text, **options)
            return classification(logits, self.key_labels_[rows])

        self.history_, self.step_losses_ = train(
            step, optimizer, batches, schedule=lambda number: cosine(number, self.hyper.lr, batches.steps)
        )
        self.keys_ = np.asarray(weight.numpy(), dtype=np.float32)

    def _scores(self, queries: Queries, zero_shot: Array) -> Array:
        votes = np.exp(np.float32(self.hyper.beta) * (queries.features @ self.keys_.T - 1))
        return zero_shot + np.float32(self.hyper.alpha) * class_sums(votes, self.key_labels_)
