"""A failing write at every write call in turn, of every command that writes, and stdout or stderr that is full.

    python -m benchmarks.reliability.failing_writes

Every command is run once unbroken to count its write calls (opening for writing, write, flush, fsync of files and
folders, rename, mkdir, unlink), then once per call and error, in a fresh copy of the same working directory with older
results in place: ENOSPC, EIO, and the EFBIG of a file-size limit. A trial fails if the command leaves with status 0 or
not 2; if stderr has another count than one of lines that begin with "error:", or that line lacks the error's cause or
the file; if there is a traceback; if any file is neither the older one nor that of an unbroken command; or if a
partial file is left. Real child processes with RLIMIT_FSIZE, and stdout and stderr that are /dev/full or closed, come
on top.
"""

from __future__ import annotations

import argparse
import atexit
import builtins
import contextlib
import errno
import functools
import io
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT
from jclip_adapter import storage
from jclip_adapter.cli import app as cli
from jclip_adapter.data import sample
from jclip_adapter.models.weights import confined
from tests.tiny_contest import WEIGHTS, lay_out
from tools.sample import painter
from tools.sample.classes import CLASSES

from . import outcome
from .kill import files, is_stray

ERRORS = (errno.ENOSPC, errno.EIO, errno.EFBIG)
RUN = "results/runs/run"
_QUIET = ("--quiet", "--workers", "0", "--device", "cpu")
_RUN_COOP = ("--run", "results/runs/coop", *_QUIET)
_TRAIN = (*WEIGHTS, "--run", RUN, "--set", "epochs=2", *_QUIET)
COMMANDS: dict[str, tuple[str, ...]] = {
    "extract": ("--extract", "features.npz", "--shots", "1,2", *WEIGHTS, *_QUIET),
    "train": ("--train", *_TRAIN),
    "train through CLIP": ("--train", "--method", "coop", *WEIGHTS, "--set", "epochs=2", *_RUN_COOP),
    "predict": ("--predict", *WEIGHTS, "--run", RUN, *_QUIET),
    "evaluate": ("--evaluate", *WEIGHTS, "--run", RUN, *_QUIET),
    "benchmark": ("--benchmark", "--method", "zero-shot,tip-adapter", "--out", "results/table.csv", *WEIGHTS, *_QUIET),
    "convert": ("--convert", "tiny.pkl", "clip.safetensors"),
    "sample": ("--check", "result.txt", "--data", "sample", "--quiet"),
}
_PLAIN = (*WEIGHTS, "--method", "tip-adapter", "--run", "results/runs/plain", *_QUIET)
LIMITED: dict[str, tuple[str, ...]] = {
    "train": ("--train", *_PLAIN),
    "predict": ("--predict", *_PLAIN),
    "evaluate": ("--evaluate", *_PLAIN),
    "extract": COMMANDS["extract"],
    "benchmark": COMMANDS["benchmark"],
    "convert": COMMANDS["convert"],
}
# What changes a command's results, so that older ones differ from them.
_OLDER = {"extract": ("--seed", "1"), "train": ("--seed", "1"), "train through CLIP": ("--seed", "1")}
_OLDER |= {"predict": ("--top", "3"), "evaluate": ("--holdout", "1"), "benchmark": ("--seed", "2")}


# --- failing calls ---------------------------------------------------------------------------------------------------


@dataclass
class Fault:
    """Counts the write calls below a folder, and lets one of them fail.

    Attributes:
        folder: Where.
        at: The number of the call that fails, from 0; −1 for none.
        code: The error.
        calls: Their names so far.
    """

    folder: Path
    at: int = -1
    code: int = errno.ENOSPC
    calls: list[str] = field(default_factory=list)
    depth: int = 0

    def note(self, call: str, path: object) -> None:
        """Count a call, or fail it."""
        self.calls.append(call)
        if len(self.calls) - 1 == self.at:
            raise OSError(self.code, os.strerror(self.code), str(path))

    def inside(self, path: object) -> bool:
        """Whether a path lies below the folder."""
        return isinstance(path, str | os.PathLike) and Path(os.path.abspath(path)).is_relative_to(self.folder)  # noqa: PTH100  (resolve follows links)

    def wrap(self, call: str, genuine: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the file system whose outermost calls are counted."""

        @functools.wraps(genuine)
        def wrapped(path: Any, *rest: Any, **more: Any) -> Any:
            # What clears away half-done or replaced things may fail: they stay strays, which the next writer sweeps.
            clears = call in ("unlink", "rmdir") and (more.get("dir_fd") is not None or is_stray(str(path)))
            if self.depth or clears or not self.inside(path):
                return genuine(path, *rest, **more)
            self.note(call, path)
            self.depth += 1
            try:
                return genuine(path, *rest, **more)
            finally:
                self.depth -= 1

        return wrapped

    def opened(self, genuine: Callable[..., Any], place: int) -> Callable[..., Any]:
        """An `open` whose files for writing are counted too, with what is done with them."""

        @functools.wraps(genuine)
        def wrapped(path: Any, *rest: Any, **more: Any) -> Any:
            mode = str(more.get("mode", rest[place] if len(rest) > place else "r"))
            if self.depth or set(mode).isdisjoint("wax+") or not self.inside(path):
                return genuine(path, *rest, **more)
            self.note("open", path)
            self.depth += 1
            try:
                return _Handle(genuine(path, *rest, **more), self)
            finally:
                self.depth -= 1

        return wrapped


class _Handle:
    """A file that counts what is written."""

    def __init__(self, handle: Any, fault: Fault) -> None:
        self._handle, self._fault = handle, fault

    def write(self, data: bytes) -> int:
        self._fault.note("write", self._handle.name)
        return int(self._handle.write(data))

    def flush(self) -> None:
        self._fault.note("flush", self._handle.name)
        self._handle.flush()

    def __enter__(self) -> _Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)


@contextlib.contextmanager
def failing(fault: Fault) -> Iterator[Fault]:
    """Put a fault in the way of everything that writes."""
    genuine = os.fsync

    def fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if fault.inside(path):
            fault.note("fsync of a folder" if path.is_dir() else "fsync", path)
        genuine(handle)

    with contextlib.ExitStack() as stack:
        for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "touch", "symlink_to", "hardlink_to"):
            stack.enter_context(patch.object(Path, name, fault.wrap(name, getattr(Path, name))))
        for name in ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "symlink", "link", "truncate"):
            stack.enter_context(patch.object(os, name, fault.wrap(name, getattr(os, name))))
        stack.enter_context(patch.object(Path, "open", fault.opened(Path.open, 0)))
        stack.enter_context(patch.object(builtins, "open", fault.opened(builtins.open, 0)))
        stack.enter_context(patch.object(io, "open", fault.opened(io.open, 0)))
        stack.enter_context(patch.object(os, "fsync", fsync))
        yield fault


# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    """What a command said: status, stdout, stderr."""

    status: int
    out: str
    err: str


@functools.cache
def _small_sample(classes: int = 2) -> Path:
    """An archive of a sample with few photos, made once in a process."""
    place = Path(tempfile.mkdtemp(prefix="small-sample-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    painter.write_sample(place / "drawn", classes=CLASSES[:classes], train_per_class=1, test_per_class=1)
    (place / "photos.zip").write_bytes(painter.pack(place / "drawn"))
    return place / "photos.zip"


def call(folder: Path, arguments: Sequence[str], archive: Path | None = None) -> Finished:
    """Run a command in this process, in a folder, with a sample of few photos there, or that of an archive."""
    out, err = io.StringIO(), io.StringIO()
    storage.atomic.sweep_once.cache_clear()
    with (
        _chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        patch.object(sample, "PHOTOS", _small_sample() if archive is None else archive),
        patch.object(sample, "sample_root", lambda: folder / "data" / "photos"),
        patch.object(confined, "_write_in_child", confined._write),  # so that what the child writes fails here
    ):
        status = cli.main(arguments)
    logging.getLogger().handlers.clear()
    return Finished(status, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _chdir(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def copy(folder: Path, place: Path) -> None:
    """Copy a working directory; the weights, which are large and only read, become a link."""
    shutil.copytree(folder, place, ignore=shutil.ignore_patterns("tiny.pkl"))
    (place / "tiny.pkl").symlink_to((folder / "tiny.pkl").resolve())


def prepare(name: str, base: Path, template: Path) -> tuple[str, ...]:
    """Lay older results out; returns the command."""
    copy(base, template)
    if name in ("predict", "evaluate"):
        call(template, COMMANDS["train"])
    if name == "convert":
        facts = {"format": "jclip-adapter", "source_sha256": "0" * 64}
        storage.write_safetensors(template / "clip.safetensors", {"older": np.zeros(1, np.float32)}, facts)
    if name == "sample":
        call(template, COMMANDS["sample"], _small_sample(3))  # older photos
        (template / "result.txt").write_text("image_1.jpg 0 1\nimage_2.jpg 0 1\n")
    if name in _OLDER:
        finished = call(template, (*COMMANDS[name], *_OLDER[name]))
        if finished.status:
            raise RuntimeError(finished.err)
        shutil.rmtree(template / "results/features")  # so that there is something to write
    if name == "predict":
        listed = storage.checksums.text_with_checksum(
            "image_1.jpg\tTestSetA/image_1.jpg is empty.\n", storage.checksums.LIST_MARK
        )
        (template / "result.rejects.txt").write_text(listed)
    return COMMANDS[name]


def faults(finished: Finished, code: int, place: Path, older: dict[str, str], whole: dict[str, str]) -> Iterator[str]:
    """What a command that could not write has done wrong.

    Args:
        finished: The ended command.
        code: The error that it met.
        place: Its working directory.
        older: SHA-256 by path of the files that it found.
        whole: Of the files that an unbroken command leaves.
    """
    if finished.status != 2:
        yield f"status {finished.status}"
    # A bar below this program's own bar ends by going up a line.
    lines = [line for line in re.split(r"\r|\n|\x1b\[A", finished.err) if line.startswith("error:")]
    if len(lines) != 1:
        yield f"{len(lines)} lines of error"
    elif os.strerror(code) not in lines[0] or not any(name in lines[0] for name in _NAMES):
        yield f"no cause or file in: {lines[0]}"
    if "Traceback" in finished.err:
        yield "a traceback"
    now = files(place)
    for path, digest in now.items():
        if is_stray(path):
            yield f"{path} is left"
        elif digest not in (older.get(path), whole.get(path.replace("/.next/", "/"))) and not _varies(path):
            yield f"{path} is neither the older nor the new one"
    yield from (f"{path} is gone" for path in older if path not in now and path not in whole | _MAY_GO)


_NAMES: tuple[str, ...] = (
    "results/",
    "data/photos",
    "features.npz",
    "clip.safetensors",
    "result.txt",
    "result.zip",
    "result.rejects",
)
_NAMES += ("data/.photos.", "table.")  # the sample's own photos lie in a folder that is not finished yet
_MAY_GO = {"result.rejects.txt": ""}


def _varies(path: str) -> bool:
    """Whether a file holds seconds; then its reader has to do."""
    return path.startswith(("results/cells/", "results/table."))


@dataclass(frozen=True)
class Trial:
    """A call that failed, and what went wrong then."""

    command: str
    call: str
    code: int
    faults: tuple[str, ...]


def every_call(name: str, base: Path, scratch: Path, codes: Sequence[int] = ERRORS, stride: int = 1) -> Iterator[Trial]:
    """Fail every write call of a command in turn.

    Args:
        name: One of COMMANDS.
        base: A working directory with data set and weights.
        scratch: Where to work.
        codes: The errors.
        stride: 1 takes every call, n every n-th.
    """
    template, place = scratch / f"{name} before", scratch / "place"
    command = prepare(name, base, template)
    older = files(template)
    copy(template, place)
    with failing(Fault(place)) as unbroken:
        finished = call(place, command)
    if finished.status:
        raise RuntimeError(f"{name}: {finished.err}")
    whole = files(place)
    shutil.rmtree(place)
    for code in codes:
        for at in range(0, len(unbroken.calls), stride):
            copy(template, place)
            with failing(Fault(place, at, code)) as fault:
                finished = call(place, command)
            found = tuple(faults(finished, code, place, older, whole))
            yield Trial(name, unbroken.calls[at], code, found if len(fault.calls) > at else ("it was never called",))
            shutil.rmtree(place)


# --- real processes --------------------------------------------------------------------------------------------------


def limited(base: Path, scratch: Path) -> Iterator[Trial]:
    """Commands in processes of their own that may write no file over some sizes.

    Jittor must not start in them: a limit would cut its own cache short, which others share. So the features lie in
    the store already, the method is numpy's, and there is no cache where the processes look for one.
    """
    for name, command in LIMITED.items():
        template = scratch / f"{name} limited"
        copy(base, template)
        for arguments in (LIMITED["train"], *([(*command, *_OLDER[name])] if name in _OLDER else [])):
            _must(call(template, arguments))
        _must(call(scratch_copy(template, scratch / "filling"), command))  # what else has to be encoded
        for folder in sorted((scratch / "filling/results/features").iterdir()):
            shutil.copytree(folder, template / "results/features" / folder.name, dirs_exist_ok=True)
        shutil.rmtree(scratch / "filling")
        older = files(template)
        place = scratch / "place"
        copy(template, place)
        done = process(place, command)
        _must(Finished(done.returncode, done.stdout, done.stderr))
        whole = files(place)
        shutil.rmtree(place)
        for limit in (0, 10, 100):
            copy(template, place)
            done = process(place, command, limit)
            finished = Finished(done.returncode, done.stdout, done.stderr)
            if max((path.stat().st_size for path in new_files(place, template)), default=0) > limit:
                found: tuple[str, ...] = ("a file is larger than the limit",)
            else:
                found = tuple(faults(finished, errno.EFBIG, place, older, whole))
            yield Trial(name, f"RLIMIT_FSIZE {limit}", errno.EFBIG, found)
            shutil.rmtree(place)


def _must(finished: Finished) -> None:
    if finished.status:
        raise RuntimeError(finished.err)


def scratch_copy(folder: Path, place: Path) -> Path:
    """A copy of a working directory, and where it is."""
    copy(folder, place)
    return place


def new_files(place: Path, template: Path) -> list[Path]:
    """Files that a command has added."""
    return [place / name for name in files(place) if not (template / name).exists()]


# Within the process, as a function between fork and exec would meet Jittor's threads. SIGXFSZ would end it otherwise.
_LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[1])
if limit >= 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from jclip_adapter.cli.app import main
sys.exit(main(sys.argv[2:]))
"""


def process(place: Path, command: Sequence[str], limit: int = -1) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, with a file-size limit in bytes; −1 for none."""
    return subprocess.run(
        [sys.executable, "-c", _LIMITED, str(limit), *command],
        cwd=place,
        env={**os.environ, "JITTOR_HOME": str(place / "none"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def streams(commands: Sequence[str] = ("--list", "--help", "--version", "--no-such-flag")) -> Iterator[Trial]:
    """Full or closed stdout and stderr, without a traceback.

    With stdout the status must not be 0; with stderr alone, results come as ever.
    """
    runner = f"{sys.executable} {ROOT / 'runner.py'}"
    for command in commands:
        fails = command == "--no-such-flag"
        for redirection in (">/dev/full", ">&-", "2>/dev/full", "2>&-", ">&- 2>&-", ">/dev/full 2>/dev/full"):
            done = subprocess.run(
                ["sh", "-c", f"{runner} {command} {redirection}"], capture_output=True, text=True, check=False
            )
            out_breaks = not redirection.startswith("2")
            found = []
            if done.returncode != (2 if fails or out_breaks else 0):
                found.append(f"status {done.returncode}")
            if "Traceback" in done.stderr or "Exception ignored" in done.stderr:
                found.append("a traceback")
            if "2>" not in redirection and len(done.stderr.splitlines()) != 1:
                found.append(f"{len(done.stderr.splitlines())} lines of error")
            if not out_breaks and not fails and not done.stdout:
                found.append("no result")
            yield Trial(command, redirection, errno.ENOSPC, tuple(found))


def campaign(commands: Sequence[str], codes: Sequence[int] = ERRORS, stride: int = 1) -> list[Trial]:
    """Fail every write call of some commands.

    Args:
        commands: Of COMMANDS.
        codes: The errors.
        stride: 1 takes every call, n every n-th.
    """
    done = []
    with tempfile.TemporaryDirectory(prefix="writes-") as scratch, tqdm(unit="call") as bar:
        base = lay_out(Path(scratch).resolve() / "base")
        call(base, ("--train", *_TRAIN, "--run", "warm"))  # kernels are compiled before anything is counted
        shutil.rmtree(base / "results", ignore_errors=True)
        shutil.rmtree(base / "warm", ignore_errors=True)
        for name in commands:
            bar.set_postfix_str(name)
            for trial in every_call(name, base, base.parent, codes, stride):
                done.append(trial)
                bar.update()
    return done


def conclude(trials: Sequence[Trial]) -> outcome.Outcome:
    """The figure."""
    bad = [trial for trial in trials if trial.faults]
    kinds = sorted({trial.call.split()[0] if "RLIMIT" in trial.call else trial.call for trial in trials})
    return outcome.Outcome(
        name="failing-writes",
        tried=f"a failing write (ENOSPC, EIO, file-size limit) at every write call in turn, {len(trials)} in all",
        wanted="the older artefact or the new one whole, exit status 2, one line with cause and file, nothing left",
        reached=f"{len(trials) - len(bad)} of {len(trials)} as wanted",
        count=len(trials),
        failures=len(bad),
        facts={
            "by_command": {name: sum(t.command == name for t in trials) for name in {t.command: 0 for t in trials}},
            "by_call": {kind: sum(trial.call.startswith(kind) for trial in trials) for kind in kinds},
            "faults": [f"{t.command}, {t.call}, {os.strerror(t.code)}: {fault}" for t in bad for fault in t.faults][
                :20
            ],
        },
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run all and write the outcome."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability.failing_writes", description="Fail writes.")
    parser.add_argument("--stride", type=int, default=1, help="every n-th call only")
    parser.add_argument("--commands", default=",".join(COMMANDS))
    arguments = parser.parse_args(argv)
    trials = campaign(arguments.commands.split(","), stride=arguments.stride)
    with tempfile.TemporaryDirectory(prefix="writes-") as scratch:
        trials += limited(lay_out(Path(scratch).resolve() / "base"), Path(scratch).resolve())
    return outcome.write(conclude([*trials, *streams()]))


if __name__ == "__main__":
    raise SystemExit(main())
