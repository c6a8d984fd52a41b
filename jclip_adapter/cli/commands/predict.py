"""The predict command: the contest's result file, or the classes of any photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jclip_adapter.cli.app import Invocation
from jclip_adapter.cli.options import CLASSIFY
from jclip_adapter.cli.parser import RESULT
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.console import print_result
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.problems import Problems, counted, one_line
from jclip_adapter.core.task import softmax
from jclip_adapter.data.sets import check_test_links
from jclip_adapter.data.sets.model import paths_of
from jclip_adapter.data.sets.paths import warn_ignored
from jclip_adapter.data.sets.tree import scan
from jclip_adapter.data.submission import REJECTS, check_target, rejects_path, write_submission
from jclip_adapter.evaluation.metrics import top_k_ids
from jclip_adapter.features.overlap import warn_of_overlap
from jclip_adapter.features.sharding import Part, Share, encode_part
from jclip_adapter.storage import discard, write_text
from jclip_adapter.storage.checksums import LIST_MARK, text_with_checksum

from .setup import check_test_photos, log_data
from .trained import open_trained


@dataclass(frozen=True)
class Prediction:
    """A written prediction.

    Attributes:
        result: The result file.
        archive: Its zip.
        names: M photos.
        ids: (M, k) class ids, best first.
        rejects: Error messages of unreadable photos, by name.
        domains: Number of photos predicted as each domain; empty without domains.
    """

    result: Path
    archive: Path
    names: tuple[str, ...]
    ids: npt.NDArray[np.int64]
    rejects: dict[str, str]
    domains: dict[str, int]


def predict(
    settings: Settings,
    result: Path,
    top: int = 5,
    on_bad: str = "fallback",
    part: Part | None = None,
) -> Prediction | Share:
    """Classify the test photos and write the result file and its zip.

    Args:
        settings: The settings.
        result: Path of the result file, in an existing folder.
        top: Ids per line.
        on_bad: "fallback" gives an unreadable photo the classes with the largest mean zero-shot probability over the
            readable ones, and lists it beside the result; "stop" raises an error.
        part: The part of the photos to encode; the result is written once all are encoded. None for all.

    Returns:
        The prediction, or the part's progress where other parts are missing.

    Raises:
        DataError: no test photo, or an unreadable one under "stop".
        UsageError: the result cannot be written (`submission.check_target`).
    """
    check_target(result)
    trained = open_trained(settings, encode_texts=part is None or part.number == 1)
    images, tasks = trained.images, trained.tasks
    check_test_photos(images)
    check_test_links(images)
    log_data(images, f"predicting {len(images.test)} test photos")
    paths = paths_of(images.test)
    if part:
        share = encode_part(trained.image_encoders, paths, tasks.cache, settings.workers, part)
        if share.missing:
            return share
    features = tasks.photos(paths)
    if trained.folder:
        warn_of_overlap(tasks, trained.shots, images.test, features)
    rejects = {images.test[number].relative: reason for number, reason in features.bad.items()}
    if rejects and (on_bad == "stop" or len(rejects) == len(images.test)):
        raise DataError(
            f"{len(rejects)} test photos cannot be read, the first: {next(iter(rejects.values()))}",
            "Replace them, or give --on-bad-image fallback.",
            list(rejects.values()),
        )
    top = min(top, len(images.classes))
    ids = np.zeros((len(images.test), top), dtype=np.int64)
    ids[features.readable] = top_k_ids(trained.logits(features), top, images.class_ids)
    listing = rejects_path(result)
    if rejects:  # before the result, so that no fallback is written unlisted
        prior = softmax(tasks.zero_shot(features.normalised[features.readable])).mean(axis=0, keepdims=True)
        ids[~features.readable] = top_k_ids(prior, top, images.class_ids)
        lines = "".join(f"{name}\t{one_line(why)}\n" for name, why in rejects.items())
        write_text(listing, text_with_checksum(lines, LIST_MARK), REJECTS)
    written, archive = write_submission(result, images.test_names, ids)
    if not rejects:
        discard(listing, REJECTS)  # of an earlier prediction
    domain_of = {info.id: info.domain for info in images.classes}
    first = [domain_of[int(number)] for number in ids[:, 0]]
    counts = {domain: first.count(domain) for domain in dict.fromkeys(images.domains) if domain}
    return Prediction(written, archive, images.test_names, ids, rejects, counts)


@dataclass(frozen=True)
class Guess:
    """One photo's most probable classes with their probabilities, or an error message."""

    path: Path
    names: tuple[str, ...]
    probabilities: tuple[float, ...]
    problem: str = ""


def classify(settings: Settings, paths: Sequence[str], top: int = 5) -> list[Guess]:
    """Classify photos outside the data set.

    Args:
        settings: The settings.
        paths: Photos, and folders with photos at any depth.
        top: Classes per photo.

    Returns:
        One guess per photo, in the order given; a folder's own photos before its folders, in natural order.

    Raises:
        DataError: a path is missing, or a folder has no photo or cannot be read.
    """
    files = [file for path in paths for file in _photos_at(Path(path))]
    trained = open_trained(settings, elsewhere=files)
    images = trained.images
    log_data(images, f"classifying {counted(len(files), 'photo')}")
    features = trained.tasks.photos(files)
    guesses = {number: Guess(files[number], (), (), problem) for number, problem in features.bad.items()}
    readable = [number for number in range(len(files)) if number not in features.bad]
    if readable:
        shares = softmax(trained.logits(features))
        for number, row, best in zip(readable, shares, top_k_ids(shares, min(top, shares.shape[1])), strict=True):
            names = tuple(images.class_names[index] for index in best)
            guesses[number] = Guess(files[number], names, tuple(float(row[index]) for index in best))
    return [guesses[number] for number in range(len(files))]


def _photos_at(path: Path) -> list[Path]:
    """A photo, or all photos of a folder."""
    if path.is_dir():
        problems = Problems(path)
        tree = scan(path, problems)
        problems.raise_if_any("Rename or remove them, or give the photos in them one by one.")
        warn_ignored(path, tree.others)
        if not tree.count():
            raise DataError(f"{path} has no photo at any depth.", "Give photos, or folders of photos.")
        return [path / name for name in tree.all_photos()]
    if not path.exists():
        raise DataError(f"there is no {path}.", "Give photos, or folders of photos.")
    return [path]


def run(invocation: Invocation) -> None:
    """Write the result file, or print the classes of the given photos."""
    settings = invocation.settings
    if CLASSIFY in invocation.commands:
        for guess in classify(settings, settings.images, settings.top):
            classes = ", ".join(f"{n} {100 * p:.1f} %" for n, p in zip(guess.names, guess.probabilities, strict=True))
            print_result(f"{guess.path}: {guess.problem or classes}")
        return
    target = invocation.operands["predict"] or RESULT
    done = predict(settings, Path(target), settings.top, settings.on_bad_image, settings.shard)
    if isinstance(done, Share):
        print_result(done.summary(target))
        return
    found = f"{counted(len(done.names), 'photo')}, {counted(done.ids.shape[1], 'id')} each"
    print_result(f"written: {done.result} ({found}) and {done.archive}")
    if done.rejects:
        print_result(f"{counted(len(done.rejects), 'photo')} could not be read: {rejects_path(done.result)}")
    for domain, count in done.domains.items():
        print_result(f"predicted as {domain}: {counted(count, 'photo')}")
