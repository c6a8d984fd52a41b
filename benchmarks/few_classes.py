"""Measure EM-Dirichlet on tasks of a few classes among many, as it is published: results/few-classes.csv and .md.

    python -m benchmarks.few_classes open_domain374.npz caltech62.npz

The tasks are those of `--benchmark --tasks 100 --queries 75`, with 5 classes, with 3 to 10, and with queries of all
classes. Each is scored in the three ways of `query_tasks.Drawn`. Gains over zero-shot are paired: tasks differ more in
difficulty than methods in accuracy. The methods expect as many classes as zero-shot predicts (the default), or 5, as
the authors' code does whatever the task.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from jclip_adapter.evaluation.benchmark import Problem, feature_problems
from jclip_adapter.evaluation.metrics import accuracy, mean_interval
from jclip_adapter.evaluation.query_tasks import QueryTasks
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.methods import Method, create

RESULTS = ROOT / "results" / "few-classes"
SEED = 1
METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("zero-shot", {}),
    ("em-dirichlet", {}),
    ("em-dirichlet", {"k_eff": 5}),
    ("hard-em-dirichlet", {}),
    ("hard-em-dirichlet", {"k_eff": 5}),
)
WAYS = {"pooled": "as drawn", "same_size": "same size", "resampled": "drawn shares"}  # of Drawn's fields
MEASURED = ("size", "top1", "interval", "gain", "gain_interval")
COLUMNS = ("dataset", "shots", "classes", "method", "expected", "tasks", "queries", *MEASURED)


def settings(problem: Problem, count: int) -> dict[str, QueryTasks]:
    """The tasks by name of their number of classes."""
    every = len(set(problem.test.labels.tolist()))
    return {
        "5": QueryTasks(count, fewest=5, most=5),
        "3-10": QueryTasks(count),
        "all": QueryTasks(count, fewest=every, most=every),
    }


def measure(paths: Sequence[str], shots: Sequence[int], count: int) -> Iterator[dict[str, Any]]:
    """Rows of COLUMNS, one per file, shot count, kind of task, method and way of drawing queries."""
    for problem in feature_problems(paths, shots, [SEED]):
        methods = [create(name, seed=SEED, **values).fit(problem.task) for name, values in METHODS]
        for classes, tasks in settings(problem, count).items():
            top1 = accuracies(problem, methods, tasks)
            for way, (size, right) in top1.items():
                for number, (name, values) in enumerate(METHODS):
                    gains = [mine - zero for mine, zero in zip(right[number], right[0], strict=True)]
                    found = (size, *mean_interval(right[number]), *mean_interval(gains))
                    facts = (problem.dataset, problem.shots, classes, name, values.get("k_eff", ""), count, way)
                    yield dict(zip(COLUMNS, (*facts, *(f"{value:.4f}" for value in found)), strict=True))


def accuracies(
    problem: Problem, methods: Sequence[Method], tasks: QueryTasks
) -> dict[str, tuple[float, list[list[float]]]]:
    """By way of drawing: the mean number of queries, and per method the top-1 of every task in percent."""
    queries, labels = problem.test.queries, problem.test.labels
    draws = list(tasks.draw(labels, SEED))
    found: dict[str, tuple[float, list[list[float]]]] = {}
    for field, way in WAYS.items():
        chosen = [getattr(drawn, field) for drawn in draws]
        right = [
            [100 * accuracy(method.logits(queries[rows]), labels[rows]) for rows in tqdm(chosen, desc=way, leave=False)]
            for method in methods
        ]
        found[way] = (sum(map(len, chosen)) / len(chosen), right)
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One Markdown table per file, and what its columns are."""
    parts = ["# Few classes among many\n"]
    keys = ("shots", "classes", "method", "expected")
    ways = list(WAYS.values())
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        here = [row for row in rows if row["dataset"] == dataset]
        cells = []
        for facts in dict.fromkeys(tuple(row[key] for key in keys) for row in here):
            found = {row["queries"]: row for row in here if tuple(row[key] for key in keys) == facts}
            first = found[ways[0]]
            shown = f"{float(first['top1']):.1f} ± {float(first['interval']):.1f}"
            gains = [f"{float(found[way]['gain']):+.1f} ± {float(found[way]['gain_interval']):.1f}" for way in ways]
            sizes = " / ".join(f"{float(found[way]['size']):.0f}" for way in ways)
            cells.append([*map(str, facts[:3]), str(facts[3] or "–"), shown, *gains, sizes])
        header = ["shots", "classes", "method", "expects", "top-1", *(f"gain, {way}" for way in ways), "queries"]
        parts += [f"## {dataset}\n", markdown_table(header, cells) + "\n"]
    parts.append(
        f"Percent, mean over {rows[0]['tasks']} tasks ± half-width of its 95 % confidence interval. A task has up to "
        "75 queries of so many classes, and all classes of the file may be predicted. `expects`: the number of classes "
        "that the method assumes, or – for as many as zero-shot predicts; 5 is the authors' constant. `top-1` is of "
        "the tasks as drawn; gains are over zero-shot on the same tasks. `queries`: mean numbers in the three ways.\n\n"
        "Transductive methods get the queries of a task at once. As drawn, a task has about as many queries of each "
        "class, which can flatter a method that balances its predictions. Under `drawn shares` the class of each query "
        "is drawn independently, from class shares that differ (Dirichlet distribution with parameter 2). These tasks "
        "end where a class has no photo left. `same size` has as many queries of the first draw. So the last two gains "
        f"differ by the shares alone: {effect_of_shares(rows)}.\n"
    )
    return "\n".join(parts)


def effect_of_shares(rows: Sequence[dict[str, Any]]) -> str:
    """In which cases the gains under `same size` and `drawn shares` differ by more than the sum of their intervals."""
    gains: dict[tuple[str, ...], dict[str, tuple[float, float]]] = {}
    for row in rows:
        if row["method"] != "zero-shot":
            place = tuple(str(row[key]) for key in COLUMNS[:5])
            gains.setdefault(place, {})[row["queries"]] = float(row["gain"]), float(row["gain_interval"])
    found = []
    for (dataset, _, classes, method, expected), ways in gains.items():
        (same, half), (drawn, other) = ways[WAYS["same_size"]], ways[WAYS["resampled"]]
        if abs(drawn - same) > half + other:
            found.append(f"{drawn - same:+.1f} for {dataset}, {classes} classes, {method}, expects {expected or '–'}")
    return "; ".join([f"by more than their intervals in {len(found)} of {len(gains)} rows", *found])


@reports_user_errors
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
    write_results(given.out, rows, COLUMNS, table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
