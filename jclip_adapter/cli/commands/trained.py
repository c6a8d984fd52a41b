"""Opens a trained run for evaluation and prediction."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from jclip_adapter.cli.runs import RUN, Run, is_moved, load_run, take_only_run, trained_with
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.calibration import Calibration
from jclip_adapter.core.console import doing
from jclip_adapter.core.errors import DataError, MissingError, UsageError
from jclip_adapter.core.task import Array
from jclip_adapter.data.photos.reading import Reading
from jclip_adapter.data.predictions import Predictions
from jclip_adapter.data.sets import ImageSet, read_support
from jclip_adapter.data.sets.model import ClassInfo, labels_of, paths_of
from jclip_adapter.data.sets.names import canonical
from jclip_adapter.data.sets.typed import classes_alone
from jclip_adapter.data.texts.class_names import name_classes, words_of
from jclip_adapter.data.texts.prompts import load_prompts
from jclip_adapter.evaluation.metrics import top_k_ids
from jclip_adapter.features.encoding import PhotoFeatures
from jclip_adapter.features.shots import Shots
from jclip_adapter.features.task_encoder import TaskEncoder
from jclip_adapter.methods import Method, create
from jclip_adapter.models.base import ImageEncoder
from jclip_adapter.models.weights.hub import pinned
from jclip_adapter.storage import MANIFEST, read_json

from .chain import check_trained_on
from .effects import refuse_beside_names, refuse_idle_on_methods, refuse_without_shots
from .setup import Setup, check_auxiliary, check_description, draw_of, set_up
from .shots import read_shots

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A fitted method with its data set and networks.

    Attributes:
        images: The data set.
        tasks: Networks and classes.
        unfitted: The run's fitted method, or one to be fitted without shots.
        setup: What a method without shots is fitted on; None with a run.
        folder: The run folder; None without a run.
        shots: The run's shots.
    """

    images: ImageSet
    tasks: TaskEncoder
    unfitted: Method
    setup: Setup | None = None
    folder: Path | None = None
    shots: Shots = field(default_factory=Shots)

    @cached_property
    def method(self) -> Method:
        """The fitted method."""
        return (
            self.unfitted
            if self.setup is None
            else self.unfitted.fit(self.setup.task((), draw_of(self.setup.settings)))
        )

    @property
    def image_encoders(self) -> tuple[ImageEncoder, ...]:
        """Every network whose photo features `logits` needs, including a CLIP tuned by the method."""
        if self.folder is None or not self.method.tunes_images:
            return self.tasks.encoders
        return *self.tasks.encoders, self.tasks.clip.tuned(self.method.encoder_weights)

    @cached_property
    def calibration(self) -> Calibration:
        """The fitted method's calibration; logged where there is none."""
        found = self.method.calibration_
        if not found.source:
            logger.info("%s: the probabilities are not calibrated (temperature 1)", self.folder or "no run")
        return found

    def predictions(
        self,
        features: PhotoFeatures,
        logits: Array,
        names: Sequence[str],
        top: int,
        reject: float | None,
        truth: Sequence[str] | None = None,
    ) -> Predictions:
        """The predictions for N photos, M of which could be read.

        Args:
            features: The photos'.
            logits: (M, C) of those that could be read.
            names: N names.
            top: Classes per photo.
            reject: Share of photos of the classes that may be refused; None to refuse none.
            truth: N class names; None if they are not known.

        Raises:
            UsageError: `reject` has too few held-out photos.
        """
        known = self.calibration
        return Predictions(
            names,
            features.bad,
            self.images.class_names,
            top_k_ids(logits, top),  # small probabilities may be equal
            known.probabilities(logits),
            None if reject is None else known.is_known(logits, reject),
            truth,
        )

    def logits(self, features: PhotoFeatures) -> Array:
        """(M, C) logits of the M readable photos, in order."""
        with doing(f"scoring by {self.method.meta.name}"):
            return self.method.logits(self.tasks.queries(features))


def open_trained(settings: Settings, *, encode_texts: bool = True, elsewhere: Sequence[Path] = ()) -> Trained:
    """Open a trained run; a method that needs no support photo needs no run.

    Args:
        settings: The settings; those that features depend on are the run's.
        encode_texts: As for `set_up`.
        elsewhere: As for `set_up`.

    Raises:
        DataError: there is no such run, its weights or classes differ, or the network lacks what the method needs.
        UsageError: --reject is not possible with the run's held-out photos.
    """
    settings = as_trained(settings)
    method = create(settings.method_or_default, seed=settings.seed, **settings.set)
    refuse_idle_on_methods(settings, [method])
    refuse_without_shots(settings, method)
    refuse_beside_names(settings, method)
    if not _needs_run(settings, method):
        _check_reject(method, settings)
        setup = set_up(settings, encode_texts=encode_texts, elsewhere=elsewhere)
        fresh = Trained(setup.images, setup.tasks, method, setup)
        if encode_texts:
            _ = fresh.method  # refused before photos are encoded if the network does not suit it
        return fresh
    run = load_run(settings)
    _check_reject(run.method, settings)
    trained = run.facts["settings"]
    if load_prompts(trained["prompts"]).fingerprint() != run.facts["prompts"]:
        raise DataError(
            f"{run.folder} was trained with other prompts than those of {trained['prompts']}.", "Train again."
        )
    settings = dataclasses.replace(settings, **_bound(run, settings))
    words = run.facts.get("class_names", {})
    setup = set_up(settings, encode_texts=encode_texts, words=words, elsewhere=elsewhere)
    images, tasks = setup.images, setup.tasks
    if tasks.encoder.sha256 != run.facts["weights_sha256"]:
        raise DataError(f"{run.folder} was trained with other weights than {tasks.encoder.weights}.", "Train again.")
    check_description(run, tasks.encoder)
    check_auxiliary(run, tasks)
    if list(images.class_names) != [canonical(name) for name in run.facts["classes"]]:
        raise DataError(f"{run.folder} was trained on other classes than those of {settings.data}.", "Train again.")
    shots = read_shots(run.folder, images, tasks)
    _check_given(settings, run, images, shots)
    check_trained_on(run, setup.chain)
    link = tasks.link()
    if link:
        run.method.attach(link)
    tasks = tasks.with_prototypes(paths_of(shots.same), labels_of(shots.same))
    if elsewhere:
        tasks = dataclasses.replace(tasks, lookup=None)  # which has features of the data set alone
    return Trained(images, tasks, run.method, None, run.folder, shots)


def open_on_parts(settings: Settings) -> Trained:
    """Open a trained run for features in parts, without the data that it was trained on; or the names of --classes.

    Args:
        settings: The settings; their data are the features.

    Raises:
        DataError: there is no such run, or its network is another one than that of the features.
        UsageError: the method or a setting needs the photos themselves, or --reject too few held-out photos.
    """
    settings = as_trained(settings)
    method = create(settings.method_or_default, seed=settings.seed, **settings.set)
    refuse_without_shots(settings, method)
    refuse_beside_names(settings, method)
    if settings.classes:
        setup = set_up(settings)
        return Trained(setup.images, setup.tasks, method, setup)
    if not settings.run_folder.is_dir():
        raise MissingError(
            f"there is no trained run in {settings.run_folder}.",
            'Give --run a run of any data with the network of these features, or --classes "cat, dog".',
        )
    run = load_run(settings)
    _check_reject(run.method, settings)
    if run.method.tunes_images or any(run.facts["settings"].get(name) for name in ("auxiliary", "encoder")):
        raise UsageError(
            f"{run.folder} needs the photos themselves: its features are not those of one network as published.",
            "Choose a run of a method on CLIP's features.",
        )
    if "domains" not in run.facts:
        raise DataError(f"{run.folder} was trained by an older version, which did not store domains.", "Train again.")
    settings = dataclasses.replace(settings, run=str(run.folder), method=run.method.meta.name)
    rows = zip(run.facts["class_ids"], run.facts["classes"], run.facts["domains"], strict=True)
    classes = tuple(ClassInfo(number, canonical(name), domain, "") for number, name, domain in rows)
    images = classes_alone(classes, run.folder)
    setup = set_up(settings, encode_texts=False, words=run.facts.get("class_names", {}), images=images)
    if setup.tasks.encoder.sha256 != run.facts["weights_sha256"]:
        raise DataError(
            f"{run.folder} was trained with other weights than those that {settings.data} was made by.", "Train again."
        )
    check_description(run, setup.tasks.encoder)
    link = setup.tasks.link()
    if link:
        run.method.attach(link)
    return Trained(images, setup.tasks, run.method, None, run.folder)


def as_trained(settings: Settings) -> Settings:
    """The settings with the run that they name, or the only one on their data, and with its --audio and --photos."""
    if settings.classes:
        return settings
    settings = take_only_run(settings)
    folder = settings.run_folder
    if not (folder / MANIFEST).is_file() or not (folder / RUN).is_file():
        return settings
    trained = read_json(folder / RUN).get("settings", {})
    own = {name: trained_with(trained, name) for name in ("audio", "photos") if name not in settings.given}
    return dataclasses.replace(settings, run=str(folder), **own)


def _needs_run(settings: Settings, method: Method) -> bool:
    """Whether a run is needed: by the method, by an option, or because there is one.

    A method that works without shots may still have been trained on some, which must not be scored.
    """
    if settings.classes:
        return False
    if settings.run or "support" in method.meta.needs or (settings.run_folder / MANIFEST).is_file():
        return True
    if not method.uses_shots or not settings.shots:
        return False
    if settings.given & {"shots", "support"}:
        return True
    logger.info("%s without shots: there is no trained run in %s", method.meta.name, settings.run_folder)
    return False


def _check_reject(method: Method, settings: Settings) -> None:
    """Refuse --reject where it is not possible, before photos are encoded."""
    if settings.reject is not None:
        method.calibration_.threshold(settings.reject)


def _check_given(settings: Settings, run: Run, images: ImageSet, shots: Shots) -> None:
    """Refuse files given again whose content differs from what the run was trained with."""
    if "class_names" in settings.given:
        prompts, _ = name_classes(load_prompts(settings.prompts_or_default), images, settings.class_names)
        if words_of(prompts, images) != run.facts.get("class_names"):
            raise UsageError(
                f"{run.folder} was trained with other class names than {settings.class_names}.", "Train again."
            )
    if "support" in settings.given and settings.support not in ("random", "first"):
        named = {photo.relative for photo in read_support(settings.support, images)}
        if named != {photo.relative for photo in shots.photos}:
            raise UsageError(f"{run.folder} was trained on other shots than {settings.support}.", "Train again.")


def _bound(run: Run, settings: Settings) -> dict[str, Any]:
    """The run's values of the settings that features depend on; those of its version where it did not store them."""
    trained = run.facts["settings"]
    names = ("weights", "encoder", "prompts", "split", "precision", "auxiliary", "model_config", "layout")
    bound = {name: trained_with(trained, name) for name in (*names, *Reading._fields)}
    for name in ("weights", "auxiliary"):
        bound[name] = pinned(bound[name], run.facts.get(f"{name}_revision", ""))
        if is_moved(settings, name):
            bound[name] = getattr(settings, name)
    bound["run"] = str(run.folder)  # the changed settings would name another folder
    bound["follow_links"] = settings.follow_links or trained.get("follow_links", False)
    if "model" not in run.facts:  # from a version that used OpenAI's settings for all weights
        bound["model_config"] = settings.model_config
    if "white_level" in settings.given:  # a property of the photos, which may be of another camera
        old, bound["white_level"] = bound["white_level"], settings.white_level
        if old not in (0, settings.white_level):
            text = "%s was trained with white level %d, photos are read with %d"
            logger.warning(text, run.folder, old, settings.white_level)
    return bound
