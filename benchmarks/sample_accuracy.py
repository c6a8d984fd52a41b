"""Measure zero-shot and JCLIP-Adapter on the built-in sample, and write results/sample.csv and results/sample.md.

    python -m benchmarks.sample_accuracy --seeds 5

Run it in the repository's root, as runner.py. The sample is a toy: its figures say nothing about CLIP.
"""

from __future__ import annotations

import argparse
import csv
import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import reports_user_errors
from jclip_adapter.cli.commands.evaluate import evaluate
from jclip_adapter.cli.commands.train import train
from jclip_adapter.cli.runs import CURVES
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.choices import SAMPLE
from jclip_adapter.core.errors import UsageError
from jclip_adapter.evaluation.metrics import Score, mean_interval
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.storage import ANY, write_bytes, write_text

RESULTS = Path("results")
SHOTS = 4
METHOD, BASELINE = "jclip-adapter", "zero-shot"


def settings_of(method: str, seed: int = 0) -> Settings:
    """The settings of one run on the sample, in the run folder that runner.py would give it."""
    return Settings(data=SAMPLE, weights=SAMPLE, method=method, shots=SHOTS, seed=seed)


def measure(seeds: int) -> tuple[list[Score], list[list[Score]]]:
    """Train and evaluate through the pipeline.

    Args:
        seeds: How many seeds, from 0.

    Returns:
        Zero-shot's scores per domain and in total, and the adapter's for each seed.
    """
    baseline = evaluate(settings_of(BASELINE)).scores
    adapted = []
    for seed in range(seeds):
        settings = settings_of(METHOD, seed)
        train(settings)
        done = evaluate(settings)
        adapted.append(done.scores)
        if seed == 0:
            confusion = next(path for path in done.files if path.suffix == ".png")
            write_bytes(RESULTS / "sample-curves.png", (settings.run_folder / CURVES).read_bytes(), ANY)
            write_bytes(RESULTS / "sample-confusion.png", confusion.read_bytes(), ANY)
    return baseline, adapted


def csv_text(baseline: Sequence[Score], adapted: Sequence[Sequence[Score]]) -> str:
    """One line per run; accuracies are shares from 0 to 1. Zero-shot sees no photo, so it has no shots and no seed."""
    domains = [score.domain for score in baseline if score.domain != "total"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    header = ["dataset", "method", "shots", "seed", "top1", "top5", *(f"top1_{domain}" for domain in domains)]
    writer.writerow(header)
    lines = [(BASELINE, 0, "", baseline)]
    lines += [(METHOD, SHOTS, str(seed), scores) for seed, scores in enumerate(adapted)]
    for method, shots, seed, scores in lines:
        by_name = {score.domain: score for score in scores}
        total = by_name["total"]
        parts = [f"{by_name[domain].top1:.4f}" for domain in domains]
        writer.writerow([SAMPLE, method, shots, seed, f"{total.top1:.4f}", f"{total.top5:.4f}", *parts])
    return buffer.getvalue()


def table(baseline: Sequence[Score], adapted: Sequence[Sequence[Score]]) -> str:
    """Top-1 per domain and in total: zero-shot, the adapter's mean over seeds with its 95 % interval, and the gain."""
    rows = []
    for number, zero in enumerate(baseline):
        mean, half = mean_interval([100 * scores[number].top1 for scores in adapted])
        before = 100 * zero.top1
        interval = f"{mean - half:.1f}–{mean + half:.1f} %"
        rows.append([zero.domain, zero.n, f"{before:.1f} %", f"{mean:.1f} %", interval, round(mean - before, 1)])
    name = f"{METHOD} ({SHOTS} shots, mean of {len(adapted)} seeds)"
    return markdown_table(["domain", "photos", BASELINE, name, "95 % interval", "gain in points"], rows)


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sample_accuracy",
        description="Measure zero-shot and JCLIP-Adapter on the built-in sample.",
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N−1, at least 2 (5)")
    seeds = parser.parse_args(argv).seeds
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    if seeds < 2:
        raise UsageError(f"--seeds {seeds} gives no interval.", "Give 2 or more.")
    baseline, adapted = measure(seeds)
    text = table(baseline, adapted)
    write_text(RESULTS / "sample.csv", csv_text(baseline, adapted), ANY)
    write_text(RESULTS / "sample.md", f"# Top-1 on the built-in sample's test photos\n\n{text}\n", ANY)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
