"""Run folders: written by a training, read by predictions.

A run folder contains the trained adapter, the list of its shots, all settings, the metrics per epoch and their picture.
manifest.json is written last: without it the run is unfinished.
"""

from __future__ import annotations

import dataclasses
import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jclip_adapter import runtime
from jclip_adapter.core.errors import DataError, MissingError, UsageError
from jclip_adapter.core.version import __version__
from jclip_adapter.data.photos.reading import OPENAI
from jclip_adapter.evaluation.report import training_curves
from jclip_adapter.methods import FITTED, Method, create
from jclip_adapter.methods import load as load_method
from jclip_adapter.storage import (
    MANIFEST,
    Kind,
    check_folder,
    check_manifest,
    discard,
    is_listed,
    read_json,
    sha256_file,
    write_bytes,
    write_checked_json,
    write_text,
    write_together,
)
from jclip_adapter.storage.checksums import MARKDOWN_MARK
from jclip_adapter.storage.kinds import TRAINING_STATE, unchanged_json, unchanged_png, unchanged_text

from .settings import Settings

logger = logging.getLogger(__name__)
ADAPTER, SUPPORT, RUN, METRICS, CURVES = "adapter.safetensors", "support.txt", "run.json", "metrics.json", "curves.png"
DIGESTS = "support.sha256"  # of the shots, in the format of sha256sum --check
CHECKPOINT = "checkpoint.safetensors"  # of an unfinished training
EVALUATION, CONFUSION, RELIABILITY = "evaluation.json", "confusion.png", "reliability.png"
PREDICTIONS, REPORT = "predictions.csv", "report.html"  # the predictions of an evaluation; the report of all commands


def _unlisted(_: Path) -> str:
    """Why a file of lines is not recognised."""
    return f"{MANIFEST} beside it does not list it so"


def _is_evaluated(path: Path) -> bool:
    """Whether predictions are those of the evaluation beside them."""
    evaluation = path.with_name(EVALUATION)
    return KINDS[EVALUATION].owns(evaluation) and read_json(evaluation)["predictions_sha256"] == sha256_file(path)


def _unevaluated(_: Path) -> str:
    """Why predictions are not recognised."""
    return f"{EVALUATION} beside it does not list it so"


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        ADAPTER: FITTED,
        SUPPORT: Kind("a list of the chosen photos", is_listed, _unlisted),
        DIGESTS: Kind("the checksums of the chosen photos", is_listed, _unlisted),
        RUN: Kind("the facts of a run", unchanged_json("settings", "weights_sha256")),
        METRICS: Kind("the metrics of a run", unchanged_json("epochs")),
        CURVES: Kind("a picture", unchanged_png),
        MANIFEST: Kind("the manifest of a run", unchanged_json("files", damaged=True)),
        CHECKPOINT: TRAINING_STATE,
        EVALUATION: Kind("an evaluation", unchanged_json("photos", "scores", "worst_pairs")),
        CONFUSION: Kind("a picture", unchanged_png),
        RELIABILITY: Kind("a picture", unchanged_png),
        PREDICTIONS: Kind("the predictions of an evaluation", _is_evaluated, _unevaluated),
        REPORT: Kind("a report", unchanged_text(MARKDOWN_MARK)),
    }
)
"""The files of a run folder, by name. A file that the folder's manifest lists is recognised by that too."""
# Settings that a run depends on, which a prediction must not change.
_BOUND = (
    "weights",
    "encoder",
    "prompts",
    "method",
    "split",
    "seed",
    "views",
    "shots",
    "support",
    "precision",
    "auxiliary",
    "model_config",
    "layout",
    "class_names",
    "exif",
    "transparent",
    "jpeg",
    "audio",
    "photos",
)
# Values of settings that the run's older version did not have.
_BEFORE = {**OPENAI._asdict()}
_FILES = ("weights", "auxiliary")
_SHOWN = 5
_PATHS = (
    "data",
    "weights",
    "auxiliary",
    "encoder",
    "prompts",
    "support",
    "model_config",
    "class_names",
    "audio",
    "photos",
)
# Compared elsewhere, or without effect on accuracies.
_IDLE = frozenset(["set", "device", "workers", "batch_size", "cache", "run", "resume", "language"])
_AGAIN = "Train again with the new setting, or leave it out."


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Its folder.
        method: The fitted method.
        facts: Content of run.json.
    """

    folder: Path
    method: Method
    facts: dict[str, Any]


def versions() -> dict[str, str]:
    """Versions and platform that a run's accuracies depend on."""
    packages = ("jittor", "numpy", "pillow", "scipy", "scikit-learn", "ftfy", "instant-clip-tokenizer")
    return {
        "jclip_adapter": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": runtime.current_device(),
        **{name: metadata.version(name) for name in packages},
    }


def check_run_folder(folder: Path) -> None:
    """Refuse a run folder that cannot be created or has other content, before the long computation.

    Raises:
        UsageError: it or a parent is a file, or it is not this program's.
        SetupError: it cannot be written.
    """
    check_folder(folder, "a run folder", KINDS)


def save_run(
    folder: Path, method: Method, lists: Mapping[str, str], facts: dict[str, Any], metrics: dict[str, Any]
) -> None:
    """Write a run folder atomically.

    Args:
        folder: The run folder; an older run in it is replaced.
        method: The fitted method.
        lists: Texts by file name: the shots in the contest's line format (SUPPORT), and the SHA-256 of their bytes
            (DIGESTS).
        facts: For run.json.
        metrics: For metrics.json.
    """
    _log_replaced(folder, facts)
    with write_together(folder, "a run folder", KINDS) as fresh:
        method.save(fresh / ADAPTER, weights_sha256=facts["weights_sha256"])
        for name, text in lists.items():
            write_text(fresh / name, text)
        write_checked_json(fresh / RUN, facts)
        write_checked_json(fresh / METRICS, metrics)
        if method.history_:
            write_bytes(fresh / CURVES, training_curves(method.history_, method.meta.name, method.step_losses_))
    for name in (PREDICTIONS, EVALUATION, CONFUSION, RELIABILITY, REPORT):  # of the replaced adapter
        if KINDS[name].owns(folder / name):
            discard(folder / name, KINDS[name])


def _log_replaced(folder: Path, facts: dict[str, Any]) -> None:
    """Log the settings in which a replaced run differs from the new one."""
    if not (folder / RUN).is_file():
        return
    old = read_json(folder / RUN)
    changes = differences(old, facts)
    if old.get("class_names") != facts.get("class_names"):
        changes.append("other class names")
    if changes:
        text = "%s: replaces a run trained with %s; --run FOLDER keeps both"
        logger.warning(text, folder, ", ".join(changes))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Settings in which a run differs from another training, as "name=value".

    Args:
        old: The run's run.json.
        new: "settings" and "hyperparameters" of the other training.
    """
    found = []
    for part in ("settings", "hyperparameters"):
        before, after = old.get(part, {}), new[part]
        for name in sorted(before.keys() & after.keys() - _IDLE):
            if before[name] != after[name] and after[name] != "":  # empty for the default
                found.append(f"{name}={before[name]!r}")
    return found


def load_run(settings: Settings) -> Run:
    """Read the run in the settings' run folder.

    Args:
        settings: The settings; those that the user gave must agree with the run's.

    Returns:
        The run.

    Raises:
        DataError: there is no finished run, or it is damaged.
        UsageError: a setting disagrees with the run's.
    """
    folder = settings.run_folder
    if not folder.is_dir():
        raise MissingError(f"there is no trained run in {folder}.", _hint(settings))
    run = open_run(folder)
    trained = run.facts["settings"]
    for name in _BOUND:
        if name == "model_config" and "model" not in run.facts:
            continue  # the run's version had no such setting; `setup.check_description` compares its result
        old = trained_with(trained, name)
        if is_moved(settings, name):
            continue
        if name in settings.given and not _same(name, getattr(settings, name), old):
            raise UsageError(f"{folder} was trained with {name} '{old}', not '{getattr(settings, name)}'.", _AGAIN)
    method = run.method
    learnt, wanted = method.hyper.as_dict(), create(method.meta.name, **settings.set).hyper.as_dict()
    for name in settings.set:
        if wanted[name] != learnt[name]:
            raise UsageError(f"{folder} was trained with {name}={learnt[name]!r}, not {wanted[name]!r}.", _AGAIN)
    return run


def is_moved(settings: Settings, name: str) -> bool:
    """Whether the user gave weights as a file or folder: their content is compared with the run's, not their name."""
    return name in _FILES and name in settings.given and Path(getattr(settings, name)).exists()


def take_only_run(settings: Settings) -> Settings:
    """The settings with the only finished run on their data that agrees with them; unchanged if there are others.

    Args:
        settings: The settings; unchanged too if they name a run or their run folder exists.
    """
    if settings.run or settings.run_folder.exists():
        return settings
    found = [run for run in _finished(settings) if not _contradicts(settings, run)]
    if len(found) != 1:
        return settings
    method = read_json(found[0] / RUN)["settings"]["method"]
    logger.info("using the only run on this data: %s (%s)", found[0], method)
    return dataclasses.replace(settings, run=str(found[0]), method=method)


def _contradicts(settings: Settings, folder: Path) -> bool:
    """Whether a finished run disagrees with the settings that the user gave."""
    trained = read_json(folder / RUN).get("settings", {})
    names = [name for name in _BOUND if name in settings.given]
    return any(not _same(name, getattr(settings, name), trained_with(trained, name)) for name in names)


def open_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        DataError: it is unfinished, not a run, or damaged.
    """
    if not folder.is_dir():
        raise MissingError(f"there is no run {folder}.", "Give the folder of a finished one.")
    check_manifest(folder)
    facts = read_json(folder / RUN)  # checked by the manifest; version 0.1.0 wrote no checksum into it
    return Run(folder, load_method(folder / ADAPTER), {name: facts[name] for name in facts if name != "seal"})


def trained_with(settings: dict[str, Any], name: str) -> Any:
    """The value of a setting that a run was trained with, from the settings in its run.json."""
    return settings.get(name, _BEFORE.get(name, getattr(Settings, name)))


def _same(name: str, new: Any, old: Any) -> bool:
    return bool(new == old or (name in _PATHS and Path(new).absolute() == Path(old).absolute()))


def _hint(settings: Settings) -> str:
    folder = settings.run_folder.parent
    own = [run.name for run in _finished(settings)]
    hint = "Run --train with the same flags first"
    shown = ", ".join(own[:_SHOWN]) + (f" and {len(own) - _SHOWN} more" if len(own) > _SHOWN else "")
    return f"{hint}, or give --run {folder}/… with a run on this data ({shown})." if own else f"{hint}."


def _finished(settings: Settings) -> list[Path]:
    """Folders of finished runs on the settings' data, in the parent of the run folder."""
    places = [path.parent for path in sorted(settings.run_folder.parent.glob(f"*/{RUN}"))]
    finished = [place for place in places if (place / MANIFEST).is_file()]
    return [place for place in finished if _same("data", settings.data, _data_of(place))]


def _data_of(folder: Path) -> str:
    """The data set of a finished run; empty where run.json cannot be read."""
    try:
        facts = read_json(folder / RUN)
    except DataError:
        return ""
    settings = facts.get("settings", {}) if isinstance(facts, dict) else {}
    return str(settings.get("data", ""))
