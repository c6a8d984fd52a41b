"""What every command sets up first: data, CLIP, the classes' texts, and perhaps a trained method."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jclip_adapter.dataset import ImageSet, Photo, first_support, load_dataset, read_support, sample_support
from jclip_adapter.encoder import SAMPLE, Encoder, load_encoder
from jclip_adapter.errors import DataError, UsageError
from jclip_adapter.features import PhotoFeatures, TextFeatures, encode_classes, encode_photos
from jclip_adapter.methods import Method, create
from jclip_adapter.prompts import PromptSet, load_prompts
from jclip_adapter.runs import load_run
from jclip_adapter.settings import Settings
from jclip_adapter.task import Array, FewShotTask, Queries

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """What every command sets up first: data, CLIP and the classes' texts."""

    settings: Settings
    images: ImageSet
    prompts: PromptSet
    encoder: Encoder
    texts: TextFeatures

    @property
    def cache(self) -> Path:
        """Folder of the feature stores."""
        return Path(self.settings.cache)

    def photos(self, paths: Sequence[Path]) -> PhotoFeatures:
        """Features of photos, encoded or found."""
        return encode_photos(self.encoder, paths, self.cache, self.settings.workers)

    def zero_shot(self, features: Array) -> Array:
        """(M, C) zero-shot logits of (M, d) normalised features."""
        return np.asarray(self.encoder.logit_scale * (features @ self.texts.weights.T), dtype=np.float32)


def open_data(settings: Settings) -> ImageSet:
    """Read the data set that settings name, drawing the sample if it is that."""
    if settings.data == SAMPLE:
        from jclip_adapter.sample import ensure_sample

        return load_dataset(ensure_sample(), split=settings.split)
    return load_dataset(settings.data, split=settings.split)


def set_up(settings: Settings) -> Stage:
    """Open the data set, load CLIP and encode the classes' prompts."""
    images = open_data(settings)
    prompts = load_prompts(settings.prompts)
    for warning in (*prompts.check_domains(images.domains), *prompts.check_names(images.class_names, images.domains)):
        logger.warning("%s", warning)
    encoder = load_encoder(settings.weights_or_default, settings.device, settings.batch_size)
    texts = encode_classes(encoder, prompts, images.class_names, images.domains, Path(settings.cache))
    return Stage(settings, images, prompts, encoder, texts)


def choose_support(settings: Settings, images: ImageSet) -> tuple[Photo, ...]:
    """The training photos that settings choose."""
    if settings.support == "random":
        return sample_support(images, settings.shots, settings.seed)
    if settings.support == "first":
        return first_support(images, settings.shots)
    if not Path(settings.support).is_file():
        raise UsageError(f"there is no list {settings.support}.", "Give --support a file, or 'first' or 'random'.")
    return read_support(settings.support, images)


def make_task(stage: Stage, support: Sequence[Photo]) -> FewShotTask:
    """Encode the support photos and put the task together.

    Raises:
        DataError: a support photo cannot be read; each is named.
    """
    features = stage.photos([photo.path for photo in support])
    if features.bad:
        raise DataError(
            f"{len(features.bad)} of the chosen training photos cannot be read, the first: "
            f"{next(iter(features.bad.values()))}",
            "Replace them, or choose others with --support or --seed.",
            list(features.bad.values()),
        )
    return FewShotTask(
        support_features=features.normalised,
        support_labels=np.array([photo.label for photo in support], dtype=np.int64),
        text_features=stage.texts.weights,
        class_names=stage.images.class_names,
        domains=stage.images.domains,
        logit_scale=stage.encoder.logit_scale,
        support_raw=features.raw,
        text_raw=stage.texts.raw,
        text_views=stage.texts.views,
    )


@dataclass(frozen=True)
class Trained:
    """A stage with a fitted method on it."""

    stage: Stage
    method: Method
    folder: Path | None

    def logits(self, features: PhotoFeatures) -> Array:
        """(M, C) scores of the readable photos, M of them, in order."""
        return self.method.logits(Queries(features.normalised, features.raw)[features.readable])


def open_trained(settings: Settings, given: set[str]) -> Trained:
    """Set up a trained run again; a method that needs no support photo needs no run either.

    Args:
        settings: The settings; what the features depend on is taken from the run.
        given: Names of the settings that the user gave.

    Raises:
        DataError: there is no such run, or the weights or classes are others than it was trained with.
    """
    needs_run = "support" in create(settings.method).meta.needs
    if not needs_run and not settings.run:
        stage = set_up(settings)
        method = create(settings.method, seed=settings.seed, **settings.set)
        return Trained(stage, method.fit(make_task(stage, ())), None)
    run = load_run(settings, given)
    trained = run.facts["settings"]
    if load_prompts(trained["prompts"]).fingerprint() != run.facts["prompts"]:
        raise DataError(
            f"{run.folder} was trained with other prompts than {trained['prompts']} holds now.", "Train again."
        )
    stage = set_up(dataclasses.replace(settings, **{name: trained[name] for name in ("weights", "prompts", "split")}))
    if stage.encoder.sha256 != run.facts["weights_sha256"]:
        raise DataError(
            f"{run.folder} was trained with other weights than {stage.encoder.weights} holds now.", "Train again."
        )
    if list(stage.images.class_names) != run.facts["classes"]:
        raise DataError(f"{run.folder} was trained on other classes than {settings.data} has.", "Train again.")
    return Trained(stage, run.method, run.folder)
