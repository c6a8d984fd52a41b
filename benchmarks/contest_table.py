"""Measure the contest's three models, and write results/contest.csv and .md.

    python -m benchmarks.contest_table --data Dataset

The models are those of the JCLIP-Adapter slides: zero-shot and logistic regression with the prompts of the contest's
baseline, and the adapter with the slides' prompts. Both trained models get the first four photos of each class. They
are scored on the labelled test photos, or on training photos that are not among the four. Without `--data`, the models
run on the built-in sample, whose figures say nothing about CLIP.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import ROOT, reports_user_errors
from benchmarks.seeds import theirs
from jclip_adapter.cli.commands.evaluate import evaluate
from jclip_adapter.cli.commands.train import train
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.choices import SAMPLE
from jclip_adapter.evaluation.metrics import Score
from jclip_adapter.evaluation.report import csv_text, markdown_table
from jclip_adapter.storage import ANY, write_text

RESULTS = ROOT / "results" / "contest"
COLUMNS = ("data", "model", "method", "prompts", "photos", "top1", "top5")
# The trained model, its method and prompts, and what zero-shot with these prompts is called.
MODELS = (
    ("trained baseline", "linear-probe", "jclip", "baseline"),
    ("adapter", "jclip-adapter", "slides", "baseline with the adapter's prompts"),
)
PUBLISHED = {"baseline": "baseline", "trained baseline": "trained-baseline", "adapter": "adapter"}  # rows of seeds.yaml


def measure(data: str, weights: str = "") -> list[dict[str, Any]]:
    """Train and evaluate through the pipeline.

    Args:
        data: A data set.
        weights: Weights of a CLIP; empty for ViT-B/32, or for the sample's on its data.

    Returns:
        Rows of COLUMNS; accuracies are shares from 0 to 1.
    """
    rows = []
    for model, method, prompts, zero_shot in MODELS:
        settings = Settings(data=data, weights=weights, method=method, prompts=prompts, support="first")
        train(settings)
        done = evaluate(settings)
        rows.append(_row(data, zero_shot, "zero-shot", prompts, done.baseline[-1]))
        rows.append(_row(data, model, method, prompts, done.scores[-1]))
    return rows


def _row(data: str, model: str, method: str, prompts: str, total: Score) -> dict[str, Any]:
    shares = {"top1": f"{total.top1:.4f}", "top5": f"{total.top5:.4f}"}
    return {"data": data, "model": model, "method": method, "prompts": prompts, "photos": total.n, **shares}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Top-1 and top-5 of each model, in Markdown, beside the slides'."""
    cells = []
    for row in rows:
        name = PUBLISHED.get(row["model"])
        slides = theirs(name) if name else ["–", "–"]
        cells.append([row["model"], f"`{row['method']}`", f"`{row['prompts']}`", row["top1"], row["top5"], *slides])
    header = ["model", "method", "prompts", "top-1", "top-5", "slides' top-1, test set A", "slides' top-5, test set A"]
    return markdown_table(header, cells)


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contest_table", description="Measure the contest's three models."
    )
    parser.add_argument("--data", default=SAMPLE, metavar="DIR", help="data set (default: the built-in sample)")
    parser.add_argument("--weights", default="", metavar="PATH", help="CLIP's weights (default: as runner.py)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where .csv and .md are written")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    rows = measure(given.data, given.weights)
    text = table(rows)
    title = f"# The contest's three models on {rows[0]['photos']} photos of {given.data}"
    write_text(given.out.with_suffix(".csv"), csv_text(rows, COLUMNS), ANY)
    write_text(given.out.with_suffix(".md"), f"{title}\n\n{text}\n", ANY)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
