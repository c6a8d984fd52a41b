"""Training: fit a method on the shots and leave a run folder."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jclip_adapter.cli.options import TRAIN
from jclip_adapter.cli.runs import (
    CHECKPOINT,
    DIGESTS,
    METRICS,
    RUN,
    SUPPORT,
    check_run_folder,
    differences,
    open_run,
    save_run,
    versions,
)
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.console import doing
from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import FewShotTask, Queries
from jclip_adapter.data.sets import support_lines
from jclip_adapter.data.texts.class_names import words_of
from jclip_adapter.data.texts.prompts import load_prompts
from jclip_adapter.evaluation.metrics import accuracy
from jclip_adapter.evaluation.provenance import code_digest
from jclip_adapter.evaluation.selection import choose
from jclip_adapter.methods import Method, create
from jclip_adapter.methods.through_clip import ThroughClip
from jclip_adapter.storage import read_json

from .effects import refuse_idle_on_methods
from .overlap import in_two_classes, two_class_warning
from .shots import digest_lines
from .stage import Stage, check_test_photos, fingerprint, make_task, set_up
from .support import choose_support

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """What a training came to.

    Attributes:
        folder: The run folder.
        method: The fitted method.
        metrics: metrics.json.
    """

    folder: Path
    method: Method
    metrics: dict[str, Any]


def train(settings: Settings, selection: str = "none", *, resume: bool = False, predicts: bool = False) -> Training:
    """Fit a method on the shots and write the run folder.

    A training through CLIP keeps its state in the run folder while it lasts.

    Args:
        settings: The settings.
        selection: Where hyper-parameters that the settings leave open are chosen: "support", or "none" for the
            defaults.
        resume: Whether a training through CLIP that was stopped goes on, to the same result on the CPU; else it
            starts anew, and the older state is kept until it writes its own.
        predicts: Whether the test photos are going to be predicted: there have to be some.

    Returns:
        The training's outcome.

    Raises:
        UsageError: `resume` for a method that keeps no state, or with the state of another training; or the run
            folder is somebody else's.
        DataError: `predicts`, and there is no test photo.
        SetupError: the run folder cannot be written.
    """
    _check(settings, selection, resume=resume)
    finished = _finished(settings) if resume else None
    if finished:
        return finished
    stage = set_up(settings)
    if predicts:
        check_test_photos(stage.images)
    support = choose_support(stage)
    keys = stage.photos([photo.path for photo in support]).keys
    for text in two_class_warning(in_two_classes(support, keys, [photo.label for photo in support])):
        logger.warning("%s", text)
    stage = stage.learning_from(support)
    task = make_task(stage, support)
    logger.info(
        "%s on %d photos of %d classes (%d classes in all)",
        settings.method,
        len(support),
        len(task.seen),
        task.num_classes,
    )
    choice = choose(selection, settings.method, task, seed=settings.seed, given=settings.set)
    if choice.candidates:
        logger.info("chosen out of %d on left-out shots: %s", choice.candidates, choice.values)
    method = create(settings.method, seed=settings.seed, **choice.values)
    state = settings.run_folder / CHECKPOINT
    if isinstance(method, ThroughClip):
        from jclip_adapter.methods.training.encoder_training import Checkpoint

        method.checkpoint = Checkpoint(state, _fingerprint(method, task, stage), resume=resume)
        method.checkpoint.check()
    elif state.is_file():
        logger.warning("%s holds the state of another training, which is kept", state)
    with doing(f"fitting {settings.method}"):
        method.fit(task)
    metrics: dict[str, Any] = {"unit": "percent", "epochs": method.history_}
    if len(support):
        before = stage.zero_shot(task.support_features)
        encode = stage.encoding([photo.path for photo in support])
        after = method.logits(Queries(task.support_features, task.support_raw, task.auxiliary, encode))
        metrics["support"] = {
            "baseline": stage.baseline,
            "zero_shot_top1": 100 * accuracy(before, task.support_labels),
            "trained_top1": 100 * accuracy(after, task.support_labels),
        }
    facts = {
        "settings": {
            **settings.of(TRAIN),
            "weights": stage.settings.weights_or_default,
            "model_config": stage.settings.model_config,
            "white_level": stage.settings.white_level,
        },
        "hyperparameters": method.hyper.as_dict(),
        "selected_on": choice.source,
        "weights_sha256": stage.encoder.sha256,
        "model": stage.encoder.description,
        "encoder_sha256": stage.encoder_sha256,
        "weights_parameters": stage.encoder.parameters,
        "auxiliary_sha256": stage.auxiliary.sha256 if stage.auxiliary else "",
        "parameters": stage.parameters,
        "prompts": load_prompts(settings.prompts).fingerprint(),
        "class_names": words_of(stage.prompts, stage.images),
        "classes": list(stage.images.class_names),
        "class_ids": list(stage.images.class_ids),
        "versions": versions(),
    }
    lists = {SUPPORT: support_lines(support, stage.images), DIGESTS: digest_lines(support, keys)}
    save_run(settings.run_folder, method, lists, facts, metrics)
    if isinstance(method, ThroughClip) and method.checkpoint is not None:
        method.checkpoint.finish()
    return Training(settings.run_folder, method, metrics)


def _check(settings: Settings, selection: str, *, resume: bool) -> None:
    """Refuse what can be known to be wrong before the long work."""
    typed = create(settings.method, seed=settings.seed, **settings.set)
    refuse_idle_on_methods(settings, [typed])
    if selection == "validation":
        raise UsageError("--select validation: a data set of photos has no validation set.", "Use --select support.")
    if resume and not isinstance(typed, ThroughClip):
        raise UsageError(f"{settings.method} trains in seconds and keeps no state.", "Leave --resume out.")
    check_run_folder(settings.run_folder)


def _finished(settings: Settings) -> Training | None:
    """The finished training with these settings, if there is one and no state of another; it is not done again."""
    folder = settings.run_folder
    if (folder / CHECKPOINT).is_file() or not (folder / RUN).is_file():
        return None
    run = open_run(folder)
    now = create(settings.method, seed=settings.seed, **settings.set).hyper.as_dict()
    if differences(run.facts, {"settings": settings.of(TRAIN), "hyperparameters": now}):
        return None
    logger.info("the training in %s is finished, there is nothing to resume", folder)
    return Training(folder, run.method, read_json(folder / METRICS))


def _fingerprint(method: Method, task: FewShotTask, stage: Stage) -> str:
    """SHA-256 of all that a training through CLIP depends on."""
    hyper = json.dumps(method.hyper.as_dict(), sort_keys=True)
    described = json.dumps(stage.encoder.description, sort_keys=True)
    texts = json.dumps([task.encoder and (task.encoder.names, task.encoder.prompts)], ensure_ascii=False)
    facts = (fingerprint(task), stage.encoder.sha256, stage.encoder_sha256, method.meta.name, hyper, str(method.seed))
    return hashlib.sha256(
        "\n".join((*facts, described, texts, code_digest(type(method).__module__))).encode()
    ).hexdigest()
