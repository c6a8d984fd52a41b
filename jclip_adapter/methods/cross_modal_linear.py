"""Cross-modal linear probe: a linear classifier trained on photos and texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from jclip_adapter.core.task import Array, FewShotTask, Queries

from .base import Hyperparameters, Meta, Method, hyper
from .training.seen_classes import with_unseen

if TYPE_CHECKING:
    from .training.cross_modal import Head


class CrossModalLinear(Method):
    """Lin et al., "Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models", CVPR 2023.

    CLIP embeds photos and texts in one space, so the class name is one more shot: a linear classifier is trained on
    both, and on the rows of any further modality in that space, such as audio. logits = s·W·x for L2-normalised rows x.
    W (C, d) is initialised with the zero-shot weights or at random and minimises one cross-entropy over batches with an
    equal share of each modality. The optimizer is AdamW; the learning rate rises linearly for 50 steps and then falls
    along a cosine.

    The authors take the iteration with the best validation accuracy out of 12,800 with batches of 8 or 32. Here a few
    hundred steps of 256 rows suffice, and the number of steps, of which 0 is zero-shot, is chosen on the shots
    (`iterations=12800`, `batch_size=32` are the authors'). Their script for this row of the paper starts at random
    (`init="random"`, which needs a higher rate and more steps); those for the other rows start at zero-shot, which is
    safe at one shot. Their loader refuses a batch whose share of a modality is not smaller than that modality; here the
    share is reduced. With several augmented views, their feature extraction keeps the last one; here all are rows.

    A class without shots is trained on its texts and the rows of further modalities. The softmax of photos leaves it
    out.

    Learnt arrays: `weight_` (C, d), `scale_` (); and `text_` (C, d), `unseen_` (C,) bool.

    See Also:
        UniModalLinear: photos only. CrossModalWiseFt: interpolated with zero-shot. CrossModalAdapter: with a
        bottleneck.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [0, 1], np.eye(2), ("cat", "dog"))
    >>> CrossModalLinear(iterations=1).fit(task).logits([[1.0, 0.0]]).argmax()
    0
    """

    meta = Meta(
        name="cross-modal-linear",
        summary="linear classifier trained on photos, texts and sounds as samples alike",
        paper="Lin et al., Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models",
        year=2023,
        arxiv="2301.06267",
        code="linzhiqiu/cross_modal_adaptation",
        trains="a linear layer (C×d)",
        uses=("views", "text_views", "extra"),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of the cross-modal linear probe."""

        init: str = hyper("zero-shot", "initial weights of the classifier", choices=("zero-shot", "random"))
        iterations: int = hyper(200, "training steps; 0 is zero-shot", low=0, high=1_000_000, grid=(0, 200))
        batch_size: int = hyper(256, "rows per step, in equal shares of the modalities", low=1, high=1_000_000)
        lr: float = hyper(1e-4, "peak learning rate of AdamW, with cosine decay", low=0, high=10, grid=(1e-4, 3e-4))
        weight_decay: float = hyper(0.01, "weight decay of AdamW", low=0, high=10)
        warmup: int = hyper(50, "length of the linear warm-up in steps", low=0, high=1_000_000)

    hyper: Hyper
    texts: ClassVar[bool] = True

    def _fit(self, task: FewShotTask) -> None:
        from .training.cross_modal import Head

        rng = np.random.default_rng(self.seed)
        trained = self._train(task, Head(self._initial(task, rng)), rng)
        self.weight_ = trained.weight

    def _initial(self, task: FewShotTask, rng: np.random.Generator) -> Array:
        """(C, d) initial weights; also sets the other arrays that `_logits` needs."""
        from .training.cross_modal import zero_shot_weights
        from .training.layers import linear_weight

        self.scale_ = np.array(task.logit_scale, dtype=np.float32)
        self.text_ = zero_shot_weights(task)
        self.unseen_ = np.zeros(task.num_classes, dtype=bool)
        if not self.texts:
            self.unseen_[:] = True
            self.unseen_[task.seen] = False
        return linear_weight(rng, task.width, task.num_classes) if self.hyper.init == "random" else self.text_

    def _train(self, task: FewShotTask, head: Head, rng: np.random.Generator) -> Head:
        """Train the weights of the classes that have training rows; the others keep their initial weights."""
        from .training.cross_modal import Head, classes_left_out, joint_batches, text_rows, train_head
        from .training.optimizers import warmup_cosine

        if not self.hyper.iterations:
            return head
        sources = [task.photo_rows()]
        if self.texts:
            sources += [text_rows(task), *task.extra_rows().values()]
        features, labels = (np.concatenate(parts) for parts in zip(*sources, strict=True))
        classes = np.flatnonzero(~self.unseen_)
        left_out = classes_left_out(task)[:, classes]
        counts = [len(rows) for rows, _ in sources]
        kinds = np.repeat(np.minimum(np.arange(len(counts)), 2), counts)  # shots, texts, further rows

        def schedule(step: int) -> float:
            h = self.hyper
            return warmup_cosine(step, h.lr, h.iterations, warmup=h.warmup, floor=min(1e-5, h.lr))

        trained, (self.history_, self.step_losses_) = train_head(
            Head(head.weight[classes], head.down, head.up, head.ratio),
            (features, np.searchsorted(classes, labels)),
            joint_batches(counts, self.hyper.batch_size, self.hyper.iterations, rng),
            scale=task.logit_scale,
            schedule=schedule,
            weight_decay=self.hyper.weight_decay,
            left_out=(kinds, left_out) if left_out.any() else None,
        )
        weight = head.weight.copy()
        weight[classes] = trained.weight
        return Head(weight, trained.down, trained.up, trained.ratio)

    def _logits(self, queries: Queries) -> Array:
        return self._scores(queries.features, self.weight_)

    def _scores(self, features: Array, weight: Array) -> Array:
        """(M, C) scores of features by a classifier."""
        scores = self.scale_ * (features @ weight.T)
        if self.hyper.init == "zero-shot":
            return np.asarray(scores, dtype=np.float32)
        known = np.flatnonzero(~self.unseen_)
        return with_unseen(scores[:, known], self.scale_ * (features @ self.text_.T), known)
