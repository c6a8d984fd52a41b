"""The evaluate command: accuracy on labelled photos. Besides the benchmark, only it reads test labels."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.cli.app import Invocation
from jclip_adapter.cli.runs import (
    CONFUSION,
    EVALUATION,
    KINDS,
    METRICS,
    PREDICTIONS,
    RELIABILITY,
    RUN,
    check_run_folder,
    take_only_run,
)
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.calibration import Calibration
from jclip_adapter.core.console import print_result
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.problems import SHOWN, counted, first_of
from jclip_adapter.data.predictions import table_bytes
from jclip_adapter.data.sets import Photo
from jclip_adapter.data.sets.labelled import labelled_photos
from jclip_adapter.data.sets.model import labels_of, paths_of
from jclip_adapter.evaluation.learning_curve import Point, learning_curve
from jclip_adapter.evaluation.metrics import (
    TOP,
    ConfusedPair,
    Score,
    by_domain,
    calibration_error,
    confusion_matrix,
    seen_and_unseen,
    wilson_interval,
    worst_pairs,
)
from jclip_adapter.evaluation.rejection import expected_of, in_words, measured
from jclip_adapter.evaluation.report import confusion_picture, markdown_table, reliability_picture, score_table
from jclip_adapter.features.overlap import Overlap, find_overlap
from jclip_adapter.methods import create
from jclip_adapter.storage import read_json, write_files
from jclip_adapter.storage.checksums import json_bytes

from .effects import refuse_idle
from .reports import has_training, report_evaluation, report_training
from .setup import log_data
from .train import facts_of
from .trained import Trained, open_trained


@dataclass(frozen=True)
class Evaluation:
    """Accuracy on labelled photos.

    Attributes:
        scores: Per domain, and in total.
        baseline: The same for zero-shot, or for nearest prototypes without a text encoder.
        files: The files written.
        text: The evaluation in words and tables.
    """

    scores: list[Score]
    baseline: list[Score]
    files: tuple[Path, ...]
    text: str


def evaluate(settings: Settings) -> Evaluation:
    """Score a trained run on labelled photos that it was not trained on.

    Returns:
        The evaluation. The run folder gets evaluation.json, predictions.csv, the pictures and a part of report.html.

    Raises:
        DataError: there are no labelled photos.
        UsageError: --reject has too few held-out photos.
    """
    settings = take_only_run(settings)
    if "support" not in create(settings.method_or_default).meta.needs or settings.run_folder.is_dir():
        check_run_folder(settings.run_folder)  # before the photos are encoded; open_trained reports a missing run
    trained = open_trained(settings)
    images, tasks, support = trained.images, trained.tasks, trained.shots.photos
    photos, source = labelled_photos(images, support, settings.seed, settings.labels, settings.holdout)
    log_data(images, f"evaluating on {source}")
    truth = labels_of(photos)
    features = tasks.photos(paths_of(photos))
    readable = features.readable
    if not readable.any():
        raise DataError(f"none of the {source} can be read.", "Check --data.", list(features.bad.values()))
    logits = np.zeros((len(photos), len(images.classes)), dtype=np.float32)
    logits[readable] = trained.logits(features)
    zero_shot = tasks.zero_shot(features.normalised)
    overlap = find_overlap(tasks, trained.shots, photos, features, truth)
    without = _without(overlap, logits, zero_shot, truth, images.domains, readable)
    scores, baseline = (by_domain(each, truth, images.domains, readable) for each in (logits, zero_shot))
    confusion = confusion_matrix(truth[readable], logits[readable].argmax(axis=1), len(images.classes))
    pairs = worst_pairs(confusion, images.class_names)
    named = tasks.baseline if tasks.encoder.has_text or support else ""  # with neither texts nor shots there is none
    meta, bad = trained.method.meta, [photos[number].relative for number in features.bad]
    folder = trained.folder or settings.run_folder
    calibration = trained.calibration
    classes = [images.class_names[label] for label in truth]
    named_photos = [photo.relative for photo in photos]
    predictions = trained.predictions(features, logits[readable], named_photos, TOP, settings.reject, classes)
    shares = predictions.probabilities
    table = table_bytes(predictions, ".csv")
    error = 100 * calibration_error(shares, truth[readable])
    refused = _refused(calibration, logits[readable], truth[readable], settings.reject)
    curve = _curve(settings, trained) if settings.learning_curve else []
    groups = _groups(support, {"method": logits, "zero_shot": zero_shot}, truth, readable)
    report = {
        "photos": source,
        "unit": "percent",
        "unreadable": len(bad),
        "method": meta.name,
        "transductive": meta.transductive,
        "scores": [score.in_percent() for score in scores],
        "zero_shot": [score.in_percent() for score in baseline] if named else [],
        "baseline": named,
        "calibration_error": error,
        "temperature": calibration.temperature,
        "reject": refused,
        "learning_curve": [point._asdict() for point in curve],
        "seen_and_unseen": groups,
        "overlap": {
            "identical": int(overlap.identical.sum()),
            "near_duplicates": int(overlap.near.sum()),
            "pairs": [list(pair) for pair in overlap.pairs],
            "two_classes": [list(pair) for pair in overlap.two_classes],
            "stale_shots": list(overlap.stale),
            "without": {
                name: {"scores": mine.in_percent(), "zero_shot": theirs.in_percent()}
                for name, (mine, theirs) in without.items()
            },
        },
        "predictions_sha256": hashlib.sha256(table).hexdigest(),
        "worst_pairs": [{**dataclasses.asdict(pair), "share": 100 * pair.share} for pair in pairs],
    }
    written = {
        EVALUATION: json_bytes(report),
        PREDICTIONS: table,
        CONFUSION: confusion_picture(confusion, images.class_names, images.domains),
        RELIABILITY: reliability_picture(shares, truth[readable], meta.name),
    }
    write_files([(folder / name, data, KINDS[name]) for name, data in written.items()])
    pictures = (written[CONFUSION], written[RELIABILITY])
    page = report_evaluation(folder, settings, trained, photos, predictions, report, pictures)
    if not has_training(folder):  # of a method without shots, or of an older version
        facts = read_json(folder / RUN) if trained.setup is None else facts_of(trained.setup)
        metrics = read_json(folder / METRICS) if trained.setup is None else {}
        report_training(folder, settings, trained, facts, metrics, support)
    files = (*(folder / name for name in written), page)
    text = [
        f"{meta.name} on {source}{' (transductive)' if meta.transductive else ''}",
        score_table(scores, baseline, meta.name, named, images.kind, top5=len(images.classes) > TOP),
        *_remarks(meta.name, named, groups, bad, overlap, without, images.kind),
        f"expected calibration error of the probabilities: {error:.1f} %",
        *_refusals(calibration, refused, settings.reject, images.kind),
        *_confusions(pairs, images.kind),
        *_curve_table(curve),
        f"written: {', '.join(map(str, files))}",
    ]
    return Evaluation(scores, baseline, files, "\n".join(text))


def _curve(settings: Settings, trained: Trained) -> list[Point]:
    """The learning curve of a run, from its shots."""
    shots = trained.shots.same
    if not shots:
        refuse_idle(settings, {"learning_curve"}, "without shots")
    if settings.audio or settings.photos:
        raise UsageError("--learning-curve does not know rows of a second modality.", "Leave it out.")
    task = trained.tasks.task(paths_of(shots), labels_of(shots), settings.views, settings.seed)
    return learning_curve(trained.method, task, settings.seed)


def _curve_table(curve: Sequence[Point]) -> list[str]:
    """Accuracy by number of shots, from held-out shots."""
    rows = []
    for point in curve:
        low, high = wilson_interval(point.correct, point.tested)
        share = f"{100 * point.correct / point.tested:.1f} %"
        rows.append([point.shots, share, f"{100 * low:.1f}–{100 * high:.1f} %", point.tested])
    head = ["shots", "top-1 estimated without test photos", "95 % interval", "held-out shots"]
    return [markdown_table(head, rows)] if rows else []


def _remarks(
    method: str,
    baseline: str,
    groups: dict[str, dict[str, float]],
    bad: Sequence[str],
    overlap: Overlap,
    without: dict[str, tuple[Score, Score]],
    kind: str,
) -> list[str]:
    """Lines on classes without shots, unreadable files and duplicates, where there are any."""
    lines = []
    if baseline == "prototypes":
        lines.append("prototypes: the class whose shots have the most similar mean feature")
    for name, group in groups.items():
        shares = ", ".join(f"{key} {group[key]:.1f} %" for key in ("base", "new", "harmonic"))
        lines.append(f"classes with shots (base) and without (new), {name.replace('_', '-')}: {shares}")
    if bad:
        lines.append(f"{counted(len(bad), kind)} could not be read, counted as wrong: {first_of(bad, SHOWN)}")
    lines += overlap.warnings()
    for name, (mine, theirs) in without.items():
        both = f"{baseline} {100 * theirs.top1:.1f} %, {method} {100 * mine.top1:.1f} %"
        lines.append(f"top-1 without {name} ({counted(mine.n, kind)}): {both}")
    return lines


def _refused(
    calibration: Calibration, logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int64], reject: float | None
) -> dict[str, Any]:
    """What --reject would do, as expected and on the labelled photos; empty without it."""
    if reject is None:
        return {}
    return {**expected_of(calibration, reject), **measured(calibration, logits, truth, reject)}


def _refusals(calibration: Calibration, refused: dict[str, Any], reject: float | None, kind: str) -> list[str]:
    """Lines on --reject."""
    if reject is None:
        return []
    low, high = refused["kept_interval"]
    right = "" if refused["top1_of_kept"] is None else f", {refused['top1_of_kept']:.1f} % of them predicted correctly"
    kept = f"--reject {reject:g} keeps {refused['kept']:.1f} % ({low:.1f}–{high:.1f} %) of these {kind}s{right}"
    return [kept, *in_words(calibration, reject)]


def _confusions(pairs: Sequence[ConfusedPair], kind: str) -> list[str]:
    """A table of the most frequent confusions, where one happened more than once."""
    rows = [[pair.true, pair.predicted, pair.count, f"{100 * pair.share:.0f} %"] for pair in pairs if pair.count > 1]
    return [markdown_table(["class", "predicted as", f"{kind}s", "share"], rows)] if rows else []


def _without(
    overlap: Overlap,
    logits: npt.NDArray[np.float32],
    zero_shot: npt.NDArray[np.float32],
    truth: npt.NDArray[np.int64],
    domains: Sequence[str],
    readable: npt.NDArray[np.bool_],
) -> dict[str, tuple[Score, Score]]:
    """Total scores of method and baseline without the photos that are also shots, where others remain."""
    found = {}
    for name, mask in (
        ("byte-identical photos", overlap.identical),
        ("near duplicates too", overlap.identical | overlap.near),
    ):
        news = mask.any() if name.startswith("byte") else overlap.near.any()
        if news and not mask.all():
            mine, theirs = (
                by_domain(each[~mask], truth[~mask], domains, readable[~mask])[-1] for each in (logits, zero_shot)
            )
            found[name] = (mine, theirs)
    return found


def _groups(
    support: Sequence[Photo],
    logits: dict[str, npt.NDArray[np.float32]],
    truth: npt.NDArray[np.int64],
    readable: npt.NDArray[np.bool_],
) -> dict[str, dict[str, float]]:
    """Accuracy on classes with and without shots, where there are photos of both."""
    seen = np.array(sorted({photo.label for photo in support if photo.label is not None}), dtype=np.int64)
    if np.isin(truth, seen).all() or not np.isin(truth, seen).any():
        return {}
    return {name: seen_and_unseen(scores, truth, seen, readable) for name, scores in logits.items()}


def run(invocation: Invocation) -> None:
    """Evaluate, and print accuracy, overlap with the shots, and confusions."""
    print_result(evaluate(invocation.settings).text)
