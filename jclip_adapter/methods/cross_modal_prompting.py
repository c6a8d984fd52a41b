"""Cross-modal prompting: CoOp trained on photos and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import FewShotTask

from .base import Meta
from .coop import Coop

if TYPE_CHECKING:
    from .training.prompting import Batch


class CrossModalPrompting(Coop):
    """Lin et al., "Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models", CVPR 2023.

    CoOp whose batches also contain text features: learnt prompts are classifier weights in the joint space of photos
    and texts, so the hand-written prompts of a class are further training rows. Every batch of photos is extended by as
    many text features, drawn among all classes' templates, and by as many rows of each further modality, in one
    cross-entropy. The authors published no code for this row of their tables; everything else is as in CoOp.

    Only the classes with shots are trained on. A class without shots gets the shared vectors before its name.

    Learnt arrays: `vectors_` (M, D) or (C, M, D), `text_` (C, d) the prompts' features, `scale_` ().

    See Also:
        Coop: photos only. CrossModalLinear: a linear classifier on both.

    >>> CrossModalPrompting.meta.needs
    ('support', 'encoder')
    """

    meta = Meta(
        name="cross-modal-prompting",
        summary="CoOp with hand-written prompts as samples beside the photos",
        paper="Lin et al., Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models",
        year=2023,
        arxiv="2301.06267",
        code="linzhiqiu/cross_modal_adaptation",
        trains="M prompt vectors (M×D), or M per class",
        needs=("support", "encoder"),
        uses=("views", "text_views", "extra"),
    )

    def _batch(self, task: FewShotTask, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> Batch:
        from .training.cross_modal import text_rows
        from .training.prompting import Batch

        photos = super()._batch(task, rows, rng)
        features, targets = [photos.features], [photos.labels]
        for others, labels in (text_rows(task), *task.extra_rows().values()):
            usable = np.flatnonzero(np.isin(labels, task.seen))
            drawn = rng.permutation(usable)[: len(rows)]
            features.append(others[drawn])
            targets.append(np.searchsorted(task.seen, labels[drawn]))
        return Batch(np.concatenate(features), np.concatenate(targets), photos.scale)
