"""Uni-modal linear probe: the baseline of cross-modal adaptation, trained on photos alone."""

from __future__ import annotations

from typing import ClassVar

from .base import Meta
from .cross_modal_linear import CrossModalLinear


class UniModalLinear(CrossModalLinear):
    """Lin et al., 2023 (see CrossModalLinear): their linear probe without texts.

    The cross-modal linear probe with photos as its only training rows; classifier, optimizer and schedule are the same.
    The paper's row "linear probing" starts at random (`init="random"`). The default starts at the zero-shot weights,
    which is the classifier that WiSE-FT interpolates.

    The softmax of the loss runs over the classes with shots only. The others keep their zero-shot weights or, if the
    classifier started at random, their zero-shot scores rescaled to the classifier's.

    Learnt arrays: `weight_` (C, d), `scale_` (), `text_` (C, d), `unseen_` (C,) bool.

    See Also:
        CrossModalLinear: texts as samples too. WiseFt: interpolated with zero-shot. LinearProbe: the optimum of a
        regularised objective instead of a schedule.

    >>> import numpy as np
    >>> from jclip_adapter.core.task import FewShotTask
    >>> task = FewShotTask(np.eye(2), [0, 1], np.eye(2), ("cat", "dog"))
    >>> UniModalLinear(iterations=1).fit(task).logits([[1.0, 0.0]]).argmax()
    0
    """

    meta = Meta(
        name="uni-modal-linear",
        summary="linear classifier trained on photos alone, from the zero-shot weights or from random ones",
        paper="Lin et al., Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models",
        year=2023,
        arxiv="2301.06267",
        code="linzhiqiu/cross_modal_adaptation",
        trains="a linear layer (C×d)",
        uses=("views",),
    )
    texts: ClassVar[bool] = False
