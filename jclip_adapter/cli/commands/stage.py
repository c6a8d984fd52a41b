"""What every command sets up first: data, the networks, the classes' texts, and perhaps a trained method."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jclip_adapter.cli.runs import Run, load_run, trained_with
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.choices import SAMPLE
from jclip_adapter.core.console import doing
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.task import (
    Array,
    EncoderLink,
    FewShotTask,
    Later,
    NamedHead,
    Queries,
    Weights,
    class_means,
    normalise,
)
from jclip_adapter.data.photos.augmentation import TrainingPhotos
from jclip_adapter.data.photos.reading import Reading
from jclip_adapter.data.photos.white_level import check_white_level, compare_white_level, find_white_level
from jclip_adapter.data.sets import ImageSet, Photo, load_dataset, read_support
from jclip_adapter.data.sets.names import canonical
from jclip_adapter.data.texts.class_names import name_classes, words_of
from jclip_adapter.data.texts.prompts import PromptSet, load_prompts
from jclip_adapter.features.encoding import PhotoFeatures, TextFeatures, encode_classes, encode_photos, encode_views
from jclip_adapter.methods import Method, create
from jclip_adapter.models import backbones
from jclip_adapter.models.backbones.encoder import BackboneEncoder, load_backbone
from jclip_adapter.models.base import ImageEncoder
from jclip_adapter.models.clip.encoder import Encoder, load_encoder
from jclip_adapter.storage import MANIFEST

from .chain import chain_sha256, check_trained_on, open_chain
from .effects import refuse_idle_on_data, refuse_idle_on_methods, refuse_idle_on_network, uses_shots
from .shots import read_shots

logger = logging.getLogger(__name__)
MOST_PARAMETERS = 500_000_000  # together, by the contest's rules


@dataclass(frozen=True)
class Stage:
    """What every command sets up first: data, the networks and the classes' texts.

    A network that knows no texts has the prototypes of the shots instead, once it has shots (`learning_from`). The
    settings name the weights that are used in fact, also where the user left them to the run of --encoder, and
    `encoder_sha256` is that of all that the runs behind it have learnt (`chain.chain_sha256`).
    """

    settings: Settings
    images: ImageSet
    prompts: PromptSet
    encoder: ImageEncoder
    later_texts: Later[TextFeatures]
    chain: tuple[Run, ...] = ()
    auxiliary: BackboneEncoder | None = None

    @property
    def encoder_sha256(self) -> str:
        """SHA-256 of what the runs behind --encoder have learnt; empty without."""
        return chain_sha256(self.chain)

    @property
    def texts(self) -> TextFeatures:
        """The classes' text features, or what stands in for them."""
        return self.later_texts.get()

    @property
    def clip(self) -> Encoder:
        """The encoder, where it is a CLIP.

        Raises:
            UsageError: it is another network.
        """
        if isinstance(self.encoder, Encoder):
            return self.encoder
        name = self.settings.weights
        raise UsageError(f"this needs a CLIP, and {name} is none.", f"Give --weights a CLIP, and --auxiliary {name}.")

    @property
    def encoders(self) -> tuple[ImageEncoder, ...]:
        """Every network that photos go through."""
        return (self.encoder,) if self.auxiliary is None else (self.encoder, self.auxiliary)

    @property
    def parameters(self) -> int:
        """How many numbers all networks have learnt."""
        return sum(encoder.parameters for encoder in self.encoders)

    def learning_from(self, support: Sequence[Photo]) -> Stage:
        """This stage; where the network knows no texts, one with the prototypes of these photos instead."""
        if self.encoder.has_text:
            return self
        return dataclasses.replace(self, later_texts=Later(lambda: self._prototypes(support)))

    def _prototypes(self, support: Sequence[Photo]) -> TextFeatures:
        features, classes = self.photos([photo.path for photo in support]), len(self.images.class_names)
        if features.bad:
            return _no_texts(classes, self.encoder.width)
        labels = np.array([photo.label for photo in support], dtype=np.int64)
        normal, raw = (class_means(rows, labels, classes) for rows in (features.normalised, features.raw))
        return TextFeatures(normalise(normal), np.asarray(raw, dtype=np.float32), ())

    @property
    def cache(self) -> Path:
        """Folder of the feature stores."""
        return Path(self.settings.cache)

    def photos(self, paths: Sequence[Path]) -> PhotoFeatures:
        """Features of photos, encoded or found."""
        return encode_photos(self.encoder, paths, self.cache, self.settings.workers)

    def views(self, support: Sequence[Photo]) -> Array | None:
        """(V, N, d) normalised features of augmented copies of the shots; None where the settings want none."""
        count, seed = self.settings.views, self.settings.seed
        if not count or not support:
            return None
        return normalise(encode_views(self.encoder, [photo.path for photo in support], self.cache, count, seed))

    def queries(self, photos: PhotoFeatures) -> Queries:
        """The readable ones of some photos, to be scored."""
        rows = np.flatnonzero(photos.readable)
        paths = [photos.paths[row] for row in rows]
        return Queries(photos.normalised[rows], photos.raw[rows], self.second_view(paths), self.encoding(paths))

    def second_view(self, paths: Sequence[Path]) -> Array | None:
        """(M, d') features of readable photos by the auxiliary network; None without one."""
        return encode_photos(self.auxiliary, paths, self.cache, self.settings.workers).raw if self.auxiliary else None

    @property
    def named_head(self) -> NamedHead | None:
        """What the ImageNet network's own classes say of these; None without such a network."""
        network = self.auxiliary or self.encoder
        if not isinstance(network, BackboneEncoder):
            return None
        return network.named_head(self.images.class_names, self.images.domains)

    def encoding(self, paths: Sequence[Path]) -> Callable[[Callable[[Weights], Weights]], Array]:
        """What `Queries.encode` is for photos that can be read."""
        return lambda change: dataclasses.replace(self, encoder=self.clip.tuned(change)).photos(paths).raw

    def link(self, support: Sequence[Photo] = ()) -> EncoderLink | None:
        """CLIP itself, for methods that train through it on these photos; None where there is none."""
        if not isinstance(self.encoder, Encoder):
            return None
        clip = self.encoder
        pairs = list(zip(self.images.class_names, self.images.domains, strict=True))
        return EncoderLink(
            Later(lambda: clip.model),
            tuple(self.prompts.class_name(name, domain) for name, domain in pairs),
            tuple(self.prompts.texts(name, domain)[0] for name, domain in pairs),
            TrainingPhotos(
                [photo.path for photo in support], self.encoder.image_size, self.encoder.transform, self.encoder.reading
            ),
        )

    @property
    def baseline(self) -> str:
        """What `zero_shot` is."""
        return "zero-shot" if self.encoder.has_text else "prototypes"

    def zero_shot(self, features: Array) -> Array:
        """(M, C) zero-shot logits of (M, d) normalised features, or those of what stands in for texts."""
        return np.asarray(self.encoder.logit_scale * (features @ self.texts.weights.T), dtype=np.float32)


def open_data(settings: Settings) -> ImageSet:
    """Read the data set that settings name, drawing the sample if it is that."""
    if settings.data == SAMPLE:
        from jclip_adapter.data.sample import ensure_sample

        images = load_dataset(ensure_sample(), split=settings.split)
    else:
        with doing(f"reading {settings.data}"):
            images = load_dataset(
                settings.data, split=settings.split, layout=settings.layout, follow_links=settings.follow_links
            )
    refuse_idle_on_data(settings, images)
    return images


def check_test_photos(images: ImageSet) -> None:
    """Refuse a data set that has no photos to predict.

    Raises:
        DataError: it has none.
    """
    if not images.test:
        raise DataError(f"{images.source} has no test photos.", "Use --predict --images PATH … for photos elsewhere.")


def set_up(
    settings: Settings,
    *,
    texts_later: bool = False,
    words: Mapping[str, str] | None = None,
    elsewhere: Sequence[Path] = (),
) -> Stage:
    """Open the data set, load the networks and encode the classes' prompts.

    Args:
        settings: The settings.
        texts_later: Leave the prompts until they are asked for, which may be never.
        words: Each class in words, as a run has them; None to find them, as `class_names.name_classes` does.
        elsewhere: Photos outside the data set that are to be encoded in place of its own.

    Returns:
        The stage.

    Raises:
        DataError: the run of --encoder is of other weights or classes, or has not tuned CLIP; or nothing tells the
            white level of photos of 16 bits.
        UsageError: an option has no effect.
    """
    refuse_idle_on_network(settings)
    chain = open_chain(Path(settings.encoder)) if settings.encoder else ()
    given = chain[0] if chain else None
    if given and not settings.weights:
        of_run = given.facts["settings"]
        model_config = settings.model_config or of_run.get("model_config", "")
        settings = dataclasses.replace(settings, weights=of_run["weights"], model_config=model_config)
    images = open_data(settings)
    prompts = _prompts(settings, images, words)
    settings = dataclasses.replace(settings, white_level=_white_level(settings, images, elsewhere))
    cache = Path(settings.cache)
    name, details = settings.weights_or_default, (settings.device, settings.batch_size, cache)
    auxiliary = load_backbone(settings.auxiliary, *details) if settings.auxiliary else None
    auxiliary = auxiliary and dataclasses.replace(auxiliary, reading=settings.reading)
    if name in backbones.KNOWN:
        if settings.model_config:
            raise UsageError(f"--model-config goes with a CLIP, and {name} is none.", "Leave --model-config out.")
        if given or auxiliary:
            flag = "--encoder" if given else "--auxiliary"
            raise UsageError(f"{flag} goes beside a CLIP, and {name} is none.", "Give --weights a CLIP.")
        network = dataclasses.replace(load_backbone(name, *details, settings.precision), reading=settings.reading)
        stage = Stage(settings, images, prompts, network, Later(lambda: _no_texts(len(images.classes), network.width)))
        tell_size(stage)
        return stage
    encoder = load_encoder(name, *details, settings.precision, settings.model_config)
    encoder = dataclasses.replace(encoder, reading=settings.reading)
    learnt = None
    for run in reversed(chain):
        encoder, learnt = _on_top_of(run, encoder, images)
    texts = Later(lambda: learnt or encode_classes(encoder, prompts, images.class_names, images.domains, cache))
    if not texts_later:
        texts.get()  # a prompt that is too long is told before the photos are encoded
    stage = Stage(settings, images, prompts, encoder, texts, chain, auxiliary)
    tell_size(stage)
    return stage


def _prompts(settings: Settings, images: ImageSet, words: Mapping[str, str] | None) -> PromptSet:
    """The prompt set for these classes; what is odd about it is logged, where the network reads texts at all."""
    prompts = load_prompts(settings.prompts)
    warnings: list[str] = []
    if words is None:
        prompts, warnings = name_classes(prompts, images, settings.class_names)
    else:
        prompts = prompts.respelled(words)
    warnings += [*prompts.check_domains(images.domains), *prompts.check_names(images.class_names, images.domains)]
    for warning in warnings if settings.weights_or_default not in backbones.KNOWN else ():
        logger.warning("%s", warning)
    return prompts


def _white_level(settings: Settings, images: ImageSet, elsewhere: Sequence[Path]) -> int:
    """The white level: the user's, that of the run that the settings are of, or what the photos' values tell."""
    photos = [photo.path for photo in (*images.train, *images.test)]
    if "white_level" in settings.given:
        check_white_level(settings.white_level, [*photos, *elsewhere])
        return settings.white_level
    level = settings.white_level or find_white_level(photos)
    if not level:
        return find_white_level(elsewhere)
    if settings.white_level or elsewhere:
        compare_white_level(level, elsewhere or photos, str(settings.run_folder) if settings.white_level else "")
    return level


def _no_texts(classes: int, width: int) -> TextFeatures:
    nothing = np.zeros((classes, width), dtype=np.float32)
    return TextFeatures(nothing, nothing, ())


def tell_size(stage: Stage) -> None:
    """Tell how many parameters photos and texts go through, and warn where the contest allows no more."""
    count = stage.parameters
    logger.info("%.1f million parameters in all", count / 1e6)
    if count > MOST_PARAMETERS:
        logger.warning(
            "%.1f million parameters are more than the contest's %d million", count / 1e6, MOST_PARAMETERS // 10**6
        )


def _on_top_of(run: Run, encoder: Encoder, images: ImageSet) -> tuple[Encoder, TextFeatures | None]:
    """The encoder with what a run has tuned of CLIP, and the class texts that it has learnt as prompts, if any."""
    method = run.method
    if encoder.sha256 != run.facts["weights_sha256"]:
        raise DataError(f"{run.folder} was trained with other weights than {encoder.weights}.", "See --weights.")
    _check_description(run, encoder)
    if method.encoder_:
        return encoder.tuned(method.encoder_weights), None
    learnt = method.learnt().get("text_")
    if "encoder" not in method.meta.needs or learnt is None:
        raise DataError(
            f"{run.folder} is of {method.meta.name}, which leaves CLIP and the classes' texts as they were.",
            "Give --encoder the run of a method that trains through CLIP, such as clip-lora or coop.",
        )
    if method.classes_ != images.class_names:
        raise DataError(f"{run.folder} has learnt prompts of other classes than {images.source} has.", "Check --data.")
    return encoder, TextFeatures(learnt, learnt, tuple(row[None] for row in learnt))


def _check_description(run: Run, encoder: ImageEncoder) -> None:
    """Refuse a run whose weights were run with other settings than now; an older version ran all with OpenAI's."""
    if isinstance(encoder, Encoder) and run.facts.get("model", encoder.openai_description) != encoder.description:
        raise DataError(
            f"{run.folder} was trained with other settings of {encoder.weights} (activation, heads or preprocessing).",
            "Train again.",
        )


def make_task(stage: Stage, support: Sequence[Photo]) -> FewShotTask:
    """Encode the support photos and put the task together.

    Raises:
        DataError: a support photo cannot be read; each is named.
    """
    paths = [photo.path for photo in support]
    features = stage.photos(paths)
    if features.bad:
        raise DataError(
            f"{len(features.bad)} of the chosen training photos cannot be read, the first: "
            f"{next(iter(features.bad.values()))}",
            "Replace them, or choose others with --support or --seed.",
            list(features.bad.values()),
        )
    task = FewShotTask(
        support_features=features.normalised,
        support_labels=np.array([photo.label for photo in support], dtype=np.int64),
        text_features=stage.texts.weights,
        class_names=stage.images.class_names,
        domains=stage.images.domains,
        logit_scale=stage.encoder.logit_scale,
        support_raw=features.raw,
        text_raw=stage.texts.raw,
        support_views=stage.views(support),
        text_views=stage.texts.views,
        encoder=stage.link(support),
        auxiliary=stage.second_view(paths),
        named_head=stage.named_head,
    )
    return task if stage.encoder.has_text else task.with_prototypes()


def fingerprint(task: FewShotTask) -> str:
    """SHA-256 of a task's features, whichever weights, prompts or photos they came from."""
    texts = (task.text_features, task.text_features if task.text_raw is None else task.text_raw, *task.text_views)
    views = () if task.support_views is None else (task.support_views,)
    second = () if task.auxiliary is None else (task.auxiliary,)
    head = () if task.named_head is None else (np.frombuffer(repr(task.named_head.ids).encode(), np.uint8),)
    parts = (task.raw, task.support_labels, *views, *texts, *second, *head)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


@dataclass(frozen=True)
class Trained:
    """A stage with a fitted method on it; `folder` is its run's, None for a method that needs none."""

    stage: Stage
    later_method: Later[Method]
    folder: Path | None

    @property
    def method(self) -> Method:
        """The fitted method."""
        return self.later_method.get()

    @property
    def image_encoders(self) -> tuple[ImageEncoder, ...]:
        """Every network whose photo features `logits` needs: the stage's, and a CLIP that the method has tuned."""
        if self.folder is None or not self.method.tunes_images:
            return self.stage.encoders
        return *self.stage.encoders, self.stage.clip.tuned(self.method.encoder_weights)

    def logits(self, features: PhotoFeatures) -> Array:
        """(M, C) scores of the readable photos, M of them, in order."""
        with doing(f"scoring by {self.method.meta.name}"):
            return self.method.logits(self.stage.queries(features))


def _needs_run(settings: Settings, method: Method) -> bool:
    """Whether a trained run is asked for: by the method, by the user, or by being there.

    A method that does without shots may have been trained all the same, on shots or so that these are not scored on.
    """
    if settings.run or "support" in method.meta.needs or (settings.run_folder / MANIFEST).is_file():
        return True
    if not uses_shots(method):
        return False
    if settings.given & {"shots", "support"}:
        return True
    logger.info("%s: no shots are used, as there is no trained run in %s", method.meta.name, settings.run_folder)
    return False


def _check_given(settings: Settings, run: Run, stage: Stage) -> None:
    """Refuse files whose content is no longer what the run was trained with, where the user names them again."""
    if "class_names" in settings.given:
        prompts, _ = name_classes(load_prompts(stage.settings.prompts), stage.images, settings.class_names)
        if words_of(prompts, stage.images) != run.facts.get("class_names"):
            raise UsageError(f"{run.folder} was trained with other words than {settings.class_names}.", "Train again.")
    if "support" in settings.given and settings.support not in ("random", "first"):
        named = {photo.relative for photo in read_support(settings.support, stage.images)}
        if named != {photo.relative for photo in read_shots(run.folder, stage.images).photos}:
            raise UsageError(f"{run.folder} was trained on other shots than {settings.support} names.", "Train again.")


def open_trained(settings: Settings, *, texts_later: bool = False, elsewhere: Sequence[Path] = ()) -> Trained:
    """Set up a trained run again; a method that needs no support photo needs no run either.

    Args:
        settings: The settings; what the features depend on is taken from the run.
        texts_later: As for `set_up`.
        elsewhere: As for `set_up`.

    Raises:
        DataError: there is no such run, or the weights or classes are others than it was trained with.
    """
    method = create(settings.method, seed=settings.seed, **settings.set)
    refuse_idle_on_methods(settings, [method])
    if not _needs_run(settings, method):
        stage = set_up(settings, texts_later=texts_later, elsewhere=elsewhere)
        return Trained(stage, Later(lambda: method.fit(make_task(stage, ()))), None)
    run = load_run(settings)
    trained = run.facts["settings"]
    if load_prompts(trained["prompts"]).fingerprint() != run.facts["prompts"]:
        raise DataError(
            f"{run.folder} was trained with other prompts than {trained['prompts']} holds now.", "Train again."
        )
    settings = dataclasses.replace(settings, **_bound(run, settings))
    words = run.facts.get("class_names", {})
    stage = set_up(settings, texts_later=texts_later, words=words, elsewhere=elsewhere)
    if stage.encoder.sha256 != run.facts["weights_sha256"]:
        raise DataError(
            f"{run.folder} was trained with other weights than {stage.encoder.weights} holds now.", "Train again."
        )
    _check_description(run, stage.encoder)
    if list(stage.images.class_names) != [canonical(name) for name in run.facts["classes"]]:
        raise DataError(f"{run.folder} was trained on other classes than {settings.data} has.", "Train again.")
    _check_given(settings, run, stage)
    check_trained_on(run, stage.chain)
    link = stage.link()
    if link:
        run.method.attach(link)
    if not stage.encoder.has_text:
        stage = stage.learning_from(read_shots(run.folder, stage.images).same)
    return Trained(stage, Later(lambda: run.method), run.folder)


def _bound(run: Run, settings: Settings) -> dict[str, Any]:
    """The settings that a run's features depend on, as it was trained; what its version did not write down was so."""
    trained = run.facts["settings"]
    names = ("weights", "encoder", "prompts", "split", "precision", "auxiliary", "model_config", "layout")
    bound = {name: trained_with(trained, name) for name in (*names, *Reading._fields)}
    bound["run"] = str(run.folder)  # whose name by the settings may be another one now
    bound["follow_links"] = settings.follow_links or trained.get("follow_links", False)
    if "model" not in run.facts:  # of a version that ran all weights with OpenAI's settings
        bound["model_config"] = settings.model_config
    if "white_level" in settings.given:  # it belongs to the photos, which may be of another camera than the run's
        old, bound["white_level"] = bound["white_level"], settings.white_level
        if old not in (0, settings.white_level):
            told = "%s was trained with %d as white, and photos are read with %d"
            logger.warning(told, run.folder, old, settings.white_level)
    return bound
