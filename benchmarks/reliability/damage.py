"""Damage: every artefact cut off at 500 lengths and with 10,000 single bits flipped, one at a time.

`python -m benchmarks.reliability.damage` writes each artefact as the program writes it, small, damages its file, and
lets the program read it. Detected means that the program refused it or, where it makes it anew by itself, logged it;
and that the message has the file's name. A failure is damage of a file of our own that goes unnoticed.

Weight files of others carry a check sum in some formats only, and the reader notices what it can. What holds for all
of them is that a run records the SHA-256 of its weights and a prediction compares it; so the second check here is just
that comparison. A failure is damage that neither notices; how much the reader alone does is among the facts.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jclip_adapter import storage
from jclip_adapter.cli import runs
from jclip_adapter.core.errors import AdapterError
from jclip_adapter.core.task import FewShotTask, normalise
from jclip_adapter.data.sample import read_sample_weights
from jclip_adapter.data.sets.model import ClassInfo, ImageSet, Photo
from jclip_adapter.data.submission import check_submission, write_submission
from jclip_adapter.evaluation.benchmark import finished_cell
from jclip_adapter.features.file import read_feature_file
from jclip_adapter.features.store import FeatureStore
from jclip_adapter.methods import create
from jclip_adapter.models.clip.config import VIT_B_32
from jclip_adapter.models.weights import load_weights, read_state_dict
from jclip_adapter.models.weights.confined import write_converted
from jclip_adapter.storage import ANY, npz_bytes, write_bytes, write_checked_json
from tools.sample.weights import write_sample_weights

from . import outcome
from .hostile_pickles import GENUINE

LENGTHS, FLIPS = 500, 10_000
# The reader's part with these is what their formats offer; see the module's docstring.
FOREIGN = (
    "jittor-numpy.pkl",
    "jclip-torch.pkl",
    "numpy-protocol-2.pkl",
    "numpy-protocol-5.pkl",
    "zip.pt",
    "scripted-half.pt",
    "legacy.pt",
    "hugging_face.bin",
    "hugging_face.safetensors",
)


@dataclass(frozen=True)
class Artefact:
    """A file that may be damaged.

    Attributes:
        kind: What to call it.
        path: Where it lies.
        read: Reads it as the program does; raises or logs where it is damaged.
        sha256: What a run would have recorded of it; empty where nothing outside the file helps.
    """

    kind: str
    path: Path
    read: Callable[[], object]
    sha256: str = ""


# --- the artefacts


def artefacts(folder: Path) -> list[Artefact]:
    """Write one of every kind.

    Args:
        folder: Where; must be empty.
    """
    rng = np.random.default_rng(0)
    return [
        *_run_folder(folder / "run", rng),
        *_features(folder, rng),
        _checkpoint(folder / runs.CHECKPOINT, rng),
        *_submission(folder / "result.txt", rng),
        *_own_weights(folder, rng),
        *_foreign_weights(folder),
    ]


def _run_folder(folder: Path, rng: np.random.Generator) -> list[Artefact]:
    names = tuple(f"Animal_Bear number {number}" for number in range(12))
    task = FewShotTask(
        support_features=normalise(rng.normal(size=(24, 16))),
        support_labels=np.arange(24) % 12,
        text_features=normalise(rng.normal(size=(12, 16))),
        class_names=names,
    )
    method = create("tip-adapter").fit(task)
    method.history_ = [{"epoch": epoch, "loss": 1 / epoch} for epoch in range(1, 41)]
    support = "".join(f"TrainSet/Animal/Bear/{number}.jpg {number % 12}\n" for number in range(60))
    facts = {"settings": {"weights": "tiny.pkl"}, "weights_sha256": "0" * 64, "classes": [*names] * 4}
    runs.save_run(folder, method, {runs.SUPPORT: support}, facts, {"epochs": method.history_})
    files = (runs.ADAPTER, runs.SUPPORT, runs.RUN, runs.METRICS, runs.CURVES, storage.MANIFEST)
    return [Artefact(f"run folder: {name}", folder / name, lambda: runs.open_run(folder)) for name in files]


def _features(folder: Path, rng: np.random.Generator) -> list[Artefact]:
    store = FeatureStore(folder / "images", 16)
    store.add([bytes([number]) * 32 for number in range(16)], rng.normal(size=(16, 16)).astype(np.float32))
    rows = rng.normal(size=(8, 16)).astype(np.float32)
    labels = np.arange(8) % 2
    arrays = {"classnames": np.array(["a", "b"]), "text": rows[:2], "test_x": rows, "test_y": labels}
    write_bytes(folder / "features.npz", npz_bytes(arrays | {"train4_x": rows, "train4_y": labels}), ANY)
    cell = {"dataset": "toy", "top1": 61.25, "hyperparameters": {f"value{number}": number / 7 for number in range(60)}}
    write_checked_json(folder / "cell.json", cell)
    return [
        Artefact("feature shard", next(store.folder.glob("*.npz")), lambda: FeatureStore(store.folder, 16)),
        Artefact("feature file", folder / "features.npz", lambda: read_feature_file(folder / "features.npz")),
        Artefact("benchmark cell", folder / "cell.json", lambda: finished_cell(folder / "cell.json")),
    ]


def _checkpoint(path: Path, rng: np.random.Generator) -> Artefact:
    from jclip_adapter.methods.training.checkpoint import Checkpoint  # starts Jittor

    checkpoint = Checkpoint(path, "a training's fingerprint")
    prompt = rng.normal(size=(16, 32)).astype(np.float32)
    checkpoint.write({"prompt": prompt, "losses": np.array([2.0, 1.5, 1.0])})
    return Artefact("checkpoint", path, lambda: checkpoint.read(["prompt"]))


def _submission(path: Path, rng: np.random.Generator) -> list[Artefact]:
    classes = tuple(ClassInfo(number, f"Animal_{number}", "Animal", "") for number in range(374))
    photos = tuple(Photo(path.parent, f"image_{number}.jpg", None) for number in range(1, 121))
    images = ImageSet("toy", path.parent, "contest", classes, (), photos, "A", path.parent)
    ids = np.stack([rng.permutation(374)[:5] for _ in photos])
    _, packed = write_submission(path, images.test_names, ids)
    return [
        Artefact("result.txt, its zip beside it", path, lambda: check_submission(path, images)),
        Artefact("result.zip", packed, lambda: check_submission(path, images)),
    ]


def _own_weights(folder: Path, rng: np.random.Generator) -> list[Artefact]:
    converted, sample = folder / "converted.safetensors", folder / "sample.safetensors"
    write_converted(load_weights(GENUINE / "jclip-torch.pkl"), VIT_B_32.settings(), converted)
    state = {"token_embedding.weight": rng.normal(size=(40, 8)), "visual.proj": rng.normal(size=(8, 16))}
    write_sample_weights(sample, state, np.arange(40), {"seed": "0"})
    return [
        Artefact("converted weights", converted, lambda: read_state_dict(converted)),
        Artefact("sample's weights", sample, lambda: read_sample_weights(sample)),
    ]


def _foreign_weights(folder: Path) -> list[Artefact]:
    found = []
    for name in FOREIGN:
        path = folder / name
        path.write_bytes((GENUINE / name).read_bytes())
        digest = storage.sha256_file(path)
        found.append(Artefact(f"weights: {name}", path, lambda path=path: read_state_dict(path), digest))  # type: ignore[misc]
    return found


# --- the damage


def damaged(data: bytes, lengths: int, flips: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """A file cut off at so many lengths, and with so many different bits flipped; all there are, if there are fewer.

    Args:
        data: The sound file.
        lengths: How many lengths, evenly spread over all that are too short.
        flips: How many bits, drawn at random.
        seed: Of the draw.

    Yields:
        What was done, and the damaged file.
    """
    for length in np.unique(np.linspace(0, len(data) - 1, lengths).astype(int)):
        yield f"cut to {length} bytes", data[:length]
    places = np.random.default_rng(seed).permutation(8 * len(data))[:flips]
    for place in map(int, places):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        yield f"bit {place % 8} of byte {place // 8} flipped", bytes(changed)


_NOTICED = ("refused", "logged", "sha256")


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def _logged() -> Iterator[list[str]]:
    """What the package logs within the block."""
    handler, logger = _Log(), logging.getLogger("jclip_adapter")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def _noticed(artefact: Artefact, log: list[str]) -> str:
    """What notices that a file is damaged: "refused", "logged" or "sha256"; "" for nothing, or another error."""
    log.clear()
    try:
        artefact.read()
    except AdapterError as error:
        lines = [str(error), *error.details]
        return "refused" if any(artefact.path.name in line for line in lines) else ""
    except Exception as error:  # noqa: BLE001  (a fault of ours, which is what we count)
        return f"raised {type(error).__name__}"
    if any(artefact.path.name in line for line in log):
        return "logged"
    return "sha256" if artefact.sha256 and storage.sha256_file(artefact.path) != artefact.sha256 else ""


def spoil(artefact: Artefact, lengths: int, flips: int, seed: int) -> tuple[dict[str, Any], list[str]]:
    """Damage an artefact in every way.

    Returns:
        Counts by what was done and what noticed it, and what went unnoticed.
    """
    sound = artefact.path.read_bytes()
    counts: dict[str, Counter[str]] = {"cuts": Counter(), "flips": Counter()}
    missed = []
    with _logged() as log:
        if _noticed(artefact, log):
            return {}, [f"{artefact.kind}: found damaged before it was"]
        for what, data in damaged(sound, lengths, flips, seed):
            artefact.path.write_bytes(data)
            by = _noticed(artefact, log)
            counts["cuts" if what.startswith("cut") else "flips"][by or "unnoticed"] += 1
            if by not in _NOTICED:
                missed.append(f"{artefact.kind}: {what}: {by or 'unnoticed'}")
        artefact.path.write_bytes(sound)
        if _noticed(artefact, log):
            missed.append(f"{artefact.kind}: found damaged when it was sound again")
    return {"bytes": len(sound), **{what: dict(found) for what, found in counts.items()}}, missed


def main(argv: list[str] | None = None) -> int:
    """Damage every artefact and write the outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=FLIPS, help="flipped bits of each file (10000); lengths: 1 in 20")
    parser.add_argument("--seed", type=int, default=0, help="of the bits (0)")
    arguments = parser.parse_args(argv)
    started = time.perf_counter()
    facts: dict[str, Any] = {}
    missed: list[str] = []
    lengths = max(2, arguments.trials * LENGTHS // FLIPS)
    with tempfile.TemporaryDirectory() as folder:
        for artefact in tqdm(artefacts(Path(folder)), desc="damaged artefacts", unit="kind"):
            facts[artefact.kind], unnoticed = spoil(artefact, lengths, arguments.trials, arguments.seed)
            missed += unnoticed
    own = [found for kind, found in facts.items() if not kind.startswith("weights:")]
    foreign = {kind: found for kind, found in facts.items() if kind.startswith("weights:")}
    own_tries = sum(map(_total, own))
    own_missed = sum(not line.startswith("weights:") for line in missed)
    tries = sum(_total(found) for found in facts.values())
    by_reader = {
        kind.removeprefix("weights: "): round(100 * found["flips"].get("refused", 0) / sum(found["flips"].values()), 1)
        for kind, found in foreign.items()
    }
    cuts_left = sum(sum(found["cuts"].values()) - found["cuts"].get("refused", 0) for found in foreign.values())
    return outcome.write(
        outcome.Outcome(
            name="damage",
            tried=f"each of {len(own)} kinds of files of our own and {len(foreign)} of weight files cut off at up to "
            f"{lengths} lengths, and up to {arguments.trials:,} single bits of each flipped",
            wanted="every one detected, by the file's name",
            reached=f"{tries - len(missed):,} of {tries:,} detected: {own_tries - own_missed:,} of {own_tries:,} of "
            f"our own files by their check sums or contents; of weights of others the reader refused all but "
            f"{cuts_left} cuts and, by format, {min(by_reader.values())} to {max(by_reader.values())} % of the flips, "
            "the rest is noticed by the SHA-256 that a run has recorded, and so not before the first training",
            count=tries,
            failures=len(missed),
            facts={
                "flips_refused_by_the_reader_percent": by_reader,
                "by_kind": facts,
                "missed": missed[:20],
                "not_covered": "files that no command reads again: evaluation.json, confusion.png, result.rejects.txt, "
                "results.csv; a result.txt without its zip, where one id may become another",
                "seconds": round(time.perf_counter() - started),
            },
        )
    )


def _total(found: dict[str, Any]) -> int:
    return sum(sum(found.get(what, {}).values()) for what in ("cuts", "flips"))


if __name__ == "__main__":
    sys.exit(main())
