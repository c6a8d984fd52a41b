"""OpenAI CLIP's image preprocessing, with Pillow and numpy alone.

Kept free of Jittor so that decoding processes start quickly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
_LONGEST = 50  # long side over short, up to which an image is resized whole as OpenAI does
VERSION = "openai-clip-bicubic-2"  # part of every stored feature's key: raise it when pixels change


def square_pixels(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """Resize the short side to `size` (bicubic), crop the centre, convert to RGB – in that order.

    The conversion comes last, as in OpenAI's transform: palette and 1-bit images are therefore resized with
    nearest neighbours, RGBA with premultiplied alpha and CMYK in CMYK.

    Args:
        image: Any image that Pillow opens.
        size: Side of the result in pixels.

    Returns:
        (size, size, 3) uint8.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if long > _LONGEST * short:
        # Resized whole, a 1×60000 image would fill gigabytes; what is cut away may as well be cut before.
        margin = (long - _LONGEST * short) // 2
        box = (0, margin, width, height - margin) if height > width else (margin, 0, width - margin, height)
        image = image.crop(box)
        width, height = image.size
        long = max(width, height)
    if short != size:
        scaled = int(size * long / short)
        image = image.resize((size, scaled) if width <= height else (scaled, size), Image.Resampling.BICUBIC)
        width, height = image.size
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    image = image.crop((left, top, left + size, top + size)).convert("RGB")
    return np.asarray(image, dtype=np.uint8)


def normalise_pixels(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """uint8 (…, n, n, 3) → float32 (…, 3, n, n): divide by 255, subtract the mean, divide by the deviation."""
    scaled = (pixels.astype(np.float32) / np.float32(255) - MEAN) / STD
    return np.ascontiguousarray(np.moveaxis(scaled, -1, -3))


class Preprocess:
    """What `load` returns beside the model: an image in, model input out.

    Args:
        size: Side of the model's input in pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def pixels(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """(3, size, size) float32."""
        return normalise_pixels(square_pixels(image, self.size))

    def __call__(self, image: Image.Image) -> Any:
        """(3, size, size) jt.Var, as JCLIP's preprocess returns."""
        from jclip_adapter.runtime import jt

        return jt.array(self.pixels(image))
