"""Gaussian noise on photos, to measure what it does to training."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jclip_adapter import runtime
from jclip_adapter.core.task import Array
from jclip_adapter.data.photos.augmentation import TrainingPhotos
from jclip_adapter.data.photos.preprocess import normalise_pixels
from jclip_adapter.models.base import pad
from jclip_adapter.models.clip.encoder import Encoder

from .encoding import PhotoFeatures, image_store, stored


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
    readable = np.flatnonzero(photos.readable)
    facts = f"noise {deviation} {seed}".encode()
    pixels = TrainingPhotos(photos.paths, encoder.image_size, encoder.transform, encoder.reading)

    def encoded(rows: Sequence[int]) -> Array:
        values = normalise_pixels(pixels(np.array(rows), None, 1.0), encoder.transform)
        for place, row in enumerate(rows):
            rng = np.random.default_rng([seed, int.from_bytes(photos.keys[row][:8], "big")])
            values[place] += np.float32(deviation) * rng.standard_normal(values[place].shape, dtype=np.float32)
        with runtime.start().no_grad():
            found = encoder.model.encode_image(pad(values, encoder.pass_rows)).numpy()
        return np.array(found[: len(rows)], dtype=np.float32)

    items = [(hashlib.sha256(photos.keys[row] + facts).digest(), int(row)) for row in readable]
    raw = np.zeros_like(photos.raw)
    raw[readable] = stored(image_store(encoder, cache), items, encoded, encoder.batch_size, "noisy photo")
    return dataclasses.replace(photos, raw=raw)
