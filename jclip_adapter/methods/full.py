"""Full fine-tuning of CLIP, interpolated with zero-shot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import EncoderLink, FewShotTask

from .base import Meta, hyper
from .text_tower import TextTower


class Full(TextTower):
    """Wortsman et al., "Robust Fine-tuning of Zero-shot Models", CVPR 2022: the original WiSE-FT.

    Cross-entropy of s·x·Tᵀ trains every weight of both towers except the logits' scale and bias (and the running
    statistics of a ResNet's batch norms). Photos are cropped and flipped anew at every step. Then the weights are
    interpolated: θ ← (1 − α)·θ₀ + α·θ; α = 1 keeps the trained weights.

    Every class is represented by its first prompt, encoded anew at every step; the authors instead train a linear layer
    that starts at the texts. The softmax of the loss runs over the classes with shots only. A class without shots uses
    its text feature from the tuned tower.

    Learnt arrays: `encoder_` CLIP's weights, `text_` (C, d), `scale_` ().

    See Also:
        TextTower: with the photos' features as they are. ClipLora: low-rank additions only.

    >>> Full.trains("visual.proj"), Full.trains("logit_scale")
    (True, False)
    """

    meta = Meta(
        name="full",
        summary="all of CLIP fine-tuned, and part of the way back (the original WiSE-FT)",
        paper="Wortsman et al., Robust Fine-tuning of Zero-shot Models",
        year=2022,
        arxiv="2109.01903",
        code="mlfoundations/wise-ft",
        trains="both towers",
        needs=("support", "encoder"),
        tunes=("images", "texts"),
    )

    @dataclass(frozen=True)
    class Hyper(TextTower.Hyper):
        """Hyper-parameters of full fine-tuning."""

        chunk: int = hyper(
            64, "texts or photos encoded at once: fewer need less memory, more time", low=1, high=1_000_000
        )

    hyper: Hyper

    @staticmethod
    def trains(name: str) -> bool:
        """Whether the weight of this name is trained."""
        return not name.startswith("logit_") and not name.endswith(("running_mean", "running_var"))

    def _photos(
        self, task: FewShotTask, link: EncoderLink, rows: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> Sequence[Any]:
        from .training.tuning import photo_parts

        return photo_parts(link.model, link.pixels(rows, rng, self.hyper.crop), self.hyper.chunk)
