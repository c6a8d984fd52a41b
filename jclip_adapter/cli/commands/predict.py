"""The predict command: the contest's result file, or the classes of any photos."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from jclip_adapter.cli.app import Invocation
from jclip_adapter.cli.options import CLASSIFY
from jclip_adapter.cli.parser import RESULT
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.console import print_result
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.problems import Problems, counted, one_line
from jclip_adapter.core.task import softmax
from jclip_adapter.data.sets import check_test_links
from jclip_adapter.data.sets.model import FileKind, paths_of
from jclip_adapter.data.sets.paths import warn_ignored
from jclip_adapter.data.sets.tree import scan
from jclip_adapter.data.submission import REJECTS, check_target, rejects_path, write_submission
from jclip_adapter.evaluation.metrics import top_k_ids
from jclip_adapter.features.overlap import warn_of_overlap
from jclip_adapter.features.sharding import encode_part
from jclip_adapter.storage import discard, write_text
from jclip_adapter.storage.checksums import LIST_MARK, text_with_checksum

from .setup import check_test_photos, log_data
from .trained import as_trained, open_trained

logger = logging.getLogger(__name__)


def predict(settings: Settings, result: Path) -> str:
    """Classify the test photos and write the result file and its zip.

    An unreadable photo gets the classes with the largest mean zero-shot probability over the readable ones, and is
    listed beside the result.

    Args:
        settings: The settings.
        result: Path of the result file, in an existing folder.

    Returns:
        What was written, or the progress of --shard where other parts are missing, in words.

    Raises:
        DataError: no test photo, or an unreadable one under --on-bad-image stop.
        UsageError: the result cannot be written (`submission.check_target`).
    """
    check_target(result)
    part, stops = settings.shard, settings.on_bad_image == "stop"
    trained = open_trained(settings, encode_texts=part is None or part.number == 1)
    images, tasks = trained.images, trained.tasks
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
    rejects = {images.test[number].relative: reason for number, reason in features.bad.items()}
    if stops or len(rejects) == len(images.test):
        features.refuse_bad(f"test {images.kind}", "Replace them, or give --on-bad-image fallback.")
    top = min(settings.top, len(images.classes))
    ids = np.zeros((len(images.test), top), dtype=np.int64)
    ids[features.readable] = top_k_ids(trained.logits(features), top, images.class_ids)
    listing = rejects_path(result)
    if rejects:  # before the result, so that no fallback is written unlisted
        prior = softmax(tasks.zero_shot(features.normalised[features.readable])).mean(axis=0, keepdims=True)
        ids[~features.readable] = top_k_ids(prior, top, images.class_ids)
        lines = "".join(f"{name}\t{one_line(why)}\n" for name, why in rejects.items())
        write_text(listing, text_with_checksum(lines, LIST_MARK), REJECTS)
    written, archive = write_submission(result, images.test_names, ids)
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


def classify(settings: Settings) -> list[str]:
    """Classify photos outside the data set.

    Returns:
        A line per readable file, in the order given, with its most probable classes; a folder's own files before its
        folders, in natural order. Unreadable ones are logged.

    Raises:
        DataError: a path is missing, a folder has no photo or cannot be read, or no file can be read.
    """
    settings = as_trained(settings)
    files = [file for path in settings.images for file in _files_at(Path(path), settings.kind)]
    trained = open_trained(settings, elsewhere=files)
    images = trained.images
    log_data(images, f"classifying {counted(len(files), images.kind)}")
    features = trained.tasks.photos(files)
    if len(features.bad) == len(files):
        raise DataError(f"no {images.kind} can be read.", details=list(features.bad.values()))
    for reason in features.bad.values():
        logger.warning("%s", reason)
    lines = []
    shares = softmax(trained.logits(features))
    rows = zip(np.flatnonzero(features.readable).tolist(), shares, top_k_ids(shares, settings.top), strict=True)
    for number, row, best in rows:
        answer = ", ".join(f"{images.class_names[index]} {100 * row[index]:.1f} %" for index in best)
        lines.append(f"{files[number]}: {answer}")
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
    settings = invocation.settings
    if CLASSIFY in invocation.commands:
        print_result("\n".join(classify(settings)))
    else:
        print_result(predict(settings, Path(invocation.operands["predict"] or RESULT)))
