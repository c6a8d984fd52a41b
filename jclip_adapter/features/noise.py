"""Gaussian noise on photos, to measure what it does to training."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from jclip_adapter import runtime
from jclip_adapter.core.console import progress
from jclip_adapter.core.task import chunks
from jclip_adapter.data.photos.augmentation import TrainingPhotos
from jclip_adapter.data.photos.preprocess import normalise_pixels
from jclip_adapter.models.base import pad
from jclip_adapter.models.clip.encoder import Encoder
from jclip_adapter.storage import check_folder_writable

from .encoding import PhotoFeatures, image_store


def with_noise(encoder: Encoder, photos: PhotoFeatures, cache: Path, deviation: float, seed: int) -> PhotoFeatures:
    """Encode photos again with independent Gaussian noise on each normalised pixel, one draw per photo.

    The values are not clipped, as in the experiment of the Multi-Modal Adapter's authors. Features in the store are not
    encoded again. A photo's noise depends on its bytes and the seed, not on the other photos.

    Args:
        encoder: The CLIP.
        photos: The photos without noise.
        cache: Folder of all stores.
        deviation: Standard deviation after CLIP's normalisation.
        seed: Seed of the noise.

    Returns:
        The photos with the features of their noisy pixels.
    """
    store = image_store(encoder, cache)
    readable = np.flatnonzero(photos.readable)
    facts = f"noise {deviation} {seed}".encode()
    keys = [hashlib.sha256(photos.keys[row] + facts).digest() for row in readable]
    missing = np.array([place for place, key in enumerate(keys) if key not in store], dtype=np.int64)
    pixels = TrainingPhotos(photos.paths, encoder.image_size, encoder.transform, encoder.reading)
    if len(missing):
        check_folder_writable(store.folder)
    with progress(total=len(missing), desc="encoding noisy photos", unit="photo", delay=2) as bar:
        for part in chunks(missing, encoder.batch_size):
            values = normalise_pixels(pixels(readable[part], None, 1.0), encoder.transform)
            for place, row in enumerate(readable[part]):
                rng = np.random.default_rng([seed, int.from_bytes(photos.keys[row][:8], "big")])
                values[place] += np.float32(deviation) * rng.standard_normal(values[place].shape, dtype=np.float32)
            with runtime.start().no_grad():
                rows = np.array(encoder.model.encode_image(pad(values, encoder.pass_rows)).numpy(), dtype=np.float32)
            store.add([keys[place] for place in part], rows[: len(part)])
            bar.update(len(part))
    raw = np.zeros_like(photos.raw)
    raw[readable] = store.get(keys)
    return dataclasses.replace(photos, raw=raw, encoded=len(missing))
