"""Measure speed and memory beside JCLIP's way and PyTorch's; writes results/speed-DEVICE.{json,csv,md,png}.

    python -m benchmarks.speed PHOTOS [--torch PYTHON] [--device cpu|cuda] [--rounds 5] [--long 20000]

PHOTOS is a folder of photos. Weights are random, with the shapes of ViT-B/32: what a pass costs does not depend on
them. Each way of computing is a process of its own; they take their turns, so that all meet the same machine, and
medians are reported. Before anything is timed, all encoders encode the same photos and texts, and must agree.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors, speed_world
from benchmarks.cost_child import CLASSES
from benchmarks.speed_report import COLUMNS, picture, report
from benchmarks.turns import Runner, has_module, has_torch, stopped
from jclip_adapter.core.choices import PRECISIONS
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.evaluation.report import csv_text
from jclip_adapter.storage import ANY, write_bytes, write_json, write_text

RESULTS = ROOT / "results"
SHOTS = 4
FOLDS = (1, 2, 4, 8)
ALIKE = {"float32": 0.99999, "bfloat16": 0.999, "float16": 0.999}  # least cosine of features to ours in float32
BATCHES = {"cpu": (32,), "cuda": (64, 256, 1024)}
COUNTS = {"cpu": 96, "cuda": 1024}  # photos per measurement
UNITS = {
    "lite": "photos",
    "encode": "photos",
    "end_to_end": "photos",
    "text": "texts",
    "adapter": "epochs",
    "product": "GFLOP",
}


@dataclass(frozen=True)
class Question:
    """What a way is asked.

    Attributes:
        task: One of UNITS.
        count: Photos, classes or products.
        batch: Photos per pass, 0 for the way's own choice; shots per class for "adapter".
        title: The task's name in the results.
    """

    task: str
    count: int
    batch: int
    title: str = ""


def ways(
    folder: Path, device: str, python: str, precisions: Sequence[str]
) -> tuple[list[Runner], Runner, list[Runner]]:
    """All ways of computing: ours by precision, JCLIP's, and PyTorch's where there is an interpreter that has it."""

    def here(way: str, name: str) -> Runner:
        return Runner(name, [sys.executable, "-m", "benchmarks.speed_ours", way, str(folder), device])

    script = str(Path(__file__).with_name("torch_speed.py"))
    theirs = [
        Runner(f"PyTorch, {precision}, {kind} attention", [python, script, kind, str(folder), device, precision])
        for precision in precisions
        for kind in ("plain", "fused")
        if python
    ]
    if python and device == "cpu":
        for kind, name in (("onnx", "ONNX Runtime, float32"), ("onnx-int8", "ONNX Runtime, 8-bit integers")):
            if has_module(python, "onnxruntime") and has_module(python, "onnx"):
                theirs.append(Runner(name, [python, script, kind, str(folder), device, "float32"]))
    return [here(precision, f"ours, {precision}") for precision in precisions], here("jclip", "JCLIP's way"), theirs


def lite_ways(folder: Path, python: str) -> list[Runner]:
    """PyTorch's ways of EfficientNet-Lite0, where there is an interpreter that has it."""
    script = str(Path(__file__).with_name("torch_lite.py"))
    names = {"plain": "PyTorch, EfficientNet-Lite0", "folded": "PyTorch, EfficientNet-Lite0, folded, channels last"}
    return [Runner(name, [python, script, kind, str(folder)]) for kind, name in names.items() if python]


def check(runners: Sequence[Runner], precisions: dict[str, str]) -> dict[str, float]:
    """Let all ways encode the same photos and texts; the least cosine of each to the first one's features.

    Args:
        runners: The first is ours in float32.
        precisions: By runner's name.

    Raises:
        DataError: one computes something else.
    """
    found, least = [], {}
    for runner in tqdm(runners, desc="do all agree", unit="way"):
        answer = runner.ask({"task": "check"})
        found.append(np.concatenate([np.array(answer["images"]), np.array(answer["texts"])]))
        rows = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (found[0], found[-1])]
        least[runner.what] = float((rows[0] * rows[1]).sum(axis=1).min())
        if "integers" not in runner.what and not least[runner.what] >= ALIKE[precisions[runner.what]]:
            raise DataError(
                f"{runner.what} encodes otherwise than ours: a cosine of {least[runner.what]:.6f}.",
                "What computes something else is not worth timing.",
            )
    return least


def take_turns(asked: Sequence[tuple[Runner, Question]], rounds: int, label: str) -> list[dict[str, Any]]:
    """Ask each in turn, `rounds` times and once before for what is compiled then; rows of COLUMNS and each rate."""
    answers: list[list[dict[str, Any]]] = [[] for _ in asked]
    for _ in tqdm(range(1 + rounds), desc=label, unit="round"):
        for (runner, question), told_so_far in zip(asked, answers, strict=True):
            told_so_far.append(runner.ask({"task": question.task, "count": question.count, "batch": question.batch}))
    rows = []
    for (runner, question), told_so_far in zip(asked, answers, strict=True):
        each, count = [answer["seconds"] for answer in told_so_far[1:]], told_so_far[-1]["count"]
        seconds = median(each)
        facts = {"task": question.title or question.task, "way": runner.what, "batch": question.batch, "count": count}
        facts |= {"unit": UNITS[question.task], "per_second": round(count / seconds, 4), "seconds": round(seconds, 4)}
        facts["each"] = [round(count / one, 4) for one in each]
        rows.append({**facts, "peak_mb": round(told_so_far[-1]["peak_mb"]), "rounds": rounds})
    return rows


def compare(
    ours: Sequence[Runner],
    jclip: Runner,
    theirs: Sequence[Runner],
    networks: Sequence[Runner],
    device: str,
    rounds: int,
) -> list[dict[str, Any]]:
    """All tasks, all ways; `networks` are PyTorch's ways of an ImageNet network."""
    count, batches = COUNTS[device], BATCHES[device]
    photos: list[tuple[Runner, Question]] = []
    for runner in (*ours, jclip, *theirs):
        sizes: tuple[int, ...] = (1, 32) if runner is jclip else batches if runner in theirs else (0,)
        if runner in ours and device == "cuda":
            sizes += batches
        # What is divided by each other meets the same minute.
        if runner in (*ours, *_torch(theirs)):
            photos.append((runner, Question("product", 20, 0)))
        for batch in sizes:
            photos.append((runner, Question("encode", max(count, batch), batch)))
            if runner is not jclip or batch == 1:
                photos.append((runner, Question("end_to_end", max(count, batch), batch)))
    texts = [(way, Question("text", speed_world.TEXT_CLASSES, SHOTS)) for way in (*ours, jclip, *_torch(theirs))]
    adapters = [(way, Question("adapter", CLASSES, SHOTS)) for way in (*ours, *_torch(theirs))]
    lite = [(way, Question("lite", count, 0)) for way in (*ours[:1], *networks)]
    parts = {"photos": photos, "texts": texts, "adapter": adapters, "EfficientNet-Lite0": lite}
    return [row for label, asked in parts.items() for row in take_turns(asked, rounds, label)]


def _torch(ways: Sequence[Runner]) -> list[Runner]:
    return [way for way in ways if "ONNX" not in way.what]


def grow(runner: Runner, rounds: int) -> list[dict[str, Any]]:
    """How ours grows with photos, classes and shots."""
    photos = [Question("end_to_end", 32 * fold, 0, f"encoding {32 * fold} photo files") for fold in FOLDS]
    counts = [(CLASSES // 8 * fold, SHOTS) for fold in FOLDS] + [(CLASSES, fold) for fold in FOLDS]
    adapters = [
        Question("adapter", classes, shots, f"adapter, 10 epochs of {classes} classes, {shots} shots")
        for classes, shots in counts
    ]
    return take_turns([(runner, question) for question in (*photos, *adapters)], rounds, "growth")


def starts(folder: Path, device: str, rounds: int) -> list[dict[str, Any]]:
    """Seconds of whole commands, whose features are stored."""
    flags = ["--weights", str(folder / "weights.safetensors"), "--device", device, "--quiet"]
    commands = {
        "start: --help": ["--help"],
        "start: --train": ["--train", *flags],
        "start: --predict": ["--predict", *flags],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in tqdm(range(1 + rounds), desc="start-up", unit="round"):
        for name, arguments in commands.items():
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, str(ROOT / "runner.py"), *arguments], cwd=folder, capture_output=True, check=False
            )
            seconds[name].append(time.perf_counter() - started)
            if done.returncode:
                raise DataError(f"{name} failed: {done.stderr.decode()[-300:]}")
    facts = {"way": "ours, float32", "batch": 0, "count": 1, "unit": "commands", "peak_mb": "", "rounds": rounds}
    return [
        {"task": name, **facts, "per_second": round(1 / median(found[1:]), 4), "seconds": round(median(found[1:]), 4)}
        for name, found in seconds.items()
    ]


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description="Measure speed and memory.")
    parser.add_argument("photos", metavar="PHOTOS", help="folder of photos, searched to the bottom")
    parser.add_argument("--torch", default="", metavar="PYTHON", help="interpreter with PyTorch (this one if it has)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precisions", default="float32,bfloat16", help="of ours and PyTorch's (float32,bfloat16)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, beside the first (5)")
    parser.add_argument("--long", type=int, default=0, metavar="N", help="also encode N photos, and watch the memory")
    options = parser.parse_args(argv)
    if options.torch and not has_torch(options.torch):
        raise UsageError(f"--torch {options.torch} cannot import PyTorch.", "Install requirements-bench.txt there.")
    precisions = options.precisions.split(",")
    if options.rounds < 1 or precisions[0] != "float32" or not set(precisions) <= set(PRECISIONS):
        raise UsageError("--rounds is at least 1, and --precisions begins with float32.")
    python = options.torch or (sys.executable if has_torch(sys.executable) else "")
    device, rounds = options.device, options.rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        speed_world.write(folder, Path(options.photos), max(COUNTS[device], 32 * FOLDS[-1]))
        ours, jclip, theirs = ways(folder, device, python, precisions)
        networks = lite_ways(folder, python) if device == "cpu" else []
        everyone = [*ours, jclip, *theirs]
        of = {runner.what: next((p for p in precisions if p in runner.what), "float32") for runner in everyone}
        with stopped([*everyone, *networks]):
            found: dict[str, Any] = {"cosines": check(everyone, of)}
            rows = compare(ours, jclip, theirs, networks, device, rounds)
            rows += grow(ours[0], rounds)
            if options.long:
                found["long"] = ours[-1].ask({"task": "long", "count": options.long})
                found["long"]["way"] = ours[-1].what
        rows += starts(folder, device, rounds)
    found |= {"device": device, "cores": os.cpu_count(), "processor": speed_world.processor(), "rows": rows}
    found |= {"python": platform.python_version(), "photos": COUNTS[device]}
    base = RESULTS / f"speed-{device}"
    write_json(base.with_suffix(".json"), found, ANY)
    write_text(base.with_suffix(".csv"), csv_text(rows, COLUMNS), ANY)
    write_bytes(base.with_suffix(".png"), picture(found), ANY)
    text = report(found)
    write_text(base.with_suffix(".md"), text, ANY)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
