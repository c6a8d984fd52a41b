"""Compute on a GPU what a CPU has computed before, and compare: the steps of benchmarks/on_gpu.sh.

    python -m benchmarks.gpu_check STEP --device cpu --expected FOLDER         what is to be expected
    python -m benchmarks.gpu_check STEP --device cuda --expected FOLDER --out FILE.json

STEP is kernel, features, sample, trainings or speed. On the CPU a step writes FOLDER/STEP.npz; on the GPU it compares
with that, and writes FILE.json after each of its parts, so that a time limit leaves what is done.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import reports_user_errors
from benchmarks.speed_ours import Ours, some_pixels
from benchmarks.turns import Runner, has_torch, stopped
from jclip_adapter import runtime
from jclip_adapter.cli.app import main as runner
from jclip_adapter.core.errors import DataError
from jclip_adapter.models.clip.config import VIT_B_32, ClipConfig
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.storage import ANY, npz_bytes, write_bytes, write_json, write_safetensors
from tests.random_weights import TINY, random_state

Array = npt.NDArray[np.float32]
PHOTOS = 16
TEXTS = ("a photo of a cat.", "a dog", "a photo of a lynx in the snow, seen from far away, in the evening light")
MODELS: dict[str, ClipConfig] = {"tiny": TINY, "vit-b-32": VIT_B_32}
PRECISIONS = ("float32", "float16", "bfloat16")
LEAST = {"float32": 0.99999, "float16": 0.999, "bfloat16": 0.999}  # cosine to the CPU's float32
# In few steps: their losses are compared, not their accuracy.
TRAININGS = {
    "clip-lora": ("steps_per_shot=1",),
    "coop": ("epochs=2",),
    "cross-modal-linear": ("iterations=5",),
    "multimodal-adapter": ("epochs=2",),
    "full": ("epochs=1",),
}
SAMPLE = ("--data", "sample", "--weights", "sample")
BATCHES = (64, 256, 1024)
SIDE = 8192  # of the matrices whose product is the card's limit


class Report:
    """What a step found, written anew after each of its parts.

    Args:
        path: The file; nothing is written without one.
        step: The step's name.
    """

    def __init__(self, path: Path | None, step: str) -> None:
        self.path = path
        self.found: dict[str, Any] = {"step": step, "device": runtime.current_device(), "parts": []}

    def add(self, name: str, passed: bool | None, **facts: Any) -> None:
        """Note a part.

        Args:
            name: Of the part.
            passed: Whether it is as expected; None where nothing is expected.
            facts: What was measured.
        """
        self.found["parts"].append({"name": name, "passed": passed, **facts})
        print(json.dumps(self.found["parts"][-1]), flush=True)
        if self.path is not None:
            write_json(self.path, self.found, ANY)

    @property
    def passed(self) -> bool:
        """Whether no part failed."""
        return all(part["passed"] is not False for part in self.found["parts"])


def kernel(device: str, expected: Path, report: Report) -> dict[str, Array]:
    """Start Jittor and run one kernel."""
    began = time.monotonic()
    jt = runtime.start(device)
    started = time.monotonic()
    total = float((jt.array(np.arange(8, dtype=np.float32)) * 2).sum().item())
    seconds = {"start": round(started - began, 2), "first_kernel": round(time.monotonic() - started, 2)}
    report.found["device"] = runtime.current_device()
    report.add("one kernel", total == 56.0, value=total, seconds=seconds, numpy=np.__version__, jittor=jt.__version__)
    return {}


def features(device: str, expected: Path, report: Report) -> dict[str, Array]:
    """Encode photos and texts with random weights, in all precisions that the device has."""
    found: dict[str, Array] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, config in MODELS.items():
            path = Path(folder) / f"{name}.safetensors"
            write_safetensors(path, random_state(config), {})
            for precision in PRECISIONS if device == "cuda" else PRECISIONS[:1]:
                began = time.monotonic()
                encoder = load_encoder(str(path), device, PHOTOS, precision=precision)
                pixels = some_pixels(PHOTOS, encoder.image_size)
                parts = {"images": encoder.images(pixels), "texts": encoder.texts(list(TEXTS))}
                seconds = round(time.monotonic() - began, 2)
                for kind, rows in parts.items():
                    found[f"{name}-{kind}"] = rows
                    if device == "cuda":
                        wanted = _expected(expected, "features")[f"{name}-{kind}"]
                        _compare(f"{name} {kind} {precision}", rows, wanted, LEAST[precision], seconds, report)
    return found


def _compare(name: str, rows: Array, wanted: Array, least: float, seconds: float, report: Report) -> None:
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(wanted, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = float(((rows * wanted).sum(axis=1) / lengths).min())
    error = float(np.abs(rows - wanted).max() / np.abs(wanted).max())
    facts = {"least_cosine": cosine if np.isfinite(cosine) else None, "relative_error": error, "seconds": seconds}
    report.add(name, bool(cosine >= least), **facts)


def sample(device: str, expected: Path, report: Report) -> dict[str, Array]:
    """Train, evaluate and predict on the built-in sample."""
    began = time.monotonic()
    arguments = ("--train", "--evaluate", "--predict", "result.txt", *SAMPLE)
    with _command(*arguments, device=device) as (status, folder):
        right = json.loads((folder / "evaluation.json").read_text("utf-8")) if status == 0 else {}
        lines = (folder.parent / "result.txt").read_text("utf-8").split() if status == 0 else []
    first = np.array([int(lines[at + 1]) for at in range(0, len(lines), 6)], np.float32)
    accuracy = {row["domain"] or "all": float(row["top1"]) for row in right.get("scores", [])}
    seconds = round(time.monotonic() - began, 1)
    facts = {"status": status, "accuracy": accuracy, "seconds": seconds}
    if device == "cpu":
        report.add("sample", status == 0, **facts)
        return {"first": first, **{f"accuracy-{key}": np.array([value], np.float32) for key, value in accuracy.items()}}
    wanted = _expected(expected, "sample")
    same = float((first == wanted["first"]).mean()) if len(first) == len(wanted["first"]) else 0.0
    cpu = {key.removeprefix("accuracy-"): float(rows[0]) for key, rows in wanted.items() if key.startswith("accuracy-")}
    report.add("sample", status == 0 and same >= 0.95, same_first_choice=same, accuracy_on_cpu=cpu, **facts)
    return {}


def trainings(device: str, expected: Path, report: Report) -> dict[str, Array]:
    """A few steps of methods of each kind; their losses."""
    found: dict[str, Array] = {}
    for method, values in TRAININGS.items():
        began = time.monotonic()
        few = [part for value in values for part in ("--set", value)]
        with _command("--train", "--method", method, *few, *SAMPLE, device=device) as (status, folder):
            epochs = json.loads((folder / "metrics.json").read_text("utf-8"))["epochs"] if status == 0 else []
        losses = np.array([row["loss"] for row in epochs], np.float32)
        found[method] = losses
        facts = {"status": status, "losses": losses.tolist(), "seconds": round(time.monotonic() - began, 1)}
        if device == "cpu":
            report.add(method, status == 0, **facts)
            continue
        wanted = _expected(expected, "trainings")[method]
        fits = len(losses) == len(wanted) and bool(np.allclose(losses, wanted, rtol=1e-2, atol=1e-3))
        report.add(method, status == 0 and fits, losses_on_cpu=wanted.tolist(), **facts)
    return found


@contextlib.contextmanager
def _command(*arguments: str, device: str) -> Iterator[tuple[int, Path]]:
    """Run a command in a temporary folder; its exit status, and the run folder, which goes when the block ends."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as place:
        os.chdir(place)
        try:
            status = runner([*arguments, "--device", device, "--run", "run", "--cache", "cache"])
        finally:
            os.chdir(before)
        yield status, Path(place) / "run"


def speed(device: str, expected: Path, report: Report) -> dict[str, Array]:
    """Photos per second, the card's own rate of matrix products, and PyTorch beside it in turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = random_state(VIT_B_32)
        write_safetensors(folder / "weights.safetensors", state, {})
        np.savez(folder / "weights.npz", **state)
        (folder / "photos.txt").write_text("", "utf-8")
        np.savez(folder / "texts.npz", **{"0": np.zeros((1, 77), np.int64)})
        theirs = _torch(folder, device)
        with stopped(list(theirs.values())):
            for precision in ("bfloat16", "float16", "float32"):
                _speeds(precision, folder, device, theirs.get(precision), report)
    return {}


def _torch(folder: Path, device: str) -> dict[str, Runner]:
    """PyTorch's process per precision, where an interpreter has it: that of the variable TORCH, or this one."""
    python = os.environ.get("TORCH") or sys.executable
    script = str(Path(__file__).with_name("torch_speed.py"))
    if not has_torch(python):
        return {}
    apart = ["env", "-u", "PYTHONPATH", python]  # PyTorch with the numpy of its own environment
    return {
        precision: Runner(precision, [*apart, script, "fused", str(folder), device, precision])
        for precision in PRECISIONS
    }


def _speeds(precision: str, folder: Path, device: str, torch: Runner | None, report: Report) -> None:
    ours = Ours(precision, folder, device)
    rate = _matrix_rate(precision, device)
    for batch in BATCHES:
        count = max(1024, 2 * batch) if device == "cuda" else 2 * batch
        work = ours.encode(count, batch)
        work()  # compiles
        found: dict[str, list[float]] = {"ours": [], "torch": []}
        for _ in range(3):
            began = time.perf_counter()
            work()
            found["ours"].append(count / (time.perf_counter() - began))
            if torch is not None:
                answer = torch.ask({"task": "encode", "count": count, "batch": batch})
                found["torch"].append(answer["count"] / answer["seconds"])
        rates = {way: round(float(np.median(each)), 1) for way, each in found.items() if each}
        report.add(
            f"{precision} batch {batch}",
            None,
            photos_per_second=rates,
            tflops=round(rates["ours"] * _FLOP_PER_PHOTO / 1e12, 2),
            matrix_tflops=rate,
            share=round(rates["ours"] * _FLOP_PER_PHOTO / 1e12 / rate, 4) if rate else None,
        )


_FLOP_PER_PHOTO = 8.8e9  # of ViT-B/32's image tower, counting a multiplication and an addition as two


def _matrix_rate(precision: str, device: str) -> float:
    """TFLOP/s of a large product in a precision."""
    jt = runtime.start(device)
    side = SIDE if device == "cuda" else 1024
    a, b = (jt.array(np.ones((side, side), np.float32)).cast(precision) for _ in range(2))
    jt.sync([a, b])
    rounds, best = 10, 0.0
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(rounds):
            jt.nn.matmul_transpose(a, b).sync()
        jt.sync_all(True)
        best = max(best, rounds * 2 * side**3 / (time.perf_counter() - began) / 1e12)
    return round(best, 2)


def _expected(folder: Path, step: str) -> dict[str, Array]:
    path = folder / f"{step}.npz"
    if not path.is_file():
        raise DataError(f"{path} is missing.", f"Make it on a CPU: gpu_check {step} --device cpu --expected {folder}.")
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


STEPS: dict[str, Callable[[str, Path, Report], dict[str, Array]]] = {
    "kernel": kernel,
    "features": features,
    "sample": sample,
    "trainings": trainings,
    "speed": speed,
}


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Do one step; exit status 1 where something differs from what is expected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--expected", type=Path, required=True, help="folder of what the CPU computed")
    parser.add_argument("--out", type=Path, help="takes what is found, as JSON")
    options = parser.parse_args(argv)
    runtime.choose(options.device)
    report = Report(options.out, options.step)
    found = STEPS[options.step](options.device, options.expected.absolute(), report)
    if options.device == "cpu" and found:
        write_bytes(options.expected / f"{options.step}.npz", npz_bytes(found), ANY)
    return 0 if report.passed else 1


if __name__ == "__main__":
    # As cli.run: Jittor may wait for ever at its own end.
    ended = main()
    sys.stdout.flush()
    os._exit(ended)
