"""Measure how well `inspect` ranks wrong labels: results/label-flips.{csv,md}.

    python -m benchmarks.label_flips FILE.npz...

A tenth of the shots get another label: a random one, or the class whose text is most similar. The area under the ROC
curve is the chance that a wrong label is ranked before a right one; five draws.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from jclip_adapter.core.task import FewShotTask
from jclip_adapter.evaluation.inspection import fit_to_labels
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.features.file import read_feature_file

RESULTS = ROOT / "results" / "label-flips.csv"
COLUMNS = ("dataset", "classes", "shots", "photos", "wrong", "labels", "score", "auroc", "lowest", "draws")
SHARE, DRAWS = 0.1, 5


def flipped(task: FewShotTask, kind: str, draw: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Labels of which a share are wrong ("random" or "look-alike"), and which are."""
    rng, labels = np.random.default_rng(draw), task.support_labels.copy()
    chosen = rng.choice(len(labels), round(SHARE * len(labels)), replace=False)
    if kind == "random":
        labels[chosen] = (labels[chosen] + rng.integers(1, task.num_classes, len(chosen))) % task.num_classes
    else:
        likeness = task.text_features @ task.text_features.T
        np.fill_diagonal(likeness, -1)
        labels[chosen] = likeness.argmax(axis=1)[labels[chosen]]
    return labels, labels != task.support_labels


def margins(task: FewShotTask, labels: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    """The margins of `inspect`, of zero-shot alone, and of the class means alone."""
    features, texts, classes = task.support_features, task.text_features, task.num_classes
    logits = task.logit_scale * features.astype(np.float64) @ texts.T
    rows = np.arange(len(labels))
    own = logits[rows, labels].copy()
    logits[rows, labels] = -np.inf
    return {
        "inspect": fit_to_labels(features, labels, texts, task.logit_scale, classes).margin,
        "zero-shot alone": own - logits.max(axis=1),
        "class means alone": fit_to_labels(features, labels, None, task.logit_scale, classes).margin,
    }


def measure(name: str, task: FewShotTask, shots: int) -> list[dict[str, Any]]:
    """A row of COLUMNS per kind of wrong labels and score."""
    from sklearn.metrics import roc_auc_score

    rows = []
    for kind in ("random", "look-alike"):
        found: dict[str, list[float]] = {}
        for draw in range(DRAWS):
            labels, wrong = flipped(task, kind, draw)
            for score, margin in margins(task, labels).items():
                found.setdefault(score, []).append(roc_auc_score(wrong, -np.nan_to_num(margin)))
        facts = {"dataset": name, "classes": task.num_classes, "shots": shots, "photos": len(labels)}
        for score, areas in found.items():
            figures = {"auroc": f"{np.mean(areas):.3f}", "lowest": f"{min(areas):.3f}", "draws": DRAWS}
            rows.append({**facts, "wrong": int(wrong.sum()), "labels": kind, "score": score, **figures})
    return rows


def report(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in words and a table."""
    head = ["features", "classes", "shots", "wrong labels", "of", "score", "AUROC", "lowest draw"]
    keys = ("dataset", "classes", "shots", "labels", "photos", "score", "auroc", "lowest")
    return (
        "# Wrong labels among the shots\n\n"
        f"{100 * SHARE:.0f} % of the labels are wrong: random ones, or those of the class with the most similar text. "
        f"AUROC is the chance that a wrong label is ranked before a right one, mean of {DRAWS} draws. "
        "`python -m benchmarks.label_flips` measures this.\n\n"
        f"{markdown_table(head, [[row[key] for key in keys] for row in rows])}\n"
    )


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a user's mistake.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.label_flips", description="Measure ranks of wrong labels."
    )
    parser.add_argument("files", nargs="+", metavar="FILE.npz", help="feature files")
    options = parser.parse_args(argv)
    rows = []
    for path in options.files:
        file = read_feature_file(path)
        for shots in sorted({min(file.tasks), 4 if 4 in file.tasks else max(file.tasks), max(file.tasks)}):
            if shots > 1:
                rows += measure(file.name, file.tasks[shots], shots)
    write_results(RESULTS, rows, COLUMNS, report(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
