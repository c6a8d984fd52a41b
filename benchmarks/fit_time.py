"""Time every method's fit and prediction on a task of the contest's size, and write results/fit-time.csv and .md.

    python -m benchmarks.fit_time open_domain374.npz

The task is the file's 4 shots per class; the queries are its test photos, repeated up to 3,000. Each method is run
once before it is timed, so that its kernels are compiled. Where the file has no features of a second backbone, random
numbers stand in for them: times do not depend on the values.

The methods of the cross-modal poster that train through CLIP take hours on a CPU. They train on a task of the same
size, with a CLIP of ViT-B/32's shapes and random weights, and are stopped after a few steps: their seconds are the
median step times the number of steps, and what they compute before and after the training.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.cost_child import TEXT_ONLY, task_of
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import FewShotTask, Queries
from jclip_adapter.evaluation.benchmark import choose_methods
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.features.file import read_feature_file
from jclip_adapter.methods import create, get
from jclip_adapter.models.clip.config import VIT_B_32
from jclip_adapter.storage import ANY, write_text

RESULTS = ROOT / "results" / "fit-time"
SHOTS, QUERIES = 4, 3000
WIDTH = 1280  # of a second backbone's features
STEPS = 3  # timed of a training through CLIP, after one that is not
POSTER = "coop,prograd,cross-modal-prompting,cross-modal-partial"  # those through CLIP
HEADER = ("method", "classes", "shots", "queries", "fit_seconds", "predict_seconds", "steps", "steps_timed")


def can_run(name: str, task: FewShotTask) -> bool:
    """Whether a method with its default hyper-parameters has what it needs."""
    try:
        create(name).check_needs(task)
    except DataError:
        return False
    return True


def measure(name: str, task: FewShotTask, queries: Queries) -> tuple[float, float]:
    """Seconds that a method's second fit and prediction take."""
    create(name).fit(task).logits(queries)
    started = time.perf_counter()
    method = create(name).fit(task)
    fitted = time.perf_counter()
    method.logits(queries)
    return fitted - started, time.perf_counter() - fitted


def measure_through_clip(name: str, task: FewShotTask, timed: int = STEPS) -> tuple[float, int]:
    """Seconds that a fit through CLIP would take, extrapolated from its first steps, and the number of its steps.

    Args:
        name: The method.
        task: With an encoder.
        timed: Number of steps to time, after one that is not timed.
    """
    from jclip_adapter.methods.training import loop

    train = loop.train
    moments: list[float] = []
    total = 0

    def shortened(step: Callable[[Any], loop.Step], optimizer: Any, batches: Any, **options: Any) -> Any:
        nonlocal total
        total = batches.steps
        moments.append(time.perf_counter())

        def taken(batch: Any) -> loop.Step:
            moments.append(time.perf_counter())
            return step(batch)

        history = train(taken, optimizer, replace(batches, steps=1 + timed), **options)
        moments.append(time.perf_counter())
        return history

    with mock.patch.object(loop, "train", shortened):
        started = time.perf_counter()
        create(name).fit(task)
        seconds = time.perf_counter() - started
    around = seconds - (moments[-1] - moments[0])
    return around + total * median(np.diff(moments[2:])), total


def table(rows: Sequence[Sequence[Any]], photos: int) -> str:
    """The times in Markdown, the slowest first.

    Args:
        rows: Rows of HEADER.
        photos: Number of photos to learn from.
    """
    cells = []
    for name, _, _, _, fit, predict, steps, _ in sorted(rows, key=lambda row: -float(row[4]) - float(row[5] or 0)):
        cells.append([name, f"{float(fit):.2f}", f"{float(predict):.2f}", "–"] if predict else [name, fit, "–", steps])
    whole = [row for row in rows if row[5]]
    total = sum(float(row[4]) + float(row[5]) for row in whole)
    facts = f"{rows[0][1]} classes, {SHOTS} shots, {QUERIES} queries, {photos} photos to learn from"
    return (
        f"{facts}. The {len(whole)} methods on features took {total:.1f} s together. The others train through CLIP: "
        f"their seconds are extrapolated from {STEPS} of their steps to the number in the last column.\n\n"
        f"{markdown_table(['method', 'fit in s', 'predict in s', 'steps'], cells)}\n"
    )


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fit_time", description="Time every method on a task of the contest's size."
    )
    parser.add_argument("file", metavar="FILE.npz", help=f"feature file with {SHOTS} shots per class")
    parser.add_argument("--method", default=f"all,{POSTER}", help="only these methods, separated by commas")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where .csv and .md are written")
    options = parser.parse_args(argv)
    content = read_feature_file(options.file)
    if SHOTS not in content.tasks:
        raise DataError(f"{options.file} has no task of {SHOTS} shots.")
    task = content.tasks[SHOTS]
    queries = content.test.queries[np.arange(QUERIES) % len(content.test.labels)]
    if task.auxiliary is None:
        rng = np.random.default_rng(0)
        task = replace(task, auxiliary=rng.random((len(task.support_labels), WIDTH), dtype=np.float32))
        queries = replace(queries, auxiliary=rng.random((QUERIES, WIDTH), dtype=np.float32))
    names = choose_methods(options.method)
    on_features = [name for name in names if can_run(name, task)]
    rows = []
    for name in tqdm(on_features, unit="method"):
        fit, predict = measure(name, task, queries)
        rows.append([name, task.num_classes, SHOTS, QUERIES, f"{fit:.3f}", f"{predict:.3f}", "", ""])
    for name in [name for name in names if "encoder" in get(name).meta.needs]:
        clip = task_of(VIT_B_32 if "images" in get(name).meta.tunes else TEXT_ONLY, task.num_classes)
        seconds, steps = measure_through_clip(name, clip)
        rows.append([name, task.num_classes, SHOTS, QUERIES, f"{seconds:.0f}", "", steps, STEPS])
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows)
    text = table(rows, len(task.support_labels))
    write_text(options.out.with_suffix(".csv"), buffer.getvalue(), ANY)
    write_text(options.out.with_suffix(".md"), text, ANY)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
