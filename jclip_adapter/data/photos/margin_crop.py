"""Preprocessing of EfficientNet-Lite, as in TensorFlow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from .preprocess import PixelTransform

VERSION = "crop-bicubic-1"  # part of every stored feature's key: raise it when pixels change
TRANSFORM = PixelTransform(resize="margin")
_MARGIN = 32  # pixels cropped, relative to the input's side


def crop_pixels(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """Crop the centre, size/(size + 32) of the short side, and resize it (bicubic).

    Args:
        image: Any image that Pillow opens.
        size: Side of the result in pixels.

    Returns:
        (size, size, 3) uint8.
    """
    image = image.convert("RGB")
    width, height = image.size
    side = max(1, round(min(width, height) * size / (size + _MARGIN)))
    left, top = (width - side) // 2, (height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.uint8)
