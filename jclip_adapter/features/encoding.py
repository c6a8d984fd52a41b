"""Encoding of photos, sounds and texts, each once.

The store's key of a photo or a sound is the SHA-256 of its bytes, that of a text the SHA-256 of its characters, in a
folder named by a fingerprint of the weights and the preprocessing: whatever changes the features changes the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from jclip_adapter import runtime
from jclip_adapter.core.console import progress
from jclip_adapter.core.errors import DataError, PhotoError, SoundError, UsageError
from jclip_adapter.core.problems import counted
from jclip_adapter.core.task import Array, normalise, text_classifier
from jclip_adapter.data.photos.augmentation import TrainingPhotos
from jclip_adapter.data.photos.decode import Job, read_file
from jclip_adapter.data.photos.decoders import decode, in_threads
from jclip_adapter.data.sounds import read_sound
from jclip_adapter.data.texts.prompts import PromptSet
from jclip_adapter.models.base import ImageEncoder
from jclip_adapter.models.clip.encoder import Encoder
from jclip_adapter.models.clip.tokenizer import model_tokens
from jclip_adapter.models.reading import unread_share
from jclip_adapter.storage import check_folder_writable

from .store import FeatureStore

Item = TypeVar("Item")
SHARD_ROWS = 128  # photos that a killed process has to encode again at most
MOST_UNREAD = 0.5  # share of the prompts' letters that a model need not read
VIEW_SHARE = 0.5  # least share of a photo's area in an augmented view, as in Tip-Adapter's code


@dataclass(frozen=True)
class PhotoFeatures:
    """Features of a list of photos, or of sounds.

    Attributes:
        raw: (N, d) un-normalised features; rows of zeros where a photo could not be read.
        bad: Error message by index, for unreadable photos.
        encoded: How many photos were encoded, the others being in the store.
        paths: N photo files.
        keys: N SHA-256 digests of their bytes; b"" for a file that cannot be read.
    """

    raw: Array
    bad: dict[int, str]
    encoded: int
    paths: tuple[Path, ...]
    keys: tuple[bytes, ...]

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

    def refuse_bad(self, noun: str, hint: str) -> None:
        """Refuse unreadable files, if there are any.

        Args:
            noun: What they are, such as "photo".
            hint: What to do.

        Raises:
            DataError: a file could not be read; `details` lists all.
        """
        if self.bad:
            reasons = list(self.bad.values())
            raise DataError(f"{counted(len(reasons), noun)} cannot be read, the first: {reasons[0]}", hint, reasons)


def encode_photos(encoder: ImageEncoder, paths: Sequence[Path], cache: Path, workers: int = -1) -> PhotoFeatures:
    """Encode photos that the store lacks; finished shards survive an interruption.

    Args:
        encoder: The network.
        paths: N photo files; sound files for an encoder of sounds.
        cache: Folder of all stores.
        workers: As for `decoders.decode`.

    Returns:
        The features in the order of `paths`.
    """
    store = image_store(encoder, cache)
    keys, bad = photo_keys(paths)
    encoded = encode_missing(encoder, store, paths, keys, bad, workers)
    reasons = {keys[number]: reason.removeprefix(str(paths[number])) for number, reason in bad.items()}
    for number, key in enumerate(keys):
        if key and key not in store and number not in bad:  # a duplicate of an unreadable file, or of a changed one
            bad[number] = f"{paths[number]}{reasons.get(key, ' changed while it was read.')}"
    raw = np.zeros((len(paths), encoder.width), dtype=np.float32)
    good = [number for number in range(len(paths)) if number not in bad]
    raw[good] = store.get([keys[number] for number in good])
    return PhotoFeatures(raw, dict(sorted(bad.items())), encoded, tuple(paths), tuple(keys))


def image_store(encoder: ImageEncoder, cache: Path) -> FeatureStore:
    """The store of a network's photo features, in the folder of all stores."""
    return FeatureStore(cache / f"images-{encoder.image_key()[:32]}", encoder.width)


def photo_keys(paths: Sequence[Path]) -> tuple[list[bytes], dict[int, str]]:
    """The keys of photos.

    Args:
        paths: N photo files.

    Returns:
        N SHA-256 digests of their bytes, b"" for an unreadable file; and error messages by index.
    """
    keys: list[bytes] = []
    bad: dict[int, str] = {}
    for number, path in enumerate(progress(paths, desc="reading files", unit="file", leave=False, delay=2)):
        try:
            keys.append(hashlib.sha256(read_file(path)).digest())
        except PhotoError as error:
            keys.append(b"")
            bad[number] = error.message
    return keys, bad


def encode_missing(
    encoder: ImageEncoder,
    store: FeatureStore,
    paths: Sequence[Path],
    keys: list[bytes],
    bad: dict[int, str],
    workers: int,
    only: Container[bytes] | None = None,
) -> int:
    """Decode and encode photos that the store lacks.

    Args:
        encoder: The network.
        store: Its store, which gets the features.
        paths: N photo files.
        keys: Their keys; that of a file changed in the meantime is corrected.
        bad: Gets an error message by index for photos that cannot be decoded.
        workers: As for `encode_photos`.
        only: Keys of the photos to encode; None for all.

    Returns:
        How many were encoded.
    """
    first = {key: number for number, key in reversed(list(enumerate(keys))) if key and key not in store}
    wanted = sorted(number for key, number in first.items() if only is None or key in only)
    if not wanted:
        return 0
    check_folder_writable(store.folder)
    encoded = 0
    batch: list[tuple[bytes, npt.NDArray[Any]]] = []
    shard: list[tuple[bytes, Array]] = []

    def encode_batch(final: bool) -> None:
        nonlocal encoded
        if batch:
            rows = encoder.images(np.stack([pixels for _, pixels in batch]))
            shard.extend((key, row) for (key, _), row in zip(batch, rows, strict=True))
            encoded += len(batch)
            batch.clear()
        if shard and (final or len(shard) >= SHARD_ROWS):
            store.add([key for key, _ in shard], np.stack([row for _, row in shard]))
            shard.clear()

    with progress(total=len(wanted), desc=f"encoding {encoder.kind}s", unit=encoder.kind) as bar:
        for number, digest, result in _decoded(encoder, paths, wanted, workers):
            bar.update()
            if isinstance(result, str):
                bad[number] = result
                continue
            keys[number] = digest  # of the decoded bytes, if the file changed in the meantime
            batch.append((digest, result))
            if len(batch) == encoder.files_at_once:
                encode_batch(final=False)
        encode_batch(final=True)
    return encoded


def _decoded(
    encoder: ImageEncoder, paths: Sequence[Path], wanted: Sequence[int], workers: int
) -> Iterator[tuple[int, bytes, npt.NDArray[Any] | str]]:
    """Number, SHA-256 and pixels or samples of each wanted file; or b"" and an error message."""
    if encoder.kind == "sound":
        return in_threads(_try_sound, [(number, paths[number]) for number in wanted])
    jobs = [
        Job(number, str(paths[number]), encoder.image_size, encoder.transform, encoder.reading) for number in wanted
    ]
    return decode(jobs, workers, runtime.current_device())


def _try_sound(job: tuple[int, Path]) -> tuple[int, bytes, Array | str]:
    number, path = job
    try:
        digest, wave = hashlib.sha256(read_file(path)).digest(), read_sound(path)
        if hashlib.sha256(read_file(path)).digest() != digest:
            return number, b"", f"{path} changed while it was read."
    except (PhotoError, SoundError) as error:
        return number, b"", error.message
    return number, digest, wave


def encode_views(
    encoder: ImageEncoder, paths: Sequence[Path], cache: Path, count: int, seed: int, smallest: float = VIEW_SHARE
) -> Array:
    """Encode augmented views of photos, cropped and flipped at random; views in the store are not encoded again.

    A view depends on its photo's bytes, its number and the seed, not on the other photos.

    Args:
        encoder: The network.
        paths: N photo files, which can be read.
        cache: Folder of all stores.
        count: V views of each.
        seed: Seed of the crops.
        smallest: Least share of a photo's area that a view shows.

    Returns:
        (V, N, d) un-normalised features.
    """
    store = image_store(encoder, cache)
    digests = [hashlib.sha256(read_file(path)).digest() for path in paths]
    views = [(view, row) for row in range(len(paths)) for view in range(count)]
    facts = f"{smallest} {seed}"
    keys = {each: hashlib.sha256(digests[each[1]] + f"view {each[0]} {facts}".encode()).digest() for each in views}
    photos = TrainingPhotos(paths, encoder.image_size, encoder.transform, encoder.reading)

    def encoded(part: Sequence[tuple[int, int]]) -> Array:
        draws = [
            (np.random.default_rng([seed, view, int.from_bytes(digests[row][:8], "big")]), row) for view, row in part
        ]
        return encoder.images(np.concatenate([photos(np.array([row]), rng, smallest) for rng, row in draws]))

    features = stored(store, [(keys[each], each) for each in views], encoded, encoder.batch_size, "augmented view")
    return features.reshape((len(paths), count, encoder.width)).transpose(1, 0, 2)


def stored(
    store: FeatureStore,
    items: Sequence[tuple[bytes, Item]],
    encode: Callable[[Sequence[Item]], Array],
    size: int,
    what: str,
) -> Array:
    """(N, d) features of N pairs of key and item from the store; those that it lacks are encoded, `size` at once."""
    missing = list({key: item for key, item in items if key not in store}.items())
    if missing:
        check_folder_writable(store.folder)
        with progress(total=len(missing), desc=f"encoding {what}s", unit=what) as bar:
            for first in range(0, len(missing), size):
                part = missing[first : first + size]
                store.add([key for key, _ in part], encode([item for _, item in part]))
                bar.update(len(part))
    return store.get([key for key, _ in items])


def encode_texts(encoder: Encoder, texts: Sequence[str], cache: Path) -> Array:
    """Encode texts that the store lacks.

    Args:
        encoder: The CLIP.
        texts: N texts; duplicates are encoded once.
        cache: Folder of all stores.

    Returns:
        (N, d) un-normalised features in the order of `texts`.
    """
    store = FeatureStore(cache / f"texts-{encoder.text_key()[:32]}", encoder.width)
    keys = [hashlib.sha256(text.encode()).digest() for text in texts]
    # Short texts first: a batch is as long as its longest text.
    items = sorted(zip(keys, texts, strict=True), key=lambda item: (len(item[1]), item[1]))
    stored(store, items, encoder.texts, encoder.batch_size, "text")
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

    Raises:
        UsageError: the CLIP cannot read the prompts, or one is longer than its context.
    """
    texts = [prompts.texts(name, domain=domain) for name, domain in zip(names, domains, strict=True)]
    words = [prompts.class_name(name, domain) for name, domain in zip(names, domains, strict=True)]
    _check_read(encoder, prompts.name, [group[0] for group in texts], words)
    features = encode_texts(encoder, [text for group in texts for text in group], cache)
    ends = np.cumsum([len(group) for group in texts])
    groups = np.split(features, ends[:-1])
    return TextFeatures(
        weights=np.stack([text_classifier(group) for group in groups]),
        raw=np.stack([group.mean(axis=0) for group in groups]),
        views=tuple(normalise(group) for group in groups),
    )


def _check_read(encoder: Encoder, name: str, texts: Sequence[str], words: Sequence[str]) -> None:
    """Refuse prompts that the CLIP's tokenizer cannot read.

    Those are prompts most of whose letters it has no pieces for, and those of classes most of which become the same
    tokens, as it has one piece for all unknown letters.
    """
    tokenise = partial(model_tokens, config=encoder.source.config)
    share, reason = unread_share(texts, tokenise), ""
    if share > MOST_UNREAD:
        reason = f"its tokenizer has no pieces for {100 * share:.0f} % of their letters"
    else:
        different = len(set(words))
        read = len(np.unique(tokenise(list(dict.fromkeys(texts))), axis=0))
        if read <= different / 2:
            reason = f"it turns the names of {different} classes into {counted(read, 'text')}"
    if reason:
        raise UsageError(
            f"{encoder.weights} cannot read the prompts '{name}': {reason}.",
            "Give --weights a model that reads them (list models), such as hf:OFA-Sys/chinese-clip-vit-base-patch16 "
            "for Chinese, or other --prompts.",
        )
