"""CoCoOp: learnt prompts that depend on the photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import Array, EncoderLink, FewShotTask, Queries

from .base import Meta, hyper
from .coop import Coop
from .training.through_clip import drawn_views, link_of

META = ("inner", "inner_bias", "outer", "outer_bias")


class Cocoop(Coop):
    """Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022: CoCoOp.

    CoOp in which a small network shifts the vectors for each photo x: v_m(x) = v_m + W₂·ReLU(W₁·x + b₁) + b₂, with d/16
    hidden units and x normalised. Every photo has its own C prompts, so a step needs one pass through the text tower
    per photo. The authors use one photo per step, four vectors that start at "a photo of a", and 10 epochs.

    A class without shots gets the same shifted vectors before its name; separate vectors of its own keep their initial
    values before the shift.

    Learnt arrays: `vectors_` (M, D) or (C, M, D), the meta-net's `inner_`, `inner_bias_`, `outer_`, `outer_bias_`,
    `scale_` (). Scoring goes through the text tower, too.

    See Also:
        Coop: the same vectors for every photo.

    >>> Cocoop.meta.needs
    ('support', 'encoder')
    """

    meta = Meta(
        name="cocoop",
        summary="learnt prompts that a small network moves for each photo",
        paper="Zhou et al., Conditional Prompt Learning for Vision-Language Models",
        year=2022,
        arxiv="2203.05557",
        code="KaiyangZhou/CoOp",
        trains="M prompt vectors (M×D) and a meta-net d→d/16→D",
        needs=("support", "encoder"),
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Coop.Hyper):
        """Hyper-parameters of CoCoOp."""

        init: str = hyper("a photo of a", "phrase that initialises the vectors; empty for random")
        context: int = hyper(4, "number M of learnt vectors, if they start at random", low=1, high=64)
        epochs: int = hyper(10, "passes over the shots", low=0, high=100_000)
        batch_size: int = hyper(1, "shots per step", low=1, high=1_000_000)

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        from jclip_adapter.runtime import jt

        from .training.layers import linear_weight, unit_rows
        from .training.loop import Step
        from .training.prompting import class_prompts, gradients, shifted_features

        link = link_of(task)
        rng = np.random.default_rng([self.seed, 1])
        start = self._start(task, link)
        width, size = start.shape[-1], max(1, task.width // 16)
        arrays = [start, linear_weight(rng, task.width, size), np.zeros(size, np.float32)]
        arrays += [linear_weight(rng, size, width), np.zeros(width, np.float32)]
        params = [jt.array(array) for array in arrays]
        names = [link.names[c] for c in task.seen]
        prompts = class_prompts(link.model, names, start.shape[-2], self.hyper.position)
        seen = jt.array(task.seen.astype(np.int32))
        views, place = task.photo_views(), np.searchsorted(task.seen, task.support_labels)

        def step(batch: tuple[npt.NDArray[np.int64], np.random.Generator]) -> Step:
            rows, rng = batch
            photos = drawn_views(views, rows, rng)
            vectors = params[0][seen] if start.ndim == 3 else params[0]
            parts = shifted_features(link.model, prompts, vectors, params[1:], photos)

            def loss(texts: Any) -> Any:
                own = unit_rows(texts).reshape((len(photos), len(task.seen), -1))
                scores = task.logit_scale * (own * jt.array(photos).unsqueeze(1)).sum(dim=2)
                return jt.nn.cross_entropy_loss(scores, jt.array(place[rows].astype(np.int32)))

            return Step(*gradients(parts, loss, params))

        self._train_prompts(step, params, len(place))
        learnt = [np.asarray(value.numpy(), dtype=np.float32) for value in params]
        self.vectors_, self.inner_, self.inner_bias_, self.outer_, self.outer_bias_ = learnt
        self.scale_ = np.array(task.logit_scale, dtype=np.float32)
        self.attach(link)

    def attach(self, encoder: EncoderLink | None) -> None:
        """Give a loaded method the CLIP that it was trained with."""
        self._link = encoder

    _link: EncoderLink | None = None

    def _logits(self, queries: Queries) -> Array:
        from jclip_adapter.runtime import jt

        from .training.prompting import class_prompts, shifted_features

        if self._link is None:
            raise DataError(
                f"{self.meta.name} needs CLIP's text encoder for prediction.", "Call attach(encoder) after load."
            )
        model, names = self._link.model, self._link.names
        prompts = class_prompts(model, names, self.vectors_.shape[-2], self.hyper.position)
        meta = [jt.array(getattr(self, f"{name}_")) for name in META]
        scores = np.empty((len(queries), len(names)), dtype=np.float32)
        with jt.no_grad():
            of_photos = shifted_features(model, prompts, jt.array(self.vectors_), meta, queries.features)
            for row, texts in enumerate(of_photos):
                found = texts().numpy()
                scores[row] = (
                    self.scale_ * (found / np.linalg.norm(found, axis=1, keepdims=True)) @ queries.features[row]
                )
        return scores
