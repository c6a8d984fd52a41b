"""CoOp: learnt prompt vectors around the class name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import Array, EncoderLink, FewShotTask, chunks, normalise

from .base import Hyperparameters, Meta, hyper
from .training.through_clip import ThroughClip, drawn_views, link_of

if TYPE_CHECKING:
    from .training.prompting import Batch


class Coop(ThroughClip):
    """Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022: CoOp.

    The prompt of class c consists of M learnt vectors and the class name, and its text feature replaces that of the
    hand-written prompt: logits = s·x·T(v)ᵀ, both normalised, trained with cross-entropy through the frozen text tower.

    As in the authors' code: SGD with momentum 0.9 and weight decay 5e-4, batches of 32, one epoch at rate 1e-5, then a
    cosine per epoch. The vectors start at N(0, 0.02²) or at the embeddings of a phrase (`init`, whose length is then
    M). The class name is behind, between or before the vectors, which are shared by all classes or separate for each.
    The authors augment photos anew at every step; here features are computed once, so that a step runs the text tower
    only, and a random augmented view is used if the task has some. They train for 50 to 200 epochs; the default here is
    fewer (`epochs=200` is theirs).

    The softmax of the loss runs over the classes with shots only. A class without shots gets the shared vectors before
    its name; separate vectors of its own keep their initial values.

    Learnt arrays: `vectors_` (M, D) or (C, M, D), `text_` (C, d) the prompts' features, `scale_` ().

    See Also:
        ZeroShot: hand-written prompts.

    >>> Coop.meta.needs
    ('support', 'encoder')
    """

    meta = Meta(
        name="coop",
        summary="prompts whose words are learnt vectors, through the frozen text tower",
        paper="Zhou et al., Learning to Prompt for Vision-Language Models",
        year=2022,
        arxiv="2109.01134",
        code="KaiyangZhou/CoOp",
        trains="M prompt vectors (M×D), or M per class",
        needs=("support", "encoder"),
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of CoOp."""

        context: int = hyper(16, "number M of learnt vectors", low=1, high=64)
        position: str = hyper(
            "end", "position of the class name relative to the vectors", choices=("end", "middle", "front")
        )
        class_specific: bool = hyper(False, "learn separate vectors for every class")
        init: str = hyper("", "phrase that initialises the vectors; empty for random")
        epochs: int = hyper(50, "passes over the shots", low=0, high=100_000)
        batch_size: int = hyper(32, "shots per step", low=1, high=1_000_000)
        lr: float = hyper(2e-3, "peak learning rate of SGD, with cosine decay", low=0, high=10)
        momentum: float = hyper(0.9, "momentum μ of SGD", low=0, high=1)
        weight_decay: float = hyper(5e-4, "L2 penalty of SGD", low=0, high=10)
        chunk: int = hyper(
            192, "prompts encoded at once: fewer need less memory, a third more time", low=1, high=1_000_000
        )

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        from jclip_adapter.runtime import jt

        from .training.loop import Step
        from .training.prompting import class_prompts, encode_prompts

        link = link_of(task)
        start = self._start(task, link)
        vectors = jt.array(start)
        prompts = class_prompts(link.model, link.names, start.shape[-2], self.hyper.position)

        def encode(rows: npt.NDArray[np.int64]) -> Any:
            chosen = jt.array(rows.astype(np.int32))
            return encode_prompts(link.model, prompts[rows], vectors[chosen] if start.ndim == 3 else vectors)

        # The beginning that prompts with shared vectors have in common is encoded once, so a chunk can be larger.
        length = prompts.fixed.shape[1]
        size = self.hyper.chunk * (length // (length - prompts.shared) if start.ndim == 2 else 1)
        parts = [functools.partial(encode, rows) for rows in chunks(task.seen, size)]

        def step(batch: tuple[npt.NDArray[np.int64], np.random.Generator]) -> Step:
            return Step(*self._gradients(parts, self._batch(task, *batch), [vectors], task))

        self._train_prompts(step, [vectors], len(task.support_labels))
        self.vectors_ = np.asarray(vectors.numpy(), dtype=np.float32)
        with jt.no_grad():
            texts = [encode(rows).numpy() for rows in chunks(np.arange(task.num_classes), size)]
        self.text_ = normalise(np.concatenate(texts))
        self.scale_ = np.array(task.logit_scale, dtype=np.float32)

    def _batch(self, task: FewShotTask, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """The photos of a step, with labels among the classes with shots."""
        from .training.prompting import Batch

        labels = np.searchsorted(task.seen, task.support_labels[rows])
        return Batch(drawn_views(task.photo_views(), rows, rng), labels, task.logit_scale)

    def _gradients(
        self, parts: Sequence[Callable[[], Any]], batch: Batch, params: Sequence[Any], task: FewShotTask
    ) -> tuple[float, list[Any]]:
        """Loss and gradients of a batch; `parts` compute the text features of the classes with shots."""
        from .training.prompting import gradients

        return gradients(parts, batch.cross_entropy, params)

    def _start(self, task: FewShotTask, link: EncoderLink) -> Array:
        """(M, D) or (C, M, D) initial vectors."""
        from jclip_adapter.models.clip.tokenizer import word_ids

        table = link.model.token_embedding.weight
        count, width = self.hyper.context, int(table.shape[1])
        copies = task.num_classes if self.hyper.class_specific else 1
        if self.hyper.init:
            words = table.numpy()[word_ids(self.hyper.init, link.model.config)]
            if not len(words):
                raise UsageError(f"init={self.hyper.init!r} contains no word.", "Try init='a photo of a'.")
            start = np.repeat(words[None], copies, axis=0)
        else:
            start = 0.02 * np.random.default_rng(self.seed).standard_normal((copies, count, width))
        return np.asarray(start if self.hyper.class_specific else start[0], dtype=np.float32)
