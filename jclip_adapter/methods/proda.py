"""ProDA: a normal distribution of classifiers, estimated from many learnt prompts."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, chunks, normalise

from .base import Hyperparameters, Meta, hyper
from .training.through_clip import ThroughClip, drawn_views, link_of


class Proda(ThroughClip):
    """Lu et al., "Prompt Distribution Learning", CVPR 2022: ProDA.

    CoOp with P prompts of M vectors each, whose features T_pc are samples of a normal distribution of class weights.
    Instead of the expected loss over that distribution, its upper bound is minimised. With μ̂_c the normalised mean
    over prompts, the logit of class c for a photo x of class y is

        s·x·μ̂_c + ½s²·Σ_d x_d²·(Cov_yy + Cov_cc − 2·Cov_yc)_d,

    so that classes stay apart in every direction in which their prompts vary. λ times the mean absolute cosine of two
    prompts' mean deviations keeps the prompts different. Every step uses `prompt_batch` of the prompts; prediction is
    s·x·μ̂ over all of them.

    No code of the authors was found. The formula is that of a re-implementation (Chris210634/word_soups), whose
    covariances are diagonal with divisor P + 1. For λ's term, the paper compares prompts without a class name; this
    implementation compares what each prompt adds to the classes' features. The class name is at the end of half of the
    prompts, at the beginning of a quarter and inside a quarter. Learning rate and batches of 20 photos are the paper's;
    momentum, weight decay and schedule are CoOp's. The prompts of a step are drawn at random. A step takes as long as
    four of CoOp's, so the default is 25 epochs; `epochs=100` is the paper's.

    The softmax runs over the classes with shots only. A class without shots gets the same P prompts; separate vectors
    of its own keep their initial values.

    Learnt arrays: `vectors_` (P, M, D) or (P, C, M, D), `text_` (C, d) the prompts' mean features, `scale_` ().

    See Also:
        Coop: one prompt. Prograd: one prompt that stays near zero-shot.

    >>> Proda.meta.needs
    ('support', 'encoder')
    """

    meta = Meta(
        name="proda",
        summary="a normal distribution of classifiers, from many learnt prompts",
        paper="Lu et al., Prompt Distribution Learning",
        year=2022,
        arxiv="2205.03340",
        trains="P prompts of M vectors (P×M×D)",
        needs=("support", "encoder"),
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of ProDA."""

        prompts: int = hyper(32, "number P of prompts", low=1, high=1024)
        prompt_batch: int = hyper(4, "prompts per step", low=1, high=1024)
        context: int = hyper(16, "number M of learnt vectors per prompt", low=1, high=64)
        class_specific: bool = hyper(False, "learn separate vectors for every class")
        orthogonality: float = hyper(0.1, "weight λ of the loss on the prompts' mean absolute cosine", low=0, high=1000)
        epochs: int = hyper(25, "passes over the shots", low=0, high=100_000)
        batch_size: int = hyper(20, "shots per step", low=1, high=1_000_000)
        lr: float = hyper(1e-3, "peak learning rate of SGD, with cosine decay", low=0, high=10)
        momentum: float = hyper(0.9, "momentum μ of SGD", low=0, high=1)
        weight_decay: float = hyper(5e-4, "L2 penalty of SGD", low=0, high=10)
        chunk: int = hyper(
            128, "prompts encoded at once: fewer need less memory, a third more time", low=1, high=1_000_000
        )

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        from jclip_adapter.runtime import jt

        from .training.loop import Step
        from .training.prompt_distribution import SPREAD, distribution_loss
        from .training.prompting import Batch, class_prompts, encode_prompts, gradients

        link = link_of(task)
        vectors = jt.array(self._start(task, int(link.model.token_embedding.weight.shape[1])))
        forms = [class_prompts(link.model, link.names, self.hyper.context, position) for position in SPREAD]
        per_step = min(self.hyper.prompt_batch, self.hyper.prompts)
        views, labels = task.photo_views(), np.searchsorted(task.seen, task.support_labels)

        def encode(prompt: int, classes: npt.NDArray[np.int64]) -> Any:
            own = vectors[prompt]
            own = own[jt.array(classes.astype(np.int32))] if self.hyper.class_specific else own
            return encode_prompts(link.model, forms[prompt % len(forms)][classes], own)

        def parts(prompts: npt.NDArray[np.int64], classes: npt.NDArray[np.int64]) -> list[functools.partial[Any]]:
            """Functions that compute the (n, d) text features of some prompts for some classes, prompt by prompt."""
            pieces = chunks(classes, self.hyper.chunk)
            return [functools.partial(encode, int(prompt), piece) for prompt in prompts for piece in pieces]

        def step(draw: tuple[npt.NDArray[np.int64], np.random.Generator]) -> Step:
            rows, rng = draw
            batch = Batch(drawn_views(views, rows, rng), labels[rows], task.logit_scale)
            chosen = rng.permutation(self.hyper.prompts)[:per_step]
            loss = functools.partial(distribution_loss, batch, prompts=per_step, weight=self.hyper.orthogonality)
            return Step(*gradients(parts(chosen, task.seen), loss, [vectors]))

        self._train_prompts(step, [vectors], len(labels))
        self.vectors_ = np.asarray(vectors.numpy(), dtype=np.float32)
        every = np.arange(self.hyper.prompts)
        with jt.no_grad():
            found = [part().numpy() for part in parts(every, np.arange(task.num_classes))]
        texts = normalise(np.concatenate(found))
        self.text_ = normalise(texts.reshape((len(every), task.num_classes, -1)).mean(axis=0))
        self.scale_ = np.array(task.logit_scale, dtype=np.float32)

    def _start(self, task: FewShotTask, width: int) -> Array:
        """(P, M, D) or (P, C, M, D) initial vectors."""
        classes = (task.num_classes,) if self.hyper.class_specific else ()
        size = (self.hyper.prompts, *classes, self.hyper.context, width)
        return np.asarray(0.02 * np.random.default_rng(self.seed).standard_normal(size), dtype=np.float32)
