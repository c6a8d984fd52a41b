"""Writes the report of a run, part by part, and the command lines in it."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jclip_adapter.cli.options import BENCHMARK, EVALUATE, PREDICT, TRAIN
from jclip_adapter.cli.runs import CURVES, KINDS, REPORT
from jclip_adapter.cli.settings import OPTIONS, Settings
from jclip_adapter.core.console import print_note
from jclip_adapter.core.errors import SetupError, UsageError
from jclip_adapter.data.parts import read_manifest
from jclip_adapter.data.photos.reading import Reading
from jclip_adapter.data.predictions import Predictions
from jclip_adapter.data.sets import Photo
from jclip_adapter.storage import Kind, check_folder_writable, check_place

from .effects import refuse_idle
from .setup import Setup
from .trained import Trained

if TYPE_CHECKING:
    from jclip_adapter.web.found import Entry
    from jclip_adapter.web.parts import Context

logger = logging.getLogger(__name__)
_PROGRAM = "jclip-adapter"
_ALONE = {  # options of a command besides its data and its run
    EVALUATE: ("labels", "holdout", "reject", "learning_curve", "cache"),
    PREDICT: ("images", "top", "on_bad_image", "reject", "cache"),
}


def command_line(command: str, values: Mapping[str, Any], operand: str = "") -> str:
    """The command line that sets options to these values; defaults are left out.

    >>> command_line("--train", {"data": "my photos", "shots": 8, "set": {"ratio": "0.3"}, "seed": 0})
    "jclip-adapter train --data 'my photos' --set ratio=0.3 --shots 8"
    """
    words = [_PROGRAM, command.removeprefix("--"), *([operand] if operand else [])]
    for name, item in OPTIONS.items():
        value = values.get(name, item.default)
        if value == item.default or value in (None, "", (), []):
            continue
        if item.kind == "switch":
            words.append(item.flag)
        elif item.kind == "assignments":
            words += [word for key, one in value.items() for word in ("--set", f"{key}={one}")]
        elif item.kind == "texts":
            words += [item.flag, *value]
        else:
            listed = value if isinstance(value, tuple | list) else (value,)
            mark = "-" if name == "effective_classes" else ","
            words += [item.flag, mark.join(_word(item.words, one) for one in listed)]
    return shlex.join(words)


def _word(words: Mapping[str, int], value: Any) -> str:
    """A value as it is typed: "all" for the number that stands for it."""
    return next((word for word, number in words.items() if number == value), str(value))


def training_command(facts: Mapping[str, Any]) -> str:
    """The command line of a training, from its run.json."""
    settings = dict(facts["settings"])
    if settings.get("prompts") in ("seed", "sound"):  # chosen by the data; ImageNet networks refuse any
        del settings["prompts"]
    return command_line(TRAIN, settings)


def report_place(folder: Path | None) -> Path | None:
    """The report of a run, checked before the long computation.

    Args:
        folder: The run folder; None without a run.

    Returns:
        Its path; None without a run, or where it cannot be written, which is logged: predictions need no report.

    Raises:
        UsageError: a file of another origin is there.
    """
    if folder is None:
        return None
    KINDS[REPORT].check(folder / REPORT)
    try:
        check_folder_writable(folder)
    except SetupError as error:
        logger.warning("no report: %s", error.message)
        return None
    return folder / REPORT


def report_training(
    folder: Path,
    settings: Settings,
    source: Setup | Trained,
    facts: Mapping[str, Any],
    metrics: Mapping[str, Any],
    shots: Sequence[Photo],
) -> Path:
    """Write the part of the training; returns the report's path.

    Without a run, which has no metrics, the part has the settings of the evaluation.
    """
    from jclip_adapter.web.parts import training_part

    command = training_command(facts) if metrics else _again(EVALUATE, settings, None)
    context = _context(settings, source, facts["settings"]["method"], command)
    curves = folder / CURVES
    part = training_part(context, facts, metrics, shots, curves.read_bytes() if curves.is_file() else b"")
    return _write(folder / REPORT, settings, "training", part)


def has_training(folder: Path) -> bool:
    """Whether the report in a run folder has the part of the training."""
    from jclip_adapter.web.report import parts_of

    return "training" in parts_of(folder / REPORT, KINDS[REPORT])


def report_evaluation(
    folder: Path,
    settings: Settings,
    trained: Trained,
    photos: Sequence[Photo],
    found: Predictions,
    report: Mapping[str, Any],
    pictures: Sequence[bytes],
) -> Path:
    """Write the part of the evaluation; returns the report's path."""
    from jclip_adapter.web.parts import evaluation_part

    context = _context(settings, trained, report["method"], _again(EVALUATE, settings, trained.folder))
    part = evaluation_part(context, photos, found, report, pictures)
    return _write(folder / REPORT, settings, "evaluation", part)


def report_prediction(
    place: Path | None, settings: Settings, trained: Trained, paths: Sequence[Path], found: Predictions, result: Path
) -> None:
    """Write the part of the predictions; nothing without a place."""
    if place is None:
        return
    from jclip_adapter.web.parts import prediction_part

    command = _again(PREDICT, settings, place.parent, str(result))
    context = _context(settings, trained, trained.method.meta.name, command)
    _write(place, settings, "prediction", prediction_part(context, paths, found, str(result), settings.reject))


def report_benchmark(
    path: Path, kind: Kind, settings: Settings, cells: Sequence[Mapping[str, Any]], picture: bytes
) -> None:
    """Write the report of a benchmark; a picture without bytes is none."""
    from jclip_adapter.web.benchmark import benchmark_part
    from jclip_adapter.web.report import write_report

    part = benchmark_part(cells, picture, settings.language, command_line(BENCHMARK, _given(settings)))
    write_report(path, kind, path.with_suffix(".csv").name, settings.language, {"benchmark": part})


def found_page(settings: Settings) -> Path | None:
    """Where --out asks for a page of the photos that are found; None for none.

    Raises:
        UsageError: it is no .html, or another program's file; or --language is given without it.
        SetupError: it cannot be written.
    """
    if "out" not in settings.given:
        refuse_idle(settings, {"language"}, "without --out")
        return None
    path = Path(settings.out)
    if path.suffix != ".html":
        raise UsageError(f"--out {path}: expected a path ending in .html, for a page with the photos.", "Rename it.")
    check_place(path, KINDS[REPORT])
    return path


def report_found(path: Path, settings: Settings, folder: Path, heading: str, entries: Sequence[Entry]) -> None:
    """Write the page of photos that were found in features in parts.

    Args:
        path: The page.
        settings: The settings.
        folder: The folder of the parts.
        heading: The page's heading.
        entries: As for `web.found.found_part`.
    """
    from jclip_adapter.web.found import found_part
    from jclip_adapter.web.report import write_report

    manifest = read_manifest(folder)
    part = found_part(heading, entries, manifest.get("source", ""), Reading(**manifest["reading"]), settings.language)
    write_report(path, KINDS[REPORT], folder.name, settings.language, {"found": part})
    print_note(f"page: {path}")


def _context(settings: Settings, source: Setup | Trained, method: str, command: str) -> Context:
    """What all parts need; photos are read as the network reads them."""
    from jclip_adapter.web.parts import Context

    return Context(settings.language, source.images, source.tasks.encoder.reading, method, command)


def _again(command: str, settings: Settings, run: Path | None, operand: str = "") -> str:
    """The command line of an evaluation or a prediction: of a run, or with all settings that were given."""
    if run is None:
        return command_line(command, _given(settings), operand)
    values = {name: getattr(settings, name) for name in ("data", *_ALONE[command])}
    return command_line(command, {**values, "run": str(run)}, operand)


def _given(settings: Settings) -> dict[str, Any]:
    """The values of the options that the user gave."""
    lists = {name: getattr(settings, OPTIONS[name].list_name or name) for name in settings.given if name in OPTIONS}
    return {name: value or getattr(settings, name) for name, value in lists.items()}


def _write(path: Path, settings: Settings, name: str, part: str) -> Path:
    from jclip_adapter.web.report import write_report

    write_report(path, KINDS[REPORT], path.parent.name, settings.language, {name: part})
    return path
