"""ProGrad: CoOp without the gradient component that conflicts with zero-shot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jclip_adapter.core.task import Array, EncoderLink, FewShotTask

from .base import Meta, hyper
from .coop import Coop

if TYPE_CHECKING:
    from .training.prompting import Batch


class Prograd(Coop):
    """Zhu et al., "Prompt-aligned Gradient for Prompt Tuning", ICCV 2023: ProGrad.

    CoOp with zero-shot as a teacher. With the zero-shot probabilities p and the prompts' q, the general direction k is
    the gradient of T²·mean(−p·log q), both at temperature T. If the task's gradient g conflicts with it (g·k < 0, per
    parameter), that component is removed: g − λ·(g·k̂)·k̂. The rest is used in an SGD step.

    As in the authors' code, the embeddings of a template fill the last of the M places, and zero vectors the places
    before them (`init` is the template).

    A class without shots gets the shared vectors before its name.

    Learnt arrays: `vectors_` (M, D) or (C, M, D), `text_` (C, d), `scale_` ().

    See Also:
        Coop: without the teacher.

    >>> Prograd.meta.needs
    ('support', 'encoder')
    """

    meta = Meta(
        name="prograd",
        summary="CoOp whose gradient loses what runs against zero-shot's",
        paper="Zhu et al., Prompt-aligned Gradient for Prompt Tuning",
        year=2023,
        arxiv="2205.14865",
        code="BeierZhu/Prompt-align",
        trains="M prompt vectors (M×D), or M per class",
        needs=("support", "encoder"),
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Coop.Hyper):
        """Hyper-parameters of ProGrad."""

        init: str = hyper("a photo of a", "phrase that initialises the last vectors, after zeros; empty for random")
        strength: float = hyper(1.0, "share λ of the conflicting gradient component that is removed", low=0, high=10)
        temperature: float = hyper(1.0, "temperature T of the teacher's and the prompts' softmax", low=1e-3, high=1000)

    hyper: Hyper

    def _start(self, task: FewShotTask, link: EncoderLink) -> Array:
        words = super()._start(task, link)
        missing = self.hyper.context - words.shape[-2]
        if missing <= 0:
            return words
        zeros = np.zeros((*words.shape[:-2], missing, words.shape[-1]), dtype=np.float32)
        return np.concatenate([zeros, words], axis=-2)

    def _gradients(
        self, parts: Sequence[Callable[[], Any]], batch: Batch, params: Sequence[Any], task: FewShotTask
    ) -> tuple[float, list[Any]]:
        from .training.prompting import gradients, projected

        teacher = task.text_features[task.seen]
        value, wanted = gradients(parts, batch.cross_entropy, params)
        _, general = gradients(parts, lambda texts: batch.agreement(texts, teacher, self.hyper.temperature), params)
        return value, [projected(g, k, self.hyper.strength) for g, k in zip(wanted, general, strict=True)]
