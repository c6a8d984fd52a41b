"""Cross-modal adapter: a bottleneck and a linear classifier, trained on photos and texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jclip_adapter.core.task import Array, FewShotTask, Queries

from .base import Meta, hyper
from .cross_modal_linear import CrossModalLinear


class CrossModalAdapter(CrossModalLinear):
    """Lin et al., 2023 (see CrossModalLinear): cross-modal adaptation of CLIP-Adapter's block.

    CLIP-Adapter's bottleneck in front of the cross-modal linear probe, trained together on the rows of all modalities:
    x' = R·ReLU(W₂·ReLU(W₁·x)) + (1−R)·x for an L2-normalised row x of any modality, not normalised again; logits =
    s·W·x'. The classifier can be interpolated with zero-shot as in WiSE-FT, α·W + (1−α)·W_zero-shot; the bottleneck is
    not interpolated.

    The authors choose the iteration out of 12,800 with batches of 8 on a validation set. Here larger batches are used,
    as in CrossModalLinear (`iterations=12800`, `batch_size=8` are the authors').

    A class without shots is trained on its texts (see CrossModalLinear).

    Learnt arrays: `weight_` W (C, d), `down_` W₁ (r, d), `up_` W₂ (d, r), `text_` W_zero-shot (C, d), `scale_` (),
    `unseen_` (C,) bool; r is d/4.

    See Also:
        ClipAdapter: the bottleneck on raw features before a fixed text classifier.

    >>> import numpy as np
    >>> from jclip_adapter.core.task import FewShotTask
    >>> task = FewShotTask(np.eye(8)[:2], [0, 1], np.eye(8)[:2], ("cat", "dog"))
    >>> CrossModalAdapter(iterations=1).fit(task).logits(np.eye(8)[:1]).argmax()
    0
    """

    meta = Meta(
        name="cross-modal-adapter",
        summary="bottleneck and linear classifier trained on photos, texts and sounds alike",
        paper="Lin et al., Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models",
        year=2023,
        arxiv="2301.06267",
        code="linzhiqiu/cross_modal_adaptation",
        trains="a bottleneck d→d/4→d and a linear layer (C×d)",
        uses=("views", "text_views", "extra"),
    )

    @dataclass(frozen=True)
    class Hyper(CrossModalLinear.Hyper):
        """Hyper-parameters of the cross-modal adapter."""

        weight_decay: float = hyper(0.001, "weight decay of AdamW", low=0, high=10)
        ratio: float = hyper(0.2, "residual ratio R of the bottleneck", low=0, high=1)
        reduction: int = hyper(4, "feature width divided by the bottleneck's width", low=1, high=65536)
        alpha: float = hyper(
            1.0, "share α of the trained classifier; the rest is zero-shot", low=0, high=1, grid=(1.0, 0.5), refit=False
        )

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        from .training.cross_modal import Head
        from .training.layers import linear_weight

        rng = np.random.default_rng(self.seed)
        inner = max(1, task.width // self.hyper.reduction)
        down, up = linear_weight(rng, task.width, inner), linear_weight(rng, inner, task.width)
        if not self.hyper.iterations:
            up = np.zeros_like(up)  # an untrained random block would distort zero-shot
        trained = self._train(task, Head(self._initial(task, rng), down, up, self.hyper.ratio), rng)
        self.weight_ = trained.weight
        self.down_, self.up_ = (block for block in (trained.down, trained.up) if block is not None)

    def _logits(self, queries: Queries) -> Array:
        from .training.layers import bottleneck_numpy

        share = self.hyper.alpha
        features = bottleneck_numpy(queries.features, self.down_, self.up_, self.hyper.ratio)
        return self._scores(features, share * self.weight_ + (1 - share) * self.text_)
