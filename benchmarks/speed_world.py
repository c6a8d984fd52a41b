"""What the ways of computing take: weights, photos, texts; and a data set whose features are stored."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.cost_child import CLASSES, class_names
from jclip_adapter.core.errors import DataError, PhotoError
from jclip_adapter.data.photos.decode import open_image, read_file
from jclip_adapter.data.texts.prompts import load_prompts
from jclip_adapter.features.store import FeatureStore
from jclip_adapter.models.backbones.encoder import load_backbone
from jclip_adapter.models.clip.config import VIT_B_32
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.models.clip.tokenizer import token_ids
from jclip_adapter.storage import ANY, write_bytes, write_safetensors, write_text

SHOTS, TESTS, WIDTH = 4, 200, 512
TEXT_CLASSES = 8  # whose prompts are encoded
SUFFIXES = {".jpg", ".jpeg", ".png"}
NAMES = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "contest_classes_b.txt"


def prompts_of(count: int) -> list[list[str]]:
    """The ensemble's prompts of some of the contest's classes, evenly chosen."""
    names, prompts = class_names(CLASSES), load_prompts("ensemble")
    return [list(prompts.texts(names[number * CLASSES // count])) for number in range(count)]


def write(folder: Path, photos: Path, count: int) -> None:
    """Write weights.safetensors, weights.npz, lite.npz, photos.txt and texts.npz, and Dataset/ with results/features/.

    Args:
        folder: Where.
        photos: A folder of photos.
        count: How many of them are listed; they are repeated if there are fewer, which a store would notice.

    Raises:
        DataError: there are too few photos.
    """
    from tests.random_weights import random_state

    state = random_state(VIT_B_32)
    write_safetensors(folder / "weights.safetensors", state, {})
    np.savez(folder / "weights.npz", **state)
    np.savez(folder / "lite.npz", **dict(load_backbone("efficientnet-lite0", "cpu").state))
    tokens = {str(number): token_ids(group).astype(np.int64) for number, group in enumerate(prompts_of(TEXT_CLASSES))}
    np.savez(folder / "texts.npz", **tokens)
    paths = sorted(path for path in photos.rglob("*") if path.suffix.lower() in SUFFIXES)
    chosen = list(distinct(paths, count))
    write_text(folder / "photos.txt", "".join(f"{path.absolute()}\n" for path in chosen), ANY)
    write_stored(folder)


def distinct(paths: Sequence[Path], count: int) -> list[Path]:
    """The first `count` photos of different bytes that can be read.

    Raises:
        DataError: there are fewer.
    """
    found: dict[bytes, Path] = {}
    for path in itertools.islice(paths, 4 * count):
        try:
            data = read_file(path)
            open_image(data, str(path))
        except PhotoError:
            continue
        found.setdefault(hashlib.sha256(data).digest(), path)
        if len(found) == count:
            return list(found.values())
    raise DataError(f"there are {len(found)} different photos, {count} are needed.", "Give a folder with more.")


def write_stored(folder: Path) -> None:
    """A data set of the contest's size, of tiny photos, whose features are stored already: they are random numbers."""
    data, rng = folder / "Dataset", np.random.default_rng(0)
    buffer = BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    blank = buffer.getvalue()
    train, keys = [], []

    def photo(path: str) -> None:
        content = blank + path.encode()  # behind the picture's end, so that each has bytes of its own
        write_bytes(data / path, content, ANY)
        keys.append(hashlib.sha256(content).digest())

    names = [line.split() for line in NAMES.read_text("utf-8").splitlines()[:CLASSES]]
    for number, (name, _) in enumerate(names):
        for shot in range(SHOTS):
            path = f"TrainSet/{name}/{shot}.jpg"
            photo(path)
            train.append(f"{path} {number}\n")
    for number in range(TESTS):
        photo(f"TestSetA/image_{number}.jpg")
    write_text(data / "classes.txt", "".join(f"{name} {number}\n" for number, (name, _) in enumerate(names)), ANY)
    write_text(data / "train.txt", "".join(train), ANY)
    encoder = load_encoder(str(folder / "weights.safetensors"), "cpu")
    texts = set()
    for name, _ in names:
        texts.update(load_prompts("seed").texts(name, domain=name.partition("_")[0]))
    digests = [hashlib.sha256(text.encode()).digest() for text in sorted(texts)]
    for kind, found in ((f"images-{encoder.image_key()[:32]}", keys), (f"texts-{encoder.text_key()[:32]}", digests)):
        store = FeatureStore(folder / "results" / "features" / kind, WIDTH)
        store.add(found, rng.standard_normal((len(found), WIDTH)).astype(np.float32))


def processor() -> str:
    """The processor's name, as far as the system reports it."""
    try:
        return re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("utf-8"))[0]
    except (OSError, IndexError):
        return json.dumps(None)
