"""Measure what texts as training rows add to each method of the cross-modal poster: results/cross-modal-gain.csv, .md.

    python -m benchmarks.cross_modal_gain caltech62.npz open_domain374.npz sample

Each pair of methods is compared on the same shots: three seeds draw the shots from the file's largest training set, and
fewer shots are a part of more. Hyper-parameters are chosen on the shots, except where the table names the authors'
values. Prompts are trained through CLIP, which feature files do not contain: that pair runs on the built-in sample
(`sample`), with the values that benchmarks.sample_encoder chose there. The sample's figures say nothing about CLIP.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from benchmarks.seeds import theirs
from jclip_adapter.cli.commands.benchmark import photo_problems
from jclip_adapter.cli.commands.setup import set_up
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.choices import SAMPLE
from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import FewShotTask
from jclip_adapter.evaluation.benchmark import Problem, feature_problems, run_benchmark
from jclip_adapter.evaluation.metrics import mean_interval
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.storage import read_lines

RESULTS = ROOT / "results" / "cross-modal-gain"
CHOICES = ROOT / "results" / "sample-encoder-choices.csv"
SHOTS = (1, 2, 4, 8, 16)
SEEDS = (1, 2, 3)
VIEWS = 8  # of each shot of the sample, as in benchmarks.sample_encoder
SAMPLE_PHOTOS = 16  # training photos per class of the sample: from so many shots on, every seed draws all of them
COLUMNS = ("dataset", "pair", "shots", "seed", "uni_modal", "cross_modal", "gain")
AUTHORS = {"init": "random", "iterations": 12800, "batch_size": 32, "lr": 1e-3}
TEXT_START = """\
A classifier that starts at the text weights contains the texts before it is trained: apart from AdamW's scaling of
coordinates, gradient steps add multiples of photo features to each class's text feature, so w = text + Σ α·photo
without a text in any batch. Only from a random start do texts in the batches add what the start lacks."""


@dataclass(frozen=True)
class Pair:
    """A uni-modal method and its cross-modal counterpart.

    Attributes:
        label: What the table calls it.
        uni_modal: Method without texts as training rows.
        cross_modal: Method with them.
        given: Fixed hyper-parameters of both.
        published: Entries of seeds.yaml: the accuracies of both on the poster.
    """

    label: str
    uni_modal: str
    cross_modal: str
    given: Mapping[str, Any] = field(default_factory=dict)
    published: tuple[str, str] | None = None


def prompting() -> Pair:
    """CoOp and cross-modal prompting, with the values that were chosen for CoOp on the sample's held-out shots."""
    rows = csv.DictReader(read_lines(CHOICES))
    values = next(json.loads(row["values"]) for row in rows if row["method"] == "coop")  # the best comes first
    published = ("poster-coop", "poster-cross-modal-prompting")
    return Pair("CoOp → cross-modal prompting", "coop", "cross-modal-prompting", values, published)


PAIRS = {
    "linear": Pair(
        "linear probe (logistic regression) → cross-modal linear",
        "coop-linear-probe",
        "cross-modal-linear",
        published=("poster-linear-probing", "poster-cross-modal-linear"),
    ),
    "linear-random": Pair(
        "uni-modal → cross-modal linear, the authors' random start", "uni-modal-linear", "cross-modal-linear", AUTHORS
    ),
    "linear-text": Pair(
        "uni-modal → cross-modal linear, our start at the text", "uni-modal-linear", "cross-modal-linear"
    ),
    "wise-ft": Pair(
        "WiSE-FT → cross-modal WiSE-FT",
        "wise-ft",
        "cross-modal-wise-ft",
        published=("poster-wise-ft", "poster-cross-modal-wise-ft"),
    ),
    "tip-adapter": Pair(
        "Tip-Adapter → cross-modal adapter",
        "tip-adapter",
        "cross-modal-adapter",
        published=("poster-tip-adapter", "poster-cross-modal-adapter"),
    ),
    "prompting": prompting(),
}


def thinned(problem: Problem, shots: int) -> Problem:
    """The problem with `shots` rows per class, drawn by its seed; fewer shots are a part of more."""
    rng = np.random.default_rng(problem.seed)
    task: FewShotTask = problem.task
    rows = [rng.permutation(np.flatnonzero(task.support_labels == label))[:shots] for label in task.seen]
    part = task.keep(np.sort(np.concatenate(rows)))
    return replace(problem, shots=shots, task=part, fingerprint=f"{problem.fingerprint} thinned")


def problems_of(source: str, shots: Sequence[int], seeds: Sequence[int]) -> list[Problem]:
    """The problems of a feature file, up to its most shots, or of the sample."""
    if source == SAMPLE:
        counts = [count for count in shots if count < SAMPLE_PHOTOS]
        return photo_problems(set_up(Settings(data=SAMPLE, weights=SAMPLE, views=VIEWS)), counts, seeds)
    found = feature_problems([source], (), seeds, resample=True)
    most = max(problem.shots for problem in found)
    full = [problem for problem in found if problem.shots == most]
    return [thinned(problem, count) for count in shots if count <= most for problem in full]


def measure(sources: Iterable[str], shots: Sequence[int], seeds: Sequence[int], cells: Path) -> list[dict[str, Any]]:
    """Rows of COLUMNS: accuracies in percent, gains in points.

    Args:
        sources: Feature files, or "sample".
        shots: Shot counts.
        seeds: Seeds of the draws and of the methods.
        cells: Folder of finished cells.

    Raises:
        UsageError: a source has none of the shot counts.
    """
    rows = []
    for source in sources:
        problems = problems_of(source, shots, seeds)
        if not problems:
            raise UsageError(f"{source} has fewer than {min(shots)} shots.", "Give --shots.")
        names = ["prompting"] if source == SAMPLE else [name for name in PAIRS if name != "prompting"]
        for name in names:
            pair = PAIRS[name]
            selection = "none" if source == SAMPLE else "support"
            methods = f"{pair.uni_modal},{pair.cross_modal}"
            found = run_benchmark(problems, methods, cells, selection=selection, given=pair.given)
            top1 = {(cell["method"], cell["shots"], cell["seed"]): cell["top1"] for cell in found}
            for problem in problems:
                uni, cross = (
                    top1[method, problem.shots, problem.seed] for method in (pair.uni_modal, pair.cross_modal)
                )
                values = (SAMPLE if source == SAMPLE else problem.dataset, name, problem.shots, problem.seed)
                accuracies = (f"{value:.4f}" for value in (uni, cross, cross - uni))
                rows.append(dict(zip(COLUMNS, (*values, *accuracies), strict=True)))
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Means over the seeds in Markdown: a table per data set, and the poster's."""
    parts = ["# What texts as training rows add\n"]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        here = [row for row in rows if row["dataset"] == dataset]
        counts = sorted({int(row["shots"]) for row in here})
        cells = [[PAIRS[name].label, *(_cell(here, name, count) for count in counts)] for name in _names(here)]
        toy = ", the built-in toy sample with its own CLIP" if dataset == SAMPLE else ""
        parts.append(f"## {dataset}{toy}\n\n{markdown_table(['pair', *_headings(counts)], cells)}\n")
    published = [[pair.label, *_published(pair.published)] for pair in PAIRS.values() if pair.published]
    parts.append(
        f"## The poster: RN50, mean over 11 data sets\n\n{markdown_table(['pair', *_headings(SHOTS)], published)}\n"
    )
    parts.append(
        "Top-1 in percent without → with texts as training rows, and the gain in points ± half its 95 % interval over "
        f"seeds {', '.join(map(str, SEEDS))}. Where a file has no more shots, all seeds have the same, and "
        "differ in the training alone. "
        "The random start has the authors' values: "
        f"{', '.join(f'{key}={value}' for key, value in AUTHORS.items() if key != 'init')}, last iteration.\n"
    )
    parts.append(TEXT_START + "\n")
    return "\n".join(parts)


def _names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["pair"] for row in rows))


def _headings(counts: Iterable[int]) -> list[str]:
    return [f"{count}-shot" for count in counts]


def _cell(rows: Iterable[Mapping[str, Any]], pair: str, shots: int) -> str:
    found = [row for row in rows if row["pair"] == pair and int(row["shots"]) == shots]
    uni, cross = (np.mean([float(row[key]) for row in found]) for key in ("uni_modal", "cross_modal"))
    gain, half = mean_interval([float(row["gain"]) for row in found])
    around = "" if np.isnan(half) else f" ± {half:.1f}"
    return f"{uni:.1f} → {cross:.1f}: {round(gain, 1) + 0.0:+.1f}{around}"


def _published(names: tuple[str, str]) -> list[str]:
    uni, cross = map(theirs, names)
    return [f"{a} → {b}: {float(b) - float(a):+.1f}" for a, b in zip(uni, cross, strict=True)]


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cross_modal_gain", description="Measure what texts as training rows add."
    )
    parser.add_argument("sources", nargs="+", metavar="FILE.npz", help=f"feature files, or '{SAMPLE}' for prompting")
    parser.add_argument("--shots", type=int, nargs="+", default=SHOTS, help="shots per class (default: 1 2 4 8 16)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where .csv and .md are written")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    rows = measure(given.sources, given.shots, SEEDS, given.out.parent / "cells")
    write_results(given.out, rows, COLUMNS, table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
