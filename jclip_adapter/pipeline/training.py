"""Training: fit a method on the shots and leave a run folder."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jclip_adapter.dataset import support_lines
from jclip_adapter.methods import Method, create
from jclip_adapter.metrics import accuracy
from jclip_adapter.runs import check_run_folder, save_run, versions
from jclip_adapter.selection import choose
from jclip_adapter.settings import Settings
from jclip_adapter.task import Queries

from .stage import choose_support, make_task, set_up

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


def train(settings: Settings, selection: str = "none") -> Training:
    """Fit a method on the shots and write the run folder.

    Args:
        settings: The settings.
        selection: Where hyper-parameters that the settings leave open are chosen: "support", or "none" for the
            defaults.

    Returns:
        The training's outcome.
    """
    create(settings.method, seed=settings.seed, **settings.set)  # refuse a typo before the long work
    check_run_folder(settings.run_folder)
    stage = set_up(settings)
    support = choose_support(settings, stage.images)
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
    method = create(settings.method, seed=settings.seed, **choice.values).fit(task)
    metrics: dict[str, Any] = {"epochs": method.history_}
    if len(support):
        before = stage.zero_shot(task.support_features)
        after = method.logits(Queries(task.support_features, task.support_raw))
        metrics["support"] = {
            "zero_shot_top1": 100 * accuracy(before, task.support_labels),
            "trained_top1": 100 * accuracy(after, task.support_labels),
        }
    facts = {
        "settings": {**dataclasses.asdict(settings), "weights": settings.weights_or_default},
        "hyperparameters": method.hyper.as_dict(),
        "selected_on": choice.source,
        "weights_sha256": stage.encoder.sha256,
        "weights_parameters": stage.encoder.parameters,
        "prompts": stage.prompts.fingerprint(),
        "classes": list(stage.images.class_names),
        "class_ids": list(stage.images.class_ids),
        "versions": versions(),
    }
    save_run(settings.run_folder, method, support_lines(support, stage.images), facts, metrics)
    return Training(settings.run_folder, method, metrics)
