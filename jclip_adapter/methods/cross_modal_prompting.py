"""Cross-modal prompting: CoOp whose batches hold texts beside photos."""

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

    CoOp's prompts are classifier weights in the space of photos and texts, so the hand-written prompts of a class are
    further samples of it: every batch of photos is joined by as many text features, drawn among all classes'
    templates, in one cross-entropy. The authors publish no code for this row of their tables; all else is CoOp's.

    Only the classes with photos take part. A class without photos gets the shared vectors before its name.

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
        uses=("views", "text_views"),
    )

    def _batch(self, task: FewShotTask, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> Batch:
        from .training.cross_modal import text_rows
        from .training.prompting import Batch

        photos = super()._batch(task, rows, rng)
        features, labels = text_rows(task)
        usable = np.flatnonzero(np.isin(labels, task.seen))
        drawn = rng.permutation(usable)[: len(rows)]
        return Batch(
            np.concatenate([photos.features, features[drawn]]),
            np.concatenate([photos.labels, np.searchsorted(task.seen, labels[drawn])]),
            photos.scale,
        )
