"""JCLIP-Adapter: a residual bottleneck on the image features, the text features, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries, normalise

from .base import Hyperparameters, Meta, Method, hyper


class JclipAdapter(Method):
    """The JCLIP-Adapter of the 4th Jittor AI challenge's open-domain few-shot track, 2024.

    CLIP is frozen, and a residual bottleneck adapts image features, text features, or each of them: f* = R·A(f) +
    (1−R)·f with A(f) = W₂·ReLU(W₁·f + b₁) + b₂. The adapted features are normalised and compared as in zero-shot,
    s·f*·T*ᵀ, and trained with cross-entropy.

    The slides that describe the method have five errors: they confuse A(f) with A(text) in the formula of f*, apply
    softmax before a cross-entropy that applies it again, sum the loss over texts instead of classes, run the forward
    pass twice per step, and omit the biases. Here the loss is the cross-entropy of the logits; `double_softmax` gives
    the slides' loss for comparison. The slides state neither the ratio nor the learning rate; the defaults were chosen
    on shots (results/defaults.csv).

    A class without shots keeps its text feature, which with `adapt` "text" or "both" passes through the same bottleneck
    as the others.

    Learnt arrays: `text_` (C, d) classifier rows as used, `scale_` (), and for image features `down_` (r, d),
    `down_bias_` (r,), `up_` (d, r), `up_bias_` (d,); d the feature width, r the bottleneck's.

    See Also:
        ZeroShot: ratio 0.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [0, 1], np.eye(2), ("cat", "dog"))
    >>> JclipAdapter(epochs=1).fit(task).logits([[1.0, 0.0]]).shape
    (1, 2)
    """

    meta = Meta(
        name="jclip-adapter",
        summary="residual bottleneck on frozen features, trained with cross-entropy",
        paper="JCLIP-Adapter, an entry of the 4th Jittor AI challenge (open-domain few-shot classification)",
        year=2024,
        trains="a bottleneck d→r→d on the image features, the text features, or both",
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of JCLIP-Adapter."""

        ratio: float = hyper(0.4, "residual ratio R; 0 is zero-shot", low=0, high=1, grid=(0.0, 0.1, 0.2, 0.4))
        width: int = hyper(0, "width r of the bottleneck; 0 for a quarter of the feature width", low=0, high=65536)
        adapt: str = hyper("image", "features that get an adapter", choices=("image", "text", "both"))
        epochs: int = hyper(20, "passes over the shots", low=0, high=100_000)
        batch_size: int = hyper(64, "shots per step", low=1, high=1_000_000)
        lr: float = hyper(3e-4, "learning rate of AdamW", low=0, high=10, grid=(1e-4, 3e-4, 1e-3))
        weight_decay: float = hyper(1e-2, "weight decay of AdamW", low=0, high=10)
        double_softmax: bool = hyper(False, "apply softmax before the cross-entropy, as the original slides do")

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        from jclip_adapter.runtime import jt

        from .training.layers import unit_rows
        from .training.loop import Step, classification, shuffled, train
        from .training.optimizers import AdamW

        rng = np.random.default_rng(self.seed)
        ratio, scale = self.hyper.ratio, task.logit_scale
        image = self._draw(rng, task.width) if self.hyper.adapt != "text" else None
        text = self._draw(rng, task.width) if self.hyper.adapt != "image" else None
        rows = jt.array(task.text_features).stop_grad()

        def adapted(features: Any, weights: list[Any] | None) -> Any:
            if weights is None:
                return features
            down, down_bias, up, up_bias = weights
            hidden = jt.nn.relu(jt.nn.matmul_transpose(features, down) + down_bias)
            mixed = ratio * (jt.nn.matmul_transpose(hidden, up) + up_bias) + (1 - ratio) * features
            return unit_rows(mixed)

        def loss(scores: Any, target: Any) -> Any:
            if self.hyper.double_softmax:
                scores = jt.nn.softmax(scores, dim=1)
            return jt.nn.cross_entropy_loss(scores, target)

        def step(chosen: npt.NDArray[np.int64]) -> Step:
            batch = jt.array(task.support_features[chosen])
            logits = scale * jt.nn.matmul_transpose(adapted(batch, image), adapted(rows, text))
            return classification(logits, task.support_labels[chosen], loss)

        self.history_, self.step_losses_ = train(
            step,
            AdamW([*(image or []), *(text or [])], self.hyper.lr, weight_decay=self.hyper.weight_decay),
            shuffled(len(task.support_labels), self.hyper.batch_size, self.hyper.epochs, rng),
        )
        self.scale_ = np.array(scale, dtype=np.float32)
        self.text_ = np.asarray(adapted(rows, text).numpy(), dtype=np.float32)
        if image is not None:
            self.down_, self.down_bias_, self.up_, self.up_bias_ = (weight.numpy() for weight in image)

    def _draw(self, rng: np.random.Generator, width: int) -> list[Any]:
        """One bottleneck's weights and biases: (r, d), (r,), (d, r), (d,)."""
        from jclip_adapter.runtime import jt

        from .training.layers import linear_weight

        inner = self.hyper.width or max(1, width // 4)
        down, up = linear_weight(rng, width, inner), linear_weight(rng, inner, width)
        arrays = (down, np.zeros(inner, np.float32), up, np.zeros(width, np.float32))
        return [jt.array(array) for array in arrays]

    def _logits(self, queries: Queries) -> Array:
        features = queries.features
        if self.hyper.adapt != "text":
            hidden = np.maximum(queries.features @ self.down_.T + self.down_bias_, 0)
            ratio = np.float32(self.hyper.ratio)
            features = normalise(ratio * (hidden @ self.up_.T + self.up_bias_) + (1 - ratio) * queries.features)
        return np.asarray(self.scale_ * (features @ self.text_.T), dtype=np.float32)
