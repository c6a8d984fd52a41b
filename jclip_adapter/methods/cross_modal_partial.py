"""Cross-modal partial fine-tuning: the image tower's last layers and a linear classifier, on photos and texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries, chunks

from .base import Hyperparameters, Meta, hyper
from .training.through_clip import ThroughClip, link_of


class CrossModalPartial(ThroughClip):
    """Lin et al., "Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models", CVPR 2023.

    Fine-tunes the last block of a ViT with its norm and projection, or the attention pool of a ResNet, together with a
    linear classifier W that starts at the zero-shot weights. The output of the layers before is computed once for every
    photo and its mirror image. Half of each batch are photos, and half are text features, which enter W directly:
    logits = 54.6·W·x with x normalised. The loss is one cross-entropy; the optimizer is AdamW, whose learning rate
    rises linearly for 50 steps and then falls along a cosine.

    The authors take the best of 12,800 iterations with batches of 8 on a validation set, at rates of 1e-5 to 1e-7. Here
    a few hundred steps of larger batches are run, and the last one is kept.

    The row of W of a class without shots is trained on texts only; the softmax of photos leaves the class out.

    Learnt arrays: `encoder_` the weights of the last layers, `weight_` (C, d), `scale_` () = exp 4.

    See Also:
        CrossModalLinear: only the classifier. Full: all of CLIP.

    >>> CrossModalPartial.meta.needs
    ('support', 'encoder')
    """

    meta = Meta(
        name="cross-modal-partial",
        summary="the image tower's last block and a classifier trained on photos and texts alike",
        paper="Lin et al., Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models",
        year=2023,
        arxiv="2301.06267",
        code="linzhiqiu/cross_modal_adaptation",
        trains="the last vision block, or the attention pool, and a linear layer (C×d)",
        needs=("support", "encoder"),
        tunes=("images",),
        uses=("text_views",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of partial fine-tuning."""

        iterations: int = hyper(300, "training steps", low=0, high=1_000_000)
        batch_size: int = hyper(64, "rows per step, half of them texts", low=2, high=1_000_000)
        lr: float = hyper(1e-5, "peak learning rate of AdamW, with cosine decay", low=0, high=10)
        weight_decay: float = hyper(0.01, "weight decay of AdamW", low=0, high=10)
        warmup: int = hyper(50, "length of the linear warm-up in steps", low=0, high=1_000_000)
        chunk: int = hyper(64, "photos encoded at once: fewer need less memory, more time", low=1, high=1_000_000)

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        from jclip_adapter.runtime import jt

        from .training.cross_modal import text_rows, zero_shot_weights
        from .training.loop import Step, resumable, train
        from .training.optimizers import AdamW, warmup_cosine
        from .training.tuning import trainable

        link, hyper = link_of(task), self.hyper
        self.scale_ = np.array(np.exp(4.0), dtype=np.float32)
        views, visual = self._cached(task), link.model.visual
        texts, text_labels = text_rows(task)
        share = hyper.batch_size // 2
        unseen = np.ones(task.num_classes, dtype=np.float32)
        unseen[task.seen] = 0
        weight = jt.array(zero_shot_weights(task))

        with trainable(link.model, visual.in_tail) as (weights, _):
            params = [*weights.values(), weight]

            def step(batch: tuple[npt.NDArray[np.int64], np.random.Generator]) -> Step:
                rows, rng = batch
                photos = visual.tail(jt.array(views[rng.integers(len(views), size=len(rows)), rows]))
                drawn = rng.permutation(len(texts))[:share]
                labels = task.support_labels[rows], text_labels[drawn]
                return Step(self._loss(photos, jt.array(texts[drawn]), weight, labels, unseen))

            self.history_, self.step_losses_ = train(
                step,
                AdamW(params, hyper.lr, weight_decay=hyper.weight_decay),
                resumable(len(task.support_labels), share, self.seed, steps=hyper.iterations),
                schedule=lambda number: warmup_cosine(
                    number, hyper.lr, hyper.iterations, warmup=hyper.warmup, floor=min(1e-5, hyper.lr)
                ),
                checkpoint=self.checkpoint,
            )
            self.encoder_ = {key: np.array(value.numpy(), dtype=np.float32) for key, value in weights.items()}
        self.weight_ = np.asarray(weight.numpy(), dtype=np.float32)

    def _cached(self, task: FewShotTask) -> Array:
        """(2, N, …) input of the image tower's trained layers, for each photo and its mirror image."""
        from jclip_adapter.data.photos.preprocess import normalise_pixels
        from jclip_adapter.runtime import jt

        link = link_of(task)
        kept: list[list[Array]] = [[], []]
        with jt.no_grad():
            for rows in chunks(np.arange(len(task.support_labels)), self.hyper.chunk):
                pixels = link.pixels(rows, None, 1.0)
                for found, view in zip(kept, (pixels, pixels[:, :, ::-1]), strict=True):
                    values = normalise_pixels(view, link.model.config.pixels)
                    found.append(link.model.visual.body(jt.array(values)).numpy())
        return np.stack([np.concatenate(found) for found in kept])

    def _loss(
        self,
        photos: Any,
        texts: Any,
        weight: Any,
        labels: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
        unseen: Array,
    ) -> Any:
        """One cross-entropy over photos, whose softmax leaves out the unseen classes, and texts."""
        from jclip_adapter.models.clip.model import normalise
        from jclip_adapter.runtime import jt

        logits = float(self.scale_) * jt.nn.matmul_transpose(jt.concat([normalise(photos), texts], dim=0), weight)
        out = np.zeros(logits.shape, dtype=np.float32)
        out[: len(labels[0])] = -1e6 * unseen
        target = np.concatenate(labels).astype(np.int32)
        return jt.nn.cross_entropy_loss(logits + jt.array(out), jt.array(target))

    def _logits(self, queries: Queries) -> Array:
        return np.asarray(self.scale_ * (queries.features @ self.weight_.T), dtype=np.float32)
