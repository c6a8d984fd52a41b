"""Measure `auto` on feature files, with new draws of the shots where a file allows: results/auto-accuracy.{csv,md,png}.

    python -m benchmarks.auto_accuracy FILE.npz... [--draws 5]

`auto` is one fixed method, and everything it chooses it chooses from the shots. Beside it stand its heads alone,
zero-shot and uni-modal-linear. A file with a larger training set lends other draws of its shots. Where a file has one
training set only, "redrawn" are draws from training and test photos together, and the others are tested. "best" is the
best single inductive method on the file's own shots by its test accuracy (results/benchmark.csv): nobody could have
known it. "unseen" takes the shots of a fifth of the classes away.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from jclip_adapter.core.task import FewShotTask, Labelled, Queries, softmax
from jclip_adapter.evaluation.metrics import accuracy, calibration_error
from jclip_adapter.evaluation.report import BLUE, GREY, ORANGE, markdown_table, png
from jclip_adapter.features.file import FeatureFile, read_feature_file
from jclip_adapter.methods import create, get
from jclip_adapter.methods.auto import Auto
from jclip_adapter.models.backbones.encoder import load_backbone
from jclip_adapter.storage import ANY, read_lines, write_bytes

RESULTS = ROOT / "results" / "auto-accuracy"
COLUMNS = ("dataset", "classes", "shots", "draw", "method", "top1", "ece", "unseen_top1", "fit_seconds")
COUNTS = (1, 2, 4, 8, 16)
UNSEEN = 0.2
NETWORK = "efficientnet-lite0"


class Trial(NamedTuple):
    """A task to be fitted and scored.

    Attributes:
        draw: What was drawn.
        shots: Per class.
        task: The shots.
        test: The test photos.
    """

    draw: str
    shots: int
    task: FewShotTask
    test: Labelled


def trials(file: FeatureFile, draws: int) -> Iterator[Trial]:
    """The file's own shots, and other draws."""
    for shots, task in file.tasks.items():
        yield Trial("own", shots, task, file.test)
    most = max(file.tasks)
    pool = file.tasks[most]
    for seed in range(draws):
        if len(file.tasks) > 1 and pool.auxiliary is None:
            for shots in (count for count in COUNTS if count < most):
                yield Trial(f"drawn {seed}", shots, pool.keep(drawn(pool.support_labels, shots, seed)), file.test)
        elif len(file.tasks) == 1:
            yield redrawn(file, pool, most, seed)


def drawn(labels: np.ndarray[Any, Any], shots: int, seed: int) -> np.ndarray[Any, Any]:
    """(N,) mask of some shots of each class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        mask[order[labels[order] == label][:shots]] = True
    return mask


def redrawn(file: FeatureFile, task: FewShotTask, shots: int, seed: int) -> Trial:
    """Shots drawn from the training and test photos; the others are tested."""
    rows = np.concatenate(
        [task.raw, file.test.queries.features if file.test.queries.raw is None else file.test.queries.raw]
    )
    features = np.concatenate([task.support_features, file.test.queries.features])
    labels = np.concatenate([task.support_labels, file.test.labels])
    chosen = drawn(labels, shots, seed)
    few = dataclasses.replace(
        task, support_features=features[chosen], support_labels=labels[chosen], support_raw=rows[chosen]
    )
    return Trial(f"redrawn {seed}", shots, few, Labelled(Queries(features[~chosen], rows[~chosen]), labels[~chosen]))


def score(name: str, trial: Trial, logits: Any, seconds: float) -> dict[str, Any]:
    """A row of COLUMNS without the file's."""
    labels = trial.test.labels
    hidden = ~np.isin(labels, trial.task.seen)
    return {
        **{"shots": trial.shots, "draw": trial.draw, "method": name, "top1": f"{100 * accuracy(logits, labels):.2f}"},
        **{"ece": f"{100 * calibration_error(softmax(logits), labels):.2f}", "fit_seconds": f"{seconds:.1f}"},
        "unseen_top1": f"{100 * accuracy(logits[hidden], labels[hidden]):.2f}" if hidden.any() else "",
    }


def measure(trial: Trial, others: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of auto, its heads, zero-shot and `others`."""
    queries = trial.test.queries
    started = time.perf_counter()
    auto = Auto().fit(trial.task)
    seconds = time.perf_counter() - started
    yield score("auto", trial, auto.logits(queries), seconds)
    for head, logits in zip(auto.heads, auto.scores(queries), strict=True):
        yield score(f"auto: {head} alone", trial, logits, 0)
    for name in ("zero-shot", *others):
        started = time.perf_counter()
        method = create(name).fit(trial.task)
        yield score(name, trial, method.logits(queries), time.perf_counter() - started)


def rows_of(path: Path, draws: int) -> list[dict[str, Any]]:
    """All rows of a file."""
    file = read_feature_file(path)
    task = next(iter(file.tasks.values()))
    asked = list(trials(file, draws))
    if task.auxiliary is not None:
        network = load_backbone(NETWORK, "cpu")
        for trial in list(asked):
            named = network.imagenet_head(trial.task.class_names, trial.task.domains)
            asked.append(trial._replace(draw="own, names", task=dataclasses.replace(trial.task, imagenet_head=named)))
    for trial in [each for each in asked if each.shots == max(file.tasks) and len(file.tasks) == 1]:
        labels = trial.task.support_labels
        hidden = np.random.default_rng(0).permutation(trial.task.num_classes)[: round(UNSEEN * trial.task.num_classes)]
        asked.append(trial._replace(draw=f"{trial.draw}, unseen", task=trial.task.keep(~np.isin(labels, hidden))))
    facts = {"dataset": file.name, "classes": task.num_classes}
    rows = []
    for trial in tqdm(asked, desc=file.name, unit="task"):
        others = ["uni-modal-linear"] if trial.draw == "own" else ["tip-adapter"] if "unseen" in trial.draw else []
        rows += [{**facts, **row} for row in measure(trial, others)]
    return rows + [{**facts, **row} for row in _best(file.name)]


def _best(dataset: str) -> list[dict[str, Any]]:
    """The best inductive single method of results/benchmark.csv by shots."""
    table = csv.DictReader(read_lines(ROOT / "results" / "benchmark.csv"))
    there = [row for row in table if row["dataset"] == dataset and row["method"] != "auto"]
    there = [row for row in there if not get(row["method"]).meta.transductive]
    found = []
    for shots in sorted({int(row["shots"]) for row in there}):
        best = max((row for row in there if int(row["shots"]) == shots), key=lambda row: float(row["top1"]))
        top1 = f"{float(best['top1']):.2f}"
        found.append({"shots": shots, "draw": "own", "method": f"best: {best['method']}", "top1": top1})
    return found


def _mean(rows: Sequence[dict[str, Any]], key: str) -> str:
    values = [float(row[key]) for row in rows if row.get(key)]
    return f"{fmean(values):.1f}" if values else "–"


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Means over draws in a table per kind of draw."""
    head = ["features", "shots", "draws", "auto", "zero-shot", "best with hindsight", "error of calibration", "seconds"]
    lines = []
    kinds = {(row["dataset"], row["shots"], row["draw"].rstrip("0123456789 ")) for row in rows}
    for dataset, shots, kind in sorted(kinds, key=lambda key: (key[0], key[2], key[1])):
        here = [
            row
            for row in rows
            if (row["dataset"], row["shots"], row["draw"].rstrip("0123456789 ")) == (dataset, shots, kind)
        ]
        mine, zero = ([row for row in here if row["method"] == name] for name in ("auto", "zero-shot"))
        best = [f"{float(row['top1']):.1f} ({row['method'][6:]})" for row in here if row["method"].startswith("best: ")]
        if mine:
            what = f"{kind}, {len(mine)}" if len(mine) > 1 else kind
            lines.append(
                [dataset, shots, what, *(_mean(each, "top1") for each in (mine, zero)), *(best[:1] or ["–"])]
                + [_mean(mine, key) for key in ("ece", "fit_seconds")]
            )
    return (
        "# Accuracy of `auto`\n\n"
        "Top-1 and expected calibration error in percent, means over the draws. `python -m benchmarks.auto_accuracy` "
        "measures this, and its head says what the draws are. auto-accuracy.csv has each draw, each head alone, the "
        "classes without shots, and the time of uni-modal-linear.\n\n"
        f"{markdown_table(head, lines)}\n"
    )


def picture(rows: Sequence[dict[str, Any]]) -> bytes:
    """Top-1 over shots of `auto`, zero-shot and the best single method, by file."""
    from matplotlib.figure import Figure

    names = sorted({row["dataset"] for row in rows})
    figure = Figure(figsize=(3.4 * len(names), 3.2), layout="constrained")
    for number, name in enumerate(names, 1):
        axes = figure.add_subplot(1, len(names), number)
        for method, colour in (("auto", BLUE), ("best: ", ORANGE), ("zero-shot", GREY)):
            own = [r for r in rows if r["dataset"] == name and r["draw"] == "own" and r["method"].startswith(method)]
            own = [r for r in own if "alone" not in r["method"]]
            label = "best single, with hindsight" if method == "best: " else method
            axes.plot([r["shots"] for r in own], [float(r["top1"]) for r in own], "o-", color=colour, label=label)
        axes.set_title(name)
        axes.set_xlabel("shots")
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("top-1 in %")
    figure.axes[0].legend(fontsize="small")
    return png(figure)


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.auto_accuracy", description="Measure auto.")
    parser.add_argument("files", nargs="+", metavar="FILE.npz", help="feature files")
    parser.add_argument("--draws", type=int, default=5, help="draws of the shots (5)")
    options = parser.parse_args(argv)
    rows = [row for path in options.files for row in rows_of(Path(path), options.draws)]
    write_results(RESULTS, rows, COLUMNS, report(rows))
    write_bytes(RESULTS.with_suffix(".png"), picture(rows), ANY)
    return 0


if __name__ == "__main__":
    sys.exit(main())
