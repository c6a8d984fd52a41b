"""Measure the speed of encoding sounds beside PyTorch's; writes results/sound-speed.{csv,md}.

    python -m benchmarks.sound_speed [--torch PYTHON] [--rounds 5] [--count 20]

Weights are random, with the shapes of AudioCLIP. Each way of computing is a process of its own; they take their turns,
and medians are reported. Before anything is timed, all encode the same sounds, and must agree.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors, speed_world
from benchmarks.turns import Runner, has_torch, stopped
from jclip_adapter.core.choices import AUDIO_MODES
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.evaluation.report import csv_text, markdown_table
from jclip_adapter.models.weights.audio_names import split_audio
from jclip_adapter.storage import ANY, write_safetensors, write_text

RESULTS = ROOT / "results"
COLUMNS = ("mode", "way", "batch", "sounds_per_second", "ratio", "peak_mb", "least_cosine", "rounds", "sounds")
ALIKE = 0.9999  # least cosine of features
BATCH = {"proper": 1, "published": 10}
CHECKED = 10


def ways(folder: Path, python: str) -> dict[str, list[Runner]]:
    """The ways of computing by mode, ours first."""
    script = str(Path(__file__).with_name("torch_audio.py"))
    found = {}
    for mode in AUDIO_MODES:
        weights = str(folder / "weights.safetensors")
        found[mode] = [Runner("ours", [sys.executable, "-m", "benchmarks.sound_ours", mode, weights])]
        if python:
            found[mode].append(Runner("PyTorch", [python, script, mode, str(folder)]))
    return found


def least_cosine(runner: Runner, wanted: npt.NDArray[np.float64]) -> float:
    """The least cosine of a way's features to others of the same sounds."""
    rows = np.array(runner.ask({"task": "check", "count": CHECKED})["features"])
    return float(((rows * wanted).sum(axis=1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(wanted, axis=1)).min())


def measure(runners: dict[str, list[Runner]], rounds: int, count: int) -> list[dict[str, Any]]:
    """A row of COLUMNS per mode and way; "ratio" is the median, over rounds, of a way's rate by PyTorch's.

    Raises:
        DataError: a way computes something else than ours.
    """
    rows = []
    for mode, own in runners.items():
        wanted = np.array(own[0].ask({"task": "check", "count": CHECKED})["features"])
        cosines = [least_cosine(runner, wanted) for runner in own]
        if min(cosines) < ALIKE:
            raise DataError(f"{mode}: features differ, a cosine of {min(cosines):.6f}.")
        seconds: list[list[float]] = [[] for _ in own]
        for _ in tqdm(range(1 + rounds), desc=mode, unit="round"):
            for runner, each in zip(own, seconds, strict=True):
                each.append(runner.ask({"task": "sound", "count": count})["seconds"])
        for runner, each, cosine in zip(own, seconds, cosines, strict=True):
            ratio = median(b / a for a, b in zip(each[1:], seconds[-1][1:], strict=True))
            rows.append(
                {
                    "mode": mode,
                    "way": runner.what,
                    "batch": BATCH[mode],
                    "sounds_per_second": f"{count / median(each[1:]):.2f}",
                    "ratio": f"{ratio:.2f}",
                    "peak_mb": round(runner.answers[-1]["peak_mb"]),
                    "least_cosine": f"{cosine:.6f}",
                    "rounds": rounds,
                    "sounds": count,
                }
            )
    return rows


def report(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in words and a table."""
    head = ["mode", "way", "batch", "sounds per second", "of the last way", "peak in MB"]
    cells = [[row[key] for key in ("mode", "way", "batch", "sounds_per_second", "ratio", "peak_mb")] for row in rows]
    least = min(float(row["least_cosine"]) for row in rows)
    return (
        f"# Encoding sounds on {speed_world.processor()}, {os.cpu_count()} cores\n\n"
        "AudioCLIP's audio tower with random weights, five seconds per sound. Ways took their turns; rates are medians "
        f"of {rows[0]['rounds']} measurements of {rows[0]['sounds']} sounds, ratios medians of those within a round. "
        f"Features agree to a cosine of at least {least:.6f}. `python -m benchmarks.sound_speed` measures this.\n\n"
        f"{markdown_table(head, cells)}\n"
    )


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a user's mistake.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sound_speed", description="Measure encoding of sounds.")
    parser.add_argument("--torch", default="", metavar="PYTHON", help="interpreter with PyTorch (this one if it has)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, beside the first (5)")
    parser.add_argument("--count", type=int, default=20, help="sounds per measurement (20)")
    options = parser.parse_args(argv)
    if options.torch and not has_torch(options.torch):
        raise UsageError(f"--torch {options.torch} cannot import PyTorch.", "Install requirements-bench.txt there.")
    if options.rounds < 1 or options.count < 2:
        raise UsageError("--rounds is at least 1, and --count at least 2.")
    from tests.models.audioclip.audio_weights import FULL, random_audioclip

    with tempfile.TemporaryDirectory() as name:
        state = random_audioclip(sizes=FULL)
        write_safetensors(Path(name) / "weights.safetensors", {key: state[key] for key in state if state[key].size}, {})
        np.savez(Path(name) / "audio.npz", **split_audio(state).audio)
        del state
        python = options.torch or (sys.executable if has_torch(sys.executable) else "")
        runners = ways(Path(name), python)
        with stopped([runner for own in runners.values() for runner in own]):
            rows = measure(runners, options.rounds, options.count)
    write_text(RESULTS / "sound-speed.csv", csv_text(rows, COLUMNS), ANY)
    write_text(RESULTS / "sound-speed.md", report(rows), ANY)
    return 0


if __name__ == "__main__":
    sys.exit(main())
