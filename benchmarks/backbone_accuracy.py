"""Measure the ImageNet networks on photos, without CLIP: results/backbones.csv, .md and .png.

    python -m benchmarks.backbone_accuracy CONTEST [--method linear-probe] [--seeds 1,2,3]

CONTEST is a folder in the contest's layout whose test photos have labels. Each run goes the commands' way: train on
4 photos per class, evaluate on the labelled test photos, predict, check the submission. "Names alone" is zero-shot by
those of the network's own ImageNet classes that mean a class of the contest.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import ROOT, reports_user_errors
from jclip_adapter.cli.commands.evaluate import evaluate
from jclip_adapter.cli.commands.predict import predict
from jclip_adapter.cli.commands.train import train
from jclip_adapter.cli.settings import Settings
from jclip_adapter.data.sets import load_dataset
from jclip_adapter.data.submission import check_submission
from jclip_adapter.evaluation.metrics import Score, mean_interval
from jclip_adapter.evaluation.report import csv_text, markdown_table
from jclip_adapter.models.backbones import KNOWN
from jclip_adapter.storage import ANY, write_bytes, write_text

RESULTS = ROOT / "results" / "backbones"
SHOTS = 4
COLUMNS = ("network", "method", "shots", "seed", "domain", "photos", "top1", "top5", "prototypes_top1", "names_top1")


def measure(data: str, network: str, method: str, seeds: Sequence[int], folder: Path) -> list[dict[str, Any]]:
    """Rows of COLUMNS of one network, shares from 0 to 1.

    Args:
        data: The contest's folder.
        network: One of `backbones.KNOWN`.
        method: The method.
        seeds: Each draws its own shots.
        folder: For features, runs and submissions.
    """
    rows = []
    cache = str(folder / "features")
    nameless = Settings(data=data, weights=network, method="zero-shot", set={"names": 1.0}, cache=cache)
    by_name = evaluate(nameless).scores
    for seed in seeds:
        run, result = folder / f"{network}-{seed}", folder / f"{network}-{seed}.txt"
        settings = Settings(
            data=data, weights=network, method=method, shots=SHOTS, seed=seed, cache=cache, run=str(run)
        )
        train(settings)
        done = evaluate(settings)
        predict(settings, result)
        check_submission(result, load_dataset(data))
        for score, prototypes, named in zip(done.scores, done.baseline, by_name, strict=True):
            facts = {"network": network, "method": method, "shots": SHOTS, "seed": seed, "domain": score.domain}
            others = {"prototypes_top1": round(prototypes.top1, 4), "names_top1": round(named.top1, 4)}
            rows.append({**facts, **_shares(score), **others})
    return rows


def _shares(score: Score) -> dict[str, Any]:
    return {"photos": score.n, "top1": round(score.top1, 4), "top5": round(score.top5, 4)}


def means(rows: Sequence[dict[str, Any]], column: str) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean in percent and half the 95 % interval over seeds, by domain and network."""
    values: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        values.setdefault(row["domain"], {}).setdefault(row["network"], []).append(100 * row[column])
    return {domain: {name: mean_interval(found) for name, found in each.items()} for domain, each in values.items()}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Top-1 per domain and in total, a column per network."""
    method, seeds = rows[0]["method"], len({row["seed"] for row in rows})
    networks = list(dict.fromkeys(row["network"] for row in rows))
    photos = {row["domain"]: row["photos"] for row in rows}
    fitted, near, named = (means(rows, column) for column in ("top1", "prototypes_top1", "names_top1"))
    lines = []
    for domain, count in photos.items():
        cells = []
        for name in networks:
            mean, half = fitted[domain][name]
            before = (f"{found[domain][name][0]:.1f} %" for found in (named, near))
            cells += [*before, f"{mean:.1f} ± {half:.1f} %"]
        lines.append([domain, count, *cells])
    short = [name.removeprefix("efficientnet-") for name in networks]
    head = [f"{name}, {words}" for name in short for words in ("names alone", "nearest prototype", method)]
    title = f"# Top-1 without CLIP: {SHOTS} photos per class, mean of {seeds} draws and its 95 % interval"
    return f"{title}\n\n{markdown_table(['domain', 'photos', *head], lines)}\n"


def picture(rows: Sequence[dict[str, Any]]) -> bytes:
    """Bars per domain; a PNG."""
    from matplotlib.figure import Figure

    fitted = means(rows, "top1")
    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.add_subplot()
    wide = 0.8 / len(networks)
    for number, name in enumerate(networks):
        pairs = [fitted[domain][name] for domain in fitted]
        places = [place + (number - (len(networks) - 1) / 2) * wide for place in range(len(fitted))]
        heights, halves = zip(*pairs, strict=True)
        bars = axes.bar(places, heights, wide, yerr=halves, label=name, capsize=3)
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
    axes.set_xticks(range(len(fitted)), list(fitted))
    axes.set_ylim(0, 109)
    axes.set_ylabel("top-1 in %")
    axes.set_title(f"{rows[0]['method']}, {SHOTS} photos per class, no CLIP", fontsize=10, loc="left")
    axes.legend(loc="lower right", fontsize=8)
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
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.backbone_accuracy", description="Measure ImageNet networks on photos, without CLIP."
    )
    parser.add_argument("contest", metavar="CONTEST", help="a folder in the contest's layout, with labels")
    parser.add_argument("--method", default="linear-probe", help="how the shots are used (linear-probe)")
    parser.add_argument("--seeds", default="1,2,3", help="draws of the shots (1,2,3)")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    seeds = [int(part) for part in options.seeds.split(",")]
    with tempfile.TemporaryDirectory() as name:
        rows = [
            row for network in KNOWN for row in measure(options.contest, network, options.method, seeds, Path(name))
        ]
    write_text(RESULTS.with_suffix(".csv"), csv_text(rows, COLUMNS), ANY)
    write_text(RESULTS.with_suffix(".md"), table(rows), ANY)
    write_bytes(RESULTS.with_suffix(".png"), picture(rows), ANY)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
