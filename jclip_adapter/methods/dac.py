"""DAC: a cache of the shots in a space learnt with a contrastive loss, and tuned class texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries, normalise

from .base import Hyperparameters, Meta, hyper
from .training.seen_classes import SeenClassMethod


class Dac(SeenClassMethod):
    """Gondal et al., "Domain Aligned CLIP for Few-shot Classification", WACV 2024: DAC-V and DAC-VT.

    A linear adapter A of the image features is trained with an intra-modal contrastive loss, which brings photos of the
    same class together. The adapted features are the keys and queries of Tip-Adapter's cache. DAC-VT also tunes the
    class texts: logits = s·Q·T′ᵀ + α·exp(−β(1 − q′·k′))·Y with q′ = normalise(A·q) and k′ = normalise(A·f).

    The authors published no code. The linear adapter, the contrastive loss among photos, the cache, the tuned texts and
    the two variants (`variant="visual"` keeps T′ = T) follow the paper. The rest is of this repository: A starts at the
    identity; the loss is the supervised contrastive loss of Khosla et al. (2020), −mean over pairs of a class of ln
    softmax(f′_i·f′_j/τ) over the batch without i; the texts start at T and minimise the cross-entropy of s·F·T′ᵀ on the
    unadapted features, normalised at every step, independently of A; both use AdamW, with weight decay towards the
    identity and towards T; batches consist of whole classes; α and β are as in Tip-Adapter; the number of steps, the
    learning rates and τ were chosen on shots (results/defaults.csv). All augmented views enter the contrastive loss,
    and the mean view of a shot is its key.

    If no class has two photos (one shot, no augmented views), there are no pairs, and A stays the identity. A class
    without shots keeps its zero-shot score, rescaled to the scores of the others (`training.seen_classes`).

    Learnt arrays: `adapter_` (d, d), `keys_` (N, d) adapted, `key_labels_` (N,) counted among the classes with
    shots, `tuned_` (S, d) their texts T′, `seen_` (S,) their indices, `text_` (C, d), `scale_` ().

    See Also:
        TipAdapter: the cache without any training. ClipAdapter: trains against the texts instead.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [1, 0], [[1.0, 0.0], [1.0, 0.0]], ("cat", "dog"))
    >>> Dac(variant="visual").fit(task).logits(np.eye(2)).argmax(axis=1).tolist()
    [1, 0]
    """

    meta = Meta(
        name="dac",
        summary="a cache in a space where photos of a class come together, and tuned class texts",
        paper="Gondal et al., Domain Aligned CLIP for Few-shot Classification",
        year=2024,
        arxiv="2311.09191",
        trains="a linear image adapter (d×d); class texts (C×d)",
        uses=("views",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of DAC."""

        variant: str = hyper(
            "visual+text",
            "DAC-V, or DAC-VT, which tunes the texts too",
            choices=("visual", "visual+text"),
            grid=("visual", "visual+text"),
        )
        alpha: float = hyper(
            1.17,
            "weight α of the cache logits",
            low=0,
            high=1000,
            grid=(0.0, 0.5, 1.17, 2.0, 3.0, 5.0, 8.0),
            refit=False,
        )
        beta: float = hyper(
            1.0, "sharpness β of the cache affinity", low=0, high=1000, grid=(1.0, 3.0, 5.5, 10.0), refit=False
        )
        epochs: int = hyper(10, "passes over the shots for the image adapter", low=0, high=100_000)
        lr: float = hyper(3e-4, "learning rate of AdamW for the image adapter", low=0, high=10)
        temperature: float = hyper(0.07, "temperature τ of the contrastive loss", low=1e-3, high=100)
        text_epochs: int = hyper(10, "passes over the shots for the texts", low=0, high=100_000)
        text_lr: float = hyper(1e-4, "learning rate of AdamW for the texts", low=0, high=10)
        weight_decay: float = hyper(1e-2, "weight decay towards the identity and towards T", low=0, high=10)
        batch_size: int = hyper(
            512, "approximate number of photos per step, rounded to whole classes", low=1, high=10_000_000
        )

    hyper: Hyper

    def _fit_seen(self, task: FewShotTask) -> None:
        rng = np.random.default_rng(self.seed)
        self.adapter_ = self._train_adapter(*task.photo_rows(), rng)
        self.tuned_ = task.text_features
        if self.hyper.variant == "visual+text":
            self.tuned_ = self._tune_texts(task, rng)
        self.keys_ = normalise(task.shot_means() @ self.adapter_.T)
        self.key_labels_ = task.support_labels

    def _train_adapter(self, rows: Array, labels: npt.NDArray[np.int64], rng: np.random.Generator) -> Array:
        """(d, d) adapter learnt from (R, d) photos and their (R,) classes."""
        identity = np.eye(rows.shape[1], dtype=np.float32)
        if np.bincount(labels).max() < 2:
            return identity
        from jclip_adapter.runtime import jt

        from .training.contrastive import class_batches, contrastive_loss
        from .training.loop import Step, train
        from .training.optimizers import AdamW

        # The difference from the identity is trained, so that weight decay pulls towards the identity.
        change, start = jt.array(np.zeros_like(identity)), jt.array(identity)

        def step(chosen: npt.NDArray[np.int64]) -> Step:
            adapted = jt.nn.matmul_transpose(jt.array(rows[chosen]), start + change)
            return Step(contrastive_loss(adapted, labels[chosen], self.hyper.temperature))

        history = train(
            step,
            AdamW([change], self.hyper.lr, weight_decay=self.hyper.weight_decay),
            class_batches(labels, self.hyper.batch_size, self.hyper.epochs, rng),
        )
        self.history_ = [{"epoch": row["epoch"], "contrastive_loss": row["loss"]} for row in history.epochs]
        self.step_losses_ = history.step_losses
        return np.asarray(identity + change.numpy(), dtype=np.float32)

    def _tune_texts(self, task: FewShotTask, rng: np.random.Generator) -> Array:
        """(S, d) texts of the classes with shots."""
        from jclip_adapter.runtime import jt

        from .training.layers import unit_rows
        from .training.loop import Step, classification, shuffled, train
        from .training.optimizers import AdamW

        start, change = jt.array(task.text_features), jt.array(np.zeros_like(task.text_features))

        def tuned() -> Any:
            return unit_rows(start + change)

        def step(chosen: npt.NDArray[np.int64]) -> Step:
            batch = jt.array(task.support_features[chosen])
            logits = task.logit_scale * jt.nn.matmul_transpose(batch, tuned())
            return classification(logits, task.support_labels[chosen])

        history = train(
            step,
            AdamW([change], self.hyper.text_lr, weight_decay=self.hyper.weight_decay),
            shuffled(len(task.support_labels), self.hyper.batch_size, self.hyper.text_epochs, rng),
        )
        self.history_ += history.epochs
        self.step_losses_ += history.step_losses
        return np.asarray(tuned().numpy(), dtype=np.float32)

    def _scores(self, queries: Queries, zero_shot: Array) -> Array:
        scores = zero_shot
        if self.hyper.variant == "visual+text":
            scores = self.scale_ * (queries.features @ self.tuned_.T)
        near = normalise(queries.features @ self.adapter_.T) @ self.keys_.T
        votes = np.exp(np.float32(self.hyper.beta) * (near - 1))
        known = np.eye(len(self.seen_), dtype=np.float32)[self.key_labels_]
        return np.asarray(scores + np.float32(self.hyper.alpha) * (votes @ known), dtype=np.float32)
