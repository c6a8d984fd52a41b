"""Cross-modal fine-tuning: a part of CLIP and a linear classifier, trained on photos and texts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, EncoderLink, FewShotTask, Queries, chunks, normalise

from .base import Hyperparameters, Meta, hyper
from .training.through_clip import ThroughClip, link_of

if TYPE_CHECKING:
    from .training.tuning import Part

Indices = npt.NDArray[np.int64]
# Of a batch's support rows, the view of each (1 for the mirror image) and its text rows: functions that compute the
# trained rows, and the (n, d) fixed rows. Then the labels of all texts.
Source = tuple[Callable[[Indices, Indices, Indices], tuple[Sequence["Part"], Array]], Indices]


class CrossModalPartial(ThroughClip):
    """Lin et al., "Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models", CVPR 2023.

    Fine-tunes a part of CLIP together with a linear classifier W that starts at the zero-shot weights. Half of each
    batch are photos or their mirror images, and half are texts; with rows of further modalities all have equal shares.
    All enter one classifier: logits = 54.6·W·x with x normalised. The loss is one cross-entropy; the optimizer is
    AdamW, whose learning rate rises linearly for 50 steps and then falls along a cosine. `encoder` says which part is
    trained:

    - "last-block", the paper's partial fine-tuning: the last block of a ViT with its norm and projection, or the
      attention pool of a ResNet. The output of the layers before is computed once.
    - "image": the whole image tower.
    - "text": the text transformer as in TextTower, with the first prompt of each class as its texts. It acts on W
      alone, by the training rows that it encodes: a prediction is W·x and reads no text.

    The authors' code stops at the last block; their algorithm allows both encoders. They take the best of 12,800
    iterations with batches of 8 on a validation set, at rates of 1e-5 to 1e-7. Here a few hundred steps of larger
    batches are run, and the last one is kept.

    The row of W of a class without shots is trained on texts only; the softmax of photos leaves the class out.

    Learnt arrays: `encoder_` the trained weights of CLIP, `weight_` (C, d), `scale_` () = exp 4.

    See Also:
        CrossModalLinear: only the classifier. Full: both towers, with the texts as the classifier.

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
        trains="the last vision block, the attention pool or a tower, and a linear layer (C×d)",
        needs=("support", "encoder"),
        tunes=("images",),
        uses=("text_views", "extra"),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of cross-modal fine-tuning."""

        encoder: str = hyper("last-block", "the trained part of CLIP", choices=("last-block", "image", "text"))
        iterations: int = hyper(300, "training steps", low=0, high=1_000_000)
        batch_size: int = hyper(64, "rows per step, in equal shares of the modalities", low=2, high=1_000_000)
        lr: float = hyper(1e-5, "peak learning rate of AdamW, with cosine decay", low=0, high=10)
        weight_decay: float = hyper(0.01, "weight decay of AdamW", low=0, high=10)
        warmup: int = hyper(50, "length of the linear warm-up in steps", low=0, high=1_000_000)
        chunk: int = hyper(64, "photos encoded at once: fewer need less memory, more time", low=1, high=1_000_000)

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        from jclip_adapter.runtime import jt

        from .training.cross_modal import classes_left_out, zero_shot_weights
        from .training.loop import Step, resumable, train
        from .training.optimizers import AdamW, warmup_cosine
        from .training.prompting import gradients
        from .training.tuning import trainable

        link, hyper = link_of(task), self.hyper
        self.scale_ = np.array(np.exp(4.0), dtype=np.float32)
        rows_of, text_labels = self._source(task)
        others = list(task.extra_rows().values())
        share = max(1, hyper.batch_size // (2 + len(others)))
        left_out = 1e6 * classes_left_out(task).astype(np.float32)
        weight = jt.array(zero_shot_weights(task))

        with trainable(link.model, functools.partial(self._trains, link)) as (weights, _):
            params = [*weights.values(), weight]

            def step(batch: tuple[Indices, np.random.Generator]) -> Step:
                rows, rng = batch
                view = rng.integers(2, size=len(rows))
                drawn = rng.permutation(len(text_labels))[:share]
                parts, fixed = rows_of(rows, view, drawn)
                labels, kinds = [task.support_labels[rows], text_labels[drawn]], [0, 1]
                if hyper.encoder == "text":  # the trained rows come first
                    labels, kinds = labels[::-1], kinds[::-1]
                for features, own in others:
                    more = rng.permutation(len(own))[:share]
                    fixed = np.concatenate([fixed, features[more]])
                    labels.append(own[more])
                    kinds.append(2)
                out = -left_out[np.repeat(kinds, [len(part) for part in labels])]
                loss = functools.partial(self._loss, fixed=fixed, weight=weight, labels=np.concatenate(labels), out=out)
                return Step(*gradients(parts, loss, params))

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

    def _trains(self, link: EncoderLink, name: str) -> bool:
        """Whether CLIP's weight of this name is trained."""
        from .full import Full
        from .text_tower import TextTower

        if self.hyper.encoder == "text":
            return TextTower.trains(name)
        if self.hyper.encoder == "image":
            return name.startswith("visual.") and Full.trains(name)
        return bool(link.model.visual.in_tail(name))

    def _source(self, task: FewShotTask) -> Source:
        """What makes the rows of a batch, and the labels of all texts."""
        from jclip_adapter.models.clip.tokenizer import model_tokens
        from jclip_adapter.runtime import jt

        from .training.cross_modal import text_rows
        from .training.tuning import photo_parts, text_parts

        link, size = link_of(task), self.hyper.chunk
        model = link.model
        if self.hyper.encoder == "text":
            photos, tokens = normalise(self._views(task, model.visual)), model_tokens(link.prompts, model.config)
            encoded = functools.partial(text_parts, model, size=size)
            return lambda shots, view, drawn: (encoded(tokens[drawn]), photos[view, shots]), np.arange(len(tokens))
        texts, labels = text_rows(task)
        if self.hyper.encoder == "image":

            def pixels(shots: Indices, view: Indices) -> npt.NDArray[np.uint8]:
                found = link.pixels(shots, None, 1.0)
                return np.where(view[:, None, None, None] == 1, found[:, :, ::-1], found)

            return lambda shots, view, drawn: (photo_parts(model, pixels(shots, view), size), texts[drawn]), labels
        middle, tail = self._views(task, model.visual.body), model.visual.tail
        return lambda shots, view, drawn: ([lambda: tail(jt.array(middle[view, shots]))], texts[drawn]), labels

    def _views(self, task: FewShotTask, encode: Callable[[Any], Any]) -> Array:
        """(2, N, …) what the image tower, or its first layers, makes of each photo and its mirror image."""
        from jclip_adapter.data.photos.preprocess import normalise_pixels
        from jclip_adapter.runtime import jt

        link = link_of(task)
        kept: list[list[Array]] = [[], []]
        with jt.no_grad():
            for some in chunks(np.arange(len(task.support_labels)), self.hyper.chunk):
                pixels = link.pixels(some, None, 1.0)
                for found, view in zip(kept, (pixels, pixels[:, :, ::-1]), strict=True):
                    values = normalise_pixels(view, link.model.config.pixels)
                    found.append(encode(jt.array(values)).numpy())
        return np.stack([np.concatenate(found) for found in kept])

    def _loss(self, rows: Any, *, fixed: Array, weight: Any, labels: Indices, out: Array) -> Any:
        """Cross-entropy over the trained rows and the fixed ones.

        Args:
            rows: (n, d) jt.Var, not normalised.
            fixed: (m, d) L2-normalised.
            weight: (C, d) jt.Var.
            labels: (n + m,) class indices.
            out: (n + m, C) added to the logits, so that photos leave classes without shots out.
        """
        from jclip_adapter.models.clip import model
        from jclip_adapter.runtime import jt

        joined = jt.concat([model.normalise(rows), jt.array(fixed)], dim=0)
        logits = float(self.scale_) * jt.nn.matmul_transpose(joined, weight)
        return jt.nn.cross_entropy_loss(logits + jt.array(out), jt.array(labels.astype(np.int32)))

    def _logits(self, queries: Queries) -> Array:
        return np.asarray(self.scale_ * (queries.features @ self.weight_.T), dtype=np.float32)
