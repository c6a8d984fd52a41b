"""Measure classes with and without shots, which compete for every photo: results/unseen.csv and .md.

    python -m benchmarks.unseen open_domain374.npz=0.08 caltech62.npz=0.5

FILE=SHARE is a feature file and the share of its classes that lose their shots. Each of three seeds draws the shots, as
`--benchmark --resample` does; where a file has no more shots than are wanted, only the methods' seeds differ. The
classes without shots are the last ones, as `--benchmark --unseen` takes them, or drawn by the same seeds. The methods
run with their default hyper-parameters.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import FewShotTask, Labelled
from jclip_adapter.evaluation.benchmark import choose_methods, feature_problems, without_shots
from jclip_adapter.evaluation.metrics import seen_and_unseen
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.methods import create

RESULTS = ROOT / "results" / "unseen"
SEEDS = (1, 2, 3)
METHODS = "zero-shot,jclip-adapter,clip-adapter,tip-adapter,gda,lp-plus-plus,cross-modal-linear"
LAST, DRAWN = "last", "drawn"
COLUMNS = ("dataset", "shots", "share", "without_shots", "seed", "method", "seen", "unseen", "harmonic", "closed")


def hide(task: FewShotTask, share: float, which: str, seed: int) -> FewShotTask:
    """The task without the shots of a share of its classes: the last ones, or as many drawn by the seed."""
    last = without_shots(task, share)
    if which == LAST:
        return last
    count = task.num_classes - len(last.seen)
    hidden = np.random.default_rng(seed).permutation(task.num_classes)[:count]
    return task.keep(~np.isin(task.support_labels, hidden))


def score(name: str, task: FewShotTask, test: Labelled, seed: int) -> dict[str, float]:
    """Top-1 in percent of photos of classes with and without shots, and "closed".

    "closed" is the top-1 of photos of the classes with shots if no other class may be predicted.
    """
    logits = create(name, seed=seed).fit(task).logits(test.queries)
    groups = seen_and_unseen(logits, test.labels, task.seen)
    known = np.isin(test.labels, task.seen)
    closed = task.seen[logits[known][:, task.seen].argmax(axis=1)] == test.labels[known]
    return {
        "seen": groups["base"],
        "unseen": groups["new"],
        "harmonic": groups["harmonic"],
        "closed": 100 * float(closed.mean()),
    }


def measure(files: Sequence[tuple[str, float]], names: Sequence[str], shots: int) -> Iterator[dict[str, Any]]:
    """Rows of COLUMNS, one per file, choice of classes, seed and method."""
    for path, share in files:
        for problem in feature_problems([path], [shots], SEEDS, resample=True):
            for which in (LAST, DRAWN):
                task = hide(problem.task, share, which, problem.seed)
                for name in names:
                    found = score(name, task, problem.test, problem.seed)
                    facts = (problem.dataset, shots, share, which, problem.seed, name)
                    yield dict(
                        zip(COLUMNS, (*facts, *(f"{found[key]:.4f}" for key in COLUMNS[len(facts) :])), strict=True)
                    )


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Means over the seeds, in Markdown: one table per file and choice of classes."""
    parts = ["# Classes without shots\n"]
    settings = dict.fromkeys(tuple(row[key] for key in COLUMNS[:4]) for row in rows)
    for dataset, shots, share, which in settings:
        here = [row for row in rows if (row["dataset"], row["without_shots"]) == (dataset, which)]
        cells = []
        for name in dict.fromkeys(row["method"] for row in here):
            own = [row for row in here if row["method"] == name]
            cells.append(
                [name, *(f"{np.mean([float(row[key]) for row in own]):.1f}" for key in COLUMNS[6:])],
            )
        cells.sort(key=lambda row: -float(row[3]))
        chosen = "the last ones" if which == LAST else "drawn by each seed"
        parts += [
            f"## {dataset}, {shots} shots, {100 * share:g} % of the classes without shots: {chosen}\n",
            markdown_table(["method", "seen", "unseen", "harmonic mean", "seen, closed"], cells) + "\n",
        ]
    parts.append(
        f"Top-1 in percent, mean over seeds {', '.join(map(str, SEEDS))}. All classes compete for every photo, except "
        'under "closed", where no class without shots may be predicted. Where a file has no more shots, all seeds have '
        "the same ones.\n"
    )
    return "\n".join(parts)


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unseen", description="Measure classes without shots.")
    parser.add_argument("files", nargs="+", metavar="FILE=SHARE", help="feature file and share of classes to hide")
    parser.add_argument("--shots", type=int, default=4, help="shots per class (default: 4)")
    parser.add_argument("--method", default=METHODS, help=f"names, separated by commas (default: {METHODS})")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where .csv and .md are written")
    given = parser.parse_args(argv)
    files, names = [_share(text) for text in given.files], choose_methods(given.method)
    total = 2 * len(files) * len(SEEDS) * len(names)
    rows = list(tqdm(measure(files, names, given.shots), desc="unseen", total=total))
    write_results(given.out, rows, COLUMNS, table(rows))
    return 0


def _share(text: str) -> tuple[str, float]:
    path, _, share = text.rpartition("=")
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if not path or not 0 < value < 1:
        raise UsageError(f"expected FILE=SHARE with a share between 0 and 1, got {text!r}.", "Give FILE.npz=0.5.")
    return path, value


if __name__ == "__main__":
    sys.exit(main())
