"""What this program and JCLIP's way of it compute: a process that speed.py drives.

    python -m benchmarks.speed_ours WAY FOLDER DEVICE

WAY is a precision of ours, or "jclip". FOLDER holds weights.safetensors and photos.txt, a path per line; or it is the
folder of a model, where no photo files are asked for. Each question is {"task": …, "count": …, "batch": …}; the answer
holds seconds, count and the most memory so far. The tasks "check" and "images" ask for features themselves, "long" for
many photos and the memory in use.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.speed_world import TEXT_CLASSES, prompts_of
from benchmarks.turns import answers_to, peak_mb
from jclip_adapter import runtime
from jclip_adapter.core.task import FewShotTask, normalise
from jclip_adapter.data.photos.preprocess import normalise_pixels
from jclip_adapter.features.encoding import encode_photos, encode_texts
from jclip_adapter.features.store import FeatureStore
from jclip_adapter.models.backbones.encoder import load_backbone
from jclip_adapter.models.base import ImageEncoder
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.models.clip.tokenizer import token_ids
from jclip_adapter.storage import read_safetensors

WIDTH = 512  # of ViT-B/32's features
SIDE = 2048  # of the matrices whose product is the machine's limit
EARLY = 2000  # photos after which memory should grow no more


def some_pixels(count: int, side: int) -> Any:
    """(count, side, side, 3) uint8 noise."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def adapter_task(classes: int, shots: int) -> FewShotTask:
    """Random features of a contest's size."""
    rng = np.random.default_rng(0)
    return FewShotTask(
        support_features=normalise(rng.standard_normal((classes * shots, WIDTH))),
        support_labels=np.repeat(np.arange(classes), shots),
        text_features=normalise(rng.standard_normal((classes, WIDTH))),
        class_names=tuple(map(str, range(classes))),
    )


def passes(encoder: ImageEncoder, count: int) -> Callable[[], int]:
    """Passes of so many decoded photos through a network."""
    pixels, step = some_pixels(count, encoder.image_size), encoder.batch_size

    def run() -> int:
        for first in range(0, count, step):
            encoder.images(pixels[first : first + step])
        return count

    return run


class Ours:
    """This program.

    Args:
        precision: Of the products.
        folder: As above.
        device: "cpu" or "cuda".
    """

    def __init__(self, precision: str, folder: Path, device: str) -> None:
        self.device, self.precision = device, precision
        weights, photos = folder / "weights.safetensors", folder / "photos.txt"
        self.weights = str(weights if weights.exists() else folder)
        self.paths = [Path(line) for line in photos.read_text("utf-8").splitlines()] if photos.exists() else []
        self.encoders: dict[int, Any] = {}

    def encoder(self, batch: int) -> Any:
        """One per batch size; 0 for the size that it chooses."""
        if batch not in self.encoders:
            self.encoders = {batch: load_encoder(self.weights, self.device, batch, precision=self.precision)}
        return self.encoders[batch]

    def encode(self, count: int, batch: int) -> Callable[[], int]:
        """Photos that are decoded already."""
        return passes(self.encoder(batch), count)

    def lite(self, count: int, batch: int) -> Callable[[], int]:
        """Photos that are decoded already, through EfficientNet-Lite0."""
        return passes(load_backbone("efficientnet-lite0", self.device, batch), count)

    def end_to_end(self, count: int, batch: int) -> Callable[[], int]:
        """Photo files, decoded and encoded, into an empty store."""
        encoder = self.encoder(batch)

        def run() -> int:
            with tempfile.TemporaryDirectory() as cache:
                return encode_photos(encoder, self.paths[:count], Path(cache)).encoded

        return run

    def text(self, count: int, batch: int) -> Callable[[], int]:
        """The ensemble's prompts of `count` classes, into an empty store."""
        encoder, groups = self.encoder(batch), prompts_of(count)
        texts = [text for group in groups for text in group]

        def run() -> int:
            with tempfile.TemporaryDirectory() as cache:
                return len(encode_texts(encoder, texts, Path(cache)))

        return run

    def adapter(self, count: int, batch: int) -> Callable[[], int]:
        """`batch` shots of each of `count` classes, ten epochs of jclip-adapter."""
        from jclip_adapter.methods import create

        task = adapter_task(count, batch)

        def run() -> int:
            create("jclip-adapter", epochs=10).fit(task)
            return 10

        return run

    def product(self, count: int, batch: int) -> Callable[[], int]:
        """GFLOP of square matrix products, `count` times."""
        jt = runtime.start(self.device)
        from jclip_adapter.models.clip.inference import operations

        ops, rng = operations(), np.random.default_rng(0)
        a, b = (jt.array(rng.standard_normal((SIDE, SIDE)).astype(np.float32)) for _ in range(2))
        # Rows in the products' own precision: a norm's output has it.
        rows = ops.layer_norm(a, jt.ones(SIDE), jt.zeros(SIDE), self.precision)
        packed, bias = ops.pack(b, self.precision), jt.zeros(SIDE)
        jt.sync([rows, packed, bias])

        def run() -> int:
            for _ in range(count):
                ops.linear(rows, packed, bias, self.precision, out=self.precision).sync()
            jt.sync_all(True)
            return count * 2 * SIDE**3 // 10**9

        return run

    def features(self) -> tuple[Any, Any]:
        """Of a few photos and texts."""
        return self.images(), self.encoder(0).texts(prompts_of(TEXT_CLASSES)[0][:4])

    def images(self) -> Any:
        """Features of a few photos."""
        encoder = self.encoder(0)
        return encoder.images(some_pixels(4, encoder.image_size))

    def long(self, count: int) -> dict[str, Any]:
        """Encode `count` photos in one go, the listed ones again and again with other last bytes."""
        early = 0.0
        genuine = FeatureStore.add

        def add(store: FeatureStore, *rest: Any) -> None:
            nonlocal early
            genuine(store, *rest)
            if not early and len(store) >= EARLY:
                early = memory_mb()

        with tempfile.TemporaryDirectory() as name:
            folder, data = Path(name), [path.read_bytes() for path in self.paths]
            paths = [folder / f"{number}.jpg" for number in range(count)]
            for number, path in enumerate(paths):
                path.write_bytes(data[number % len(data)] + str(number).encode())
            with mock.patch.object(FeatureStore, "add", add):
                started = time.perf_counter()
                encode_photos(self.encoder(0), paths, folder / "features")
                seconds = time.perf_counter() - started
        return {"seconds": seconds, "count": count, "early_mb": early, "late_mb": memory_mb()}


def memory_mb() -> float:
    """What this process has in memory now."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize() / 1e6


class Jclip:
    """JCLIP's way of it.

    Args:
        folder: As above.
        device: "cpu" or "cuda".
    """

    def __init__(self, folder: Path, device: str) -> None:
        runtime.start(device)
        from benchmarks.jclip_reference import Reference

        arrays, _ = read_safetensors(folder / "weights.safetensors")
        patch, grid = arrays["visual.conv1.weight"].shape[-1], len(arrays["visual.positional_embedding"]) - 1
        self.model = Reference(arrays, patch * round(grid**0.5))
        self.paths = (folder / "photos.txt").read_text("utf-8").splitlines()

    def encode(self, count: int, batch: int) -> Callable[[], int]:
        """Photos that are decoded already, in batches."""
        pixels = normalise_pixels(some_pixels(count, self.model.side))

        def run() -> int:
            for first in range(0, count, batch):
                self.model.images(pixels[first : first + batch])
            return count

        return run

    def end_to_end(self, count: int, _: int) -> Callable[[], int]:
        """As baseline.py does: one photo after the other."""

        def run() -> int:
            for path in self.paths[:count]:
                self.model.images(self.model.photo(path))
            return count

        return run

    def text(self, count: int, _: int) -> Callable[[], int]:
        """The ensemble's prompts, class by class."""
        groups = [token_ids(group) for group in prompts_of(count)]

        def run() -> int:
            return sum(len(self.model.texts(tokens)) for tokens in groups)

        return run

    def features(self) -> tuple[Any, Any]:
        """Of the same photos and texts."""
        pixels = normalise_pixels(some_pixels(4, self.model.side))
        return self.model.images(pixels), self.model.texts(token_ids(prompts_of(TEXT_CLASSES)[0][:4]))


def main() -> None:
    """Answer questions."""
    logging.disable(logging.INFO)
    out = answers_to()
    way, folder, device = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    work: Any = Jclip(folder, device) if way == "jclip" else Ours(way, folder, device)
    ready: dict[str, Callable[[], int]] = {}
    for line in sys.stdin:
        question = json.loads(line)
        if question["task"] in ("check", "images", "long"):
            answer = work.long(question["count"]) if question["task"] == "long" else {}
            if question["task"] == "images":
                answer = {"images": work.images().tolist()}
            if question["task"] == "check":
                answer = dict(zip(("images", "texts"), (rows.tolist() for rows in work.features()), strict=True))
            out.write(json.dumps(answer) + "\n")
            out.flush()
            continue
        if line not in ready:
            ready = {line: getattr(work, question["task"])(question["count"], question["batch"])}
        started = time.perf_counter()
        count = ready[line]()
        answer = {"seconds": time.perf_counter() - started, "count": count}
        answer["peak_mb"] = peak_mb()
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
