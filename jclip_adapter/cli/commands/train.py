"""The train command: fits a method on the shots and writes a run folder."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jclip_adapter.cli.app import Invocation
from jclip_adapter.cli.options import PREDICT, TRAIN
from jclip_adapter.cli.parser import RESULT
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
from jclip_adapter.core.calibration import Calibration
from jclip_adapter.core.console import doing, print_note, print_result
from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.problems import counted
from jclip_adapter.core.task import FewShotTask
from jclip_adapter.data.sets import ImageSet, Photo, support_lines
from jclip_adapter.data.sets.model import labels_of, paths_of
from jclip_adapter.data.sets.support import choose_support, shots_in_words
from jclip_adapter.data.texts.class_names import words_of
from jclip_adapter.data.texts.prompts import load_prompts
from jclip_adapter.evaluation.calibration import calibrate, estimate
from jclip_adapter.evaluation.inspection import fit_to_labels
from jclip_adapter.evaluation.metrics import accuracy
from jclip_adapter.evaluation.provenance import code_digest
from jclip_adapter.evaluation.selection import choose
from jclip_adapter.features.overlap import in_two_classes, two_class_warning
from jclip_adapter.features.task_encoder import TaskEncoder, fingerprint
from jclip_adapter.methods import Method, create
from jclip_adapter.methods.training.through_clip import ThroughClip
from jclip_adapter.models.weights.hub import revision_of
from jclip_adapter.storage import read_json

from .chain import chain_sha256
from .effects import refuse_idle_on_methods, refuse_without_shots
from .predict import check_result
from .reports import report_training
from .setup import Setup, check_test_photos, draw_of, log_data, set_up
from .shots import digest_lines

logger = logging.getLogger(__name__)


def train(settings: Settings, *, predicts: bool = False) -> tuple[dict[str, Any], list[str]]:
    """Fit a method on the shots and write the run folder.

    A training through CLIP writes checkpoints to the run folder. Without --resume it starts again, and an older
    checkpoint is kept until the first new one.

    Args:
        settings: The settings.
        predicts: Whether test photos are predicted afterwards: there must be some.

    Returns:
        The content of metrics.json, and the commands that may follow; "evaluate" needs photos that are no shots.

    Raises:
        UsageError: --resume for a method without checkpoints, or with that of another training; or the run folder is
            not this program's.
        DataError: `predicts` without test photos.
        SetupError: the run folder cannot be written.
    """
    _check(settings)
    if settings.resume and _is_finished(settings):
        return read_json(settings.run_folder / METRICS), ["evaluate", "predict"]
    setup = set_up(settings)
    images, tasks = setup.images, setup.tasks
    if predicts:
        check_test_photos(images)
    log_data(images, shots_in_words(images, draw_of(settings)))
    support = choose_support(images, draw_of(settings), tasks.unreadable)
    paths, labels = paths_of(support), labels_of(support)
    keys = tasks.photos(paths).keys
    for text in two_class_warning(in_two_classes(support, keys, labels.tolist())):
        logger.warning("%s", text)
    tasks = tasks.with_prototypes(paths, labels)
    task = setup.task(support, draw_of(settings))
    choice = choose(settings.select or "none", settings.method_or_default, task, seed=settings.seed, given=settings.set)
    if choice.candidates:
        logger.info("best of %d candidates on held-out shots: %s", choice.candidates, choice.values)
    method = create(settings.method_or_default, seed=settings.seed, **choice.values)
    state = settings.run_folder / CHECKPOINT
    if isinstance(method, ThroughClip):
        from jclip_adapter.methods.training.checkpoint import Checkpoint

        method.checkpoint = Checkpoint(state, _fingerprint(method, task, setup), resume=settings.resume)
        method.checkpoint.check()
    elif state.is_file():
        logger.warning("%s holds the state of another training and is kept", state)
    with doing(f"fitting {settings.method_or_default}"):
        method.fit(task)
    known = _calibrated(method, task)
    metrics: dict[str, Any] = {
        "unit": "percent",
        "epochs": method.history_,
        "step_losses": method.step_losses_,
    }
    if len(support):
        before = tasks.zero_shot(task.support_features)
        after = method.logits(tasks.support_queries(task, paths))
        metrics["support"] = {
            "baseline": tasks.baseline,
            "zero_shot_top1": 100 * accuracy(before, task.support_labels),
            "trained_top1": 100 * accuracy(after, task.support_labels),
        }
        metrics["doubtful"] = _doubtful(tasks, task, support)
    expected = estimate(known)
    if expected is not None:
        interval = [100 * expected.low, 100 * expected.high]
        source = f"{counted(expected.held_out, 'held-out shot')}{_of_classes(method, task)}"
        metrics["estimate"] = {
            "top1": 100 * expected.top1,
            "interval": interval,
            "held_out": expected.held_out,
            "source": source,
        }
    facts = {
        **facts_of(setup),
        "hyperparameters": method.hyper.as_dict(),
        "selected_on": choice.source,
        "temperature": known.temperature,
        "calibrated_on": known.source,
    }
    lists = {SUPPORT: support_lines(support, images), DIGESTS: digest_lines(support, keys)}
    save_run(settings.run_folder, method, lists, facts, metrics)
    report_training(settings.run_folder, settings, setup, facts, metrics, support)
    if isinstance(method, ThroughClip) and method.checkpoint is not None:
        method.checkpoint.finish()
    evaluate = ["evaluate"] if images.test or len(images.train) > len(support) else []
    return metrics, [*evaluate, *_predictions(settings, method, images)]


def _predictions(settings: Settings, method: Method, images: ImageSet) -> list[str]:
    """The command that predicts by the run, if there is one."""
    if settings.parts:
        return [] if method.meta.transductive else ["predict"]
    return ["predict" if images.test else "predict --images"]


def _calibrated(method: Method, task: FewShotTask) -> Calibration:
    """Calibrate a fitted method, and log on what."""
    if method.uses_shots and not method.meta.transductive:
        logger.info("fitting without some of the shots, to calibrate the probabilities")
    known = calibrate(method, task).calibration_
    if known.source:
        logger.info("probabilities: temperature %.3g, from %s", known.temperature, known.source)
    elif len(task.support_labels):
        why = "as the method is transductive" if method.meta.transductive else "as no shot can be held out"
        logger.warning("the probabilities are not calibrated, %s: temperature 1", why)
    return known


def _doubtful(tasks: TaskEncoder, task: FewShotTask, support: Sequence[Photo]) -> list[dict[str, str]]:
    """The shots that fit another class better than their own, those that fit least first."""
    texts = tasks.texts.weights if tasks.encoder.has_text else None
    labels, names = task.support_labels, task.class_names
    fit = fit_to_labels(task.support_features, labels, texts, tasks.encoder.logit_scale, len(names))
    rows = [int(row) for row in np.argsort(fit.margin, kind="stable") if fit.margin[row] < 0]
    return [
        {"photo": support[row].relative, "class": names[labels[row]], "fits_better": names[fit.other[row]]}
        for row in rows
    ]


def _of_classes(method: Method, task: FewShotTask) -> str:
    """Of which classes shots are held out, and how these count, in words; a class keeps its only shot."""
    counts = np.bincount(task.support_labels, minlength=task.num_classes)
    tested = counts[counts > (1 if method.uses_shots else 0)]
    every = len(tested) == len(counts)
    which = "" if every else f" of {len(tested)} of {counted(len(counts), 'class')}"
    alike = "each class counting alike" if every else "each of these counting alike"
    return f"{which}, {alike if len(set(tested)) == 1 else 'classes counting by their shots'}"


def facts_of(setup: Setup) -> dict[str, Any]:
    """Content of run.json before the training: settings, weights and classes."""
    settings, images, tasks = setup.settings, setup.images, setup.tasks
    return {
        "settings": {
            **settings.of(TRAIN),
            "weights": settings.weights_or_default,
            "model_config": settings.model_config,
            "method": settings.method_or_default,
            "prompts": settings.prompts_or_default,
            "white_level": settings.white_level,
        },
        "weights_sha256": tasks.encoder.sha256,
        "weights_revision": revision_of(tasks.encoder.weights),
        "model": tasks.encoder.description,
        "encoder_sha256": chain_sha256(setup.chain),
        "weights_parameters": tasks.encoder.parameters,
        "beside": setup.beside.files(draw_of(settings)) if setup.beside else {},
        "auxiliary_sha256": tasks.auxiliary.sha256 if tasks.auxiliary else "",
        "auxiliary_revision": revision_of(tasks.auxiliary.weights) if tasks.auxiliary else "",
        "auxiliary_model": tasks.auxiliary.description if tasks.auxiliary else {},
        "parameters": tasks.parameters,
        "prompts": load_prompts(settings.prompts_or_default).fingerprint(),
        "class_names": words_of(tasks.prompts, images),
        "classes": list(images.class_names),
        "class_ids": list(images.class_ids),
        "domains": list(images.domains),
        "versions": versions(),
    }


def _check(settings: Settings) -> None:
    """Check settings before the long computation."""
    typed = create(settings.method_or_default, seed=settings.seed, **settings.set)
    refuse_idle_on_methods(settings, [typed])
    refuse_without_shots(settings, typed)
    if settings.select == "validation":
        raise UsageError("--select validation: a data set of photos has no validation set.", "Use --select support.")
    if settings.resume and not isinstance(typed, ThroughClip):
        raise UsageError(
            f"{settings.method_or_default} trains in seconds and has no checkpoint.", "Leave --resume out."
        )
    check_run_folder(settings.run_folder)


def _is_finished(settings: Settings) -> bool:
    """Whether there is a finished training with these settings, and no checkpoint of another."""
    folder = settings.run_folder
    if (folder / CHECKPOINT).is_file() or not (folder / RUN).is_file():
        return False
    now = create(settings.method_or_default, seed=settings.seed, **settings.set).hyper.as_dict()
    same = not differences(open_run(folder).facts, {"settings": settings.of(TRAIN), "hyperparameters": now})
    if same:
        logger.info("the training in %s is finished; nothing to resume", folder)
    return same


def _fingerprint(method: Method, task: FewShotTask, setup: Setup) -> str:
    """SHA-256 of everything that a training through CLIP depends on."""
    hyper = json.dumps(method.hyper.as_dict(), sort_keys=True)
    encoder = setup.tasks.encoder
    described = json.dumps(encoder.description, sort_keys=True)
    texts = json.dumps([task.encoder and (task.encoder.names, task.encoder.prompts)], ensure_ascii=False)
    facts = (fingerprint(task), encoder.sha256, chain_sha256(setup.chain), method.meta.name, hyper, str(method.seed))
    return hashlib.sha256(
        "\n".join((*facts, described, texts, code_digest(type(method).__module__))).encode()
    ).hexdigest()


def run(invocation: Invocation) -> None:
    """Train, and print the run folder, the accuracy on the shots, and the next command."""
    settings = invocation.settings
    predicts = PREDICT in invocation.commands
    if predicts:
        check_result(Path(invocation.operands["predict"] or RESULT), settings)  # before the training
    metrics, following = train(settings, predicts=predicts)
    print_result(f"run: {settings.run_folder}")
    support = metrics.get("support", {})
    if support:
        print_result(
            f"top-1 on the shots themselves: {support['baseline']} {support['zero_shot_top1']:.1f} %, "
            f"{settings.method_or_default} {support['trained_top1']:.1f} %"
        )
    expected = metrics.get("estimate")
    if expected:
        low, high = expected["interval"]
        print_result(
            f"top-1 estimated without test photos: {expected['top1']:.1f} % (95 % interval {low:.1f}–{high:.1f} %), "
            f"from {expected.get('source') or counted(expected['held_out'], 'held-out shot')}"
        )
    if len(invocation.commands) == 1 and following:
        print_note(f"next: {', or '.join(map(invocation.again, following))}")
