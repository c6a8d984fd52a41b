"""Measure EM-Dirichlet on tasks of a few classes among many, as it is published: results/few-classes.csv and .md.

    python -m benchmarks.few_classes open_domain374.npz caltech62.npz

The tasks are those of `--benchmark --tasks 100 --queries 75`, with 5 classes, with 3 to 10, and with queries of all
classes, where there is nothing to gain. Each is scored as drawn and with drawn class shares. The methods expect as many
classes as zero-shot predicts (the default), or 5, as the authors' code does whatever the task.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import ROOT, told
from jclip_adapter.evaluation.benchmark import Problem, feature_problems, run_cell
from jclip_adapter.evaluation.query_tasks import QueryTasks
from jclip_adapter.evaluation.report import csv_text, markdown_table
from jclip_adapter.methods import get
from jclip_adapter.storage import ANY, write_text

RESULTS = ROOT / "results" / "few-classes"
SEED = 1
METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("zero-shot", {}),
    ("em-dirichlet", {}),
    ("em-dirichlet", {"k_eff": 5}),
    ("hard-em-dirichlet", {}),
    ("hard-em-dirichlet", {"k_eff": 5}),
)
MEASURED = ("top1", "interval", "resampled", "resampled_interval", "queries")
COLUMNS = ("dataset", "shots", "classes", "method", "expected", "tasks", *MEASURED)


def settings(problem: Problem, count: int) -> dict[str, QueryTasks]:
    """The tasks by name of their number of classes."""
    every = len(set(problem.test.labels.tolist()))
    return {
        "5": QueryTasks(count, fewest=5, most=5),
        "3-10": QueryTasks(count),
        "all": QueryTasks(count, fewest=every, most=every),
    }


def measure(paths: Sequence[str], shots: Sequence[int], count: int) -> Iterator[dict[str, Any]]:
    """Rows of COLUMNS, one per file, shot count, kind of task and method."""
    for problem in feature_problems(paths, shots, [SEED]):
        for classes, tasks in settings(problem, count).items():
            for name, values in METHODS:
                if problem.shots and "support" not in get(name).meta.uses:
                    continue  # the same as without shots
                cell = run_cell(name, dataclasses.replace(problem, tasks=tasks), "none", values)
                facts = (problem.dataset, problem.shots, classes, name, values.get("k_eff", ""), count)
                yield dict(zip(COLUMNS, (*facts, *(f"{cell[key]:.4f}" for key in MEASURED)), strict=True))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One Markdown table per file, and what its columns are."""
    parts = ["# Few classes among many\n"]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        cells = []
        for row in rows:
            if row["dataset"] == dataset:
                pair = (("top1", "interval"), ("resampled", "resampled_interval"))
                shown = [f"{float(row[mean]):.1f} ± {float(row[half]):.1f}" for mean, half in pair]
                expects = row["expected"] or "–"
                facts = [str(row["shots"]), row["classes"], row["method"], str(expects)]
                cells.append([*facts, *shown, f"{float(row['queries']):.0f}"])
        header = ["shots", "classes", "method", "expects", "as drawn", "drawn shares", "queries"]
        parts += [f"## {dataset}\n", markdown_table(header, cells) + "\n"]
    parts.append(
        f"Top-1 in percent, mean over {rows[0]['tasks']} tasks ± half-width of its 95 % confidence interval. A task "
        "has up to 75 queries of so many classes (`queries`: their mean number, as drawn), and all classes of the file "
        "may be predicted. `expects`: the number of classes that the method assumes, or – for as many as zero-shot "
        "predicts; 5 is the authors' constant.\n\n"
        "Transductive methods get the queries of a task at once. Their gain comes from the few classes of a task, and "
        "tasks with about as many queries of each class flatter any method that balances its predictions. So under "
        "`drawn shares` the class of each query is drawn independently, from class shares that differ (Dirichlet "
        "distribution with parameter 2); these tasks are smaller where a class has few photos. With queries of all "
        "classes nothing can be gained from their number.\n"
    )
    return "\n".join(parts)


@told
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.few_classes", description="Measure EM-Dirichlet on tasks of a few classes."
    )
    parser.add_argument("files", nargs="+", metavar="FILE.npz", help="feature files")
    parser.add_argument("--shots", type=int, nargs="+", default=[0], help="shots per class (default: 0)")
    parser.add_argument("--tasks", type=int, default=100, help="number of tasks (default: 100)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where .csv and .md are written")
    given = parser.parse_args(argv)
    rows = list(tqdm(measure(given.files, given.shots, given.tasks), desc="few classes"))
    write_text(given.out.with_suffix(".csv"), csv_text(rows, COLUMNS), ANY)
    write_text(given.out.with_suffix(".md"), table(rows), ANY)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
