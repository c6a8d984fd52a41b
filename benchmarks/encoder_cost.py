"""Measure what training through CLIP costs, beside PyTorch, and write results/encoder-cost.json and .md.

    python -m benchmarks.encoder_cost [--torch PYTHON]

CoOp's own training with 16 shared vectors on a task of the contest's size (374 classes, 4 shots, batches of 32), and
the same step by the arithmetic of the authors' code in PyTorch; and CLIP-LoRA's training. Weights are random, with the
shapes of ViT-B/32. Each is a process of its own; they take their steps in turns, so that all meet the same machine.
First, loss and gradient of the first step are compared: what computes something else is not worth timing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.cost_child import CLASSES, SHOTS
from benchmarks.turns import Runner, has_torch, stopped
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.methods import create
from jclip_adapter.storage import ANY, write_json, write_text

RESULTS = ROOT / "results"
CONTEXT = 77  # positions of a prompt that the authors' code computes
TOLERANCE = 1e-3  # of loss and gradient, relative to their largest
TORCH = Path(__file__).with_name("torch_reference.py")


def ours(method: str, folder: Path, **values: Any) -> Runner:
    """A method of this repository.

    Args:
        method: Its name.
        folder: To write the first step to.
        values: Hyper-parameters.
    """
    changed = ", ".join(f"{key} {value}" for key, value in values.items() if key != "epochs")
    what = f"{method}, {changed or 'defaults'}"
    command = [sys.executable, "-m", "benchmarks.cost_child", str(folder), method, json.dumps(values)]
    return Runner(what, command, method)


def theirs(python: str, folder: Path, length: int, attention: str) -> Runner:
    """CoOp's step in PyTorch.

    Args:
        python: An interpreter that has PyTorch.
        folder: With what the first step of ours wrote.
        length: Positions of a prompt.
        attention: "plain" or "fused".
    """
    what = f"coop in PyTorch, {length} positions per prompt, {attention} attention"
    return Runner(what, [python, str(TORCH), str(folder), str(length), attention])


def take_turns(runners: Sequence[Runner], warmup: int, steps: int) -> None:
    """Let each take a step in turn, `warmup` + `steps` times."""
    for _ in tqdm(range(warmup + steps), unit="round"):
        for runner in runners:
            runner.ask()


def difference(folder: Path, runner: Runner) -> tuple[float, float]:
    """How far another's first step is from ours: loss and gradient, relative to ours' largest.

    Args:
        folder: With our first step.
        runner: The other one, after its first step.

    Raises:
        DataError: they compute different things.
    """
    with np.load(folder / "first.npz") as first:
        loss, gradient = float(first["loss"]), first["gradient"]
    answer = runner.answers[0]
    of_loss = abs(answer["loss"] - loss) / abs(loss)
    of_gradient = float(np.abs(np.load(answer["gradient"]) - gradient).max() / np.abs(gradient).max())
    if not max(of_loss, of_gradient) <= TOLERANCE:
        raise DataError(
            f"{runner.what}: loss and gradient differ from ours by {of_loss:.1e} and {of_gradient:.1e} of the largest.",
            "Their times cannot be compared.",
        )
    return of_loss, of_gradient


def row_of(runner: Runner, warmup: int, per_epoch: int, base: float) -> dict[str, Any]:
    """A line of the results.

    Args:
        runner: After its steps.
        warmup: Steps that are not counted.
        per_epoch: Steps of an epoch.
        base: Seconds of the step to compare with.

    >>> told = [{"seconds": s, "peak_gb": 1.0} for s in (9, 2, 4, 3)]
    >>> row_of(Runner("x", [], answers=told), 1, 10, 1.5)["seconds_per_epoch"]
    30
    """
    seconds = [answer["seconds"] for answer in runner.answers[warmup:]]
    return {
        "what": runner.what,
        "method": runner.method,
        "steps": [round(value, 3) for value in seconds],
        "seconds_per_step": median(seconds),
        "seconds_per_epoch": per_epoch * median(seconds),
        "peak_gb": max(answer["peak_gb"] for answer in runner.answers),
        "ratio": median(seconds) / base,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The results as Markdown."""
    header = ["what", "s per step", "s per epoch", "peak in GB", "times ours"]
    cells = [
        [
            row["what"],
            round(row["seconds_per_step"], 2),
            round(row["seconds_per_epoch"]),
            round(row["peak_gb"], 1),
            round(row["ratio"], 2),
        ]
        for row in rows
    ]
    return markdown_table(header, cells)


def measure(python: str, warmup: int, steps: int, chunks: Sequence[int]) -> dict[str, Any]:
    """Measure all.

    Args:
        python: An interpreter that has PyTorch; "" to measure ours alone.
        warmup: Steps of each that are not counted.
        steps: Steps of each that are.
        chunks: Values of `chunk` to try besides CoOp's default.

    Returns:
        Rows, differences, and what was measured.
    """
    differences: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder, other = Path(name), Path(name) / "other"
        other.mkdir()
        prompted = [ours("coop", folder, epochs=1)]
        prompted += [ours("coop", other, epochs=1, chunk=chunk) for chunk in chunks]
        with stopped(prompted):
            prompted[0].ask()  # writes what the others start from
            length = json.loads((folder / "length.json").read_text("utf-8"))
            if python:
                variants = [(CONTEXT, "plain"), (length, "plain"), (length, "fused")]
                prompted += [theirs(python, folder, places, kind) for places, kind in variants]
            for runner in prompted[1:]:
                runner.ask()
                if runner.command[0] == python and str(TORCH) in runner.command:
                    differences[runner.what] = difference(folder, runner)
            take_turns(prompted, warmup - 1, steps)
        lora = [ours("clip-lora", other)]
        with stopped(lora):
            take_turns(lora, warmup, steps)
    batch = create("coop").hyper.as_dict()["batch_size"]
    per_epoch = SHOTS * CLASSES // batch
    rows = [
        row_of(runner, warmup, per_epoch, median(a["seconds"] for a in group[0].answers[warmup:]))
        for group in (prompted, lora)
        for runner in group
    ]
    return {
        "classes": CLASSES,
        "shots": SHOTS,
        "batch": batch,
        "steps_per_epoch": per_epoch,
        "steps_timed": steps,
        "cores": os.cpu_count(),
        "longest_prompt": length,
        "largest_difference": {
            "loss": max((found[0] for found in differences.values()), default=None),
            "gradient": max((found[1] for found in differences.values()), default=None),
        },
        "rows": rows,
    }


def report(found: dict[str, Any]) -> str:
    """The results in words and a table."""
    gap = found["largest_difference"]
    text = (
        f"{found['classes']} classes, {found['shots']} shots, batches of {found['batch']}, ViT-B/32's shapes, random "
        f"weights, float32, {found['cores']} CPU cores. Each took its steps in turn with the others; seconds per step "
        f"are the median of {found['steps_timed']} steps, an epoch is extrapolated from it: {found['steps_per_epoch']} "
        f"steps. The last column compares with the first line of the same method.\n\n{table(found['rows'])}\n"
    )
    if gap["loss"] is not None:
        text += (
            f"\nThe authors' code of CoOp computes all {CONTEXT} positions of each prompt; the longest prompt here has "
            f"{found['longest_prompt']}. Ours computes what all prompts share once: same arithmetic, fewer operations. "
            f"On the first step loss and gradient differ by at most {gap['loss']:.1e} and {gap['gradient']:.1e} of the "
            "largest.\n"
        )
    return text


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.encoder_cost", description="Measure what training through CLIP costs."
    )
    parser.add_argument("--torch", default="", metavar="PYTHON", help="interpreter with PyTorch (this one if it has)")
    parser.add_argument("--warmup", type=int, default=2, help="steps of each that are not counted (2)")
    parser.add_argument("--steps", type=int, default=3, help="steps of each that are (3)")
    parser.add_argument("--chunks", default="16,64", help="values of coop's chunk to try besides its default (16,64)")
    options = parser.parse_args(argv)
    if options.torch and not has_torch(options.torch):
        raise UsageError(f"--torch {options.torch} cannot import PyTorch.", "Install requirements-bench.txt there.")
    if options.warmup < 1 or options.steps < 1:
        raise UsageError("--warmup and --steps are at least 1.")
    python = options.torch or (sys.executable if has_torch(sys.executable) else "")
    chunks = [int(chunk) for chunk in options.chunks.split(",") if chunk]
    found = measure(python, options.warmup, options.steps, chunks)
    write_json(RESULTS / "encoder-cost.json", found, ANY)
    text = report(found)
    write_text(RESULTS / "encoder-cost.md", text, ANY)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
