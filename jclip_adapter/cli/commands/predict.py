"""The predict command: the contest's result file, a table of predictions, or the classes of any photos."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jclip_adapter.cli.app import Invocation
from jclip_adapter.cli.options import CLASSIFY
from jclip_adapter.cli.parser import RESULT
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.console import print_result
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.problems import Problems, counted, one_line
from jclip_adapter.core.task import softmax
from jclip_adapter.data.predictions import Predictions, check_table, is_table, write_predictions
from jclip_adapter.data.sets import check_test_links
from jclip_adapter.data.sets.model import FileKind, paths_of
from jclip_adapter.data.sets.paths import warn_ignored
from jclip_adapter.data.sets.tree import scan
from jclip_adapter.data.submission import REJECTS, check_target, rejects_path, write_submission
from jclip_adapter.evaluation.metrics import top_k_ids
from jclip_adapter.evaluation.rejection import expected_of, in_words
from jclip_adapter.evaluation.streaming import Classifier, classify_parts
from jclip_adapter.features.encoding import PhotoFeatures
from jclip_adapter.features.overlap import warn_of_overlap
from jclip_adapter.features.sharding import encode_part
from jclip_adapter.storage import discard, write_text
from jclip_adapter.storage.checksums import LIST_MARK, text_with_checksum

from .effects import refuse_idle
from .reports import report_place, report_prediction
from .setup import check_test_photos, log_data
from .trained import Trained, as_trained, open_on_parts, open_trained

logger = logging.getLogger(__name__)


def check_result(path: Path, settings: Settings) -> None:
    """Refuse a result that cannot be written, before the long computation.

    Raises:
        UsageError: as `submission.check_target` or `predictions.check_table`; or an option has no effect on it.
        SetupError: it cannot be written.
    """
    if is_table(path):
        if "on_bad_image" in settings.given and settings.on_bad_image == "fallback":
            why = f"on {path.name}, where an unreadable photo has its error"
            raise UsageError(f"--on-bad-image fallback has no effect {why}.", "Leave it out.")
        check_table(path)
        return
    if settings.reject is not None:
        raise UsageError(
            f"--reject has no effect on {path.name}, in which each photo has its best classes.",
            f"Write {path.with_suffix('.csv').name}, or leave --reject out.",
        )
    check_target(path)


def predict(settings: Settings, result: Path) -> str:
    """Classify the test photos and write the result file and its zip, or a table with probabilities.

    In a result file an unreadable photo gets the classes with the largest mean zero-shot probability over the readable
    ones, and is listed beside the result. In a table it has its error.

    Args:
        settings: The settings.
        result: Path of the result file, in an existing folder; .csv, .jsonl or .parquet for a table.

    Returns:
        What was written, or the progress of --shard where other parts are missing, in words.

    Raises:
        DataError: no test photo, or an unreadable one under --on-bad-image stop.
        UsageError: the result cannot be written (`check_result`), or --reject has too few held-out photos.
    """
    if settings.parts:
        return predict_parts(settings, result)
    if settings.classes and "data" in settings.given:
        raise UsageError(
            f"{settings.data} has no features in parts, which --classes could choose for.",
            "Make them: `extract DIR --photos SOURCE`. Or give photos: --images.",
        )
    if settings.classes:
        raise UsageError("--classes needs photos to choose for.", "Add --images, or --data with features in parts.")
    check_result(result, settings)
    part = settings.shard
    trained = open_trained(settings, encode_texts=part is None or part.number == 1)
    images, tasks = trained.images, trained.tasks
    report = report_place(trained.folder)
    check_test_photos(images)
    check_test_links(images)
    log_data(images, f"predicting {counted(len(images.test), f'test {images.kind}')}")
    paths = paths_of(images.test)
    if part:
        share = encode_part(trained.image_encoders, paths, tasks.cache, settings.workers, part)
        if share.missing:
            return share.summary(result)
    features = tasks.photos(paths)
    if trained.folder:
        warn_of_overlap(tasks, trained.shots, images.test, features)
    if settings.on_bad_image == "stop" or len(features.bad) == len(images.test):
        features.refuse_bad(f"test {images.kind}", "Replace them, or give --on-bad-image fallback.")
    write = _write_table if is_table(result) else _write_result
    return write(result, trained, features, images.test_names, settings, report)


def predict_parts(settings: Settings, result: Path) -> str:
    """Classify features in parts, a part at a time, into a folder of tables; a stopped prediction goes on.

    Args:
        settings: The settings; their data are the features.
        result: The folder, which ends in .parquet.

    Returns:
        What was written, in words.

    Raises:
        DataError: as `open_on_parts` and `classify_parts`.
        UsageError: as these; or `result` does not end in .parquet.
    """
    if result.suffix != ".parquet":
        raise UsageError(
            f"features in parts are classified into a folder of tables that ends in .parquet, not into {result}.",
            f"Write {result.with_suffix('.parquet')}.",
        )
    refuse_idle(settings, {"on_bad_image", "shard", "language"}, f"on {settings.data}, which has features in parts")
    if not result.parent.is_dir():
        raise UsageError(f"there is no folder {result.parent} for {result.name}.", "Create it, or give another path.")
    trained = open_on_parts(settings)
    top = min(settings.top, len(trained.images.classes))
    classifier = Classifier(trained.method, trained.images.class_names, top, settings.reject)
    about = {**_facts(trained, settings), "classes": list(classifier.class_names)}
    found = classify_parts(classifier, Path(settings.data), result, about)
    by = f"run {trained.folder}" if trained.folder else f"{counted(len(classifier.class_names), 'class name')} alone"
    text = [f"written: {result} ({counted(found['rows'], 'photo')} in {counted(found['parts'], 'table')}), by {by}"]
    if found["unreadable"]:
        text.append(f"{counted(found['unreadable'], 'photo')} could not be read")
    if settings.reject is not None:
        text += [f"unknown: {counted(found['unknown'], 'photo')}", *in_words(trained.calibration, settings.reject)]
    return "\n".join(text)


def _write_result(
    result: Path,
    trained: Trained,
    features: PhotoFeatures,
    names: Sequence[str],
    settings: Settings,
    report: Path | None,
) -> str:
    """Write the contest's file and its zip; returns what was written, in words."""
    images, tasks = trained.images, trained.tasks
    rejects = {images.test[number].relative: reason for number, reason in features.bad.items()}
    top = min(settings.top, len(images.classes))
    found = _predictions(trained, features, names, settings)
    ids = np.zeros((len(names), top), dtype=np.int64)
    ids[features.readable] = np.asarray(images.class_ids, dtype=np.int64)[found.best]
    listing = rejects_path(result)
    if rejects:  # before the result, so that no fallback is written unlisted
        prior = softmax(tasks.zero_shot(features.normalised[features.readable])).mean(axis=0, keepdims=True)
        ids[~features.readable] = top_k_ids(prior, top, images.class_ids)
        lines = "".join(f"{name}\t{one_line(why)}\n" for name, why in rejects.items())
        write_text(listing, text_with_checksum(lines, LIST_MARK), REJECTS)
    written, archive = write_submission(result, names, ids)
    report_prediction(report, settings, trained, features.paths, found, result)
    text = [f"written: {written} ({counted(len(ids), images.kind)}, {counted(top, 'id')} each) and {archive}"]
    if rejects:
        text.append(f"{counted(len(rejects), images.kind)} could not be read: {listing}")
    else:
        discard(listing, REJECTS)  # of an earlier prediction
    domain_of = {info.id: info.domain for info in images.classes}
    first = [domain_of[int(number)] for number in ids[:, 0]]
    domains = [domain for domain in dict.fromkeys(images.domains) if domain]
    text += [f"predicted as {domain}: {counted(first.count(domain), images.kind)}" for domain in domains]
    return "\n".join(text)


def _predictions(trained: Trained, features: PhotoFeatures, names: Sequence[str], settings: Settings) -> Predictions:
    """The predictions for photos of which some can be read."""
    return trained.predictions(features, trained.logits(features), names, settings.top, settings.reject)


def _write_table(
    path: Path,
    trained: Trained,
    features: PhotoFeatures,
    paths: Sequence[str],
    settings: Settings,
    report: Path | None,
) -> str:
    """Write a table and its facts; returns what was written, in words."""
    found, calibration = _predictions(trained, features, paths, settings), trained.calibration
    facts = {**_facts(trained, settings), "photos": len(paths), "unreadable": len(features.bad)}
    written, beside = write_predictions(path, found, facts)
    report_prediction(report, settings, trained, features.paths, found, path)
    kind = trained.images.kind
    text = [f"written: {written} ({counted(len(paths), kind)}) and {beside}"]
    if features.bad:
        text.append(f"{counted(len(features.bad), kind)} could not be read")
    if settings.reject is not None and found.known is not None:
        text += [f"unknown: {counted(int((~found.known).sum()), kind)}", *in_words(calibration, settings.reject)]
    return "\n".join(text)


def _facts(trained: Trained, settings: Settings) -> dict[str, Any]:
    """What predictions are made with."""
    calibration = trained.calibration  # logged where there is none
    return {
        "run": str(trained.folder or ""),
        "method": trained.method.meta.name,
        "temperature": calibration.temperature,
        "calibrated_on": calibration.source,
        "reject": None if settings.reject is None else expected_of(calibration, settings.reject),
    }


def classify(settings: Settings, result: Path | None = None) -> list[str]:
    """Classify photos outside the data set.

    Args:
        settings: The settings.
        result: A table to be written instead; None for lines.

    Returns:
        A line per readable file, in the order given, with its most probable classes; a folder's own files before its
        folders, in natural order. Unreadable ones are logged. With `result`, what was written.

    Raises:
        DataError: a path is missing, a folder has no photo or cannot be read, or no file can be read.
        UsageError: the table cannot be written, or --reject has too few held-out photos.
    """
    if result:
        check_table(result)
    settings = as_trained(settings)
    files = [file for path in settings.images for file in _files_at(Path(path), settings.kind)]
    trained = open_trained(settings, elsewhere=files)
    images = trained.images
    report = report_place(trained.folder) if result else None
    log_data(images, f"classifying {counted(len(files), images.kind)}")
    features = trained.tasks.photos(files)
    if len(features.bad) == len(files):
        raise DataError(f"no {images.kind} can be read.", details=list(features.bad.values()))
    names = [str(file) for file in files]
    if result:
        return [_write_table(result, trained, features, names, settings, report)]
    for reason in features.bad.values():
        logger.warning("%s", reason)
    found = _predictions(trained, features, names, settings)
    lines = []
    for number, file in enumerate(np.flatnonzero(features.readable).tolist()):
        row = found.probabilities[number]
        answer = ", ".join(f"{images.class_names[index]} {100 * row[index]:.1f} %" for index in found.best[number])
        known = found.known is None or found.known[number]
        lines.append(f"{names[file]}: {answer if known else f'unknown ({answer})'}")
    for line in in_words(trained.calibration, settings.reject) if settings.reject is not None else ():
        logger.info("%s", line)
    return lines


def _files_at(path: Path, kind: FileKind) -> list[Path]:
    """A photo or a sound, or all of a folder."""
    if path.is_dir():
        problems = Problems(path)
        tree = scan(path, problems, kind)
        problems.raise_if_any(f"Rename or remove them, or give the {kind}s in them one by one.")
        warn_ignored(path, tree.others, kind)
        if not tree.count():
            raise DataError(f"{path} has no {kind} at any depth.", f"Give {kind}s, or folders of {kind}s.")
        return [path / name for name in tree.all_photos()]
    if not path.exists():
        raise DataError(f"there is no {path}.", f"Give {kind}s, or folders of {kind}s.")
    return [path]


def run(invocation: Invocation) -> None:
    """Write the result file, or print the classes of the given photos."""
    settings, operand = invocation.settings, invocation.operands["predict"]
    if invocation.commands == (CLASSIFY,) and not operand:
        refuse_idle(settings, {"language"}, "where predictions are printed")
    if CLASSIFY in invocation.commands:
        print_result("\n".join(classify(settings, Path(operand) if operand else None)))
    else:
        print_result(predict(settings, Path(operand or RESULT)))
