"""kill -9 at random moments of extract, train, benchmark and predict, then the same command again.

    python -m benchmarks.reliability.kill [--trials 200] [--seed 0] [--on sample|tiny]

Every second trial finds older results in the places that the command writes to. A trial fails if, right after the
kill, any file is neither absent, nor the older one, nor whole (shards by the SHA-256 in their names, runs by their
manifests, everything else by its reader or its bytes); if an older run or result is gone; if a decoding process lives
on; if the second command fails, computes a feature again that the store held, or loses more than one shard's work; if
its results differ from an unbroken command's in a byte (benchmarks: in a number that is no time); if finished cells of
a benchmark were computed again; or if strays, made two hours old, are still there afterwards.

Jittor and the libraries are imported once; each command runs in a fork of that process. So the moments fall into the
command's own work, not into the seconds in which Python starts and writes nothing. Shards are small (64 of the sample's
photos) and a training through CLIP keeps its state after every epoch, so that each command writes often.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import io
import json
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks import ROOT
from jclip_adapter import runtime
from jclip_adapter.cli.runs import CHECKPOINT
from jclip_adapter.core.errors import AdapterError
from jclip_adapter.data.sample import ensure_sample
from jclip_adapter.evaluation.benchmark import COLUMNS
from jclip_adapter.storage import MANIFEST, check_manifest, read_checked_json, read_safetensors, sha256_file
from tests.tiny_contest import WEIGHTS

from . import outcome, timeless

RUN = Path("results/runs/run")
CACHE = Path("results/features")
CELLS = Path("results/cells")
_DAMAGE = (AdapterError, OSError, ValueError, KeyError, SyntaxError, EOFError, zipfile.BadZipFile)
TOLD = "stderr.txt"  # beside the working directory
MARK = "JCLIP_KILL_TRIAL"
PATIENCE_S = 10.0
_FEW = ("--set", "epochs=3")


@dataclass(frozen=True)
class World:
    """What the commands work on.

    Attributes:
        name: In the outcome.
        weights: Flags.
        shard: Photos per file of features.
        batch: Photos per forward pass.
    """

    name: str
    weights: tuple[str, ...]
    shard: int
    batch: int


WORLDS = {
    "sample": World("the sample", ("--weights", "sample"), 64, 32),
    "tiny": World("a tiny contest", WEIGHTS, 8, 4),
}


@dataclass(frozen=True)
class Job:
    """A command.

    Attributes:
        name: Of the job.
        command: Its arguments.
        again: What is added when it is run again.
        before: The command that has to be done before it.
        older: What is added for a result to lie there already, another than this command's.
    """

    name: str
    command: tuple[str, ...]
    again: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    older: tuple[str, ...] = ()


def jobs_on(world: World) -> tuple[Job, ...]:
    """The commands to be killed."""
    details = ("--batch-size", str(world.batch), "--workers", "2", "--device", "cpu", "--quiet")
    every = (*world.weights, *details)
    run = (*every, "--run", str(RUN))
    cells = ("--benchmark", "--method", "zero-shot,tip-adapter,gda", "--shots", "1,2", "--out", "results/table.csv")
    return (
        Job("extract", ("--extract", "features.npz", "--shots", "1,4", *every), older=("--seed", "1")),
        Job("train", ("--train", *run, *_FEW), older=("--seed", "1")),
        Job("train through CLIP", ("--train", "--method", "coop", *run, *_FEW), ("--resume",), (), ("--seed", "1")),
        Job("benchmark", (*cells, *every), older=("--seed", "2")),
        Job("predict", ("--predict", *run), before=("--train", *run, *_FEW), older=("--top", "3")),
    )


@dataclass
class Trial:
    """What a command that was killed left, and what the second one made of it."""

    job: str
    moment: float
    older: bool
    faults: list[str] = field(default_factory=list)
    held: int = 0
    redone: int = 0
    strays: int = 0
    run: str = "absent"


# --- commands in forks -----------------------------------------------------------------------------------------------


def start() -> None:
    """Import what the commands need, once for all forks."""
    sys.path.insert(0, str(ROOT))  # for decoding processes, whose working directory is another
    for name in (
        "jclip_adapter.cli.app",
        "jclip_adapter.cli.commands",
        "matplotlib.figure",
        "safetensors",
        "scipy.special",
    ):
        importlib.import_module(name)
    runtime.start("cpu")
    importlib.import_module("jclip_adapter.methods.training.checkpoint")


def fork(
    folder: Path, arguments: Sequence[str], shard: int, counter: mmap.mmap, mark: str, spoil: Callable[[], None]
) -> int:
    """Run a command in a fork of this process; returns its id.

    Args:
        folder: The working directory.
        arguments: The command.
        shard: Photos per file of features.
        counter: Shared; counts the photos that went through CLIP.
        mark: Stands in the environment of all processes that the command starts.
        spoil: Called in the fork before the command, to break something.
    """
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.chdir(folder)
        os.environ[MARK] = mark
        nothing = os.open(os.devnull, os.O_RDWR)
        told = os.open(folder.parent / TOLD, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number, stream in enumerate((nothing, nothing, told)):
            os.dup2(stream, number)
        _prepare(counter, shard)
        spoil()
        from jclip_adapter.cli.app import main

        status = main(arguments)
    except BaseException:  # noqa: BLE001  (the fork must not go on as its parent)
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _prepare(counter: mmap.mmap, shard: int) -> None:
    """Small shards, a state after every epoch, and a count of what is encoded."""
    from jclip_adapter.features import encoding as features
    from jclip_adapter.methods.training import checkpoint
    from jclip_adapter.models.base import ImageEncoder

    features.SHARD_ROWS, checkpoint.PAUSE_S = shard, 0.0
    genuine = ImageEncoder.images

    def images(self: ImageEncoder, pixels: Any) -> Any:
        found = genuine(self, pixels)
        struct.pack_into("<Q", counter, 0, read_count(counter) + len(pixels))
        return found

    ImageEncoder.images = images  # type: ignore[method-assign]


def read_count(counter: mmap.mmap) -> int:
    """How many photos were encoded."""
    return int(struct.unpack_from("<Q", counter)[0])


def _nothing() -> None:
    """Break nothing."""


def complete(folder: Path, arguments: Sequence[str], shard: int) -> tuple[int, int, float]:
    """Run a command to its end; returns its exit status, the photos encoded and its seconds."""
    with mmap.mmap(-1, 8) as counter:
        started = time.monotonic()
        _, status = os.waitpid(fork(folder, arguments, shard, counter, "", _nothing), 0)
        return os.waitstatus_to_exitcode(status), read_count(counter), time.monotonic() - started


def survivors(mark: str) -> list[int]:
    """Ids of the processes that a killed command had started and that live on after a while."""
    wanted = f"{MARK}={mark}".encode()
    end = time.monotonic() + PATIENCE_S
    while True:
        names = [path.name for path in Path("/proc").iterdir()]
        alive = [int(name) for name in names if name.isdecimal() and _has(name, wanted)]
        if not alive or time.monotonic() > end:
            return alive
        time.sleep(0.02)


def _has(number: str, wanted: bytes) -> bool:
    try:
        return wanted in Path(f"/proc/{number}/environ").read_bytes()
    except OSError:  # it ended, or belongs to someone else
        return False


# --- what lies there -------------------------------------------------------------------------------------------------


def files(folder: Path) -> dict[str, str]:
    """SHA-256 by path of all that commands have written; the data set and the weights are none of it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and not name.startswith("Dataset") and name != "tiny.pkl":
            found[name] = sha256_file(path)
    return found


def is_stray(name: str) -> bool:
    """Whether a file is, or lies in, something half done, which no reader looks at."""
    return any(part.startswith(".") and part.endswith(".partial") for part in Path(name).parts)


def damage(folder: Path, known: Sequence[dict[str, str]]) -> Iterator[str]:
    """What is neither absent, nor older, nor whole.

    Args:
        folder: A killed command's working directory.
        known: Older files and those of an unbroken command, by path.
    """
    for name, digest in files(folder).items():
        plain = name.replace("/.next/", "/")
        if is_stray(name) or any(digest in (each.get(name), each.get(plain)) for each in known):
            continue
        try:
            _read(folder / name)
        except _DAMAGE as error:
            yield f"{name} is half written: {error}"


def _read(path: Path) -> None:
    """Read a file that may differ from one command to the next by the reader of its kind; an error means damage."""
    data = path.read_bytes()
    if path.parent.name.startswith(("images-", "texts-")):
        with np.load(io.BytesIO(data), allow_pickle=False) as shard:
            rows = len(shard["keys"]) == len(shard["features"])
        if not rows or not sha256_file(path).startswith(path.stem):
            raise ValueError("its bytes do not match its name")
    elif path.name == CHECKPOINT:
        read_safetensors(path)
    elif path.parent.name == CELLS.name:
        if not set(COLUMNS) <= set(read_checked_json(path)):
            raise ValueError("columns are missing")
    elif path.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(data.decode())))  # type: ignore[assignment]
        if not data.endswith(b"\n") or any(None in row.values() for row in rows):  # type: ignore[attr-defined]
            raise ValueError("it ends amid a row")
    elif path.suffix == ".png":
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
        if not data.endswith(b"IEND\xaeB`\x82"):
            raise ValueError("it has no end")
    else:
        raise ValueError("its bytes are neither an older file's nor an unbroken command's")


def lost(folder: Path, older: dict[str, str]) -> Iterator[str]:
    """Older results that are gone, and runs that cannot be read."""
    for name in older:
        if not (folder / name).exists() and not is_stray(name):
            yield f"{name} is gone"
    run = folder / RUN
    if (run / MANIFEST).exists() or (run / ".next").exists():
        with tempfile.TemporaryDirectory() as place:
            copy = shutil.copytree(run, Path(place) / "run")  # as reading may finish what was interrupted
            try:
                check_manifest(copy)
            except AdapterError as error:
                yield f"the run cannot be read: {error}"


def held(folder: Path) -> int:
    """Photos whose features the store holds."""
    count = 0
    for path in (folder / CACHE).glob("images-*/[0-9a-f]*.npz"):
        with contextlib.suppress(*_DAMAGE), np.load(path, allow_pickle=False) as shard:
            count += len(shard["keys"])
    return count


def comparable(folder: Path) -> dict[str, str]:
    """Results by path: bytes, or a benchmark's numbers without its times; shards are compared by what is made of them.

    The table's picture shows seconds and is left out.
    """
    found = {}
    for name, digest in files(folder).items():
        path = folder / name
        if name.startswith(CACHE.as_posix()) or name == "results/table.png":
            continue
        if name.startswith(CELLS.as_posix()):
            found[name] = json.dumps(timeless.cell(path), sort_keys=True)
        elif path.suffix == ".csv":
            found[name] = json.dumps(timeless.table(path))
        else:
            found[name] = digest
    return found


# --- trials ----------------------------------------------------------------------------------------------------------


@dataclass
class Ground:
    """Where a job's trials begin and what an unbroken command comes to.

    Attributes:
        template: The working directory before the command.
        older: Its files, by path.
        whole: Files after an unbroken command, by path.
        wanted: The same as `comparable` has it.
        encoded: How many photos an unbroken command encodes.
        shard: Photos per file of features.
        seconds: How long it takes, the shortest of three times: the first may wait for kernels that are compiled.
    """

    template: Path
    older: dict[str, str]
    whole: dict[str, str]
    wanted: dict[str, str]
    encoded: int
    shard: int
    seconds: float


def survey(job: Job, base: Path, folder: Path, older: bool, shard: int) -> Ground:
    """Prepare a job's trials and run it unbroken.

    Args:
        job: The job.
        base: A working directory with data set and weights.
        folder: Where to prepare.
        older: Whether older results shall lie there.
        shard: Photos per file of features.
    """
    template = shutil.copytree(base, folder / "template", symlinks=True)
    for command in ([job.before] if job.before else []) + ([(*job.command, *job.older)] if older else []):
        if complete(template, command, shard)[0]:
            raise RuntimeError(f"{' '.join(command)} failed: {(folder / TOLD).read_text()[-500:]}")
        if command != job.before:
            shutil.rmtree(template / CACHE, ignore_errors=True)  # so that there is something to encode
    seconds = []
    for number in range(3):
        place = shutil.copytree(template, folder / f"unbroken{number}", symlinks=True)
        status, encoded, took = complete(place, job.command, shard)
        if status:
            raise RuntimeError(f"{' '.join(job.command)} failed: {(folder / TOLD).read_text()[-500:]}")
        seconds.append(took)
    return Ground(template, files(template), files(place), comparable(place), encoded, shard, min(seconds))


def kill_after(child: int, seconds: float) -> int:
    """Kill a fork after some seconds, unless it has ended by then; returns its status as `os.waitpid` gives it."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(min(left, 0.01))
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def attempt(
    job: Job, ground: Ground, place: Path, moment: float, older: bool, spoil: Callable[[], None] = _nothing
) -> Trial | None:
    """Kill a command at a moment and run it again; None if it had ended before."""
    trial = Trial(job.name, moment, older)
    shutil.copytree(ground.template, place, symlinks=True)
    begun, mark = held(place), uuid.uuid4().hex
    with mmap.mmap(-1, 8) as counter:
        child = fork(place, job.command, ground.shard, counter, mark, spoil)
        status = kill_after(child, moment)
        encoded = read_count(counter)
    if not os.WIFSIGNALED(status):
        return None
    if survivors(mark):
        trial.faults.append("processes that it had started live on")
    trial.faults += [*damage(place, [ground.older, ground.whole]), *lost(place, ground.older)]
    trial.held = held(place) - begun
    trial.redone = encoded - trial.held
    if trial.redone > ground.shard:
        trial.faults.append(f"{trial.redone} encoded photos are lost, more than a shard")
    run = place / RUN
    trial.run = "being moved" if (run / ".next").exists() else "there" if (run / MANIFEST).exists() else "absent"
    cells = {path: path.read_bytes() for path in (place / CELLS).glob("*.json")}
    for path in place.rglob(".*.partial"):
        trial.strays += 1
        os.utime(path, (time.time() - 7200,) * 2)
    status, encoded, _ = complete(place, (*job.command, *job.again), ground.shard)
    if status:
        told = (place.parent / TOLD).read_text(errors="replace").strip()[-300:]
        trial.faults.append(f"run again, it left with status {status}: {told}")
    if encoded != ground.encoded - trial.held:
        trial.faults.append(f"run again, it encoded {encoded} photos; {ground.encoded - trial.held} were missing")
    if any(path.read_bytes() != data for path, data in cells.items()):
        trial.faults.append("a finished cell was computed again")
    now = comparable(place)
    for name in sorted(ground.wanted.keys() | now.keys()):
        if now.get(name) != ground.wanted.get(name):
            trial.faults.append(f"{name} differs from an unbroken command's")
    trial.faults += [f"{path.name} is still there" for path in place.rglob(".*.partial")]
    return trial


def campaign(trials: int, seed: int, world: World, only: str = "", spoil: Callable[[], None] = _nothing) -> list[Trial]:
    """Kill commands at random moments, drawn evenly over an unbroken command's length.

    Args:
        trials: How many, shared evenly by the four commands; train has two jobs.
        seed: Draws the moments.
        world: What they work on.
        only: A job's name, where it alone is wanted.
        spoil: Called in every command that is to be killed, to break something.
    """
    start()
    rng = random.Random(seed)  # noqa: S311  (moments, no secrets)
    done: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="kill-") as scratch, tqdm(total=trials, unit="kill") as bar:
        base = Path(scratch) / "base"
        _lay_out(world, base)
        for job, count in shares(trials, [each for each in jobs_on(world) if only in ("", each.name)]):
            grounds: dict[bool, Ground] = {}
            number = 0
            while number < count:
                older = number % 2 == 1
                if older not in grounds:
                    grounds[older] = survey(job, base, Path(scratch) / f"{job.name} {older}", older, world.shard)
                bar.set_postfix_str(job.name)
                place = Path(scratch) / "place"
                trial = attempt(job, grounds[older], place, rng.uniform(0, grounds[older].seconds), older, spoil)
                shutil.rmtree(place)
                if trial is not None:
                    done.append(trial)
                    number += 1
                    bar.update()
    return done


def _lay_out(world: World, base: Path) -> None:
    """Make the working directory that all others are copies of."""
    if world is WORLDS["sample"]:
        base.mkdir()
        (base / "Dataset").symlink_to(ensure_sample())
    else:
        # In another process: a fork of one in which Jittor has computed something would wait for ever.
        code = f"from pathlib import Path; from tests.tiny_contest import lay_out; lay_out(Path({str(base)!r}), 40)"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def shares(trials: int, jobs: Sequence[Job]) -> list[tuple[Job, int]]:
    """How many trials each job gets: as many for the two trainings together as for each other command."""
    commands = list(dict.fromkeys(job.name.split()[0] for job in jobs))
    counts = {name: trials // len(commands) + (at < trials % len(commands)) for at, name in enumerate(commands)}
    found = []
    for job in jobs:
        same = [each for each in jobs if each.name.split()[0] == job.name.split()[0]]
        total = counts[job.name.split()[0]]
        found.append((job, total // len(same) + (same.index(job) < total % len(same))))
    return found


def conclude(trials: Sequence[Trial], world: World) -> outcome.Outcome:
    """The figure."""
    bad = [trial for trial in trials if trial.faults]
    by_job = {job.name: sum(trial.job == job.name for trial in trials) for job in jobs_on(world)}
    return outcome.Outcome(
        name="kill",
        tried=f"kill -9 at {len(trials)} random moments of extract, train, benchmark and predict on {world.name}, "
        "then the same command again",
        wanted="no artefact lost or half-read, results byte-identical to an unbroken run's, at most one shard redone",
        reached=f"{len(trials) - len(bad)} of {len(trials)} as wanted; at most "
        f"{max((trial.redone for trial in trials), default=0)} photos encoded twice, a shard being {world.shard}",
        count=len(trials),
        failures=len(bad),
        facts={
            "by_job": by_job,
            "with_older_results": sum(trial.older for trial in trials),
            "kills_that_left_strays": sum(trial.strays > 0 for trial in trials),
            "kills_with_finished_shards": sum(trial.held > 0 for trial in trials),
            "kills_amid_the_moving_of_a_run": sum(trial.run == "being moved" for trial in trials),
            "photos_redone": {str(n): sum(t.redone == n for t in trials) for n in sorted({t.redone for t in trials})},
            "faults": [f"{trial.job} at {trial.moment:.3f} s: {fault}" for trial in bad for fault in trial.faults][:20],
        },
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trials and write the outcome."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability.kill", description="Kill commands.")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--on", choices=WORLDS, default="sample")
    arguments = parser.parse_args(argv)
    world = WORLDS[arguments.on]
    return outcome.write(conclude(campaign(arguments.trials, arguments.seed, world), world))


if __name__ == "__main__":
    raise SystemExit(main())
