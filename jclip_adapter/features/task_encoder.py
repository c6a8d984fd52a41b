"""Few-shot tasks and queries from photos and class names, encoded by one network or two."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import (
    Array,
    EncoderLink,
    FewShotTask,
    ImageNetHead,
    Lazy,
    Queries,
    class_means,
    normalise,
)
from jclip_adapter.data.photos.augmentation import TrainingPhotos
from jclip_adapter.data.sets import Photo
from jclip_adapter.data.sets.model import paths_of
from jclip_adapter.data.texts.prompts import PromptSet
from jclip_adapter.models.backbones.encoder import BackboneEncoder
from jclip_adapter.models.base import ImageEncoder
from jclip_adapter.models.clip.encoder import Encoder

from .encoding import PhotoFeatures, TextFeatures, encode_classes, encode_photos, encode_views, photo_keys
from .parts.lookup import Lookup


@dataclass(frozen=True)
class TaskEncoder:
    """Encodes the texts of C classes, few-shot tasks, and queries.

    Attributes:
        encoder: The network that encodes photos, and texts if it is a CLIP.
        class_names: C class names, as in the data set.
        domains: C domain names, "" for none.
        prompts: The prompt set.
        cache: Folder of all feature stores.
        auxiliary: A second network for photos: an ImageNet network, or the image tower of another CLIP.
        workers: Decoding processes, as for `decoders.decode`.
        learnt_texts: Text features used instead of the prompts': of learnt prompts, or prototypes.
        lookup: Where the photos' features are, if the photos are not at hand.
    """

    encoder: ImageEncoder
    class_names: tuple[str, ...]
    domains: tuple[str, ...]
    prompts: PromptSet
    cache: Path
    auxiliary: ImageEncoder | None = None
    workers: int = -1
    learnt_texts: TextFeatures | None = None
    lookup: Lookup | None = None

    @cached_property
    def texts(self) -> TextFeatures:
        """The classes' text features; zeros without text encoder and prototypes."""
        if self.learnt_texts is not None:
            return self.learnt_texts
        if not isinstance(self.encoder, Encoder):
            nothing = np.zeros((len(self.class_names), self.encoder.width), dtype=np.float32)
            return TextFeatures(nothing, nothing, ())
        return encode_classes(self.encoder, self.prompts, self.class_names, self.domains, self.cache)

    @property
    def encoders(self) -> tuple[ImageEncoder, ...]:
        """The networks for photos."""
        return (self.encoder,) if self.auxiliary is None else (self.encoder, self.auxiliary)

    @property
    def clip(self) -> Encoder:
        """The encoder, if it is a CLIP.

        Raises:
            UsageError: it is another network.
        """
        if isinstance(self.encoder, Encoder):
            return self.encoder
        name = self.encoder.weights.name
        raise UsageError(f"this method trains CLIP, but {name} is an image network.", "Give --weights a CLIP.")

    @property
    def parameters(self) -> int:
        """Number of parameters of all networks; of a CLIP both towers, also where only one is used."""
        return sum(encoder.parameters for encoder in self.encoders)

    @property
    def baseline(self) -> str:
        """Name of `zero_shot`: "zero-shot", or "prototypes" without a text encoder."""
        return "zero-shot" if self.encoder.has_text else "prototypes"

    def photos(self, paths: Sequence[Path]) -> PhotoFeatures:
        """Features of photos, from the store if possible."""
        if self.lookup:
            return self.lookup.photos(paths)
        return encode_photos(self.encoder, paths, self.cache, self.workers)

    def keys(self, paths: Sequence[Path]) -> tuple[list[bytes], dict[int, str]]:
        """SHA-256 of N photos, b"" for an unreadable file, and error messages by index."""
        return self.lookup.keys(paths) if self.lookup else photo_keys(paths)

    def zero_shot(self, features: Array) -> Array:
        """(M, C) zero-shot logits of (M, d) normalised features."""
        return np.asarray(self.encoder.logit_scale * (features @ self.texts.weights.T), dtype=np.float32)

    def queries(self, photos: PhotoFeatures) -> Queries:
        """The readable photos as a method's queries."""
        rows = np.flatnonzero(photos.readable)
        return self._queries(photos.normalised[rows], photos.raw[rows], [photos.paths[row] for row in rows])

    def support_queries(self, task: FewShotTask, paths: Sequence[Path]) -> Queries:
        """The support photos of a task, N paths, as queries."""
        return self._queries(task.support_features, task.support_raw, paths, task.auxiliary)

    def _queries(
        self, features: Array, raw: Array | None, paths: Sequence[Path], second: Array | None = None
    ) -> Queries:
        return Queries(
            features,
            raw,
            self._second(paths) if second is None else second,
            lambda change: dataclasses.replace(self, encoder=self.clip.tuned(change)).photos(paths).raw,
        )

    def _second(self, paths: Sequence[Path]) -> Array | None:
        """(M, d') features of readable photos by the second network; None without one."""
        return encode_photos(self.auxiliary, paths, self.cache, self.workers).raw if self.auxiliary else None

    def task(self, paths: Sequence[Path], labels: npt.NDArray[np.int64], views: int = 0, seed: int = 0) -> FewShotTask:
        """Encode the support set.

        Args:
            paths: N photos.
            labels: (N,) class indices.
            views: Augmented views of each photo.
            seed: Draws their crops.

        Returns:
            The task.

        Raises:
            DataError: photos cannot be read; `details` lists them.
        """
        features = self.photos(paths)
        features.refuse_bad("shot", "Replace them, or leave them out.")
        return self.task_of(features, labels, views, seed)

    def task_of(
        self, features: PhotoFeatures, labels: npt.NDArray[np.int64], views: int = 0, seed: int = 0
    ) -> FewShotTask:
        """The task of a support set whose photos are encoded already; arguments as for `task`.

        Args:
            features: Features of N photos, all of which could be read.
            labels: (N,) class indices.
            views: Augmented views of each photo.
            seed: Draws their crops.
        """
        paths = features.paths
        augmented = None
        if views and len(paths):
            augmented = normalise(encode_views(self.encoder, paths, self.cache, views, seed))
        task = FewShotTask(
            support_features=features.normalised,
            support_labels=labels,
            text_features=self.texts.weights,
            class_names=self.class_names,
            domains=self.domains,
            logit_scale=self.encoder.logit_scale,
            support_raw=features.raw,
            text_raw=self.texts.raw,
            support_views=augmented,
            text_views=self.texts.views,
            encoder=self.link(paths),
            auxiliary=self._second(paths),
            imagenet_head=self._imagenet_head(),
        )
        return task if self.encoder.has_text else task.with_prototypes()

    def link(self, paths: Sequence[Path] = ()) -> EncoderLink | None:
        """CLIP itself, for methods that train through it on N photos; None without texts, or without the photos."""
        if not isinstance(self.encoder, Encoder) or self.lookup:
            return None
        clip = self.encoder
        pairs = list(zip(self.class_names, self.domains, strict=True))
        return EncoderLink(
            Lazy(lambda: clip.model),
            tuple(self.prompts.class_name(name, domain) for name, domain in pairs),
            tuple(self.prompts.texts(name, domain)[0] for name, domain in pairs),
            _no_pixels
            if clip.kind == "sound"
            else TrainingPhotos(paths, clip.image_size, clip.transform, clip.reading),
        )

    def _imagenet_head(self) -> ImageNetHead | None:
        network = self.auxiliary or self.encoder
        if not isinstance(network, BackboneEncoder):
            return None
        return network.imagenet_head(self.class_names, self.domains)

    def unreadable(self, photos: Sequence[Photo]) -> Mapping[int, str]:
        """Error messages of unreadable photos, by index."""
        return self.photos(paths_of(photos)).bad

    def with_prototypes(self, paths: Sequence[Path], labels: npt.NDArray[np.int64]) -> TaskEncoder:
        """With class means of N photos instead of texts, if the network has no text encoder; else unchanged."""
        if self.encoder.has_text:
            return self
        features = self.photos(paths)
        if features.bad:
            return self
        classes = len(self.class_names)
        normal, raw = (class_means(rows, labels, classes) for rows in (features.normalised, features.raw))
        texts = TextFeatures(normalise(normal), np.asarray(raw, dtype=np.float32), ())
        return dataclasses.replace(self, learnt_texts=texts)


def _no_pixels(*_: object) -> NoReturn:
    raise UsageError(
        "this method trains CLIP on the pixels of photos, but the data are sounds.", "Choose another --method."
    )


def fingerprint(task: FewShotTask) -> str:
    """SHA-256 of a task's features and labels."""
    texts = (task.text_features, task.text_features if task.text_raw is None else task.text_raw, *task.text_views)
    views = () if task.support_views is None else (task.support_views,)
    second = () if task.auxiliary is None else (task.auxiliary,)
    head = () if task.imagenet_head is None else (np.frombuffer(repr(task.imagenet_head.ids).encode(), np.uint8),)
    extra: list[npt.NDArray[Any]] = [part for rows in task.extra_rows().values() for part in rows]
    extra += [np.frombuffer(repr((task.extra_modalities, task.extra_scale)).encode(), np.uint8)] if extra else []
    parts = (task.raw, task.support_labels, *views, *texts, *second, *head, *extra)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()
