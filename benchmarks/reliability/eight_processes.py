"""Eight processes extract the same features into one store at once, with file locks that do nothing.

Every trial begins with an empty store and a common start; the processes take the photos in orders of their own, so
that their shards overlap without being equal. CLIP is a tiny one; `--stand-in` puts something cheap in its place, as
only writing and reading are at stake. A trial fails when a process gets a feature that differs by a bit from a single
process's, or meets a damaged shard, or dies, and when the store does not hold every feature afterwards, holds a file
that is no whole shard, or has been locked: a store that writes its shards in place instead of renaming whole ones fails
(`--fault torn` does that).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import Array
from jclip_adapter.data.photos.preprocess import OPENAI
from jclip_adapter.features import encoding as features
from jclip_adapter.features import store as feature_store
from jclip_adapter.features.encoding import encode_photos
from jclip_adapter.features.store import FeatureStore
from jclip_adapter.models.clip.encoder import Encoder, load_encoder
from jclip_adapter.storage.checksums import check_npz
from tests.random_weights import write_safe
from tests.tiny_contest import picture

from . import outcome

PROCESSES, PHOTOS, ROWS, BATCH = 8, 40, 8, 4
_SOON_S = 0.05  # until the common start
_SPREAD_S = 0.03  # by which a process may come later, to read while others write


class StandIn(Encoder):
    """Features without Jittor: each photo's pixels times a fixed random matrix, in whole numbers."""

    image_size = 8
    width = 16
    transform = OPENAI

    def image_key(self) -> str:
        """Of no weights."""
        return self.key("stand-in")

    def images(self, pixels: npt.NDArray[np.uint8]) -> Array:
        """(B, 16) of (B, 8, 8, 3)."""
        matrix = np.random.default_rng(0).integers(-9, 10, (pixels[0].size, self.width))
        return (pixels.reshape((len(pixels), -1)).astype(np.int64) @ matrix).astype(np.float32)


class _Damaged(logging.Handler):
    """Counts the warnings of damaged shards."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        self.count += "damaged" in record.getMessage()


def work(kind: str, photos: Path, fault: str) -> None:
    """What each process does: answer every line of JSON on stdin with one on stdout, until stdin ends.

    Args:
        kind: "stand-in", or a weight file.
        photos: The folder of photos.
        fault: "torn" to write shards in place and slowly.
    """
    if fault == "torn":
        setattr(feature_store, "write_bytes", _write_in_place)  # noqa: B010  (a plain assignment is no typed one)
    features.SHARD_ROWS = ROWS
    handler = _Damaged()
    logging.getLogger("jclip_adapter.features.store").addHandler(handler)
    stand_in = StandIn(None, Path("stand-in"), "0" * 64, BATCH)  # type: ignore[arg-type]
    encoder = stand_in if kind == "stand-in" else load_encoder(kind, "cpu", BATCH)
    encoder.images(np.zeros((1, encoder.image_size, encoder.image_size, 3), np.uint8))
    # Only now: Jittor needs its locks while eight processes compile the same kernels.
    locks: list[str] = []
    fcntl.flock = lambda *_: locks.append("flock")
    fcntl.lockf = lambda *_: locks.append("lockf")
    paths = sorted(photos.iterdir())
    print(json.dumps({"key": encoder.image_key()[:32], "width": encoder.width}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        order = np.random.default_rng(task["seed"]).permutation(len(paths))
        time.sleep(max(0.0, task["start"] - time.time()))
        handler.count = 0
        found = encode_photos(encoder, [paths[place] for place in order], Path(task["cache"]), workers=0)
        rows = np.empty_like(found.raw)
        rows[order] = found.raw
        digest = hashlib.sha256(rows.tobytes()).hexdigest()
        answer = {"digest": digest, "damaged": handler.count, "locks": len(locks), "bad": len(found.bad)}
        print(json.dumps(answer), flush=True)


def _write_in_place(path: str | Path, data: bytes, _: object) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("wb", buffering=0) as handle:
        for first in range(0, len(data), 256):
            handle.write(data[first : first + 256])
            time.sleep(0.001)


class Crew:
    """The processes, which live through many trials.

    Args:
        kind: As for `work`.
        photos: As for `work`.
        fault: As for `work`.
    """

    def __init__(self, kind: str, photos: Path, fault: str = "") -> None:
        command = [sys.executable, "-m", __spec__.name, "--worker", kind, str(photos), "--fault", fault]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by __exit__)
        self._members = [
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
            for _ in range(PROCESSES)
        ]
        self.facts, *others = [self._read(member) for member in self._members]
        if not self.facts or any(other != self.facts for other in others):
            raise RuntimeError(f"a process did not start: {self.messages()}")

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for member in self._members:
            assert member.stdin is not None  # noqa: S101  (Popen was given pipes; for the type checker)
            with contextlib.suppress(OSError):
                member.stdin.close()
            try:
                member.wait(10)
            except subprocess.TimeoutExpired:
                member.kill()
                member.wait()
        self._errors.close()

    def messages(self) -> str:
        """The end of what the processes wrote on stderr."""
        self._errors.seek(0)
        return self._errors.read()[-600:].decode("utf-8", "replace")

    @staticmethod
    def _read(member: subprocess.Popen[str]) -> dict[str, Any]:
        """A process's next answer; empty where it has died."""
        assert member.stdout is not None  # noqa: S101
        line = member.stdout.readline()
        return dict(json.loads(line)) if line else {}

    def extract(self, cache: Path, rng: np.random.Generator, count: int = PROCESSES) -> list[dict[str, Any]]:
        """Let the first `count` processes extract at once; their answers."""
        start = time.time() + _SOON_S
        for member in self._members[:count]:
            task = {
                "cache": str(cache),
                "start": start + float(rng.uniform(0, _SPREAD_S)) * int(rng.integers(2)),
                "seed": int(rng.integers(2**31)),
            }
            assert member.stdin is not None  # noqa: S101
            with contextlib.suppress(OSError):  # a dead one's answer is empty
                member.stdin.write(json.dumps(task) + "\n")
                member.stdin.flush()
        return [self._read(member) for member in self._members[:count]]


def _is_whole(shard: Path) -> bool:
    """Whether a shard's checksum is right, and its name the checksum's first half."""
    data = shard.read_bytes()
    try:
        check_npz(data)
    except DataError:
        return False
    return data[-64:-32].decode() == shard.stem


def examine(cache: Path, facts: dict[str, Any], wanted: dict[bytes, bytes]) -> str:
    """What is wrong with a store; an empty string if nothing.

    Args:
        cache: The folder of stores.
        facts: Key and width of the store.
        wanted: The bytes of each feature by its key.
    """
    folder = cache / f"images-{facts['key']}"
    for path in sorted(cache.rglob("*")):
        if path.is_file() and (path.suffix != ".npz" or path.name.startswith(".") or path.parent != folder):
            return f"a stray file {path.name}"
        if path.is_file() and not _is_whole(path):
            return f"a damaged shard {path.name}"
    found = stored(cache, facts, list(wanted))
    different = [key for key in wanted if found.get(key) != wanted[key]]
    return f"{len(different)} of {len(wanted)} features are missing or different" if different else ""


def stored(cache: Path, facts: dict[str, Any], keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """The bytes of the features that a store holds of these keys."""
    store = FeatureStore(cache / f"images-{facts['key']}", int(facts["width"]))
    return {key: store.get([key]).tobytes() for key in keys if key in store}


def trial_faults(
    kind: str, photos: Path, trials: int, rng: np.random.Generator, fault: str = ""
) -> Iterator[tuple[str, int]]:
    """Run trials with one crew; yields for each what went wrong (empty if nothing), and how many shards there are."""
    keys = [hashlib.sha256(path.read_bytes()).digest() for path in sorted(photos.iterdir())]
    with Crew(kind, photos, fault) as crew, tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "alone"
        reference = crew.extract(alone, rng, 1)[0]
        wanted = stored(alone, crew.facts, keys)
        if len(wanted) != len(set(keys)):
            raise RuntimeError("a single process did not extract all features")
        for number in range(trials):
            cache = Path(folder) / str(number)
            answers = crew.extract(cache, rng)
            faults = [
                "a process died" if not each else f"a process met {each['damaged']} damaged shards, or other features"
                for each in answers
                if not each or each["digest"] != reference["digest"] or each["damaged"] or each["bad"]
            ]
            faults += [crew.messages()] if not all(answers) else []
            faults += ["a lock was taken"] if any(each.get("locks") for each in answers) else []
            found = examine(cache, crew.facts, wanted)
            shards = len(list(cache.rglob("*.npz")))
            yield "; ".join([*faults, *([found] if found else [])]), shards


def run(trials: int, seed: int, *, stand_in: bool = False, fault: str = "") -> outcome.Outcome:
    """Let eight processes extract at once.

    Args:
        trials: How often.
        seed: Of orders and delays.
        stand_in: Whether a stand-in takes the place of CLIP's forward pass.
        fault: As for `work`.
    """
    rng = np.random.default_rng(seed)
    found: list[tuple[str, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        for number in range(PHOTOS):
            picture(number, 40, 40).save(photos / f"{number}.png")
        kind = "stand-in" if stand_in else str(write_safe(Path(folder) / "tiny.safetensors"))
        each = trial_faults(kind, photos, trials, rng, fault)
        found += tqdm(each, total=trials, desc="eight processes at once", unit="trial")
    faults = [text for text, _ in found if text]
    shards = [count for _, count in found]
    fewest = PHOTOS // ROWS
    return outcome.Outcome(
        "eight-processes",
        f"{PROCESSES} processes extract the same {PHOTOS} features into one store at once, {trials} times, flock and "
        "lockf doing nothing" + (", with a stand-in for CLIP's forward pass" if stand_in else ""),
        "no corruption",
        f"{len(found) - len(faults)} of {len(found)} stores are whole: all features there, to the bit those of a "
        "single process, no other file beside the shards, no damaged shard met meanwhile, no lock asked for",
        len(found),
        len(faults),
        {
            "shards_of_a_single_process": fewest,
            "shards_per_trial": {"fewest": min(shards, default=0), "most": max(shards, default=0)},
            "faults": faults[:10],
        },
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trials, or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stand-in", action="store_true", help="something cheap in place of CLIP's forward pass")
    parser.add_argument("--fault", choices=("", "torn"), default="", help="plant this fault, which must be noticed")
    parser.add_argument("--worker", nargs=2, metavar=("KIND", "PHOTOS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.worker:
        work(arguments.worker[0], Path(arguments.worker[1]), arguments.fault)
        return 0
    done = run(arguments.trials, arguments.seed, stand_in=arguments.stand_in, fault=arguments.fault)
    return outcome.write(done) if not arguments.fault else int(done.failures > 0)


if __name__ == "__main__":
    sys.exit(main())
