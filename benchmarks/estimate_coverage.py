"""Measure how often the interval of `train`'s estimate holds the accuracy: results/estimate-coverage.csv and .md.

    python -m benchmarks.estimate_coverage FILE.npz... [--draws 100] [--shots 2 4] [--method NAME,NAME]

The shots are drawn as benchmarks/auto_accuracy.py draws them again. As many shots of each class are held out, so they
estimate the mean of the classes' accuracies. Top-1 on the test photos differs from it where the classes' sizes differ.
Both are those on finitely many test photos. Hyper-parameters are the defaults. Rows of other files, shots and methods
stay in the table, so that a stopped measurement goes on with what is missing.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.auto_accuracy import drawn
from benchmarks.results import write_results
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import class_means
from jclip_adapter.evaluation.calibration import calibrate, estimate
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.features.file import FeatureFile, read_feature_file
from jclip_adapter.methods import create
from jclip_adapter.storage import read_lines

RESULTS = ROOT / "results" / "estimate-coverage"
COLUMNS = (
    *("dataset", "shots", "method", "draws", "covered", "covered_top1"),
    *("estimate", "by_class", "top1", "low", "high"),
)
KEYS = COLUMNS[:3]
METHODS = "zero-shot,linear-probe,tip-adapter,gda,proker,uni-modal-linear,jclip-adapter,auto"
HEAD = (
    *("features", "shots", "method", "draws", "holds the mean of the classes", "holds top-1"),
    *("estimate", "mean of the classes", "top-1", "mean interval"),
)


def measure(content: FeatureFile, shots: int, name: str, draws: int) -> dict[str, Any]:
    """A row of COLUMNS.

    Raises:
        DataError: the method has no estimate.
    """
    found = []
    for draw in tqdm(range(1, draws + 1), desc=f"{content.name}, {shots} shots, {name}", unit="draw"):
        task, test = drawn(content, shots, draw)
        method = calibrate(create(name).fit(task), task)
        logits = method.logits(test.queries)
        right = logits.argmax(axis=1) == test.labels
        by_class = float(class_means(right[:, None], test.labels, task.num_classes)[np.unique(test.labels)].mean())
        expected, top1 = estimate(method.calibration_), float(right.mean())
        if expected is None:
            raise DataError(f"{name} has no estimate from {shots} shots.", "Leave it out.")
        held = (expected.low <= true <= expected.high for true in (by_class, top1))
        found.append((*held, expected.top1, by_class, top1, expected.low, expected.high))
    means = (f"{100 * fmean(values):.2f}" for values in zip(*found, strict=True))
    return dict(zip(COLUMNS, (content.name, shots, name, draws, *means), strict=True))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line per row."""
    lines = []
    for row in rows:
        covered, *shown, low, high = (f"{float(row[key]):.1f}" for key in COLUMNS[4:])
        lines.append([*(row[key] for key in COLUMNS[:4]), covered, *shown, f"{low}–{high}"])
    return markdown_table(HEAD, lines)


def quoted() -> str:
    """Markdown from results/estimate-coverage.csv: per file and shots, over the methods."""
    rows = list(csv.DictReader(read_lines(RESULTS.with_suffix(".csv"))))
    lines = []
    for dataset, shots in dict.fromkeys((row["dataset"], row["shots"]) for row in rows):
        here = [row for row in rows if (row["dataset"], row["shots"]) == (dataset, shots)]
        worst = min(here, key=lambda row: float(row["covered"]))
        mean, width = (
            fmean(values)
            for values in zip(
                *((float(row["covered"]), float(row["high"]) - float(row["low"])) for row in here), strict=True
            )
        )
        least = f"{float(worst['covered']):.0f} % ({worst['method']})"
        lines.append([dataset, shots, len(here), f"{mean:.1f} %", least, f"{width:.1f}"])
    return markdown_table(["features", "shots", "methods", "mean", "least", "mean width in points"], lines)


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimate_coverage", description="Measure estimates.")
    parser.add_argument("files", nargs="+", metavar="FILE.npz", help="feature files")
    parser.add_argument("--draws", type=int, default=100, help="draws of the shots (100)")
    parser.add_argument("--shots", type=int, nargs="+", default=[2, 4], help="shots per class (2 4)")
    parser.add_argument("--method", default=METHODS, help=f"names, separated by commas ({METHODS})")
    options = parser.parse_args(argv)
    path = RESULTS.with_suffix(".csv")
    old = csv.DictReader(read_lines(path)) if path.is_file() else ()
    rows = {tuple(row[key] for key in KEYS): row for row in old}
    for name in options.files:
        content = read_feature_file(Path(name))
        for shots in options.shots:
            for method in options.method.split(","):
                rows[content.name, str(shots), method] = measure(content, shots, method, options.draws)
                text = table([rows[key] for key in sorted(rows)])
                write_results(RESULTS, [rows[key] for key in sorted(rows)], COLUMNS, f"{_INTRODUCTION}\n\n{text}\n")
    return 0


_INTRODUCTION = (
    "# The estimate of top-1 without test photos\n\nIn percent, means over draws of the shots. "
    "`python -m benchmarks.estimate_coverage` measures this."
)

if __name__ == "__main__":
    sys.exit(main())
