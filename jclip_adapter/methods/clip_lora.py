"""CLIP-LoRA: low-rank adaptation of the attention in both towers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import FewShotTask, Weights, normalise

from .base import Hyperparameters, Meta, hyper
from .training.through_clip import ThroughClip, link_of


class ClipLora(ThroughClip):
    """Zanella and Ben Ayed, "Low-Rank Few-Shot Adaptation of Vision-Language Models", CVPR Workshops 2024: CLIP-LoRA.

    The queries, keys and values of every attention block of both towers get a low-rank term: x·Aᵀ·Bᵀ·α/√r is added to
    x·Wᵀ. A is random and B is zero at first, so training starts at zero-shot. The loss is the cross-entropy of s·x·Tᵀ
    over cropped and flipped photos and every class's first prompt, with dropout on the input of the low-rank term. The
    optimizer is AdamW, whose learning rate falls to 1e-6 along a cosine; the number of steps is proportional to the
    shots per class. For prediction the low-rank terms are merged into W.

    The authors' schedule is `steps_per_shot=500`; the default here is less. They use ViTs only; a ResNet CLIP has such
    blocks in the text tower only. The softmax of the loss runs over the classes with shots only. A class without shots
    uses its text feature from the tuned tower.

    Learnt arrays: `encoder_` the matrices A (r, w) and B (w, r), `text_` (C, d), `scale_` ().

    See Also:
        Full: all weights. CrossModalPartial: the last block of the image tower.

    >>> ClipLora.meta.needs
    ('support', 'encoder')
    """

    meta = Meta(
        name="clip-lora",
        summary="low-rank additions to queries, keys and values of both towers, merged for scoring",
        paper="Zanella and Ben Ayed, Low-Rank Few-Shot Adaptation of Vision-Language Models",
        year=2024,
        arxiv="2405.18541",
        code="MaxZanella/CLIP-LoRA",
        trains="two r×w matrices per projection",
        needs=("support", "encoder"),
        tunes=("images", "texts"),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of CLIP-LoRA."""

        rank: int = hyper(2, "rank r of the LoRA matrices", low=1, high=1024)
        alpha: float = hyper(1.0, "scaling α; the LoRA term is multiplied by α/√r", low=0, high=1000)
        dropout: float = hyper(0.25, "dropout rate of the LoRA term's input during training", low=0, high=0.99)
        steps_per_shot: int = hyper(100, "training steps per shot and class", low=0, high=1_000_000)
        batch_size: int = hyper(32, "photos per step", low=1, high=1_000_000)
        lr: float = hyper(2e-4, "peak learning rate of AdamW, with cosine decay", low=0, high=10)
        weight_decay: float = hyper(0.01, "weight decay of AdamW", low=0, high=10)
        crop: float = hyper(0.08, "minimum share of a photo's area in a random crop", low=0.01, high=1)
        chunk: int = hyper(
            64, "texts or photos encoded at once: fewer need less memory, more time", low=1, high=1_000_000
        )

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        from jclip_adapter.models.clip.tokenizer import model_tokens
        from jclip_adapter.runtime import jt

        from .training import lora
        from .training.loop import Step, resumable, train
        from .training.optimizers import AdamW, cosine
        from .training.tuning import both_towers, encoded, photo_parts, text_parts

        link, hyper = link_of(task), self.hyper
        model, floor = link.model, min(1e-6, hyper.lr)
        start = lora.draw(model, hyper.rank, np.random.default_rng([self.seed, 1]))
        arrays = {key: jt.array(value) for key, value in start.items()}
        tokens = model_tokens(link.prompts, model.config)
        place = np.searchsorted(task.seen, task.support_labels)
        steps = round(hyper.steps_per_shot * len(place) / len(task.seen))

        def adding(part: Callable[[], Any], seed: int) -> Any:
            """A chunk's features with the low-rank terms; its dropout mask is the same whenever it is computed."""
            with lora.added(model, arrays, hyper.alpha, lora.Dropout(hyper.dropout, seed)):
                return part()

        def step(batch: tuple[npt.NDArray[np.int64], np.random.Generator]) -> Step:
            rows, rng = batch
            pixels = link.pixels(rows, rng, hyper.crop)
            texts, photos = (
                [functools.partial(adding, part, int(rng.integers(2**31))) for part in parts]
                for parts in (
                    text_parts(model, tokens[task.seen], hyper.chunk),
                    photo_parts(model, pixels, hyper.chunk),
                )
            )
            return Step(*both_towers(texts, photos, place[rows], task.logit_scale, list(arrays.values())))

        self.history_, self.step_losses_ = train(
            step,
            AdamW(list(arrays.values()), hyper.lr, weight_decay=hyper.weight_decay),
            resumable(len(place), hyper.batch_size, self.seed, steps=steps),
            schedule=lambda number: floor + cosine(number, hyper.lr - floor, steps),
            checkpoint=self.checkpoint,
        )
        self.encoder_ = {key: np.asarray(value.numpy(), dtype=np.float32) for key, value in arrays.items()}
        with lora.added(model, arrays, hyper.alpha):
            self.text_ = normalise(encoded(text_parts(model, tokens, hyper.chunk)))
        self.scale_ = np.array(task.logit_scale, dtype=np.float32)

    def encoder_weights(self, base: Weights) -> Weights:
        """CLIP's attention weights with the low-rank terms merged into them."""
        from .training.lora import merged

        return merged(base, self.encoder_, self.hyper.alpha)
