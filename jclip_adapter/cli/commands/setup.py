"""Setup shared by all commands on photos: data set, networks and prompts."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jclip_adapter.cli.runs import Run
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.choices import AUDIO_MODES, SAMPLE
from jclip_adapter.core.console import doing
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.task import FewShotTask
from jclip_adapter.data.photos.reading import Reading
from jclip_adapter.data.photos.white_level import check_white_level, compare_white_level, find_white_level
from jclip_adapter.data.sample import ensure_sample
from jclip_adapter.data.sets import ImageSet, Photo, load_dataset
from jclip_adapter.data.sets.model import PARTS, labels_of, paths_of
from jclip_adapter.data.sets.support import Draw
from jclip_adapter.data.sets.typed import typed_classes
from jclip_adapter.data.texts.class_names import name_classes
from jclip_adapter.data.texts.prompts import PromptSet, load_prompts
from jclip_adapter.features.encoding import TextFeatures
from jclip_adapter.features.parts.lookup import Lookup
from jclip_adapter.features.task_encoder import TaskEncoder
from jclip_adapter.models import backbones
from jclip_adapter.models.audioclip.encoder import AudioClip, load_audioclip
from jclip_adapter.models.backbones.encoder import load_backbone
from jclip_adapter.models.base import ImageEncoder
from jclip_adapter.models.clip.encoder import Encoder, load_encoder
from jclip_adapter.models.weights.hub import pinned

from .beside import Beside, open_beside
from .chain import open_chain
from .effects import refuse_idle, refuse_idle_on_data, refuse_idle_on_network

_TOKENIZER = "text_vocabulary"
logger = logging.getLogger(__name__)
MOST_PARAMETERS = 500_000_000  # in all networks, by the contest's rules


@dataclass(frozen=True)
class Setup:
    """The data set and its encoders.

    Attributes:
        settings: With the weights and the white level in use.
        images: The data set.
        tasks: Networks and classes.
        chain: The runs behind --encoder, whose CLIP `tasks` uses.
        audioclip: AudioCLIP, if there are sounds.
    """

    settings: Settings
    images: ImageSet
    tasks: TaskEncoder
    chain: tuple[Run, ...] = ()
    audioclip: AudioClip | None = None

    @cached_property
    def beside(self) -> Beside | None:
        """The data set of --audio or --photos; None without.

        Raises:
            DataError: it cannot be read, or has none of the classes.
        """
        settings = self.settings
        if self.audioclip is None or not (settings.audio or settings.photos):
            return None
        heard = bool(settings.audio)
        images = open_beside(settings.audio or settings.photos, "sound" if heard else "photo", self.images, settings)
        level = settings.white_level if heard else white_level(settings, images, ())
        clip = dataclasses.replace(self.audioclip.clip, reading=settings.reading._replace(white_level=level))
        tasks = dataclasses.replace(self.tasks, encoder=self.audioclip.sounds if heard else clip)
        return Beside("audio" if heard else "image", images, tasks, self.audioclip.scales.audio_image)

    def task(self, support: Sequence[Photo], draw: Draw) -> FewShotTask:
        """The task of some shots, with as many rows per class of --audio or --photos as the draw has shots."""
        settings = self.settings
        task = self.tasks.task(paths_of(support), labels_of(support), settings.views, settings.seed)
        return self.beside.added_to(task, draw) if self.beside else task


def open_data(settings: Settings) -> ImageSet:
    """Read the data set, unpacking the sample if needed; or the names of --classes."""
    images = typed_classes(settings.classes) if settings.classes else _read_data(settings)
    refuse_idle_on_data(settings, images)
    return images


def _read_data(settings: Settings) -> ImageSet:
    source = ensure_sample() if settings.data == SAMPLE else Path(settings.data)
    with doing(f"reading {settings.data}"):
        return load_dataset(
            source,
            split=settings.split,
            layout=settings.layout,
            follow_links=settings.follow_links,
            kind=settings.kind,
        )


def log_data(images: ImageSet, use: str) -> None:
    """Log in one line what data was found, what is used of it, and what was decided about its layout."""
    text = "; ".join([f"{images.source}: {images.summary}", use, *images.notes])
    logger.log(logging.WARNING if images.notes else logging.INFO, "%s", text)


def draw_of(settings: Settings) -> Draw:
    """How the settings choose the support set."""
    return Draw(settings.shots, settings.seed, settings.support, settings.strict)


def check_test_photos(images: ImageSet) -> None:
    """Refuse a data set that has no photos to predict.

    Raises:
        DataError: there are none.
    """
    if not images.test:
        kind = images.kind
        raise DataError(
            f"{images.source} has no test {kind}s.", f"Use --predict --images PATH … for {kind}s elsewhere."
        )


def set_up(
    settings: Settings,
    *,
    encode_texts: bool = True,
    words: Mapping[str, str] | None = None,
    elsewhere: Sequence[Path] = (),
    images: ImageSet | None = None,
) -> Setup:
    """Open the data set, read the networks' weights and encode the prompts.

    Args:
        settings: The settings.
        encode_texts: Encode the prompts now, so that one that is too long is refused before photos are encoded.
        words: A run's class names in words; None to find them by `class_names.name_classes`.
        elsewhere: Photos outside the data set that are encoded instead of its own.
        images: The data set, if it is open already.

    Raises:
        DataError: the run of --encoder has other weights or classes, or has not tuned CLIP; or the white level of
            16-bit photos is unknown.
        UsageError: an option has no effect.
    """
    refuse_idle_on_network(settings)
    images = images or open_data(settings)
    chain = open_chain(Path(settings.encoder)) if settings.encoder else ()
    if chain and not settings.weights:
        of_run = chain[0].facts["settings"]
        model_config = settings.model_config or of_run.get("model_config", "")
        weights = pinned(of_run["weights"], chain[0].facts.get("weights_revision", ""))
        settings = dataclasses.replace(settings, weights=weights, model_config=model_config)
    prompts = _prompts(settings, images, words)
    settings = _as_encoded(settings, elsewhere) if settings.parts else settings
    settings = dataclasses.replace(settings, white_level=white_level(settings, images, elsewhere))
    audioclip = read_audioclip(settings) if settings.audio or images.kind == "sound" else None
    encoder = open_network(settings, bool(chain), audioclip)
    if settings.parts:
        check_encoded(encoder, Path(settings.data), settings.parts)
    learnt = None
    for run in reversed(chain):
        encoder, learnt = _on_top_of(run, encoder, images)
    tasks = TaskEncoder(
        encoder,
        images.class_names,
        images.domains,
        prompts,
        Path(settings.cache),
        _second_network(settings) if settings.auxiliary else None,
        settings.workers,
        learnt,
        Lookup(images.root) if images.layout == PARTS else None,
    )
    _log_size(tasks)
    if encode_texts:
        _ = tasks.texts
    return Setup(settings, images, tasks, chain, audioclip)


def read_audioclip(settings: Settings) -> AudioClip:
    """The network that encodes sounds, photos and texts.

    Raises:
        UsageError: other weights are named.
    """
    name = settings.weights
    if not name or name == SAMPLE or name in backbones.KNOWN:
        raise UsageError(
            f"sounds need AudioCLIP's weights, not {settings.weights_or_default}.",
            "Give --weights AudioCLIP-Partial-Training.pt (docs/sound.md says where it is).",
        )
    return load_audioclip(
        name,
        settings.device,
        settings.batch_size,
        Path(settings.cache),
        settings.audio_mode or AUDIO_MODES[0],
        precision=settings.precision,
        model_config=settings.model_config,
    )


def _as_encoded(settings: Settings, elsewhere: Sequence[Path]) -> Settings:
    """The settings with the precision and the reading of photos that features in parts were made with."""
    refuse_idle(
        settings,
        _OF_PHOTOS - ({"workers", "batch_size"} if elsewhere else set()),
        f"on {settings.data}, which has features in place of photos",
    )
    return dataclasses.replace(settings, precision=settings.parts["precision"], **settings.parts["reading"])


_OF_PHOTOS = frozenset(
    {
        *("views", "auxiliary", "audio", "photos", "layout", "follow_links", "workers", "batch_size"),
        *("precision", *Reading._fields),
    }
)


def check_encoded(encoder: ImageEncoder, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse another network than the one that features in parts were made by.

    Args:
        encoder: The network.
        folder: The folder of the parts, for errors.
        manifest: Its manifest.

    Raises:
        DataError: it is another one.
    """
    if encoder.image_key() != manifest["encoder"]:
        raise DataError(
            f"the features in {folder} were made by {manifest['weights']}, not by {encoder.weights} as it is.",
            "Give --weights and --model-config as for their extraction.",
        )


def open_network(settings: Settings, tuned: bool = False, audioclip: AudioClip | None = None) -> ImageEncoder:
    """The network that encodes photos or sounds, and texts if it is a CLIP.

    Args:
        settings: The settings.
        tuned: Whether a run's tuned CLIP is used.
        audioclip: AudioCLIP, if there are sounds.

    Raises:
        UsageError: an option needs CLIP's weights.
    """
    if audioclip is not None:
        return dataclasses.replace(
            audioclip.clip if settings.kind == "photo" else audioclip.sounds, reading=settings.reading
        )
    name, device = settings.weights_or_default, (settings.device, settings.batch_size, Path(settings.cache))
    if name not in backbones.KNOWN:
        clip = load_encoder(name, *device, settings.precision, settings.model_config)
        return dataclasses.replace(clip, reading=settings.reading)
    if settings.model_config:
        raise UsageError(f"--model-config needs CLIP weights; {name} is an image network.", "Leave it out.")
    if tuned or settings.auxiliary:
        flag = "--encoder" if tuned else "--auxiliary"
        raise UsageError(f"{flag} needs CLIP weights; {name} is an image network.", "Give --weights a CLIP.")
    return dataclasses.replace(load_backbone(name, *device, settings.precision), reading=settings.reading)


def _second_network(settings: Settings) -> ImageEncoder:
    """The network of --auxiliary: by the name of an ImageNet network, else a CLIP."""
    name, device = settings.auxiliary, (settings.device, settings.batch_size, Path(settings.cache))
    if name in backbones.KNOWN:
        return dataclasses.replace(load_backbone(name, *device), reading=settings.reading)
    return dataclasses.replace(load_encoder(name, *device, settings.precision), reading=settings.reading)


def _prompts(settings: Settings, images: ImageSet, words: Mapping[str, str] | None) -> PromptSet:
    """The prompt set for these classes; its warnings are logged if the network has a text encoder."""
    prompts = load_prompts(settings.prompts_or_default)
    warnings: list[str] = []
    if words is None:
        prompts, warnings = name_classes(prompts, images, settings.class_names)
    else:
        prompts = prompts.respelled(words)
    warnings += [*prompts.check_domains(images.domains), *prompts.check_names(images.class_names, images.domains)]
    for warning in warnings if settings.weights_or_default not in backbones.KNOWN else ():
        logger.warning("%s", warning)
    return prompts


def white_level(settings: Settings, images: ImageSet, elsewhere: Sequence[Path]) -> int:
    """The white level: the user's, the run's, or the one inferred from the photos."""
    if images.layout == PARTS:
        return settings.white_level
    photos = paths_of([*images.train, *images.test]) if images.kind == "photo" else []
    elsewhere = elsewhere if images.kind == "photo" else ()
    if "white_level" in settings.given:
        check_white_level(settings.white_level, [*photos, *elsewhere])
        return settings.white_level
    level = settings.white_level or find_white_level(photos)
    if not level:
        return find_white_level(elsewhere)
    if settings.white_level or elsewhere:
        compare_white_level(level, elsewhere or photos, str(settings.run_folder) if settings.white_level else "")
    return level


def _log_size(tasks: TaskEncoder) -> None:
    """Log the number of parameters; a warning if it is over the contest's limit."""
    count = tasks.parameters
    over = f", over the contest's limit of {MOST_PARAMETERS // 10**6} million" if count > MOST_PARAMETERS else ""
    logger.log(logging.WARNING if over else logging.INFO, "%.1f million parameters%s", count / 1e6, over)


def _on_top_of(run: Run, encoder: ImageEncoder, images: ImageSet) -> tuple[Encoder, TextFeatures | None]:
    """The CLIP with a run's tuned weights, and the run's text features if it learnt prompts."""
    method = run.method
    if not isinstance(encoder, Encoder) or encoder.sha256 != run.facts["weights_sha256"]:
        raise DataError(f"{run.folder} was trained with other weights than {encoder.weights}.", "Check --weights.")
    check_description(run, encoder)
    if method.encoder_:
        return encoder.tuned(method.encoder_weights), None
    learnt = method.learnt().get("text_")
    if "encoder" not in method.meta.needs or learnt is None:
        raise DataError(
            f"{run.folder} was trained by {method.meta.name}, which tunes neither CLIP nor prompts.",
            "Give --encoder the run of a method that trains through CLIP, such as clip-lora or coop.",
        )
    if method.classes_ != images.class_names:
        raise DataError(f"{run.folder} has prompts for other classes than those of {images.source}.", "Check --data.")
    return encoder, TextFeatures(learnt, learnt, tuple(row[None] for row in learnt))


def check_auxiliary(run: Run, tasks: TaskEncoder) -> None:
    """Refuse a run whose second network was another one, or was run with other settings.

    Raises:
        DataError: they differ.
    """
    second = tasks.auxiliary
    if second is None:
        return
    trained = (run.facts.get("auxiliary_sha256", second.sha256), run.facts.get("auxiliary_model", {}))
    if trained != (second.sha256, second.description):
        raise DataError(f"{run.folder} was trained with another second network than {second.weights}.", "Train again.")


def check_description(run: Run, encoder: ImageEncoder) -> None:
    """Refuse a run that used its weights with other settings; an older version used OpenAI's for all.

    Raises:
        DataError: the settings differ.
    """
    if isinstance(encoder, Encoder) and run.facts.get("model", encoder.openai_description) != encoder.description:
        trained, now = run.facts.get("model", {}), encoder.description
        if trained | {_TOKENIZER: now.get(_TOKENIZER)} == now:
            raise DataError(
                f"{run.folder} was trained with another tokenizer than {encoder.source.config.text_vocabulary.path}.",
                "Put the original file back.",
            )
        raise DataError(
            f"{run.folder} was trained with other settings of {encoder.weights} (activation, heads or preprocessing).",
            "Train again.",
        )
