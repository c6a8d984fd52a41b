"""Measure `auto` on real features: results/auto-accuracy.csv, .md and .png.

    python -m benchmarks.auto_accuracy FILE.npz=DRAWS …

One fixed `auto`: no hyper-parameter changes from file to file, and everything is learnt from the shots. Draw 0 has the
file's own shots. Draws 1, 2, … have shots of the file's largest training set, or, if that has no more of them, of all
photos of the file; the others of these are then the test photos.

Beside `auto` stand zero-shot, each of its heads alone (`auto: NAME`), `uni-modal-linear` with its default
hyper-parameters for its time, and "best with hindsight": the method that is best on the test photos in
results/benchmark.csv, which has draw 0 only. Rows with `unseen` have no shots of every fifth class, on
files of at most 500 classes.

`ece` is the expected calibration error of the probabilities as they are, without a temperature. A perfect model has
one too, as bins have few photos: `ece_of_chance` is the mean over labels that are drawn from the probabilities.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import Array, FewShotTask, Labelled, Queries, softmax
from jclip_adapter.evaluation.metrics import accuracy, calibration_error, seen_and_unseen
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.features.file import FeatureFile, read_feature_file
from jclip_adapter.methods import create, get
from jclip_adapter.methods.auto import Auto
from jclip_adapter.models.backbones.encoder import load_backbone
from jclip_adapter.storage import ANY, read_lines, write_bytes

RESULTS = ROOT / "results" / "auto-accuracy"
NETWORK = "efficientnet-lite0"
COMPARED, HINDSIGHT, NAMED = "uni-modal-linear", "best with hindsight", "auto with names"
UNSEEN_SHOTS, EVERY, MOST_CLASSES = 4, 5, 500
COLUMNS = (
    *("dataset", "classes", "shots", "draw", "unseen", "method", "top1", "base", "new", "ece", "ece_of_chance"),
    *("fit_seconds", "weights"),
)
_CHANCES = 20
Row = dict[str, Any]


def pooled(content: FeatureFile) -> tuple[FewShotTask, Labelled]:
    """All photos of a file as a task, and as queries: those of the largest training set, then the test photos."""
    task, test = content.tasks[max(content.tasks)], content.test
    labels = np.concatenate([task.support_labels, test.labels])
    rows = np.concatenate([task.support_features, test.queries.features])
    second = None
    if task.auxiliary is not None and test.queries.auxiliary is not None:
        second = np.concatenate([task.auxiliary, test.queries.auxiliary])
    every = dataclasses.replace(task, support_features=rows, support_labels=labels, support_raw=None, auxiliary=second)
    return every, Labelled(Queries(rows, None, second), labels)


def drawn(content: FeatureFile, shots: int, draw: int) -> tuple[FewShotTask, Labelled]:
    """The task and the test photos of a draw.

    Args:
        content: The file.
        shots: Photos per class.
        draw: Its number; 0 for the file's own shots.
    """
    if not draw:
        return content.tasks[shots], content.test
    most = max(content.tasks)
    pool, every = (content.tasks[most], None) if most > shots else pooled(content)
    rng = np.random.default_rng(draw)
    rows = np.concatenate(
        [rng.permutation(np.flatnonzero(pool.support_labels == label))[:shots] for label in pool.seen]
    )
    task = pool.keep(np.sort(rows))
    if every is None:
        return task, content.test
    rest = np.setdiff1d(np.arange(len(every.labels)), rows)
    return task, Labelled(every.queries[rest], every.labels[rest])


def judged(logits: Array, test: Labelled, task: FewShotTask) -> Row:
    """Accuracies and calibration in percent."""
    p = softmax(logits)
    groups = {}
    if len(task.seen) < task.num_classes:
        found = seen_and_unseen(logits, test.labels, task.seen)
        groups = {name: f"{found[name]:.4f}" for name in ("base", "new")}
    return {
        "top1": f"{100 * accuracy(logits, test.labels):.4f}",
        "ece": f"{100 * calibration_error(p, test.labels):.4f}",
        "ece_of_chance": f"{100 * chance_error(p):.4f}",
        **groups,
    }


def chance_error(p: npt.NDArray[np.float64]) -> float:
    """Mean expected calibration error of (M, C) probabilities over labels that are drawn from them."""
    rng, heights = np.random.default_rng(0), p.cumsum(axis=1)
    return fmean(
        calibration_error(p, (heights < rng.random((len(p), 1))).sum(axis=1).clip(max=p.shape[1] - 1))
        for _ in range(_CHANCES)
    )


def rows_of(name: str, task: FewShotTask, test: Labelled, *, heads: bool = False) -> Iterator[Row]:
    """A method's row; for `auto` also those of its heads, if wanted."""
    started = time.perf_counter()
    method = create(name).fit(task)
    seconds = time.perf_counter() - started
    row = {"method": name, "fit_seconds": f"{seconds:.2f}", **judged(method.logits(test.queries), test, task)}
    if not isinstance(method, Auto):
        yield row
        return
    yield {**row, "weights": " ".join(f"{head} {weight:.3g}" for head, weight in method.heads.items())}
    for head, scores in zip(method.heads, method.scores(test.queries), strict=True) if heads else ():
        yield {"method": f"{name}: {head}", "top1": f"{100 * accuracy(scores, test.labels):.4f}"}


def measure(content: FeatureFile, draws: int, others: Sequence[Mapping[str, str]]) -> list[Row]:
    """Rows of COLUMNS of one file.

    Args:
        content: The file.
        draws: Number of draws besides the file's own shots.
        others: Rows of results/benchmark.csv.
    """
    found: list[Row] = []

    def add(facts: Row, rows: Iterable[Row]) -> None:
        found.extend({**dict.fromkeys(COLUMNS, ""), "dataset": content.name, **facts, **row} for row in rows)

    cells = [(shots, draw) for shots in content.tasks for draw in range(draws + 1)]
    for shots, draw in tqdm(cells, desc=content.name, unit="draw"):
        task, test = drawn(content, shots, draw)
        facts = {"classes": task.num_classes, "shots": shots, "draw": draw, "unseen": 0}
        add(facts, rows_of("auto", task, test, heads=not draw))
        add(facts, rows_of("zero-shot", task, test))
        if not draw:
            add(facts, rows_of(COMPARED, task, test))
            add(facts, hindsight(content.name, shots, others))
        if task.auxiliary is not None:
            head = load_backbone(NETWORK, "cpu").imagenet_head(task.class_names, task.domains)
            named = rows_of("auto", dataclasses.replace(task, imagenet_head=head), test)
            add(facts, ({**row, "method": NAMED} for row in named))
        if shots == UNSEEN_SHOTS and task.num_classes <= MOST_CLASSES:
            lacking = task.keep(task.support_labels % EVERY != EVERY - 1)
            for name in ("auto", "zero-shot"):
                add({**facts, "unseen": task.num_classes // EVERY}, rows_of(name, lacking, test))
    return found


def hindsight(dataset: str, shots: int, others: Sequence[Mapping[str, str]]) -> list[Row]:
    """The best inductive method of results/benchmark.csv by its test accuracy; empty if it has none."""
    rows = [row for row in others if row["dataset"] == dataset and row["shots"] == str(shots)]
    rows = [row for row in rows if not get(row["method"]).meta.transductive and not row["method"].startswith("auto")]
    if not rows:
        return []
    best = max(rows, key=lambda row: float(row["top1"]))
    return [{"method": HINDSIGHT, "top1": f"{float(best['top1']):.4f}", "weights": best["method"]}]


def _mean(rows: Iterable[Row], column: str) -> str:
    """The mean of a column where it has values."""
    values = [float(row[column]) for row in rows if row[column] != ""]
    return f"{fmean(values):.1f}" if values else "–"


def table(rows: Sequence[Row]) -> str:
    """Means by file and shots: own shots and redraws, calibration and time, heads, and classes without shots."""
    names = list(dict.fromkeys(row["method"] for row in rows if row["method"].startswith("auto: ")))
    compared, single, groups = [], [], []
    for dataset, shots in dict.fromkeys((row["dataset"], row["shots"]) for row in rows):
        cell = [row for row in rows if (row["dataset"], row["shots"]) == (dataset, shots)]
        own = _by_method(row for row in cell if not row["draw"] and not row["unseen"])
        again = _by_method(row for row in cell if row["draw"] and not row["unseen"])
        lacking = _by_method(row for row in cell if row["unseen"])
        best = own.get(HINDSIGHT, [])
        compared.append(
            [
                *(dataset, shots, _mean(own["zero-shot"], "top1"), _mean(own.get(COMPARED, []), "top1")),
                _mean(best, "top1") + "".join(f" ({row['weights']})" for row in best),
                *(_mean(own.get(name, []), "top1") for name in ("auto", NAMED)),
                len(again.get("auto", [])),
                *(_mean(again.get(name, []), "top1") for name in ("zero-shot", "auto", NAMED)),
                *(_mean(own["auto"] + again.get("auto", []), column) for column in ("ece", "ece_of_chance")),
                *(_mean(own.get(name, []), "fit_seconds") for name in ("auto", COMPARED)),
            ]
        )
        single.append([dataset, shots, *(_mean(own.get(name, []), "top1") for name in (*names, "auto"))])
        if lacking:
            values = (
                _mean(lacking[name], column) for name in ("zero-shot", "auto") for column in ("base", "new", "top1")
            )
            groups.append([dataset, shots, lacking["auto"][0]["unseen"], *values])
    head = [
        *("file", "shots", "zero-shot", COMPARED, HINDSIGHT, "auto", NAMED),
        *("redraws", "zero-shot", "auto", NAMED),
        *("ECE", "ECE of chance", "auto, s", f"{COMPARED}, s"),
    ]
    columns = [f"{name}, {what}" for name in ("zero-shot", "auto") for what in ("with shots", "without", "all")]
    return "\n\n".join(
        [
            "# Top-1 of `auto` in %",
            markdown_table(head, compared),
            "Each head alone, on the files' own shots:",
            markdown_table(["file", "shots", *(name.removeprefix("auto: ") for name in names), "auto"], single),
            "Every fifth class without shots, means over all draws:",
            markdown_table(["file", "shots", "classes without", *columns], groups) + "\n",
        ]
    )


def _by_method(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["method"], []).append(row)
    return found


def picture(rows: Sequence[Row]) -> bytes:
    """Top-1 over shots, a panel per file: auto, zero-shot, and the best method with hindsight; a PNG."""
    from matplotlib.figure import Figure

    kept = [row for row in rows if not row["draw"] and not row["unseen"]]
    files = list(dict.fromkeys(row["dataset"] for row in kept))
    figure = Figure(figsize=(3 * len(files), 3.2), layout="constrained")
    panels = figure.subplots(1, len(files), squeeze=False)[0]
    for axes, name in zip(panels, files, strict=True):
        for method, style in (("auto", "o-"), (HINDSIGHT, "s:"), ("zero-shot", "x--")):
            points = [row for row in kept if row["dataset"] == name and row["method"] == method]
            axes.plot([row["shots"] for row in points], [float(row["top1"]) for row in points], style, label=method)
        shots = sorted({row["shots"] for row in kept if row["dataset"] == name})
        axes.set_xscale("log", base=2)
        axes.set_xticks(shots, [str(count) for count in shots])
        axes.minorticks_off()
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("shots")
    panels[0].set_ylabel("top-1 in %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.auto_accuracy", description="Measure auto.")
    parser.add_argument("files", metavar="FILE.npz=DRAWS", nargs="+", help="feature files, and draws besides the first")
    given = [text.partition("=")[::2] for text in parser.parse_args(argv).files]
    for path, draws in given:
        if not draws.isdecimal():
            raise UsageError(f"expected {path}=DRAWS with a whole number of draws, got '{draws}'.")
    others = list(csv.DictReader(read_lines(ROOT / "results" / "benchmark.csv")))
    rows = [row for path, draws in given for row in measure(read_feature_file(Path(path)), int(draws), others)]
    write_results(RESULTS, rows, COLUMNS, table(rows))
    write_bytes(RESULTS.with_suffix(".png"), picture(rows), ANY)
    return 0


if __name__ == "__main__":
    sys.exit(main())
