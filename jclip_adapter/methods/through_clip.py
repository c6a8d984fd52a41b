"""What methods share that train through CLIP's towers instead of on its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import Array, EncoderLink, FewShotTask, Queries

from .base import Method

if TYPE_CHECKING:
    from .training.encoder_training import Checkpoint, Step


class ThroughClip(Method):
    """A method whose gradients pass through CLIP; scoring is s·x·Tᵀ with the text features that it ends with.

    Set `checkpoint` before `fit`, and a training that is stopped goes on from its last checkpoint.

    Learnt arrays: `text_` (C, d) L2-normalised, `scale_` ().
    """

    checkpoint: Checkpoint | None = None
    text_: Array
    scale_: Array

    def _train_prompts(self, step: Step, params: Sequence[Any], rows: int) -> list[dict[str, float]]:
        """Train as CoOp's authors do: SGD, one epoch at a rate of 1e-5, then a cosine per epoch.

        Args:
            step: Gives loss and gradients.
            params: jt.Vars.
            rows: Support rows.

        Returns:
            The history.
        """
        from .training.encoder_training import train_through
        from .training.optimisers import Sgd, constant_warmup_cosine

        hyper: Any = self.hyper
        return train_through(
            step,
            Sgd(params, hyper.lr, hyper.momentum, hyper.weight_decay),
            rows=rows,
            epochs=hyper.epochs,
            batch_size=hyper.batch_size,
            schedule=lambda epoch, _: constant_warmup_cosine(epoch, hyper.lr, hyper.epochs),
            seed=self.seed,
            checkpoint=self.checkpoint,
        )

    def _logits(self, queries: Queries) -> Array:
        return np.asarray(self.scale_ * (queries.features @ self.text_.T), dtype=np.float32)


def link_of(task: FewShotTask) -> EncoderLink:
    """The task's CLIP.

    Raises:
        DataError: it has none.
    """
    if task.encoder is None:
        raise DataError("the task has features only, and no CLIP to train through.", "Give photos.")
    return task.encoder


def drawn_views(views: Array, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> Array:
    """(B, d) features of some rows, each of a copy that is drawn anew."""
    return np.asarray(views[rng.integers(len(views), size=len(rows)), rows])
