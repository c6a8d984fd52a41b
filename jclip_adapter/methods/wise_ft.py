"""WiSE-FT: a linear classifier trained on photos, interpolated with zero-shot."""

from __future__ import annotations

from typing import ClassVar

from .base import Meta
from .cross_modal_wise_ft import CrossModalWiseFt


class WiseFt(CrossModalWiseFt):
    """Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.

    A fine-tuned model is more accurate and the zero-shot model more robust; interpolated weights combine both: W =
    α·W_trained + (1−α)·W_zero-shot, logits = s·W·x. W_trained starts at the zero-shot weights and is trained on photos
    with cross-entropy (optimizer and schedule as in CrossModalLinear).

    On features only the classifier can be interpolated, which is the paper's variant "LC". `full` is the other variant,
    which interpolates every weight. The paper's α = 0.5 is the default.

    The softmax of the loss runs over the classes with shots only; the others keep their zero-shot weights.

    Learnt arrays: `weight_` W_trained (C, d), `text_` W_zero-shot (C, d), `scale_` (), `unseen_` (C,) bool.

    See Also:
        UniModalLinear: α = 1. CrossModalWiseFt: the same after training on photos and texts.

    >>> import numpy as np
    >>> from jclip_adapter.core.task import FewShotTask
    >>> task = FewShotTask(np.eye(2), [0, 1], np.eye(2), ("cat", "dog"))
    >>> WiseFt(iterations=1).fit(task).logits([[1.0, 0.0]]).argmax()
    0
    """

    meta = Meta(
        name="wise-ft",
        summary="classifier trained on photos from the zero-shot weights, averaged with them",
        paper="Wortsman et al., Robust fine-tuning of zero-shot models",
        year=2022,
        arxiv="2109.01903",
        code="mlfoundations/wise-ft",
        trains="a linear layer (C×d)",
        uses=("views",),
    )
    texts: ClassVar[bool] = False
