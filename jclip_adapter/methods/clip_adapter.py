"""CLIP-Adapter: a residual bottleneck on the un-normalised image features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries, normalise

from .base import Hyperparameters, Meta, Method, hyper

if TYPE_CHECKING:
    from .training.loop import Batches, History


class ClipAdapter(Method):
    """Gao et al., "CLIP-Adapter: Better Vision-Language Models with Feature Adapters", IJCV 2024.

    CLIP is frozen, and a residual bottleneck adapts the image feature: x' = R·A(x) + (1−R)·x with A(x) =
    ReLU(W₂·ReLU(W₁·x)) without biases, where x is the image feature before normalisation; then logits = s·x'/‖x'‖·Tᵀ.
    It is trained with cross-entropy.

    The authors' code has no configuration. It runs inside CoOp, whose settings are SGD with momentum 0.9, weight decay
    5e-4, learning rate 2e-3, batch size 32, and 200 epochs with a cosine after one epoch at 1e-5. Here fewer steps with
    larger batches and a higher rate, chosen on shots (results/defaults.csv), take seconds; `lr=2e-3`, `batch_size=32`
    and `epochs=200` are CoOp's settings. The authors fix d = 1024; here d is the task's. The paper's second adapter, on
    the texts, is not in their code and not here (see `jclip-adapter`).

    The softmax of the loss runs over the classes with shots only. Classes without shots keep their text features and
    are scored like the others. Their accuracy stays close to zero-shot's (results/unseen.md), so no offset is added.

    Learnt arrays: `down_` W₁ (r, d), `up_` W₂ (d, r), `text_` (C, d), `scale_` (); r is d/4.

    See Also:
        JclipAdapter: with biases, and on texts too. CrossModalAdapter: the same block before a trained classifier.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(8)[:2], [0, 1], np.eye(8)[:2], ("cat", "dog"))
    >>> ClipAdapter(epochs=1).fit(task).logits(np.eye(8)[:1]).argmax()
    0
    """

    meta = Meta(
        name="clip-adapter",
        summary="residual bottleneck on the un-normalised image features, before zero-shot's cosine",
        paper="Gao et al., CLIP-Adapter: Better Vision-Language Models with Feature Adapters",
        year=2024,
        arxiv="2110.04544",
        code="gaopengcuhk/CLIP-Adapter",
        trains="a bottleneck d→d/4→d without biases",
        uses=("raw",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of CLIP-Adapter."""

        ratio: float = hyper(0.2, "residual ratio R; 0 is zero-shot", low=0, high=1, grid=(0.0, 0.2, 0.5))
        reduction: int = hyper(4, "feature width divided by the bottleneck's width", low=1, high=65536)
        epochs: int = hyper(50, "passes over the shots", low=0, high=100_000)
        batch_size: int = hyper(128, "shots per step", low=1, high=1_000_000)
        lr: float = hyper(2e-2, "peak learning rate of SGD, with cosine decay", low=0, high=10)
        momentum: float = hyper(0.9, "momentum μ of SGD", low=0, high=1)
        weight_decay: float = hyper(5e-4, "L2 penalty of SGD", low=0, high=10)

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        from .training.layers import linear_weight

        rng = np.random.default_rng(self.seed)
        inner = max(1, task.width // self.hyper.reduction)
        self.down_, self.up_ = linear_weight(rng, task.width, inner), linear_weight(rng, inner, task.width)
        self.text_ = task.text_features
        self.scale_ = np.array(task.logit_scale, dtype=np.float32)
        if self.hyper.ratio and self.hyper.epochs:
            self._train(task, rng)

    def _train(self, task: FewShotTask, rng: np.random.Generator) -> None:
        from .training.loop import shuffled
        from .training.optimizers import constant_warmup_cosine

        batches = shuffled(len(task.raw), self.hyper.batch_size, self.hyper.epochs, rng)

        def schedule(step: int) -> float:
            floor = min(1e-5, self.hyper.lr)
            return constant_warmup_cosine(step // batches.per_epoch, self.hyper.lr, self.hyper.epochs, floor=floor)

        self.down_, self.up_, (self.history_, self.step_losses_) = train_adapter(
            (self.down_, self.up_),
            (task.raw, np.searchsorted(task.seen, task.support_labels)),
            task.text_features[task.seen],
            batches,
            hyper=self.hyper,
            scale=task.logit_scale,
            schedule=schedule,
        )

    def _logits(self, queries: Queries) -> Array:
        from .training.layers import bottleneck_numpy

        raw = queries.features if queries.raw is None else queries.raw
        adapted = normalise(bottleneck_numpy(raw, self.down_, self.up_, self.hyper.ratio))
        return np.asarray(self.scale_ * (adapted @ self.text_.T), dtype=np.float32)


def adapter_scores(features: Any, down: Any, up: Any, text: Any, *, ratio: float, scale: float) -> Any:
    """CLIP-Adapter's logits in Jittor (golden: clip_adapter).

    Args:
        features: (B, d) un-normalised image features, a jt.Var as all the arrays.
        down: (r, d) W₁.
        up: (d, r) W₂.
        text: (C, d) L2-normalised text weights.
        ratio: R.
        scale: s.

    Returns:
        (B, C).
    """
    from jclip_adapter.runtime import jt

    from .training.layers import bottleneck, unit_rows

    mixed = unit_rows(bottleneck(features, down, up, ratio))
    return scale * jt.nn.matmul_transpose(mixed, text)


def train_adapter(
    block: tuple[Array, Array],
    rows: tuple[Array, npt.NDArray[np.int64]],
    text: Array,
    batches: Batches,
    *,
    hyper: ClipAdapter.Hyper,
    scale: float,
    schedule: Callable[[int], float] | None = None,
) -> tuple[Array, Array, History]:
    """Train the bottleneck by SGD.

    Args:
        block: Initial W₁ (r, d) and W₂ (d, r).
        rows: (N, d) un-normalised features and (N,) their indices in `text`.
        text: (C, d) L2-normalised text weights.
        batches: Row numbers of each step.
        hyper: Ratio, learning rate, momentum and weight decay.
        scale: s.
        schedule: Learning rate by the step's number; None for a constant one.

    Returns:
        W₁, W₂ and the history.
    """
    from jclip_adapter.runtime import jt

    from .training.loop import Step, classification, train
    from .training.optimizers import SGD

    features, labels = rows
    down, up = (jt.array(array) for array in block)
    classes = jt.array(text).stop_grad()

    def step(chosen: npt.NDArray[np.int64]) -> Step:
        scores = adapter_scores(jt.array(features[chosen]), down, up, classes, ratio=hyper.ratio, scale=scale)
        return classification(scores, labels[chosen])

    optimizer = SGD([down, up], hyper.lr, hyper.momentum, hyper.weight_decay)
    history = train(step, optimizer, batches, schedule=schedule)
    return down.numpy(), up.numpy(), history
