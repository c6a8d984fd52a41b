"""Zero-shot CLIP: the baseline that every adaptation has to beat."""

from __future__ import annotations

import numpy as np

from jclip_adapter.task import Array, FewShotTask, Queries

from .base import Meta, Method


class ZeroShot(Method):
    """Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021.

    Each class is the mean of its prompts' text features; a photo belongs to the class with the highest cosine:
    logits = s·Q·Tᵀ with the model's logit scale s. No photo is used, so unseen classes are like any other.

    Learnt arrays: `text_` (C, d), `scale_` ().

    See Also:
        LinearProbe: no text, only photos. JclipAdapter: both.

    >>> import numpy as np
    >>> task = FewShotTask(np.zeros((0, 2)), np.zeros(0), np.eye(2), ("cat", "dog"))
    >>> ZeroShot().fit(task).logits([[0.6, 0.8]]).round(3).tolist()
    [[60.0, 80.0]]
    """

    meta = Meta(
        name="zero-shot",
        summary="cosine of the photo to each class's prompts",
        paper="Radford et al., Learning Transferable Visual Models From Natural Language Supervision",
        year=2021,
        arxiv="2103.00020",
        code="openai/CLIP",
        trains="nothing",
        needs=(),
    )

    def _fit(self, task: FewShotTask) -> None:
        self.text_ = task.text_features
        self.scale_ = np.array(task.logit_scale, dtype=np.float32)

    def _logits(self, queries: Queries) -> Array:
        return np.asarray(self.scale_ * (queries.features @ self.text_.T), dtype=np.float32)
