"""Measure the methods that train through CLIP on the built-in sample, beside JCLIP-Adapter and zero-shot.

    python -m benchmarks.sample_encoder [--method NAME,NAME] [--seeds 3]

The defaults of these methods are made for OpenAI's CLIP; the sample's is a hundred times smaller and wants other rates.
So a few candidates per method are scored first on held-out shots of a draw of its own (seed 0, training photos only),
and the best is then trained and tested on other draws (seeds 1, 2, …) under the benchmark's protocol. Methods on the
photos' features get eight augmented copies of each shot. Run it in the repository's root. Writes
results/sample-encoder-choices.csv, results/sample-encoder.csv and .md; with `--method`, the other methods' rows are
kept. The sample is a toy: its figures say nothing about CLIP.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import reports_user_errors
from jclip_adapter.cli.commands.benchmark import photo_problems
from jclip_adapter.cli.commands.setup import set_up
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.choices import SAMPLE
from jclip_adapter.core.errors import UsageError
from jclip_adapter.evaluation.benchmark import Problem, run_benchmark
from jclip_adapter.evaluation.metrics import mean_interval
from jclip_adapter.evaluation.report import csv_text, markdown_table
from jclip_adapter.evaluation.selection import score_candidates
from jclip_adapter.methods import available, get
from jclip_adapter.storage import ANY, read_json, read_lines, write_json, write_text

RESULTS = Path("results")
CELLS = RESULTS / "cells"
CHOICES, TABLE = RESULTS / "sample-encoder-choices.csv", RESULTS / "sample-encoder.csv"
SHOTS = 4
VIEWS = 8
BASELINE, ADAPTER = "zero-shot", "jclip-adapter"
PHRASE = "a photo of a"
_PROMPTS: tuple[dict[str, Any], ...] = (
    {},
    {"init": PHRASE, "lr": 0.02, "class_specific": True},
    {"init": PHRASE, "lr": 0.1, "class_specific": True},
    {"init": PHRASE, "lr": 0.2, "class_specific": True},
)
CANDIDATES: dict[str, tuple[dict[str, Any], ...]] = {
    "clip-lora": ({}, {"crop": 0.5}, {"lr": 1e-3, "crop": 0.5}),
    "cocoop": ({}, {"class_specific": True, "lr": 0.005}, {"class_specific": True, "lr": 0.02}),
    "coop": _PROMPTS,
    "cross-modal-partial": (
        {},
        {"lr": 3e-5},
        {"lr": 1e-4},
        {"encoder": "image", "lr": 1e-4},
        {"encoder": "image", "lr": 3e-4},
        {"encoder": "text", "lr": 1e-4},
        {"encoder": "text", "lr": 1e-3},
    ),
    "cross-modal-prompting": _PROMPTS,
    "full": ({}, {"lr": 1e-4}, {"lr": 3e-4}),
    "proda": (
        {},
        {"lr": 0.1, "context": 4},
        {"lr": 0.5, "context": 4, "prompts": 8, "class_specific": True},
    ),
    "prograd": _PROMPTS,
    "text-tower": ({"lr": 1e-4}, {"lr": 3e-4}, {"lr": 1e-3}, {"lr": 3e-3}),
}


def choose(name: str, problem: Problem) -> list[dict[str, Any]]:
    """Score a method's candidates on held-out shots.

    Args:
        name: Of the method.
        problem: Its test photos are not looked at.

    Returns:
        A row per candidate: method, values (JSON), accuracy in percent, likelihood; the best first.
    """
    rows = []
    for values in tqdm(CANDIDATES[name], desc=f"choosing for {name}", unit="candidate"):
        path = CELLS / f"sample-choice-{name}-{problem.fingerprint[:16]}-{_words(values)}.json"
        if not path.is_file():
            scores = score_candidates(name, problem.task, {}, {}, given=values)
            if scores is None:
                raise UsageError(f"{SHOTS} shots leave nothing out.")
            write_json(path, {"accuracy": float(scores.accuracy[0]), "likelihood": float(scores.likelihood[0])}, ANY)
        found = read_json(path)
        rows.append(
            {
                "method": name,
                "values": json.dumps(values),
                "accuracy": f"{100 * found['accuracy']:.2f}",
                "likelihood": f"{found['likelihood']:.4f}",
            }
        )
    return sorted(rows, key=lambda row: (-float(row["accuracy"]), -float(row["likelihood"])))


def _words(values: Mapping[str, Any]) -> str:
    return "-".join(f"{key}={str(value).replace(' ', '_')}" for key, value in values.items()) or "defaults"


def table(cells: Mapping[str, Sequence[Mapping[str, Any]]], chosen: Mapping[str, str]) -> str:
    """Per method: top-1 over the seeds with its interval, gain over zero-shot, difference from JCLIP-Adapter.

    Args:
        cells: Per method, a cell for each seed, in the same order of seeds.
        chosen: Per method, its values as JSON; missing for the defaults.
    """
    zero, adapter = (mean_interval([cell["top1"] for cell in cells[name]])[0] for name in (BASELINE, ADAPTER))
    rows = []
    for name, found in cells.items():
        mean, half = mean_interval([cell["top1"] for cell in found])
        gains = [cell["top1"] - base["top1"] for cell, base in zip(found, cells[BASELINE], strict=True)]
        words = ", ".join(f"{k}={v}" for k, v in json.loads(chosen.get(name, "{}")).items()) or "defaults"
        rows.append(
            [
                name,
                f"{mean:.1f} %",
                f"{mean - half:.1f}–{mean + half:.1f} %",
                round(mean - zero, 1),
                round(min(gains), 1),
                round(mean - adapter, 1),
                round(sum(cell["fit_seconds"] for cell in found) / len(found), 1),
                words,
            ]
        )
    rows.sort(key=lambda row: -float(str(row[1]).split()[0]))
    header = ["method", "top-1", "95 % interval", "over zero-shot", "on the worst seed", "over jclip-adapter"]
    return markdown_table([*header, "seconds to fit", "chosen on held-out shots"], rows)


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Choose, measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sample_encoder",
        description="Measure the methods that train through CLIP on the built-in sample.",
    )
    parser.add_argument("--method", metavar="NAME,NAME", help="these only; the others' results are kept (all)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 1 to N, at least 2 (3)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    if arguments.seeds < 2:
        raise UsageError(f"--seeds {arguments.seeds} gives no interval.", "Give 2 or more.")
    names = [get(name).meta.name for name in arguments.method.split(",")] if arguments.method else list(CANDIDATES)
    print(measure(names, range(1, arguments.seeds + 1)))
    return 0


def measure(names: Sequence[str], seeds: Sequence[int]) -> str:
    """Choose, measure, and write the files, in which rows of other methods are kept; returns the table."""
    stage = set_up(Settings(data=SAMPLE, weights=SAMPLE, views=VIEWS))
    first, *problems = photo_problems(stage, [SHOTS], [0, *seeds])
    choices = [row for name in names for row in choose(name, first)]
    chosen: dict[str, str] = {}
    for row in choices:
        chosen.setdefault(row["method"], row["values"])
    cells = {
        name: run_benchmark(problems, name, CELLS, selection="none", given=json.loads(chosen.get(name, "{}")))
        for name in (BASELINE, ADAPTER, *names)
    }
    columns = ("method", "shots", "seed", "top1", "top5", "fit_seconds", "hyperparameters")
    rows = [
        {
            **{key: cell[key] for key in columns},
            **{key: f"{cell[key]:.4f}" for key in ("top1", "top5", "fit_seconds")},
            "hyperparameters": json.dumps(cell["hyperparameters"], sort_keys=True),
        }
        for found in cells.values()
        for cell in found
    ]
    choices, rows = merged(CHOICES, choices), merged(TABLE, rows)
    if {int(row["seed"]) for row in rows} != set(seeds):
        raise UsageError(f"{TABLE} has other seeds.", "Leave --method or --seeds out.")
    text = table(_cells(rows), {row["method"]: row["values"] for row in reversed(choices)})
    write_text(CHOICES, csv_text(choices, list(choices[0])), ANY)
    write_text(TABLE, csv_text(rows, columns), ANY)
    title = "# Methods that train through CLIP, on the built-in sample at 4 shots"
    write_text(RESULTS / "sample-encoder.md", f"{title}\n\nThe sample is a toy.\n\n{text}\n", ANY)
    return text


def merged(path: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a CSV with those of the measured methods replaced, the baselines first."""
    kept = list(csv.DictReader(read_lines(path))) if path.is_file() else []
    fresh = {row["method"] for row in rows}
    every = [*rows, *(row for row in kept if row["method"] not in fresh)]
    return [dict(row) for name in (BASELINE, ADAPTER, *CANDIDATES) for row in every if row["method"] == name]


def _cells(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of the CSV by method, with accuracies and seconds as numbers."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        numbers = {key: float(row[key]) for key in ("top1", "fit_seconds")}
        found.setdefault(row["method"], []).append({**row, **numbers})
    return found


def missing() -> list[str]:
    """The methods through CLIP that have no candidates here."""
    return [name for name in available() if "encoder" in get(name).meta.needs and name not in CANDIDATES]


if __name__ == "__main__":
    sys.exit(main())
