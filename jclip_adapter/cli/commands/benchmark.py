"""The benchmark command: methods on feature files or photos, with tables and a picture."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import runtime
from jclip_adapter.cli.app import Invocation
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.choices import ALL_SHOTS, IMAGENET_ESC, PROTOCOLS
from jclip_adapter.core.console import print_result
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.task import FewShotTask, Labelled
from jclip_adapter.data.sets import ImageSet, Photo, sample_support
from jclip_adapter.data.sets.labelled import labelled_photos
from jclip_adapter.data.sets.model import labels_of, paths_of
from jclip_adapter.data.sets.support import Draw, choose_support, shots_of
from jclip_adapter.evaluation.benchmark import (
    COLUMNS,
    Problem,
    choose_methods,
    feature_problems,
    run_benchmark,
    values_of,
)
from jclip_adapter.evaluation.benchmark_report import benchmark_picture, benchmark_table
from jclip_adapter.evaluation.imagenet_esc import COLUMNS as ESC_COLUMNS
from jclip_adapter.evaluation.imagenet_esc import protocol_tables
from jclip_adapter.evaluation.query_tasks import QueryTasks
from jclip_adapter.evaluation.report import csv_text
from jclip_adapter.features.noise import with_noise
from jclip_adapter.features.overlap import warn_of_overlap
from jclip_adapter.features.shots import Shots
from jclip_adapter.features.task_encoder import TaskEncoder, fingerprint
from jclip_adapter.methods import Method, create
from jclip_adapter.models import backbones
from jclip_adapter.models.clip.encoder import Encoder
from jclip_adapter.storage import Kind, check_folder_writable, check_place, sha256_file, write_files
from jclip_adapter.storage.checksums import MARKDOWN_MARK, text_with_checksum
from jclip_adapter.storage.kinds import text_of, unchanged_png, unchanged_text

from . import imagenet_esc
from .chain import chain_sha256
from .effects import refuse_idle, refuse_idle_on_methods
from .reports import report_benchmark
from .setup import Setup, log_data, set_up

logger = logging.getLogger(__name__)
CELLS = Path("results/cells")
_VALIDATION = 4  # validation photos per class, at most
_ROWS = "<!-- the CSV beside: SHA-256 {} -->\n"
TEXT = Kind("a benchmark's tables", unchanged_text(MARKDOWN_MARK))
PICTURE = Kind("a benchmark's picture", unchanged_png)
REPORT = Kind("a benchmark's report", unchanged_text(MARKDOWN_MARK))


def _is_table(path: Path) -> bool:
    """Whether the tables beside a CSV are this program's and belong to exactly these rows."""
    text = path.with_suffix(".md")
    return TEXT.owns(text) and _ROWS.format(sha256_file(path)) in text_of(text)


def _no_tables(path: Path) -> str:
    """Why a CSV is not recognised."""
    return f"{path.with_suffix('.md').name} beside it, which would show that, is missing or belongs to other rows"


TABLE = Kind("a benchmark's table", _is_table, _no_tables)


def benchmark(settings: Settings) -> tuple[str, tuple[Path, ...]]:
    """Run methods on feature files, or on a data set's photos.

    Returns:
        The tables as Markdown, and the paths of the CSV, the tables, the report and, except for ImageNet-ESC, the
        picture.

    Raises:
        UsageError: `out` does not end in .csv, it or a file beside it is not this program's, or `shots` is "all" with
            feature files.
        SetupError: the files or the cells cannot be written.
    """
    methods = settings.method if "method" in settings.given else "all"
    shots, seeds, out = settings.shot_counts, settings.seeds or (1,), Path(settings.out)
    if out.suffix != ".csv":
        raise UsageError(f"--out: expected a path ending in .csv, got {out}.", "Rename it.")
    if settings.engine == "slurm":
        raise UsageError("--engine slurm is for --extract.", "Use --engine ray, on Slurm too (docs/scale.md).")
    if settings.protocol == IMAGENET_ESC:
        refuse_idle(settings, {"engine"}, f"with --protocol {IMAGENET_ESC}")
        return _imagenet_esc(settings, out)
    if settings.audio_mode:
        raise UsageError(f"--audio-mode has no effect without --protocol {IMAGENET_ESC}.", "Leave it out.")
    if settings.features and ALL_SHOTS in shots:
        raise UsageError("--shots all needs photos; feature files have fixed counts.", "Leave --shots out.")
    tasks = _tasks(settings)
    unseen = settings.unseen or ((0.5,) if settings.protocol else ())
    if unseen:
        _check_unseen(settings, shots, tasks)
    files = _places(out, picture=True)
    chosen = [create(name, **values_of(name, settings.set)) for name in choose_methods(methods)]
    refuse_idle_on_methods(settings, chosen, shots=False)
    runtime.choose(settings.device)
    if settings.features:
        problems = feature_problems(settings.features, shots, seeds, resample=settings.resample)
    else:
        if any(settings.noise):
            _check_noise(settings, chosen)
        problems = photo_problems(set_up(settings), list(shots) or [settings.shots], seeds)
    problems = [
        replace(problem, unseen=share, protocol=settings.protocol or PROTOCOLS[0], tasks=tasks)
        for share in unseen or (0.0,)
        for problem in problems
    ]
    if tasks:
        _check_tasks(problems, tasks)
    selection = settings.select or "support"
    cells = run_benchmark(problems, methods, CELLS, selection=selection, given=settings.set, engine=settings.engine)
    tables = benchmark_table(cells)
    _write(files, cells, _csv(cells), tables, settings)
    return tables, files


def _imagenet_esc(settings: Settings, out: Path) -> tuple[str, tuple[Path, ...]]:
    """`benchmark` of this protocol."""
    files = _places(out, picture=False)
    rows = imagenet_esc.imagenet_esc(settings, CELLS)
    tables = protocol_tables(rows)
    rounded = [
        {key: f"{value:.2f}" if isinstance(value, float) else value for key, value in row.items()} for row in rows
    ]
    _write(files, rows, csv_text(rounded, ESC_COLUMNS), tables, settings)
    return tables, files


def _places(out: Path, *, picture: bool) -> tuple[Path, ...]:
    """The files of a benchmark, all of which can be written, as can its cells."""
    kinds = {".csv": TABLE, ".md": TEXT, ".html": REPORT, **({".png": PICTURE} if picture else {})}
    files = {out.with_suffix(suffix): kind for suffix, kind in kinds.items()}
    for file, kind in files.items():
        check_place(file, kind)
    check_folder_writable(CELLS)
    return tuple(files)


def _check_unseen(settings: Settings, shots: Sequence[int], tasks: QueryTasks | None) -> None:
    """Refuse classes without shots where they mean nothing."""
    if 0 in shots or tasks:
        other = "--tasks" if tasks else "--shots 0"
        raise UsageError(f"--unseen and --protocol cannot be combined with {other}.", "Leave one of them out.")
    if not settings.features and settings.weights_or_default in backbones.KNOWN:
        raise UsageError(
            f"--unseen: {settings.weights_or_default} has no text encoder to predict classes without shots.",
            "Give --weights a CLIP.",
        )


def _check_noise(settings: Settings, methods: Sequence[Method]) -> None:
    """Refuse noise with what would not see it."""
    refuse_idle(settings, {"views", "auxiliary"}, "with --noise")
    idle = [f"{each.meta.name}, which trains through CLIP" for each in methods if "encoder" in each.meta.needs]
    idle += [settings.weights_or_default] if settings.weights_or_default in backbones.KNOWN else []
    if idle:
        raise UsageError(f"--noise has no effect on {idle[0]}.", "Leave one of them out.")


def _check_tasks(problems: Sequence[Problem], tasks: QueryTasks) -> None:
    """Refuse queries that cannot be divided into tasks."""
    for problem in problems:
        if len(problem.unreadable):
            raise DataError(
                f"--tasks: {len(problem.unreadable)} photos of {problem.dataset} cannot be read.", "Remove them."
            )
        next(tasks.draw(problem.test.labels, problem.seed))


def _log_replaced(path: Path, cells: Sequence[dict[str, Any]]) -> None:
    """Log how many rows of an earlier benchmark are dropped."""
    if not path.is_file():
        return
    keys = ("dataset", "method", "shots", "seed", "unseen", "classes", "task", "rows", "start")
    fresh = {tuple(str(cell.get(key)) for key in keys) for cell in cells}
    with path.open(encoding="utf-8", newline="") as handle:
        rows = [tuple(str(row.get(key)) for key in keys) for row in csv.DictReader(handle)]
    lost = len(set(rows) - fresh)
    if lost:
        logger.warning("%s: drops %d rows of an earlier benchmark; their cells stay in %s", path, lost, CELLS)


def _write(files: Sequence[Path], cells: Sequence[dict[str, Any]], table: str, tables: str, settings: Settings) -> None:
    """Write the picture if it is among the files, the tables with the SHA-256 of the CSV, the CSV, and the report."""
    _log_replaced(files[0], cells)
    rows = table.encode("utf-8")
    text = f"{tables}\n\n{_ROWS.format(hashlib.sha256(rows).hexdigest())}"
    pictures = [(file, benchmark_picture(cells), PICTURE) for file in files[3:]]
    written = (files[1], text_with_checksum(text, MARKDOWN_MARK).encode("utf-8"), TEXT)
    write_files([*pictures, written, (files[0], rows, TABLE)])
    report_benchmark(files[2], REPORT, settings, cells, pictures[0][1] if pictures else b"")


# Of some protocols only.
_MORE = (
    *("unseen", "protocol", "tasks", "effective_classes", "base", "new", "harmonic", "difference"),
    *(f"{key}{more}" for key in ("top1", "same_size", "resampled") for more in ("", "_interval")),
    "resampled_queries",
)


def _csv(cells: Sequence[dict[str, Any]]) -> str:
    columns = dict.fromkeys([*COLUMNS, *(key for key in _MORE if key in cells[0])])
    rows = []
    for cell in cells:
        rounded = {key: f"{value:.4f}" for key, value in cell.items() if isinstance(value, float) and key != "unseen"}
        rows.append({**cell, **rounded, "hyperparameters": json.dumps(cell["hyperparameters"], sort_keys=True)})
    return csv_text(rows, list(columns))


def photo_problems(setup: Setup, shots: Sequence[int], seeds: Sequence[int]) -> list[Problem]:
    """The problems of a data set's photos: a task with its queries per shot count and seed.

    Raises:
        UsageError: two seeds or shot counts draw the same photos, or there are no validation photos.
    """
    settings, images, tasks = setup.settings, setup.images, setup.tasks
    validated = settings.select == "validation"
    if validated and not images.validation:
        raise UsageError(f"--select validation: {images.source} has no validation set.", "Use --select support.")
    counts = ", ".join("all" if count == ALL_SHOTS else str(count) for count in shots)
    log_data(images, f"shots: {counts}, seeds: {', '.join(map(str, seeds))}")
    problems = []
    drawn: dict[tuple[Photo, ...], str] = {}
    for count in shots:
        for seed in seeds:
            draw = Draw(count, seed, strict=settings.strict)
            support = choose_support(images, draw, tasks.unreadable)
            what = f"--shots {'all' if count == ALL_SHOTS else count} --seed {seed}"
            if drawn.setdefault(support, what) != what:
                same = f"draw the same {len(support)} {images.kind}s, so their numbers are the same"
                raise UsageError(f"{drawn[support]} and {what} {same}.", "Give one --seed, or fewer --shots.")
            task = setup.task(support, draw)
            if settings.noise[0]:
                noisy = with_noise(tasks.clip, tasks.photos(paths_of(support)), tasks.cache, settings.noise[0], seed)
                task = replace(task, support_features=noisy.normalised, support_raw=noisy.raw)
            if validated:
                task = replace(task, validation=_validation(images, tasks, count, seed))
            test, lost = labelled_queries(images, tasks, support, settings.seed, settings.noise[1])
            facts = (images.name, shots_of(support, count), seed, _key(setup, task, test, lost))
            problems.append(Problem(*facts, task, test, unreadable=lost))
    return problems


def _validation(images: ImageSet, tasks: TaskEncoder, shots: int, seed: int) -> Labelled:
    """Validation photos of a published split, as many per class as shots but at most `_VALIDATION`, as in CoOp."""
    count = min(max(shots, 1), _VALIDATION)
    held = sample_support(replace(images, train=images.validation), count, seed, allow_fewer=True)
    found = tasks.photos(paths_of(held))
    if found.bad:
        logger.warning("%d of %d validation photos cannot be read and are left out", len(found.bad), len(held))
    return Labelled(tasks.queries(found), labels_of(held)[found.readable])


def _key(setup: Setup, task: FewShotTask, test: Labelled, lost: npt.NDArray[np.int64]) -> str:
    """SHA-256 of everything that a problem's accuracies depend on, besides the method."""
    tasks = setup.tasks
    # With the weights: a method may use more of them than the features show, such as the temperature.
    texts = tasks.encoder.text_key() if isinstance(tasks.encoder, Encoder) else ""
    keys = (fingerprint(task), *(each.image_key() for each in tasks.encoders), texts, chain_sha256(setup.chain))
    digest = hashlib.sha256(json.dumps([*keys, *tasks.class_names, *tasks.domains]).encode())
    second = () if test.queries.auxiliary is None else (test.queries.auxiliary,)
    held = () if task.validation is None else (task.validation.queries.features, task.validation.labels)
    for part in (test.queries.features, test.labels, lost, *second, *held):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def labelled_queries(
    images: ImageSet, tasks: TaskEncoder, support: Sequence[Photo], seed: int, noise: float = 0.0
) -> tuple[Labelled, npt.NDArray[np.int64]]:
    """Features and labels of the photos that `labelled_photos` finds.

    Args:
        images: The data set.
        tasks: Encodes the photos.
        support: The shots, which are not scored.
        seed: Seed of the draw from the training set, and of the noise.
        noise: Standard deviation of Gaussian noise on the normalised photos.

    Returns:
        The readable photos, and (k,) class indices of the unreadable ones, which are logged.
    """
    photos, _ = labelled_photos(images, support, seed)
    labels = labels_of(photos)
    found = tasks.photos(paths_of(photos))
    warn_of_overlap(tasks, Shots(tuple(support), read=tasks.keys), photos, found)
    if found.bad:
        first = next(iter(found.bad.values()))
        logger.warning(
            "%d of %d %ss to score cannot be read (they count as wrong, and feature files omit them): %s",
            len(found.bad),
            len(photos),
            images.kind,
            first,
        )
    if noise:
        found = with_noise(tasks.clip, found, tasks.cache, noise, seed)
    return Labelled(tasks.queries(found), labels[found.readable]), labels[~found.readable]


def _tasks(settings: Settings) -> QueryTasks | None:
    """The tasks that --tasks, --queries and --effective-classes describe."""
    tasks = QueryTasks(settings.tasks, settings.queries, *settings.effective_classes)
    if tasks.count:
        return tasks
    refuse_idle(settings, {"queries", "effective_classes"}, "without --tasks")
    return None


def run(invocation: Invocation) -> None:
    """Run the benchmark and print its tables."""
    tables, files = benchmark(invocation.settings)
    print_result(f"{tables}\n")
    print_result(f"written: {', '.join(map(str, files))}")
