"""The base class of methods that train through CLIP's towers instead of on its features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import Array, EncoderLink, FewShotTask, Queries
from jclip_adapter.methods.base import Method

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .loop import Step


class ThroughClip(Method):
    """A method whose gradients pass through CLIP; its logits are s·x·Tᵀ with the text features after training.

    With `checkpoint` set before `fit`, an interrupted training is resumed from its last checkpoint.

    Learnt arrays: `text_` (C, d) L2-normalised, `scale_` ().
    """

    checkpoint: Checkpoint | None = None
    text_: Array
    scale_: Array

    def _train_prompts(self, step: Callable[[Any], Step], params: Sequence[Any], rows: int) -> None:
        """Train as CoOp's authors do: SGD, one epoch at a rate of 1e-5, then a cosine per epoch.

        Args:
            step: Computes loss and gradients of a batch of `loop.resumable`.
            params: jt.Vars.
            rows: Number of support rows.
        """
        from .loop import resumable, train
        from .optimizers import SGD, constant_warmup_cosine

        hyper: Any = self.hyper
        batches = resumable(rows, hyper.batch_size, self.seed, epochs=hyper.epochs)
        self.history_, self.step_losses_ = train(
            step,
            SGD(params, hyper.lr, hyper.momentum, hyper.weight_decay),
            batches,
            schedule=lambda number: constant_warmup_cosine(number // batches.per_epoch, hyper.lr, hyper.epochs),
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
    """(B, d) features of support rows, each of a randomly drawn augmented view; `views` is (V, N, d)."""
    return np.asarray(views[rng.integers(len(views), size=len(rows)), rows])
