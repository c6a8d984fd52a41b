"""Measure the usual few-shot heads without class names beside methods that use them: results/usual-heads.csv, .png.

    python -m benchmarks.usual_heads FILE.npz

The heads are scikit-learn's with their default settings, fitted to the normalised features of 4 shots per class. The
other rows come from results/benchmark.csv: there each method's hyper-parameters are chosen on the shots. The best
method is the best inductive one of that table by its test accuracy.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import FewShotTask, Labelled
from jclip_adapter.evaluation.report import csv_text
from jclip_adapter.features.file import FeatureFile, read_feature_file
from jclip_adapter.methods import get
from jclip_adapter.storage import ANY, read_lines, write_bytes, write_text

RESULTS = ROOT / "results" / "usual-heads.csv"
SHOTS = 4
COLUMNS = ("dataset", "classes", "shots", "queries", "kind", "name", "top1")
PLAIN, OURS = "without class names", "with class names"
COLOURS = {PLAIN: "#a0aec0", OURS: "#2b6cb0"}
TUNED = "linear-probe"
DEFAULTS = ("jclip-adapter", "auto")  # of the contest's data, and of other data


def heads() -> dict[str, Callable[[], Any]]:
    """Constructors of scikit-learn's classifiers by what they are called here."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import NearestCentroid
    from sklearn.svm import SVC, LinearSVC

    return {
        "random forest": lambda: RandomForestClassifier(random_state=0),
        "logistic regression": LogisticRegression,
        "SVM, RBF kernel": SVC,
        "nearest class mean": NearestCentroid,
        "SVM, linear": LinearSVC,
    }


def top1(head: Any, task: FewShotTask, test: Labelled) -> float:
    """Top-1 in percent of a scikit-learn classifier that is fitted to a task's shots."""
    head.fit(task.support_features, task.support_labels)
    return float(100 * np.mean(head.predict(test.queries.features) == test.labels))


def quoted(dataset: str, others: Sequence[Mapping[str, str]]) -> list[tuple[str, str, float]]:
    """Kind, name and top-1 of our methods: the tuned linear probe, zero-shot, the default methods and the best one.

    Args:
        dataset: Name of the feature file.
        others: Rows of results/benchmark.csv.

    Raises:
        DataError: one of them was not measured on it.
    """
    found = {
        row["method"]: float(row["top1"])
        for row in others
        if row["dataset"] == dataset and row["shots"] == str(SHOTS) and not get(row["method"]).meta.transductive
    }
    lacking = sorted({TUNED, "zero-shot", *DEFAULTS} - found.keys())
    if lacking:
        raise DataError(f"results/benchmark.csv has no {lacking[0]} on {dataset}.", "Run --benchmark on it first.")
    best = max(found, key=lambda name: found[name])
    shown = dict.fromkeys(("zero-shot", *DEFAULTS, best))
    return [(PLAIN, TUNED, found[TUNED]), *((OURS, name, found[name]) for name in shown)]


def measure(
    content: FeatureFile, others: Sequence[Mapping[str, str]], constructors: Mapping[str, Callable[[], Any]]
) -> list[dict[str, Any]]:
    """Rows of COLUMNS.

    Args:
        content: The feature file.
        others: Rows of results/benchmark.csv.
        constructors: The heads, as `heads` gives them.

    Raises:
        DataError: the file has no task of 4 shots, or our methods were not measured on it.
    """
    if SHOTS not in content.tasks:
        raise DataError(f"{content.name} has no task of {SHOTS} shots.", "Name another feature file.")
    task, test = content.tasks[SHOTS], content.test
    found = quoted(content.name, others)
    for name, constructor in tqdm(constructors.items(), desc="usual heads", unit="head"):
        found.append((PLAIN, name, top1(constructor(), task, test)))
    facts = {"dataset": content.name, "classes": task.num_classes, "shots": SHOTS, "queries": len(test.labels)}
    kinds = (PLAIN, OURS)
    found.sort(key=lambda row: (kinds.index(row[0]), row[2]))
    return [{**facts, "kind": kind, "name": name, "top1": f"{value:.4f}"} for kind, name, value in found]


def picture(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Bars of top-1, best above; a colour for each kind.

    Args:
        rows: Rows of COLUMNS.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    names, values = [row["name"] for row in rows], [float(row["top1"]) for row in rows]
    axes.barh(names, values, color=[COLOURS[row["kind"]] for row in rows])
    for place, value in enumerate(values):
        axes.text(value + 0.5, place, f"{value:.1f}", va="center")
    axes.set_xlabel(f"top-1 in %, {rows[0]['shots']} photos per class, {rows[0]['classes']} classes")
    axes.set_xlim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Patch(color=colour, label=kind) for kind, colour in reversed(COLOURS.items())]
    axes.legend(handles=handles, loc="lower right", frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})  # no version: the same bytes again
    return buffer.getvalue()


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.usual_heads", description="Measure the usual heads.")
    parser.add_argument("file", metavar="FILE.npz", help="a feature file with a task of 4 shots")
    content = read_feature_file(Path(parser.parse_args(argv).file))
    rows = measure(content, list(csv.DictReader(read_lines(ROOT / "results" / "benchmark.csv"))), heads())
    text = csv_text(rows, COLUMNS)
    write_text(RESULTS, text, ANY)
    write_bytes(RESULTS.with_suffix(".png"), picture(rows), ANY)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
