"""Measure the Multi-Modal Adapter's ablations: results/multimodal-ablations.csv and .md.

    python -m benchmarks.multimodal_ablations caltech62.npz

The variants of the block, of the layers before and after it, of the mask and of what is adapted, in two experiments:
base-to-new on a feature file (`--benchmark --protocol base-to-new`), and Gaussian noise on the photos of the built-in
sample (`--benchmark --data sample --noise 0.3`). Three seeds each; the other hyper-parameters are the defaults.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from jclip_adapter.cli.commands.benchmark import photo_problems
from jclip_adapter.cli.commands.setup import set_up
from jclip_adapter.cli.settings import Settings
from jclip_adapter.evaluation.benchmark import Problem, feature_problems, run_cell
from jclip_adapter.evaluation.report import markdown_table

RESULTS = ROOT / "results" / "multimodal-ablations"
SEEDS = (1, 2, 3)
DEVIATION = 0.3  # the authors'
NAME = "multimodal-adapter"
VARIANTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("zero-shot", "zero-shot", {}),
    ("default", NAME, {}),
    ("adapt=image", NAME, {"adapt": "image"}),
    ("mask=block", NAME, {"mask": "block"}),
    ("down=linear", NAME, {"down": "linear"}),
    ("down=mlp", NAME, {"down": "mlp"}),
    ("up=linear", NAME, {"up": "linear"}),
    ("up=mlp", NAME, {"up": "mlp"}),
    ("down=linear, up=linear", NAME, {"down": "linear", "up": "linear"}),
    ("block=transformer", NAME, {"block": "transformer"}),
    ("block=transformer, mask=block", NAME, {"block": "transformer", "mask": "block"}),
)
TUNED = ("patience=10, epochs=200", NAME, {"patience": 10, "epochs": 200})  # needs a validation set
MEASURED = ("base", "new", "harmonic", "difference", "top1")
COLUMNS = ("dataset", "shots", "photos", "variant", "seed", *MEASURED)


def base_to_new(path: str, shots: int) -> Iterator[tuple[str, Problem]]:
    """The problems of a feature file, by the state of its photos."""
    for problem in feature_problems([path], [shots], SEEDS, resample=True):
        yield "as they are", dataclasses.replace(problem, unseen=0.5, protocol="base-to-new")


def with_noise(shots: int, weights: str, data: str) -> Iterator[tuple[str, Problem]]:
    """The problems of a data set's photos without and with noise."""
    states = {
        "clean": (0.0, 0.0),
        "noisy training photos": (DEVIATION, 0.0),
        "noisy training and test photos": (DEVIATION, DEVIATION),
    }
    for state, noise in states.items():
        settings = Settings(data=data, weights=weights, noise=noise)
        for problem in photo_problems(set_up(settings), [shots], SEEDS):
            yield state, dataclasses.replace(problem, dataset=data)


def measure(problems: Sequence[tuple[str, Problem]]) -> Iterator[dict[str, Any]]:
    """Rows of COLUMNS, one per problem and variant."""
    for state, problem in problems:
        validated = problem.task.validation is not None
        for variant, name, values in (*VARIANTS, *([TUNED] if validated else [])):
            selection = "validation" if "patience" in values else "none"
            cell = run_cell(name, problem, selection, {**values, **({"ratio": 0.2} if selection != "none" else {})})
            facts = (problem.dataset, problem.shots, state, variant, problem.seed)
            shown = [f"{cell[key]:.4f}" if key in cell else "" for key in MEASURED]
            yield dict(zip(COLUMNS, (*facts, *shown), strict=True))


def _mean(rows: Sequence[dict[str, Any]], key: str) -> str:
    return f"{np.mean([float(row[key]) for row in rows]):.1f}" if rows else "–"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Two tables in Markdown: base-to-new, and noise."""
    halves = [row for row in rows if row["base"]]
    noisy = [row for row in rows if not row["base"]]
    states = list(dict.fromkeys(row["photos"] for row in noisy))

    def cells(part: Sequence[dict[str, Any]], columns: Sequence[tuple[str, str]]) -> list[list[str]]:
        found = []
        for variant in dict.fromkeys(row["variant"] for row in part):
            own = [row for row in part if row["variant"] == variant]
            found.append(
                [variant, *(_mean([row for row in own if row["photos"] == state], key) for state, key in columns)]
            )
        return found

    first = cells(halves, [(halves[0]["photos"], key) for key in MEASURED])
    second = cells(noisy, [(state, "top1") for state in states])
    return "\n".join(
        [
            "# Ablations of the Multi-Modal Adapter\n",
            f"## Base-to-new on {halves[0]['dataset']}, {halves[0]['shots']} shots\n",
            markdown_table(["variant", "base", "new", "H", "difference", "all"], first) + "\n",
            f"## Gaussian noise on photos: {noisy[0]['dataset']}, {noisy[0]['shots']} shots\n",
            markdown_table(["variant", *states], second) + "\n",
            f"Top-1 in percent, mean over seeds {', '.join(map(str, SEEDS))}. Base and new: half of the classes each, "
            "which compete within themselves; all: all classes compete, only base classes have shots. Noise: standard "
            f"deviation {DEVIATION} after CLIP's normalisation, one draw per photo. The sample is drawn pictures with "
            "its own small CLIP; its figures say nothing about CLIP's accuracy.\n",
        ]
    )


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.multimodal_ablations", description="Measure the Multi-Modal Adapter's ablations."
    )
    parser.add_argument("file", metavar="FILE.npz", help="feature file for base-to-new")
    parser.add_argument("--shots", type=int, default=16, help="shots per class (default: 16); half as many with noise")
    parser.add_argument("--data", default="sample", help="data set of the photos with noise (default: sample)")
    parser.add_argument("--weights", default="", help="its CLIP (default: the sample's)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where .csv and .md are written")
    given = parser.parse_args(argv)
    problems = [*base_to_new(given.file, given.shots), *with_noise(given.shots // 2, given.weights, given.data)]
    rows = list(tqdm(measure(problems), desc="ablations"))
    write_results(given.out, rows, COLUMNS, table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
