"""Measure probabilities before and after their calibration on held-out shots: results/calibration.csv, .md and .png.

    python -m benchmarks.calibration caltech_pair.npz open_domain374.npz

Every method on features that is not transductive, with its default hyper-parameters. A file's shots are used as they
are. The last column is what one temperature could reach: the one that is most likely on the test labels.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import softmax
from jclip_adapter.evaluation.benchmark import Problem, choose_methods, feature_problems
from jclip_adapter.evaluation.calibration import calibrate, temperature
from jclip_adapter.evaluation.metrics import BINS, accuracy, calibration_error
from jclip_adapter.evaluation.report import BLUE, GREY, ORANGE, markdown_table, png
from jclip_adapter.methods import create, get
from jclip_adapter.storage import ANY, read_lines, write_bytes

RESULTS = ROOT / "results" / "calibration"
SEED = 1
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100)  # of the picture's logarithmic axis, in percent
COLUMNS = (
    *("dataset", "shots", "method", "queries", "top1", "temperature", "ece_before", "ece", "ece_best"),
    *("fit_seconds", "calibrate_seconds"),
)


_ERRORS = ("ece_before", "ece", "ece_best")
_SHOWN = ("before", "after", "best temperature")


def score(name: str, problem: Problem) -> dict[str, Any]:
    """A row of COLUMNS.

    Raises:
        DataError: the problem lacks what the method needs.
    """
    task, (queries, labels) = replace(problem.task, validation=None), (problem.test.queries, problem.test.labels)
    method = create(name, seed=SEED)
    started = time.perf_counter()
    method.fit(task)
    fitted = time.perf_counter()
    found = calibrate(method, task).calibration_
    calibrated = time.perf_counter()
    logits = method.logits(queries)
    best = temperature(logits, labels)
    shares = {"ece_before": softmax(logits), "ece": found.probabilities(logits), "ece_best": softmax(logits / best)}
    return {
        "dataset": problem.dataset,
        "shots": problem.shots,
        "method": name,
        "queries": len(labels),
        "top1": f"{100 * accuracy(logits, labels):.4f}",
        "temperature": f"{found.temperature:.6g}",
        **{key: f"{100 * calibration_error(value, labels):.4f}" for key, value in shares.items()},
        "fit_seconds": f"{fitted - started:.2f}",
        "calibrate_seconds": f"{calibrated - fitted:.2f}",
    }


def measure(files: Sequence[str], shots: Sequence[int], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of COLUMNS, one per file, number of shots and method that can run on it."""
    jobs = [(problem, name) for problem in feature_problems(files, shots, [SEED]) for name in names]
    for problem, name in tqdm(jobs, desc="calibration", unit="cell"):
        try:
            create(name).check_needs(problem.task)
        except DataError:
            continue
        yield score(name, problem)


def means_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: per file and number of shots the mean over the methods, and the worst one."""
    lines = []
    for dataset, shots in dict.fromkeys((row["dataset"], row["shots"]) for row in rows):
        here = [row for row in rows if (row["dataset"], row["shots"]) == (dataset, shots)]
        worst = max(here, key=lambda row: float(row["ece"]))
        means = [f"{np.mean([float(row[key]) for row in here]):.1f}" for key in _ERRORS]
        lines.append([dataset, int(shots), len(here), *means, f"{float(worst['ece']):.1f} ({worst['method']})"])
    return markdown_table(["data set", "shots", "methods", *_SHOWN, "worst after"], lines)


def quoted() -> str:
    """`means_table` of results/calibration.csv."""
    return means_table(list(csv.DictReader(read_lines(RESULTS.with_suffix(".csv")))))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: the means, then every row."""
    parts = [
        "# Calibrated probabilities\n\nExpected calibration error in percent "
        f"({BINS} bins of equal width, top-1 confidence) on the test photos, before and after one temperature was "
        'fitted on held-out shots. "best temperature": fitted on the test labels, for comparison. Even true '
        "probabilities have an error above 0 on so few photos. Default hyper-parameters, one draw of the shots, "
        f"transductive methods left out.\n\nMean over the methods:\n\n{means_table(rows)}\n"
    ]
    for dataset, shots in dict.fromkeys((row["dataset"], row["shots"]) for row in rows):
        here = [row for row in rows if (row["dataset"], row["shots"]) == (dataset, shots)]
        lines = [
            [row["method"], *(f"{float(row[key]):.1f}" for key in ("top1", *_ERRORS)), row["temperature"]]
            for row in sorted(here, key=lambda row: float(row["ece"]))
        ]
        body = markdown_table(["method", "top-1", *_SHOWN, "temperature"], lines)
        parts.append(f"## {dataset}, shots per class: {shots}\n\n{body}\n")
    return "\n".join(parts)


def picture(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A panel per file at its most shots: a method's error before and after calibration.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    most = {
        row["dataset"]: max(int(each["shots"]) for each in rows if each["dataset"] == row["dataset"]) for row in rows
    }
    figure = Figure(figsize=(4.4 * len(most), 5.6), layout="constrained")
    for axes, (dataset, shots) in zip(figure.subplots(1, len(most), squeeze=False)[0], most.items(), strict=True):
        here = [row for row in rows if (row["dataset"], int(row["shots"])) == (dataset, shots)]
        here.sort(key=lambda row: -float(row["ece_before"]))
        places = range(len(here))
        before, after = ([float(row[key]) for row in here] for key in ("ece_before", "ece"))
        axes.hlines(places, after, before, color=GREY)
        axes.plot(before, places, "o", color=ORANGE, label="before")
        axes.plot(after, places, "o", color=BLUE, label="after")
        axes.set_yticks(places, [row["method"] for row in here], fontsize=8)
        axes.set_xscale("log")
        axes.set_xticks(TICKS, map(str, TICKS))
        axes.minorticks_off()
        axes.set_title(f"{dataset}, {shots} shots")
        axes.set_xlabel("expected calibration error in %")
        axes.grid(axis="x", alpha=0.3)
    figure.axes[0].legend(loc="upper right")
    return png(figure)


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description="Measure the calibration.")
    parser.add_argument("files", nargs="+", metavar="FILE.npz", help="feature files")
    parser.add_argument("--shots", type=int, nargs="+", default=[], help="shots per class (default: all of a file)")
    parser.add_argument("--method", default="all", help="names, separated by commas (default: all on features)")
    given = parser.parse_args(argv)
    names = [name for name in choose_methods(given.method) if not get(name).meta.transductive]
    rows = list(measure(given.files, given.shots, names))
    write_results(RESULTS, rows, COLUMNS, table(rows))
    write_bytes(RESULTS.with_suffix(".png"), picture(rows), ANY)
    return 0


if __name__ == "__main__":
    sys.exit(main())
