"""Mutated headers: a million changed safetensors, npz and .pt files go through the readers.

`python -m benchmarks.reliability.mutated_headers` changes small sound files (mutations.py), writes each to a folder in
memory where there is one, and reads it as the program does: weights of others, safetensors of its own, shards of the
feature store, feature files and PyTorch archives. Two processes share the work. A failure is any exception that is none
of the program's own errors, more than a second of computing for one file, and an allocation beyond twice the file and
200 MB: each process may take so many addresses more than it had before (RLIMIT_AS), so that a larger request fails with
a MemoryError. A process that dies, or says nothing for a minute, counts as a failure too.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import logging
import os
import queue
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from tqdm import tqdm

from jclip_adapter.core.errors import AdapterError
from jclip_adapter.features.file import read_feature_file
from jclip_adapter.features.store import FeatureStore
from jclip_adapter.models.weights import read_state_dict
from jclip_adapter.storage import read_safetensors

from . import outcome
from .hostile_pickles import GENUINE
from .mutations import formats

PROCESSES = 2
LIMIT_S = 1.0
MEMORY = 200 << 20
_SILENCE_S = 60.0
_STEP = 500  # cases between two signs of life
Reader = Callable[[Path], object]


class _TooLong(BaseException):
    """Not an Exception, so that no reader takes it for a fault of the file."""


def _read_shard(path: Path) -> object:
    """Open a store whose only shard is this file, under the name that its bytes ask for."""
    data = path.read_bytes()
    folder = path.with_suffix(".store")
    folder.mkdir(exist_ok=True)
    shard = folder / f"{hashlib.sha256(data).hexdigest()[:32]}.npz"
    shard.write_bytes(data)
    try:
        if not len(FeatureStore(folder, 4)):
            raise AdapterError("it was left alone.")  # which the store logs instead of raising
    finally:
        shard.unlink(missing_ok=True)
    return None


READERS: dict[str, Reader] = {
    "safetensors (weights)": read_state_dict,
    "safetensors (own)": read_safetensors,
    "npz (shard)": _read_shard,
    "npz (feature file)": read_feature_file,
    "pt (archive)": read_state_dict,
}


def work(first: int, count: int, seed: int, readers: dict[str, Reader], tell: Callable[[int], None]) -> dict[str, Any]:
    """Read changed files, in this process, whose memory is limited from here on.

    Args:
        first: Number of the first case; a case depends on its number and the seed alone.
        count: How many cases.
        seed: Of all.
        readers: By format.
        tell: Receives the number of files done since its last call.

    Returns:
        Counts of files read and refused by format, the failures, the slowest case's seconds, and megabytes by which
        the memory in use grew.
    """
    done: dict[str, Counter[str]] = {name: Counter() for name in readers}
    failures: list[str] = []
    slowest = 0.0
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
    with _quietly(), tempfile.TemporaryDirectory(dir=memory) as place:
        folder = Path(place)
        kinds = formats(folder, GENUINE)
        weights = [kind.share for kind in kinds]
        path = folder / "file"
        for kind in kinds:  # imports what is imported late
            path.write_bytes(kind.files[0])
            readers[kind.name](path)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with _limits(2 * max(len(data) for kind in kinds for data in kind.files)):
            for number in range(first, first + count):
                rng = Random((seed << 40) + number)  # noqa: S311
                kind = rng.choices(kinds, weights)[0]
                path.write_bytes(rng.choice(kind.changes)(rng.choice(kind.files), rng))
                started = time.process_time()
                signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
                try:
                    readers[kind.name](path)
                    done[kind.name]["read"] += 1
                except AdapterError:
                    done[kind.name]["refused"] += 1
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001  (a Rust panic is no Exception)
                    done[kind.name]["failed"] += 1
                    failures.append(f"case {number}, {kind.name}: {type(error).__name__}: {str(error)[:200]}")
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
                slowest = max(slowest, time.process_time() - started)
                if (number - first + 1) % _STEP == 0:
                    tell(_STEP)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"done": done, "failures": failures, "slowest": slowest, "grown_mb": grown // 1024}


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without warnings, of which a million files give many."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _limits(extra: int) -> Any:
    """Limit what this process may take more than it has now, and interrupt what computes for too long."""

    def interrupt(*_: object) -> None:
        raise _TooLong(f"more than {LIMIT_S} s")

    handler = signal.signal(signal.SIGPROF, interrupt)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    taken = pages * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY + extra, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, handler)


def _serve(first: int, count: int, seed: int) -> None:
    """What a process of `spread` does: lines of JSON on stdout."""

    def tell(value: Any) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    tell(work(first, count, seed, READERS, tell))


def spread(count: int, seed: int) -> list[dict[str, Any]]:
    """`work` in several processes; one that dies or falls silent gives a failure."""
    answers: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
    share = -(-count // PROCESSES)
    children = []
    for number in range(PROCESSES):
        first = number * share
        given = ["--worker", str(first), "--trials", str(min(share, count - first)), "--seed", str(seed)]
        command = [sys.executable, "-m", "benchmarks.reliability.mutated_headers", *given]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        children.append(child)

        def listen(number: int = number, child: subprocess.Popen[str] = child) -> None:
            for line in child.stdout or ():
                answers.put((number, line))
            answers.put((number, ""))

        threading.Thread(target=listen, daemon=True).start()
    results: dict[int, dict[str, Any]] = {}
    running = set(range(PROCESSES))
    progress = [0] * PROCESSES
    with tqdm(total=count, desc="mutated headers", unit="file") as bar:
        while running:
            try:
                number, line = answers.get(timeout=_SILENCE_S)
            except queue.Empty:
                for child in children:
                    child.kill()
                results |= {n: _lost(n * share + progress[n], "fell silent") for n in running}
                break
            if not line:
                running.discard(number)
                status = children[number].wait()
                if number not in results:
                    results[number] = _lost(number * share + progress[number], f"died with status {status}")
            elif isinstance(message := json.loads(line), dict):
                results[number] = message
            else:
                progress[number] += message
                bar.update(message)
    return list(results.values())


def _lost(case: int, how: str) -> dict[str, Any]:
    return {"done": {}, "failures": [f"a process {how} within {_STEP} cases from {case}"], "slowest": 0, "grown_mb": 0}


def main(argv: list[str] | None = None) -> int:
    """Spread the cases over processes and write the outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1_000_000, help="changed files (1000000)")
    parser.add_argument("--seed", type=int, default=0, help="of the changes (0)")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.worker is not None:
        _serve(arguments.worker, arguments.trials, arguments.seed)
        return 0
    started = time.perf_counter()
    parts = spread(arguments.trials, arguments.seed)
    counts: dict[str, Counter[str]] = {name: Counter() for name in READERS}
    for part in parts:
        for name, found in part["done"].items():
            counts[name].update(found)
    failures = [line for part in parts for line in part["failures"]]
    total = sum(sum(found.values()) for found in counts.values())
    refused = sum(found["refused"] for found in counts.values())
    return outcome.write(
        outcome.Outcome(
            name="mutated-headers",
            tried=f"{total:,} safetensors, npz and .pt files with mutated headers",
            wanted="no crash, no error but our own, no hang over 1 s, memory under twice the file + 200 MB",
            reached=f"{len(failures)} failures; {refused:,} refused, {total - refused - len(failures):,} read; slowest "
            f"{max(part['slowest'] for part in parts):.2f} s",
            count=arguments.trials,
            failures=len(failures) + (total < arguments.trials),
            facts={
                "by_format": {name: dict(found) for name, found in counts.items()},
                "memory_grown_mb": max(part["grown_mb"] for part in parts),
                "failures": failures[:20],
                "seed": arguments.seed,
                "seconds": round(time.perf_counter() - started),
            },
        )
    )


if __name__ == "__main__":
    sys.exit(main())
