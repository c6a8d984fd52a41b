"""Rehearse CUDA without a GPU: every command runs on stand-ins for the driver, and nvcc compiles every kernel.

    python -m benchmarks.cuda_rehearsal HOME [--only WORD]

HOME is a folder for Jittor's cache and the rehearsal's files; a second run in it compiles only what is new. Needs the
nvcc of a CUDA 13 toolkit on the PATH. What was compiled, how long that took and what failed go to
results/cuda-rehearsal.json, a summary into docs/cuda.md. The stand-ins compute nothing: values are not rehearsed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import ROOT, reports_user_errors
from jclip_adapter.core.errors import SetupError
from jclip_adapter.methods import available, get
from jclip_adapter.storage import ANY, write_json, write_text
from tests import cuda_stub

RESULTS = ROOT / "results" / "cuda-rehearsal.json"
PAGE = ROOT / "docs" / "cuda.md"
MARKS = ("<!-- rehearsal: written by benchmarks/cuda_rehearsal.py -->", "<!-- end of the rehearsal -->")
UNREHEARSED = (
    "values: kernels are not run, all results are zeros",
    "races, deadlocks and the order of streams",
    "the numerics of cuBLAS (products are not computed), and of nvcc's --use_fast_math",
    "numbers drawn by cuRAND",
    "memory: how much is needed, and what happens without it",
    "speed",
)
# Hyper-parameters that say how long a method trains.
_STEPS = ("epochs", "text_epochs", "iterations", "steps", "steps_per_shot")
# Of the methods those that differ most in what they compile.
_FIRST = ("clip-lora", "coop", "cross-modal-linear", "multimodal-adapter", "full", "jclip-adapter")
_LIMIT = 1800  # seconds per situation; the first one compiles Jittor's core
# One file per call of nvcc: start, end, exit status, arguments; then what it said.
_RECORDER = """\
#!/bin/bash
case " $* " in *" --dryrun "*|*" --version "*|"  ") exec {nvcc} "$@";; esac
record={records}/$EPOCHREALTIME.$$
began=$EPOCHREALTIME
{nvcc} "$@" >"$record.said" 2>&1
status=$?
cat "$record.said" >&2
printf '%s\\n%s\\n%s\\n%s\\n' "$began" "$EPOCHREALTIME" "$status" "$*" >"$record.new"
cat "$record.said" >>"$record.new"
rm "$record.said"
mv "$record.new" "$record.call"
exit $status
"""
# What `--doctor` answers here: all is well, but for the result of the first kernel.
_DOCTOR = re.compile(r"\[problem\] Jittor: 2·\(1\+2\+3\): expected 12, got 0\.0")
# Where a method divides by what the stand-ins leave at zero, it gets this far: all kernels ran, and NaN is refused.
_ZEROS = re.compile(r"produced NaN or infinite scores")
_SOURCE = re.compile(r'([^\s"]+\.(?:cc|cu))')
_ANSI = re.compile(r"\x1b\[[0-9;]*[mK]")
_NAMED = re.compile(r"opkey\d+_([a-z_]+?)__")
_INCLUDE = re.compile(r'#include "(?:[\w/]*/)?(\w+)_op\.h"')


@dataclass
class Situation:
    """Something that a user does on a machine with a GPU.

    Attributes:
        name: In words.
        arguments: Of runner.py, or of Python if `program` is set.
        expected: What the output has to contain; empty for exit status 0 alone.
        environment: Set for it alone.
        program: Whether the arguments are Python's.
    """

    name: str
    arguments: list[str]
    expected: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    program: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a situation: how often nvcc was called for it, and its last words where it failed."""

    name: str
    passed: bool
    seconds: float
    compiled: int
    error: str


def situations() -> list[Situation]:
    """What is rehearsed, in order."""
    cuda = ["--device", "cuda"]
    tiny = ["--weights", "tiny.pkl", *cuda]
    found = [Situation("--doctor", ["--doctor", *cuda], _DOCTOR.pattern)]
    found += [_encoding("tiny.pkl", precision) for precision in ("float32", "float16", "bfloat16")]
    for name in sorted(available(), key=lambda name: name not in _FIRST):
        more = ["--auxiliary", "efficientnet-lite0"] if "auxiliary" in get(name).meta.needs else []
        found.append(Situation(f"method {name}", _all([*tiny, *more], name)))
    found.append(Situation("method full with float16", _all([*tiny, "--precision", "float16"], "full")))
    found.append(Situation("encode efficientnet-lite0", _all(["--weights", "efficientnet-lite0", *cuda], "proker")))
    found += [_encoding("vit-b-32.safetensors", precision) for precision in ("float32", "float16", "bfloat16")]
    resnet = _encoding("resnet.safetensors", "float32")
    found.append(replace(resnet, arguments=[*resnet.arguments, "--model-config", "openai"]))
    found.append(Situation("augmented views", [*_all(tiny, "wise-ft"), "--views", "2"]))
    found.append(Situation("--select support", [*_all(tiny, "tip-adapter-f"), "--select", "support"]))
    found.append(Situation("--benchmark", ["--benchmark", "--method", "zero-shot,clip-adapter", *tiny]))
    old = {"STUB_DRIVER": "12040"}
    found.append(Situation("a driver of CUDA 12", ["--doctor"], "the driver supports CUDA up to 12.4", old))
    found.append(Situation("a driver that fails", ["--doctor"], "does not initialise", {"STUB_DRIVER": "0"}))
    old = {"STUB_CAPABILITY": "61"}
    found.append(Situation("an old GPU", ["--doctor"], "no longer compiles for a GPU of compute capability 6.1", old))
    # With Jittor's own pool, as it runs on a CPU, and with features of its own: the stand-ins' are zeros.
    on_cpu = _all(["--weights", "tiny.pkl", "--device", "cpu", "--cache", "cpu"], "coop")
    found.append(Situation("the CPU in the same cache", on_cpu, environment={"use_sfrl_allocator": "1"}))
    found.append(Situation("CUDA after the CPU", _all([*tiny, "--cache", "again"], "zero-shot")))
    return found


def _encoding(weights: str, precision: str) -> Situation:
    flags = ["--weights", weights, "--precision", precision, "--shots", "1", "--device", "cuda"]
    return Situation(f"encode {weights} {precision}", ["--extract", f"{precision}.npz", *flags])


def _all(flags: list[str], method: str) -> list[str]:
    """Train, evaluate and predict in few steps."""
    few = [part for name in _STEPS if name in _hyperparameters(method) for part in ("--set", f"{name}=2")]
    return ["--train", "--evaluate", "--predict", "result.txt", "--method", method, *few, *flags]


def _hyperparameters(method: str) -> dict[str, Any]:
    return get(method)(seed=0).hyper.as_dict()


def write_world(place: Path, home: Path) -> None:
    """Write the data set and the weights that the situations name, with random numbers."""
    code = (
        "import sys; from pathlib import Path\n"
        "from jclip_adapter.models.clip.config import VIT_B_32, ClipConfig\n"
        "from jclip_adapter.storage import write_safetensors\n"
        "from tests.random_weights import random_state\n"
        "from tests.tiny_contest import lay_out\n"
        "lay_out(Path())\n"
        "write_safetensors(Path('vit-b-32.safetensors'), random_state(VIT_B_32), {})\n"
        "from jclip_adapter.models.clip.model import CLIP, state_arrays\n"
        "resnet = ClipConfig(64, 64, (1, 1, 1, 1), 16, 0, 77, 49408, 64, 1)\n"
        "write_safetensors(Path('resnet.safetensors'), state_arrays(CLIP(resnet)), {})\n"
    )
    environment = _python_path({**os.environ, "JITTOR_HOME": str(home)})
    subprocess.run([sys.executable, "-c", code], cwd=place, env=environment, check=True)


def _python_path(environment: dict[str, str]) -> dict[str, str]:
    return {
        **environment,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH", "")])),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def prepare(home: Path) -> tuple[dict[str, str], Path]:
    """Build the stand-ins, the nvcc that keeps a record, data and weights.

    Returns:
        The environment of a situation, and the folder of records.

    Raises:
        SetupError: there is no nvcc of CUDA 13.
    """
    root, nvcc = cuda_stub.toolkit(), shutil.which("nvcc")
    if root is None or nvcc is None:
        raise SetupError("there is no nvcc of a CUDA 13 toolkit on the PATH.", "Install one, and put it there.")
    records = home / "rehearsal" / "records"
    records.mkdir(parents=True, exist_ok=True)
    stub = cuda_stub.build(home / "rehearsal" / "stub", root)
    place = home / "rehearsal" / "place"
    if not (place / "resnet.safetensors").is_file():
        shutil.rmtree(place, ignore_errors=True)  # left half done
        place.mkdir(parents=True)
        write_world(place, home)
    shutil.rmtree(place / "results", ignore_errors=True)  # an earlier rehearsal may be of another version
    environment = {name: value for name, value in os.environ.items() if name != "nvcc_path"}
    environment.update(stub, JITTOR_HOME=str(home), STUB_RECORD=str(home / "rehearsal" / "launches.txt"))
    environment = _python_path(environment)
    # The program's own folder of links, with an nvcc in it that keeps a record.
    code = (
        "from jclip_adapter.runtime import cuda, planning;"
        "found = cuda.find_cuda(); cache = planning.cache_folder();"
        "cache.mkdir(parents=True, exist_ok=True); found.toolkit.link(cache); print(found.toolkit.compiler(cache))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    recorder = Path(done.stdout.strip())
    if recorder != Path(nvcc):
        write_text(recorder, _RECORDER.format(nvcc=nvcc, records=records), ANY)
        recorder.chmod(0o755)
    return environment, records


def rehearse(situation: Situation, place: Path, environment: dict[str, str], records: Path) -> Outcome:
    """Let one situation happen."""
    command = [sys.executable, *([] if situation.program else [str(ROOT / "runner.py")]), *situation.arguments]
    before, began = len(list(records.glob("*.call"))), time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=place,
            env={**environment, **situation.environment},
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome(situation.name, False, _LIMIT, len(list(records.glob("*.call"))) - before, "took too long")
    said = _ANSI.sub("", done.stdout + done.stderr)
    if situation.expected:
        passed = re.search(situation.expected, said) is not None
    else:
        passed = done.returncode == 0 or _ZEROS.search(said) is not None
    lines = [line for line in said.replace("\r", "\n").splitlines() if line.strip()]
    error = "" if passed else " | ".join(lines[-3:])[-600:].replace(f"{ROOT}{os.sep}", "")
    compiled = len(list(records.glob("*.call"))) - before
    return Outcome(situation.name, passed, round(time.monotonic() - began, 1), compiled, error)


def kernels(home: Path) -> list[dict[str, Any]]:
    """What nvcc was called for, by source file; the last call of each counts.

    Kernels of an earlier rehearsal in the same cache stand there without seconds.
    """
    found: dict[str, dict[str, Any]] = {}
    for source in home.glob(".cache/jittor/jt*/**/jclip-adapter-cuda/cu*/jit/*.cc"):
        key = source.with_suffix(".so.key")  # begins with the compiler's command
        if key.is_file() and "bin/nvcc" in key.read_text("utf-8", "replace").split(" ", 1)[0]:
            found[source.name] = _kernel(source, True, None, "")
    for path in sorted((home / "rehearsal" / "records").glob("*.call")):
        began, ended, status, arguments, *said = _ANSI.sub("", path.read_text("utf-8")).splitlines()
        sources = _SOURCE.findall(arguments)
        source = Path(sources[0]) if sources else Path("none")
        error = next((line for line in said if "error" in line), said[0] if said and status != "0" else "")
        seconds = round(float(ended) - float(began), 2)
        found[source.name] = _kernel(source, status == "0", seconds, "" if status == "0" else error[:300])
    return sorted(found.values(), key=lambda one: (str(one["kind"]), str(one["operator"]), str(one["source"])))


def _kernel(source: Path, compiled: bool, seconds: float | None, error: str) -> dict[str, Any]:
    kind = "operator" if source.parent.name == "jit" else "library"
    facts = {"operator": _operator(source), "source": source.name, "kind": kind}
    return {**facts, "compiled": compiled, "seconds": seconds, "error": error}


def _operator(source: Path) -> str:
    """The kinds of operators that a kernel fuses: those whose headers it includes, or what its name begins with."""
    text = source.read_text("utf-8") if source.is_file() else ""
    names = set(_INCLUDE.findall(text)) - {"fused"} or set(_NAMED.findall(source.name))
    return "+".join(sorted(names)) or source.name.split("__")[0].removesuffix("_op.cc")


def summary(result: dict[str, Any]) -> str:
    """The rehearsal as Markdown."""
    rows, made = result["situations"], result["kernels"]
    operators = [one for one in made if one["kind"] == "operator"]
    good = sum(one["compiled"] for one in operators)
    timed = [one["seconds"] for one in operators if one["seconds"] is not None]
    seconds = sum(timed) / max(1, len(timed))
    passed = sum(row["passed"] for row in rows)
    lines = [
        f"{passed} of {len(rows)} situations passed, with Python {result['python']}, Jittor {result['jittor']} and "
        f"nvcc {result['nvcc']}. nvcc compiled {good} of {len(operators)} kernels for compute capability 9.0, each in "
        f"{seconds:.1f} s on a busy core; and {len(made) - len(operators)} files of Jittor's libraries. "
        f"{result['launched']} different kernels were launched.",
        "",
        "| situation | result | seconds | files compiled | error |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['name']} | {'passed' if row['passed'] else 'FAILED'} | {row['seconds']:.0f} | {row['compiled']} | "
        f"{row['error'].replace('|', '·')[:160]} |"
        for row in rows
    ]
    lines += ["", "| operators of a kernel | kernels | compiled | seconds, all | error |", "|---|---|---|---|---|"]
    for name in sorted({one["operator"] for one in operators}):
        same = [one for one in operators if one["operator"] == name]
        error = next((one["error"] for one in same if one["error"]), "").replace("|", "·")[:160]
        total = sum(one["seconds"] or 0.0 for one in same)
        good = sum(one["compiled"] for one in same)
        lines.append(f"| {name} | {len(same)} | {good} | {total:.0f} | {error} |")
    lines += ["", "What cannot be rehearsed:", "", *(f"- {line}" for line in UNREHEARSED)]
    return "\n".join(lines) + "\n"


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Rehearse, and write what came of it; exit status 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("--only", default="", help="situations whose name contains this; no result is written")
    options = parser.parse_args(argv)
    home = options.home.absolute()
    environment, records = prepare(home)
    outcomes: list[Outcome] = []
    for situation in situations():
        if options.only in situation.name:
            last = rehearse(situation, home / "rehearsal" / "place", environment, records)
            outcomes.append(last)
            word = "passed" if last.passed else "FAILED"
            print(f"{word} {last.name}: {last.seconds} s, {last.compiled} files compiled {last.error}", flush=True)
            if not options.only:
                write(home, outcomes)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def write(home: Path, outcomes: list[Outcome]) -> None:
    """Write what came of the situations so far."""
    launches = home / "rehearsal" / "launches.txt"
    lines = launches.read_text("utf-8").splitlines() if launches.is_file() else []
    result = {
        "python": platform.python_version(),
        "jittor": metadata.version("jittor"),
        "nvcc": _nvcc(),
        "situations": [asdict(outcome) for outcome in outcomes],
        "kernels": kernels(home),
        "launched": len({line.split()[0] for line in lines if line.strip()}),
        "unrehearsed": list(UNREHEARSED),
    }
    write_json(RESULTS, result, ANY)
    page = PAGE.read_text("utf-8")
    head, tail = page.split(MARKS[0])[0], page.split(MARKS[1])[1]
    write_text(PAGE, f"{head}{MARKS[0]}\n\n{summary(result)}\n{MARKS[1]}{tail}", ANY)


def _nvcc() -> str:
    said = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"V([\d.]+)", said)
    return match[1] if match else ""


if __name__ == "__main__":
    sys.exit(main())
