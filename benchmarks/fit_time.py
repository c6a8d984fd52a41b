"""Time every method's fit and prediction on a task of the contest's size, and write results/fit-time.csv and .md.

    python -m benchmarks.fit_time FILE.npz

The task is the file's 4 shots per class; the queries are its test photos, repeated up to 3,000. Each method is run
once before it is timed, so that its kernels are compiled. Where the file has no features of a second backbone, random
numbers stand in for them: times do not depend on the values.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks import reports_user_errors
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import FewShotTask, Queries
from jclip_adapter.evaluation.benchmark import choose_methods
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.features.file import read_feature_file
from jclip_adapter.methods import create
from jclip_adapter.storage import ANY, write_text

RESULTS = Path("results")
SHOTS, QUERIES = 4, 3000
WIDTH = 1280  # of a second backbone's features
HEADER = ("method", "classes", "shots", "queries", "fit_seconds", "predict_seconds")


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
    parser.add_argument("--method", default="all", help="only these methods, separated by commas")
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
    names = [name for name in choose_methods(options.method) if can_run(name, task)]
    seconds = {name: measure(name, task, queries) for name in tqdm(names, unit="method")}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    for name, (fit, predict) in seconds.items():
        writer.writerow([name, task.num_classes, SHOTS, QUERIES, f"{fit:.3f}", f"{predict:.3f}"])
    slowest = sorted(seconds.items(), key=lambda item: -sum(item[1]))
    rows = [[name, f"{fit:.2f}", f"{predict:.2f}"] for name, (fit, predict) in slowest]
    total = sum(map(sum, seconds.values()))
    table = markdown_table(["method", "fit in s", "predict in s"], rows)
    text = (
        f"{len(seconds)} methods, {task.num_classes} classes, {SHOTS} shots, {QUERIES} queries, "
        f"{len(task.support_labels)} photos to learn from: {total:.1f} s together, "
        f"the slowest {sum(slowest[0][1]):.1f} s ({slowest[0][0]}).\n\n{table}\n"
    )
    write_text(RESULTS / "fit-time.csv", buffer.getvalue(), ANY)
    write_text(RESULTS / "fit-time.md", text, ANY)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
