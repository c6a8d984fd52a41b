"""JCLIP-Adapter: a residual bottleneck on the image features, the text features, or both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries, normalise

from .base import Hyperparameters, Meta, Method, hyper
from .training.seen_classes import unseen_offset


class JclipAdapter(Method):
    """The JCLIP-Adapter of the 4th Jittor AI challenge's open-domain few-shot track, 2024.

    CLIP is frozen, and a residual bottleneck adapts image features, text features, or each of them: f* = α·A_v(f) +
    (1−α)·f and T* = β·A_t(T) + (1−β)·T with A(x) = W₂·ReLU(W₁·x + b₁) + b₂. The adapted features are normalised and
    compared as in zero-shot, f*·T*ᵀ/τ, and trained with cross-entropy.

    The slides that describe the method have five errors: they confuse A(f) with A(text) in the formula of f*, apply
    softmax before a cross-entropy that applies it again, sum the loss over texts instead of classes, run the forward
    pass twice per step, and omit the biases. Here the loss is the cross-entropy of the logits; `double_softmax` gives
    the slides' loss and `bias=false` their formula for comparison. The slides state neither the ratios nor the learning
    rate; the defaults were chosen on shots (results/defaults.csv).

    The softmax of the loss runs over the classes with shots only. If some classes have none, the scores are the mean of
    the adapter's and zero-shot's, plus an offset for the classes without shots that `unseen_offset` chooses on the
    shots (results/unseen.md). With prototypes instead of texts there is no such offset and no mean: a class without
    shots then has neither.

    Learnt arrays: `text_` (C, d) classifier rows as used, `scale_` () 1/τ, and for image features `down_` (r, d),
    `down_bias_` (r,), `up_` (d, r), `up_bias_` (d,); d the feature width, r the bottleneck's. If some classes have no
    shots: `prior_` (C, d) all classes' text features, `offset_` (C,) and `seen_` (S,) the classes with shots.

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

        ratio: float = hyper(
            0.4, "residual ratio α of the image adapter; 0 is zero-shot", low=0, high=1, grid=(0.0, 0.1, 0.2, 0.4)
        )
        text_ratio: float = hyper(
            -1.0, "residual ratio β of the text adapter; below 0 for the same as `ratio`", low=-1, high=1
        )
        width: int = hyper(0, "width r of the bottleneck; 0 for a quarter of the feature width", low=0, high=65536)
        adapt: str = hyper("image", "features that get an adapter", choices=("image", "text", "both"))
        epochs: int = hyper(20, "passes over the shots", low=0, high=100_000)
        batch_size: int = hyper(64, "shots per step", low=1, high=1_000_000)
        lr: float = hyper(3e-4, "learning rate of AdamW", low=0, high=10, grid=(1e-4, 3e-4, 1e-3))
        weight_decay: float = hyper(1e-2, "weight decay of AdamW", low=0, high=10)
        temperature: float = hyper(0.0, "temperature τ; 0 for CLIP's own, 0.01", low=0, high=100)
        bias: bool = hyper(True, "whether the layers of the bottleneck have biases b")
        double_softmax: bool = hyper(False, "apply softmax before the cross-entropy, as the original slides do")

    hyper: Hyper

    prior_: Array | None = None
    offset_: Array | None = None
    seen_: npt.NDArray[np.int64] | None = None

    def _fit(self, task: FewShotTask) -> None:
        self.prior_ = self.offset_ = self.seen_ = None
        self._train(task)
        if task.has_text and len(task.seen) < task.num_classes:

            def scorer(part: FewShotTask) -> Callable[[Queries], Array]:
                twin = type(self)(seed=self.seed, **self.hyper.as_dict())
                twin._train(part)
                return lambda queries: twin._with_zero_shot(queries.features, task.text_features)

            self.prior_, self.seen_ = task.text_features, task.seen
            self.offset_ = np.full(task.num_classes, unseen_offset(task, scorer, self.seed), dtype=np.float32)
            self.offset_[task.seen] = 0

    def _train(self, task: FewShotTask) -> None:
        """Set the learnt arrays except `prior_` and `offset_`."""
        from jclip_adapter.runtime import jt

        from .training.layers import unit_rows
        from .training.loop import Step, classification, shuffled, train
        from .training.optimizers import AdamW

        rng = np.random.default_rng(self.seed)
        scale = 1 / self.hyper.temperature if self.hyper.temperature else task.logit_scale
        image = self._draw(rng, task.width) if self.hyper.adapt != "text" else None
        text = self._draw(rng, task.width) if self.hyper.adapt != "image" else None
        every = jt.array(task.text_features).stop_grad()
        rows = jt.array(task.text_features[task.seen]).stop_grad()
        labels = np.searchsorted(task.seen, task.support_labels)
        ratio = self.hyper.ratio
        text_ratio = ratio if self.hyper.text_ratio < 0 else self.hyper.text_ratio

        def adapted(features: Any, weights: list[Any] | None, share: float) -> Any:
            if weights is None:
                return features
            down, down_bias, up, up_bias = weights
            hidden = jt.nn.relu(jt.nn.matmul_transpose(features, down) + down_bias)
            mixed = share * (jt.nn.matmul_transpose(hidden, up) + up_bias) + (1 - share) * features
            return unit_rows(mixed)

        def loss(scores: Any, target: Any) -> Any:
            if self.hyper.double_softmax:
                scores = jt.nn.softmax(scores, dim=1)
            return jt.nn.cross_entropy_loss(scores, target)

        def step(chosen: npt.NDArray[np.int64]) -> Step:
            batch = jt.array(task.support_features[chosen])
            texts = adapted(rows, text, text_ratio)
            logits = scale * jt.nn.matmul_transpose(adapted(batch, image, ratio), texts)
            return classification(logits, labels[chosen], loss)

        trained = [*(image or []), *(text or [])]
        if not self.hyper.bias:
            trained = [weight for weight in trained if len(weight.shape) > 1]
        self.history_, self.step_losses_ = train(
            step,
            AdamW(trained, self.hyper.lr, weight_decay=self.hyper.weight_decay),
            shuffled(len(labels), self.hyper.batch_size, self.hyper.epochs, rng),
        )
        self.scale_ = np.array(scale, dtype=np.float32)
        self.text_ = np.asarray(adapted(every, text, text_ratio).numpy(), dtype=np.float32)
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
        if self.prior_ is None or self.offset_ is None:
            return self._adapted(queries.features)
        return self._with_zero_shot(queries.features, self.prior_) + self.offset_

    def logits_among(self, queries: Queries, classes: npt.NDArray[np.int64]) -> Array:
        """As for every method; classes that all have shots, or none, get the adapter's own scores."""
        scores = self.logits(queries)
        if self.seen_ is not None and len(queries) and len(np.unique(np.isin(classes, self.seen_))) == 1:
            scores = self._adapted(queries.features)
        return scores[:, classes]

    def _adapted(self, features: Array) -> Array:
        """(M, d) queries → (M, C) the adapter's scores."""
        mixed = features
        if self.hyper.adapt != "text":
            hidden = np.maximum(features @ self.down_.T + self.down_bias_, 0)
            ratio = np.float32(self.hyper.ratio)
            mixed = normalise(ratio * (hidden @ self.up_.T + self.up_bias_) + (1 - ratio) * features)
        return np.asarray(self.scale_ * (mixed @ self.text_.T), dtype=np.float32)

    def _with_zero_shot(self, features: Array, texts: Array) -> Array:
        """(M, d) queries → (M, C) the mean of the adapter's scores and zero-shot's."""
        return np.asarray((self._adapted(features) + self.scale_ * (features @ texts.T)) / 2, dtype=np.float32)
