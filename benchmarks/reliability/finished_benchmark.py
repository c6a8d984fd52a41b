"""A finished benchmark run again: what it computes, and how long the whole process takes.

    python -m benchmarks.reliability.finished_benchmark [--trials 5]

Once on the photos of a tiny data set and once on a feature file. A trial fails if the second run calls
`Encoder.images`, `Encoder.texts` or a method's `fit` or `logits`, imports Jittor, prints another table than the first
run, or takes 3 seconds or more from the start of Python to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ROOT
from tests.tiny_contest import WEIGHTS, lay_out

from . import outcome

LIMIT_S = 3.0
METHODS = "zero-shot,tip-adapter,linear-probe,gda,jclip-adapter"
_BENCHMARK = ("--benchmark", "--method", METHODS, "--shots", "1,4", "--seed", "1,2", "--set", "epochs=2")
COMMANDS = {
    "photos": (*_BENCHMARK, *WEIGHTS, "--out", "photos.csv"),
    "feature file": (*_BENCHMARK, "--features", "features.npz", "--resample", "--out", "features.csv"),
}
EXTRACT = ("--extract", "features.npz", "--shots", "1,4", *WEIGHTS)
# Counts the calls that compute; jittor's import is one of them.
WATCHED = """
import json, sys
sys.path.insert(0, {root!r})
from jclip_adapter import methods
from jclip_adapter.cli import app
from jclip_adapter.models.clip import encoder
counts = dict.fromkeys(("images", "texts", "fit", "logits"), 0)
def count(kind, name):
    genuine = getattr(kind, name)
    def counted(*arguments, **named):
        counts[name] += 1
        return genuine(*arguments, **named)
    setattr(kind, name, counted)
for kind, name in ((encoder.Encoder, "images"), (encoder.Encoder, "texts")):
    count(kind, name)
for name in ("fit", "logits"):
    count(methods.Method, name)
status = app.main(sys.argv[1:])
counts["jittor"] = int("jittor" in sys.modules)
print(json.dumps(counts), file=sys.stderr)
sys.exit(status)
"""


@dataclass(frozen=True)
class Again:
    """A second run.

    Attributes:
        kind: Of COMMANDS.
        seconds: Of the whole process.
        counts: Calls that compute.
        same: Whether it printed what the first one printed.
    """

    kind: str
    seconds: float
    counts: dict[str, int]
    same: bool


def prepare(folder: Path) -> dict[str, str]:
    """Lay the data out and run every benchmark once; returns the tables."""
    lay_out(folder)
    _run(folder, EXTRACT)
    return {kind: _run(folder, command).stdout for kind, command in COMMANDS.items()}


def again(folder: Path, kind: str, table: str) -> Again:
    """Run a finished benchmark twice: once to take the time, once to count.

    Args:
        folder: What `prepare` made.
        kind: Of COMMANDS.
        table: What the first run printed.
    """
    started = time.perf_counter()
    done = _run(folder, COMMANDS[kind])
    seconds = time.perf_counter() - started
    watched = _run(folder, COMMANDS[kind], ["-c", WATCHED.format(root=str(ROOT))])
    counts = json.loads(watched.stderr.splitlines()[-1])
    return Again(kind, seconds, counts, done.stdout == watched.stdout == table)


def _run(folder: Path, command: Sequence[str], program: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    start = program or [str(ROOT / "runner.py")]
    return subprocess.run([sys.executable, *start, *command], cwd=folder, capture_output=True, text=True, check=True)


def conclude(runs: Sequence[Again]) -> outcome.Outcome:
    """The figure; a time that is over the limit is a failure like any other."""
    bad = [run for run in runs if any(run.counts.values()) or not run.same or run.seconds >= LIMIT_S]
    seconds = {kind: sorted(run.seconds for run in runs if run.kind == kind) for kind in COMMANDS}
    medians = {kind: round(statistics.median(found), 2) for kind, found in seconds.items() if found}
    return outcome.Outcome(
        name="finished-benchmark",
        tried="a finished benchmark run again, on photos and on a feature file",
        wanted=f"no forward pass, under {LIMIT_S:.0f} s",
        reached=f"{sum(sum(run.counts.values()) for run in runs)} forward passes, fits or imports of Jittor; "
        + ", ".join(f"{value} s on {kind}s".replace("photoss", "photos") for kind, value in medians.items())
        + " (medians of whole processes)",
        count=len(runs),
        failures=len(bad),
        facts={
            "seconds": {kind: [round(value, 2) for value in found] for kind, found in seconds.items()},
            "cells": len(METHODS.split(",")) * 4,
            "load": round(os.getloadavg()[0], 2),
            "cores": os.cpu_count(),
        },
    )


def campaign(trials: int) -> list[Again]:
    """Run both finished benchmarks again, several times."""
    with tempfile.TemporaryDirectory(prefix="finished-") as scratch:
        tables = prepare(Path(scratch))
        return [again(Path(scratch), kind, tables[kind]) for _ in range(trials) for kind in COMMANDS]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trials and write the outcome."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reliability.finished_benchmark", description="Run finished benchmarks again."
    )
    parser.add_argument("--trials", type=int, default=5)
    return outcome.write(conclude(campaign(parser.parse_args(argv).trials)))


if __name__ == "__main__":
    raise SystemExit(main())
