"""Pillow's arithmetic, measured: photos decoded and resized by another version may come out as other pixels."""

from __future__ import annotations

import functools
import hashlib
import io

import numpy as np
from PIL import Image

_SIDES = ((5, 90), (90, 5), (64, 48))  # of test pictures: tall and wide ones are resized in another order
_FILTERS = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


@functools.cache
def arithmetic() -> str:
    """A digest of what Pillow makes of fixed pictures, for the keys of features.

    They are resized by every filter that a network may want, and decoded from JPEG, whole and reduced. So an upgrade
    that changes neither keeps the features, and one that does never mixes them.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for width, height in _SIDES:
        picture = _picture(width, height)
        for method in _FILTERS:
            digest.update(picture.resize((32, 32), method).tobytes())
        shorter = min(width, height)
        proportional = (16 * width // shorter, 16 * height // shorter)
        digest.update(picture.resize(proportional, Image.Resampling.BICUBIC).tobytes())
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=85)
        for reduced in (False, True):
            with Image.open(buffer, formats=("JPEG",)) as jpeg:
                if reduced:
                    jpeg.draft("RGB", (max(1, width // 2), max(1, height // 2)))
                digest.update(jpeg.convert("RGB").tobytes())
    return digest.hexdigest()[:16]


def _picture(width: int, height: int) -> Image.Image:
    """A picture of coarse noise, the same everywhere: made by whole numbers alone."""
    places = np.arange(width * height * 3, dtype=np.uint64) // np.uint64(5) + np.uint64(1)
    values = (places * np.uint64(2654435761)) >> np.uint64(13)
    return Image.fromarray((values % np.uint64(256)).astype(np.uint8).reshape((height, width, 3)))
