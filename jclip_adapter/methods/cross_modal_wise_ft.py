"""Cross-modal WiSE-FT: the cross-modal linear probe, interpolated with zero-shot."""

from __future__ import annotations

from dataclasses import dataclass

from jclip_adapter.core.task import Array, Queries

from .base import Meta, hyper
from .cross_modal_linear import CrossModalLinear


class CrossModalWiseFt(CrossModalLinear):
    """Lin et al., 2023 (see CrossModalLinear), after Wortsman et al., "Robust fine-tuning of zero-shot models", 2022.

    The cross-modal linear probe, interpolated with zero-shot: W = α·W_trained + (1−α)·W_zero-shot, logits = s·W·x, with
    normalised zero-shot weights and a sum that is not normalised.

    The authors use α = 0.5 and choose W on a validation set. Here α, of which 0 is zero-shot, is chosen together with
    the other hyper-parameters. Their function changes the trained head in place; here both are kept, so that another α
    needs no training.

    A class without shots is trained on its texts (see CrossModalLinear) and interpolated like the others.

    Learnt arrays: `weight_` W_trained (C, d), `text_` W_zero-shot (C, d), `scale_` (), `unseen_` (C,) bool.

    See Also:
        CrossModalLinear: α = 1. WiseFt: the same after training on photos alone.

    >>> import numpy as np
    >>> from jclip_adapter.core.task import FewShotTask
    >>> task = FewShotTask(np.eye(2), [0, 1], np.eye(2), ("cat", "dog"))
    >>> CrossModalWiseFt(iterations=1).fit(task).logits([[1.0, 0.0]]).argmax()
    0
    """

    meta = Meta(
        name="cross-modal-wise-ft",
        summary="cross-modal linear probe, averaged with the zero-shot weights",
        paper="Lin et al., Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models",
        year=2023,
        arxiv="2301.06267",
        code="linzhiqiu/cross_modal_adaptation",
        trains="a linear layer (C×d)",
        uses=("views", "text_views", "extra"),
    )

    @dataclass(frozen=True)
    class Hyper(CrossModalLinear.Hyper):
        """Hyper-parameters of cross-modal WiSE-FT."""

        iterations: int = hyper(200, "training steps; 0 is zero-shot", low=0, high=1_000_000)
        lr: float = hyper(1e-3, "peak learning rate of AdamW, with cosine decay", low=0, high=10, grid=(3e-4, 1e-3))
        alpha: float = hyper(
            0.5,
            "share α of the trained weights; the rest is zero-shot",
            low=0,
            high=1,
            grid=(0.0, 0.1, 0.3, 0.5, 0.7),
            refit=False,
        )

    hyper: Hyper

    def _logits(self, queries: Queries) -> Array:
        share = self.hyper.alpha
        return self._scores(queries.features, share * self.weight_ + (1 - share) * self.text_)
