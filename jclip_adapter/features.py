"""Photos and texts to features, each encoded once and kept.

The store is a folder of shards whose names are the SHA-256 of their own bytes, so a damaged one is noticed and a
lost one costs only itself; writers never touch each other's files, so several processes may fill it at once. A
photo is found again by the SHA-256 of its bytes, a text by that of its letters, below a fingerprint of the
weights and the preprocessing: whatever changes the numbers changes the key.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from .augmentation import TrainingPhotos
from .decode import Decoded, Job, PhotoError, read_file, try_square
from .decoders import decode_all
from .encoder import Encoder
from .errors import DataError
from .prompts import PromptSet
from .storage import discard, npz_bytes, read_npz, sweep_strays, write_bytes
from .task import Array, normalise, text_classifier

logger = logging.getLogger(__name__)
SHARD_ROWS = 128  # what a run that is killed has to do again at most
VIEW_SHARE = 0.5  # least share of a photo's area in an augmented copy, as Tip-Adapter's authors have it
_FEW = 32  # so few photos are decoded faster than other processes start


class FeatureStore:
    """Features on disk, by key.

    Args:
        folder: Of this kind of feature; made when something is added.
        width: Of the features.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self.width = width
        self._rows: dict[bytes, Array] = {}
        if folder.is_dir():
            sweep_strays(folder)
            for path in sorted(folder.glob("*.npz")):
                self._read(path)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def _read(self, path: Path) -> None:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest()[:32] != path.stem:
            logger.warning("%s is damaged: its features are computed again", path)
            discard(path)
            return
        try:
            shard = read_npz(data)
            keys, features = shard["keys"], shard["features"]
        except (DataError, KeyError):
            logger.warning("%s holds no features and is left alone", path)
            return
        fits = keys.shape == (*features.shape[:1], 32) and features.shape[1:] == (self.width,)
        if fits and keys.dtype == np.uint8 and features.dtype == np.float32:
            self._rows.update((key.tobytes(), row) for key, row in zip(keys, features, strict=True))

    def add(self, keys: Sequence[bytes], features: Array) -> None:
        """Keep features, as one new shard.

        Args:
            keys: n SHA-256 digests.
            features: (n, width) float32.
        """
        table = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape((len(keys), 32))
        data = npz_bytes({"keys": table, "features": features})
        write_bytes(self.folder / f"{hashlib.sha256(data).hexdigest()[:32]}.npz", data)
        self._rows.update(zip(keys, features, strict=True))

    def get(self, keys: Sequence[bytes]) -> Array:
        """(n, width) features of keys that are all there."""
        if not keys:
            return np.zeros((0, self.width), dtype=np.float32)
        return np.stack([self._rows[key] for key in keys])


@dataclass(frozen=True)
class PhotoFeatures:
    """Features of a list of photos.

    Attributes:
        raw: (N, d) un-normalised features; rows of zeros where a photo could not be read.
        bad: What is wrong, by the photo's place in the list.
        encoded: How many photos went through CLIP now.
        paths: N photo files.
    """

    raw: Array
    bad: dict[int, str]
    encoded: int
    paths: tuple[Path, ...]

    @property
    def readable(self) -> npt.NDArray[np.bool_]:
        """(N,) whether the photo could be read."""
        mask = np.ones(len(self.raw), dtype=bool)
        mask[list(self.bad)] = False
        return mask

    @property
    def normalised(self) -> Array:
        """(N, d) L2-normalised features."""
        return normalise(self.raw)


def encode_photos(encoder: Encoder, paths: Sequence[Path], cache: Path, workers: int = -1) -> PhotoFeatures:
    """Encode photos, taking from the store what is there.

    Decoding runs in other processes while CLIP encodes in this one (Jittor keeps Python's lock while it
    computes, so threads would stand still). A finished shard stays, wherever the run is stopped.

    Args:
        encoder: The CLIP.
        paths: N photo files.
        cache: Folder of all stores.
        workers: Decoding processes; 0 decodes in this one, −1 takes one per core, at most 8.

    Returns:
        The features in the order of `paths`.
    """
    store = FeatureStore(cache / f"images-{encoder.image_key()[:32]}", encoder.width)
    keys: list[bytes] = []
    bad: dict[int, str] = {}
    for number, path in enumerate(paths):
        try:
            keys.append(hashlib.sha256(read_file(path)).digest())
        except PhotoError as error:
            keys.append(b"")
            bad[number] = error.message
    wanted = {key: number for number, key in reversed(list(enumerate(keys))) if key and key not in store}
    jobs = [(number, str(paths[number]), encoder.image_size) for number in sorted(wanted.values())]
    encoded = _encode_missing(encoder, store, jobs, keys, bad, workers)
    for number, key in enumerate(keys):
        if key and key not in store and number not in bad:  # a second copy of a photo that cannot be read
            bad[number] = f"{paths[number]} is no readable image."
    raw = np.zeros((len(paths), encoder.width), dtype=np.float32)
    good = [number for number in range(len(paths)) if number not in bad]
    raw[good] = store.get([keys[number] for number in good])
    return PhotoFeatures(raw, dict(sorted(bad.items())), encoded, tuple(paths))


def _encode_missing(
    encoder: Encoder,
    store: FeatureStore,
    jobs: list[Job],
    keys: list[bytes],
    bad: dict[int, str],
    workers: int,
) -> int:
    """Decode and encode `jobs` into the store; returns how many were encoded."""
    if not jobs:
        return 0
    size, step = encoder.image_size, encoder.batch_size
    pixels = np.zeros((step, size, size, 3), dtype=np.uint8)
    pending_keys: list[bytes] = []
    pending: list[Array] = []
    filled = encoded = 0
    batch_keys: list[bytes] = []

    def flush(final: bool) -> None:
        nonlocal filled, encoded
        if filled:
            pending.append(encoder.images(pixels[:filled]))
            pending_keys.extend(batch_keys)
            encoded += filled
            filled = 0
            batch_keys.clear()
        if pending and (final or len(pending_keys) >= SHARD_ROWS):
            store.add(pending_keys, np.concatenate(pending))
            pending_keys.clear()
            pending.clear()

    with tqdm(total=len(jobs), desc="encoding photos", unit="photo") as bar:
        for number, digest, result in _decoded(jobs, workers):
            bar.update()
            if isinstance(result, str):
                bad[number] = result
                continue
            keys[number] = digest  # of the bytes that were decoded, should the file have changed meanwhile
            pixels[filled] = result
            batch_keys.append(digest)
            filled += 1
            if filled == step:
                flush(final=False)
        flush(final=True)
    return encoded


def _decoded(jobs: list[Job], workers: int) -> Iterator[Decoded]:
    """Decode jobs in order, in other processes where it pays."""
    count = min(8, os.cpu_count() or 1) if workers < 0 else workers
    if count == 0 or len(jobs) <= _FEW:
        yield from map(try_square, jobs)
        return
    yield from decode_all(jobs, count)


def encode_views(
    encoder: Encoder, paths: Sequence[Path], cache: Path, count: int, seed: int, smallest: float = VIEW_SHARE
) -> Array:
    """Encode augmented copies of photos, cropped and flipped at random, taking from the store what is there.

    A copy depends on its photo's bytes, its number and the seed, and not on which other photos there are.

    Args:
        encoder: The CLIP.
        paths: N photo files, which can be read.
        cache: Folder of all stores.
        count: V copies of each.
        seed: Draws the crops.
        smallest: Least share of a photo's area that a copy shows.

    Returns:
        (V, N, d) un-normalised features.
    """
    store = FeatureStore(cache / f"images-{encoder.image_key()[:32]}", encoder.width)
    digests = [hashlib.sha256(read_file(path)).digest() for path in paths]
    copies = [(view, row) for row in range(len(paths)) for view in range(count)]
    facts = f"{smallest} {seed}"
    keys = {copy: hashlib.sha256(digests[copy[1]] + f"view {copy[0]} {facts}".encode()).digest() for copy in copies}
    photos = TrainingPhotos(paths, encoder.image_size)
    missing = [copy for copy in copies if keys[copy] not in store]
    if missing:
        with tqdm(total=len(missing), desc="encoding augmented copies", unit="copy") as bar:
            for first in range(0, len(missing), encoder.batch_size):
                part = missing[first : first + encoder.batch_size]
                pixels = [
                    photos(
                        np.array([row]),
                        np.random.default_rng([seed, view, int.from_bytes(digests[row][:8], "big")]),
                        smallest,
                    )
                    for view, row in part
                ]
                store.add([keys[copy] for copy in part], encoder.images(np.concatenate(pixels)))
                bar.update(len(part))
    rows = store.get([keys[view, row] for view in range(count) for row in range(len(paths))])
    return rows.reshape((count, len(paths), encoder.width))


def encode_texts(encoder: Encoder, texts: Sequence[str], cache: Path) -> Array:
    """Encode texts, taking from the store what is there.

    Args:
        encoder: The CLIP.
        texts: N texts; each different one is encoded once.
        cache: Folder of all stores.

    Returns:
        (N, d) un-normalised features in the order of `texts`.
    """
    store = FeatureStore(cache / f"texts-{encoder.text_key()[:32]}", encoder.width)
    keys = [hashlib.sha256(text.encode()).digest() for text in texts]
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in store}
    # Short texts first: a batch is as long as its longest text.
    todo = sorted(missing.items(), key=lambda item: (len(item[1]), item[1]))
    step = encoder.batch_size
    if todo:
        with tqdm(total=len(todo), desc="encoding texts", unit="text") as bar:
            for first in range(0, len(todo), step):
                part = todo[first : first + step]
                store.add([key for key, _ in part], encoder.texts([text for _, text in part]))
                bar.update(len(part))
    return store.get(keys)


@dataclass(frozen=True)
class TextFeatures:
    """Text features of a list of classes.

    Attributes:
        weights: (C, d) L2-normalised class text weights.
        raw: (C, d) mean of each class's un-normalised template features.
        views: per class (T, d) L2-normalised template features.
    """

    weights: Array
    raw: Array
    views: tuple[Array, ...]


def encode_classes(
    encoder: Encoder, prompts: PromptSet, names: Sequence[str], domains: Sequence[str], cache: Path
) -> TextFeatures:
    """Encode each class's prompts.

    Args:
        encoder: The CLIP.
        prompts: The prompt set.
        names: C full class names.
        domains: C domain names, "" for none.
        cache: Folder of all stores.

    Returns:
        The classes' text features.
    """
    texts = [prompts.texts(name, domain=domain) for name, domain in zip(names, domains, strict=True)]
    features = encode_texts(encoder, [text for group in texts for text in group], cache)
    ends = np.cumsum([len(group) for group in texts])
    groups = np.split(features, ends[:-1])
    return TextFeatures(
        weights=np.stack([text_classifier(group) for group in groups]),
        raw=np.stack([group.mean(axis=0) for group in groups]),
        views=tuple(normalise(group) for group in groups),
    )
