"""The same commands and seeds twice, in processes that differ: same bytes on the CPU.

    python -m benchmarks.reliability.same_seed [--methods all]

One process fits every method briefly and saves it, then runs extract, train, evaluate, predict and benchmark on a tiny
data set, in a folder of its own. A second one does so in another folder, with another PYTHONHASHSEED. Every file they
leave is one comparison, and differs or not. What holds seconds is compared without them: a benchmark's cells and CSV;
the table and the picture that are made of them are drawn twice from the same cells instead. A third process has two
threads (OMP_NUM_THREADS) instead of one; differences are listed in the facts, equality is not promised.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import ROOT
from tests.tiny_contest import WEIGHTS, lay_out

from . import outcome, timeless

_CPU = ("--device", "cpu", "--quiet")
COMMANDS = (
    ("--extract", "features.npz", "--shots", "1,4", *WEIGHTS, *_CPU),
    ("--train", *WEIGHTS, "--set", "epochs=3", "--run", "results/runs/one", *_CPU),
    ("--evaluate", *WEIGHTS, "--run", "results/runs/one", *_CPU),
    ("--predict", *WEIGHTS, "--run", "results/runs/one", *_CPU),
    ("--train", *WEIGHTS, "--method", "coop", "--set", "epochs=2", "--run", "results/runs/coop", *_CPU),
    ("--benchmark", "--features", "features.npz", "--method", "zero-shot,gda,tip-adapter-f", "--out", "results/t.csv"),
)


def work(folder: Path, methods: Sequence[str]) -> None:
    """What each process does: every method's file, and every command's files, in a folder.

    Args:
        folder: The working directory; holds the data set and the weights.
        methods: Names of methods to fit and save.
    """
    from jclip_adapter import runtime
    from jclip_adapter.cli.app import main
    from jclip_adapter.storage import ANY, write_bytes, write_json

    os.chdir(folder)
    runtime.start("cpu")
    worlds = importlib.import_module("tests.methods.conformance.worlds")  # tests are not type-checked
    for name in methods:
        given = worlds.world(name)
        method = worlds.quick(name, seed=3).fit(given.task)
        method.save(Path("methods") / f"{name}.safetensors")
        write_bytes(Path("methods") / f"{name}.logits", method.logits(given.queries).tobytes(), ANY)
    for command in COMMANDS:
        if main(command):
            raise RuntimeError(f"{' '.join(command)} failed")
    from jclip_adapter.evaluation.benchmark_report import benchmark_picture, benchmark_table

    cells = [timeless.cell(path) for path in sorted(Path("results/cells").glob("*.json"))]
    drawn = [{**cell, **dict.fromkeys(timeless.TIMES, 1.0)} for cell in cells]
    write_json("results/cells.json", drawn, ANY)
    write_bytes("results/cells.png", benchmark_picture(drawn), ANY)
    write_bytes("results/cells.md", benchmark_table(drawn).encode(), ANY)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 by path of all that was written; of a benchmark's numbers without its times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # A picture shows seconds, the tables name their CSV by its SHA-256, and a CSV holds seconds.
        if path.is_dir() or name.startswith("Dataset") or name in ("tiny.pkl", "results/t.png", "results/t.md"):
            continue
        data = path.read_bytes()
        if path.parent.name == "cells":
            data = json.dumps(timeless.cell(path)).encode()
        if path.suffix == ".csv":
            data = json.dumps(timeless.table(path)).encode()
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def process(folder: Path, methods: Sequence[str], hash_seed: int, threads: int) -> dict[str, str]:
    """Do the work in a process of its own; returns the digests."""
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": str(threads)}
    environment["PYTHONPATH"] = str(ROOT)
    code = "import sys; from pathlib import Path; from benchmarks.reliability.same_seed import work; "
    code += "work(Path(sys.argv[1]), sys.argv[2:])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), *methods],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return digests(folder)


def campaign(methods: Sequence[str], *, threads: bool = True) -> list[dict[str, str]]:
    """The digests of two alike processes, and of one with two threads if wanted.

    Args:
        methods: Names of methods.
        threads: Whether the third process is wanted.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="same-") as scratch:
        base = lay_out(Path(scratch) / "base")
        for number, (seed, count) in enumerate(((1, 1), (2, 1), (3, 2))[: 3 if threads else 2]):
            # Another length of path each, as well as another name.
            place = Path(scratch) / ("deeper/" * number) / f"place{number}"
            place.mkdir(parents=True)
            (place / "Dataset").symlink_to(base / "Dataset")
            (place / "tiny.pkl").symlink_to(base / "tiny.pkl")
            found.append(process(place, methods, seed, count))
    return found


def different(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Paths whose content differs, or that only one of them has."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def conclude(found: Sequence[dict[str, str]]) -> outcome.Outcome:
    """The figure."""
    bad = different(found[0], found[1])
    with_threads = different(found[0], found[2]) if len(found) > 2 else []
    methods = sum(name.startswith("methods/") and name.endswith(".safetensors") for name in found[0])
    return outcome.Outcome(
        name="same-seed",
        tried=f"the same seed in two processes with other hash seeds and folders: {methods} methods' files, runs, "
        "features, result.txt and zip, tables, pictures",
        wanted="same bytes on the CPU",
        reached=f"{len(found[0].keys() | found[1].keys()) - len(bad)} of {len(found[0].keys() | found[1].keys())} "
        "files the same",
        count=len(found[0].keys() | found[1].keys()),
        failures=len(bad),
        facts={
            "methods": methods,
            "different": bad,
            "different_with_two_threads_which_is_not_promised": with_threads,
            "without_their_seconds": ["results/cells/*.json", "results/*.csv"],
            "left_out": ["the benchmark's picture, which shows seconds; drawn from cells without them it is the same"],
        },
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the processes and write the outcome."""
    from jclip_adapter.methods import available

    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability.same_seed", description="Compare bytes.")
    parser.add_argument("--methods", default="all")
    chosen = parser.parse_args(argv).methods
    return outcome.write(conclude(campaign(available() if chosen == "all" else chosen.split(","))))


if __name__ == "__main__":
    raise SystemExit(main())
