"""Choose the margin by which selection favours zero-shot: results/selection-margin.csv and .md.

    python -m benchmarks.selection_margin FILE.npz... [--shots 4] [--method NAME,NAME]

Nested on the shots: each fold of the shots is held out in turn, hyper-parameters are selected on the others with each
margin (`selection.Scores.best`), and the choice is scored on the fold. `selection.MARGIN` is the largest margin that
loses no accuracy there. The accuracy of the same margin on the test photos is measured beside it, after selection on
all shots; it decides nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import FewShotTask, Labelled
from jclip_adapter.evaluation.metrics import accuracy
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.evaluation.selection import grids, log_likelihood, score_candidates
from jclip_adapter.features.file import read_feature_file
from jclip_adapter.methods import create, get
from jclip_adapter.methods.training.folds import folds

RESULTS = ROOT / "results" / "selection-margin"
MARGINS = (0.0, 0.25, 0.5, 1.0, 2.0)
METHODS = "proker,tip-adapter,gda,ape,clip-adapter,jclip-adapter,multimodal-adapter"
COLUMNS = ("dataset", "shots", "method", "margin", "likelihood", "accuracy", "zero_shot_top1", "top1")
Score = tuple[float, float]


def chosen(name: str, task: FewShotTask, held: Labelled) -> list[Score]:
    """Mean log-likelihood and accuracy of held photos, per margin, by the candidate selected on a task.

    Raises:
        DataError: the task has nothing to select on.
    """
    scores = score_candidates(name, replace(task, validation=None), *grids(get(name), {}))
    if scores is None:
        raise DataError(f"{name}: nothing of the shots can be held out twice.", "Give 3 or more --shots.")
    found: dict[int, Score] = {}
    picks = [scores.best(get(name).Hyper().as_dict(), margin) for margin in MARGINS]
    for pick in set(picks):
        logits = create(name, **scores.candidates[pick]).fit(task).logits(held.queries)
        found[pick] = float(log_likelihood(logits, held.labels).mean()), accuracy(logits, held.labels)
    return [found[pick] for pick in picks]


def measure(paths: Sequence[str], shots: int, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of COLUMNS."""
    jobs = [(content, name) for content in map(read_feature_file, map(Path, paths)) for name in names]
    for content, name in tqdm(jobs, unit="method"):
        task = content.tasks[shots]
        nested = [chosen(name, part, held) for part, held in folds(task)]
        zero_shot = accuracy(create("zero-shot").fit(task).logits(content.test.queries), content.test.labels)
        tested = chosen(name, task, content.test)
        for number, margin in enumerate(MARGINS):
            likelihood, share = (fmean(fold[number][part] for fold in nested) for part in range(2))
            facts = (content.name, shots, name, margin, f"{likelihood:.4f}", f"{100 * share:.2f}")
            top1 = (f"{100 * value:.2f}" for value in (zero_shot, tested[number][1]))
            yield dict(zip(COLUMNS, (*facts, *top1), strict=True))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: the means per margin, then every method's held-out likelihood and test accuracy."""
    means, every = [], []
    for margin in MARGINS:
        own = [row for row in rows if row["margin"] == margin]
        losses = [float(row["zero_shot_top1"]) - float(row["top1"]) for row in own]
        mean = {key: fmean(float(row[key]) for row in own) for key in ("likelihood", "accuracy", "top1")}
        means.append([margin, f"{mean['likelihood']:.4f}", *(f"{mean[key]:.2f}" for key in ("accuracy", "top1"))])
        means[-1].append(f"{max(losses):.1f}")
    for dataset, name in dict.fromkeys((row["dataset"], row["method"]) for row in rows):
        own = [row for row in rows if (row["dataset"], row["method"]) == (dataset, name)]
        every.append([dataset, name, own[0]["zero_shot_top1"], *(row["top1"] for row in own)])
    return (
        "# The margin by which selection favours zero-shot\n\nIn standard errors. Means over files and methods; the "
        "first two columns are of held-out shots and decide, the last two of test photos. `python -m "
        f"benchmarks.selection_margin` measures this, {rows[0]['shots']} shots per class.\n\n"
        f"{markdown_table(['margin', 'log-likelihood', 'accuracy', 'top-1', 'largest loss to zero-shot'], means)}\n\n"
        "Top-1 on the test photos by margin:\n\n"
        f"{markdown_table(['features', 'method', 'zero-shot', *map(str, MARGINS)], every)}\n"
    )


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection_margin", description="Measure the margin.")
    parser.add_argument("files", nargs="+", metavar="FILE.npz", help="feature files")
    parser.add_argument("--shots", type=int, default=4, help="shots per class (4)")
    parser.add_argument("--method", default=METHODS, help=f"names, separated by commas ({METHODS})")
    options = parser.parse_args(argv)
    rows = list(measure(options.files, options.shots, options.method.split(",")))
    write_results(RESULTS, rows, COLUMNS, table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
