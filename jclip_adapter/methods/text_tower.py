"""Fine-tuning of the text tower on photo features, interpolated with zero-shot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import EncoderLink, FewShotTask, normalise

from .base import Hyperparameters, Meta, hyper
from .training.through_clip import ThroughClip, drawn_views, link_of


class TextTower(ThroughClip):
    """Wortsman et al., "Robust Fine-tuning of Zero-shot Models", CVPR 2022: fine-tuning, here of the text tower.

    Cross-entropy of s·x·Tᵀ trains the weights of the text transformer, its final norm, its position embeddings and its
    projection. The token embeddings are frozen, because all but a few of their rows get no gradient. Photo features are
    computed once. Then the weights are interpolated as in WiSE-FT: θ ← (1 − α)·θ₀ + α·θ; α = 1 keeps the trained
    weights.

    Every class is represented by its first prompt. Contest entrants trained so with AdamW or SGD at rates of 1e-6 to
    3e-6. The softmax of the loss runs over the classes with shots only. A class without shots uses its text feature
    from the tuned tower.

    Learnt arrays: `encoder_` the tower's weights, `text_` (C, d), `scale_` ().

    See Also:
        Full: both towers. Coop: only vectors before the class names.

    >>> TextTower.meta.needs
    ('support', 'encoder')
    """

    meta = Meta(
        name="text-tower",
        summary="the text tower fine-tuned on the photos' features, and part of the way back",
        paper="Wortsman et al., Robust Fine-tuning of Zero-shot Models",
        year=2022,
        arxiv="2109.01903",
        code="mlfoundations/wise-ft",
        trains="the text transformer",
        needs=("support", "encoder"),
        tunes=("texts",),
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of fine-tuning."""

        epochs: int = hyper(20, "passes over the shots", low=0, high=100_000)
        batch_size: int = hyper(32, "shots per step", low=1, high=1_000_000)
        optimiser: str = hyper("adamw", "the optimizer", choices=("adamw", "sgd"))
        lr: float = hyper(3e-6, "peak learning rate, with cosine decay", low=0, high=10)
        weight_decay: float = hyper(0.01, "weight decay of AdamW, or L2 penalty of SGD", low=0, high=10)
        interpolation: float = hyper(1.0, "share α of the trained weights; the rest is zero-shot", low=0, high=1)
        crop: float = hyper(0.5, "minimum share of a photo's area in a random crop", low=0.01, high=1)
        chunk: int = hyper(
            128, "texts or photos encoded at once: fewer need less memory, more time", low=1, high=1_000_000
        )

    hyper: Hyper

    @staticmethod
    def trains(name: str) -> bool:
        """Whether the weight of this name is trained."""
        return not name.startswith(("visual.", "token_embedding.", "logit_"))

    def _fit(self, task: FewShotTask) -> None:
        from jclip_adapter.models.clip.tokenizer import model_tokens
        from jclip_adapter.runtime import jt

        from .training.loop import Step, resumable, train
        from .training.optimizers import SGD, AdamW, cosine
        from .training.tuning import both_towers, encoded, text_parts, trainable

        link, hyper = link_of(task), self.hyper
        tokens = model_tokens(link.prompts, link.model.config)
        place = np.searchsorted(task.seen, task.support_labels)
        with trainable(link.model, self.trains) as (weights, before):
            params = list(weights.values())
            texts = text_parts(link.model, tokens[task.seen], hyper.chunk)

            def step(batch: tuple[npt.NDArray[np.int64], np.random.Generator]) -> Step:
                photos = self._photos(task, link, *batch)
                return Step(*both_towers(texts, photos, place[batch[0]], task.logit_scale, params))

            batches = resumable(len(place), hyper.batch_size, self.seed, epochs=hyper.epochs)
            self.history_, self.step_losses_ = train(
                step,
                AdamW(params, hyper.lr, weight_decay=hyper.weight_decay)
                if hyper.optimiser == "adamw"
                else SGD(params, hyper.lr, 0.9, hyper.weight_decay),
                batches,
                schedule=lambda number: cosine(number // batches.per_epoch, hyper.lr, hyper.epochs),
                checkpoint=self.checkpoint,
            )
            for key, value in weights.items():
                way = np.asarray(value.numpy(), dtype=np.float32) - before[key]
                self.encoder_[key] = before[key] + np.float32(hyper.interpolation) * way
                value.update(jt.array(self.encoder_[key]))
            self.text_ = normalise(encoded(text_parts(link.model, tokens, hyper.chunk)))
        self.scale_ = np.array(task.logit_scale, dtype=np.float32)

    def _photos(
        self, task: FewShotTask, link: EncoderLink, rows: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> Sequence[Any]:
        """Functions that compute the (n, d) features of the photos of a step."""
        from jclip_adapter.runtime import jt

        features = drawn_views(task.photo_views(), rows, rng)
        return [lambda: jt.array(features)]
