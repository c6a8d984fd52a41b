"""Zero-shot CLIP, the baseline of all other methods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.choices import MODALITIES
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import FewShotTask, Queries, check_rows, class_means, normalise

from .base import Hyperparameters, Meta, Method, hyper
from .training.imagenet_head import imagenet_scores
from .training.seen_classes import with_unseen


class ZeroShot(Method):
    """Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021.

    Each class is represented by the mean of its prompts' text features, and a photo is assigned to the class with the
    highest cosine: logits = s·Q·Tᵀ with the model's logit scale s. No photos are used, so classes without shots are
    like any other.

    `by` compares with rows of another modality instead of texts: a class is the normalised mean of its normalised rows,
    such as sounds for photos, and s is that of the two modalities. A class without such rows keeps its text's score,
    brought to the others' mean and spread (`seen_classes.with_unseen`).

    With `names`, names·log p is added, where p are the class probabilities of an ImageNet network beside CLIP, or in
    its place, for the classes that are also ImageNet's (`training.imagenet_head`). This part is of this repository.

    Learnt arrays: `text_` (C, d), `scale_` (); with `by` also `rows_` (K, d) of the K classes `classes_with_rows_`, and
    `rows_scale_` (); with `names` also `head_` (K, d'), `head_bias_` (K,), `means_` (K, C)
    the share of each of the network's K classes in each class.

    See Also:
        LinearProbe: no text, only photos. JclipAdapter: both.

    >>> import numpy as np
    >>> task = FewShotTask(np.zeros((0, 2)), np.zeros(0), np.eye(2), ("cat", "dog"))
    >>> ZeroShot().fit(task).logits([[0.6, 0.8]]).round(3).tolist()
    [[60.0, 80.0]]
    """

    meta = Meta(
        name="zero-shot",
        summary="cosine of the photo to each class's prompts",
        paper="Radford et al., Learning Transferable Visual Models From Natural Language Supervision",
        year=2021,
        arxiv="2103.00020",
        code="openai/CLIP",
        trains="nothing",
        needs=("text",),
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of zero-shot."""

        by: str = hyper("text", "modality that photos are compared with", choices=MODALITIES)
        names: float = hyper(0.0, "weight of the ImageNet network's log-probabilities; 0 for none", low=0, high=1000)

    hyper: Hyper

    def check_needs(self, task: FewShotTask) -> None:
        """As for every method; with `names`, require an ImageNet network, with `by` rows of that modality."""
        if self.hyper.by not in ("text", *task.extra_rows()):
            raise DataError(
                f"by={self.hyper.by} needs training rows of that modality, but the task has none.",
                "Give --audio or --photos, or a feature file with extra_x.",
            )
        if not self.hyper.names:
            super().check_needs(task)
        elif task.imagenet_head is None:
            raise DataError("names=… needs an ImageNet network, but the task has none.", "Give --auxiliary NAME.")

    @property
    def uses_auxiliary(self) -> bool:
        """True with `names`."""
        return bool(self.hyper.names)

    @property
    def uses_raw(self) -> bool:
        """True with `names`, which may be of the task's own network."""
        return bool(self.hyper.names)

    @property
    def uses_extra(self) -> bool:
        """True with `by`."""
        return self.hyper.by != "text"

    def _fit(self, task: FewShotTask) -> None:
        self.text_ = task.text_features
        self.scale_ = np.array(task.logit_scale, dtype=np.float32)
        if self.uses_extra:
            features, labels = task.extra_rows()[self.hyper.by]
            means = class_means(features, labels, task.num_classes)
            self.classes_with_rows_ = np.unique(labels)
            self.rows_ = normalise(means[self.classes_with_rows_])
            self.rows_scale_ = np.array(task.extra_scale, dtype=np.float32)
        head = task.imagenet_head if self.hyper.names else None
        if head is not None:
            self.head_, self.head_bias_, self.means_ = head.weight, head.bias, head.matrix

    def _logits(self, queries: Queries) -> npt.NDArray[np.float32]:
        scores = queries.features @ self.text_.T
        scores *= self.scale_
        if self.uses_extra:
            scores = with_unseen(self.rows_scale_ * (queries.features @ self.rows_.T), scores, self.classes_with_rows_)
        if not self.hyper.names:
            return scores
        rows = queries.raw if queries.auxiliary is None else queries.auxiliary
        if rows is None:
            raise DataError("the ImageNet network's un-normalised features are needed too.", "Give photos.")
        checked = check_rows(rows, "the ImageNet network's features", self.head_.shape[1])
        named = imagenet_scores(checked @ self.head_.T + self.head_bias_, self.means_)
        return np.asarray(scores + self.hyper.names * named, dtype=np.float32)
