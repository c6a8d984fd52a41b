"""Decoding of JPEGs, reduced if they are very large, with detection of damage."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin

from jclip_adapter.core.errors import PhotoError

from .jpeg_damage import Layout, find_damage, read_layout

# No photo of this size takes more than a gigabyte and about two seconds, in any format.
MAX_PIXELS = 8192 * 6144
MAX_JPEG_PIXELS = 8 * MAX_PIXELS
"""Limit of a JPEG, whose sides are divided by 2, 4 or 8 if it has more than MAX_PIXELS."""
_MAX_SCANS = 20  # of a JPEG of MAX_PIXELS, as each scan covers all pixels; smaller ones may have more
_MAX_HELD = 14 * MAX_PIXELS  # bytes of a reduced image, with the coefficients if it has several scans


def open_jpeg(data: bytes, name: str, least: int = 0) -> JpegImagePlugin.JpegImageFile:
    """Open a JPEG, or the first image of an MPO; a large one is set to be reduced when it is loaded.

    `Image.open` would refuse large images that can be reduced.

    Args:
        data: The file's bytes.
        name: Its name for errors.
        least: Pixels that both sides keep if any JPEG is to be reduced; 0 to reduce only those that are too large.

    Raises:
        PhotoError: it is too large even when reduced.
        SyntaxError and others of Pillow: it is damaged.
    """
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if image.width * image.height > MAX_PIXELS:
        _reduce(image, read_layout(data), name)
    elif least:
        image.draft(None, (least, least))
    return image


def _reduce(image: Image.Image, layout: Layout, name: str) -> None:
    """Set a large JPEG to be decoded at a half, a quarter or an eighth, or refuse it."""
    width, height = image.size
    pixels = width * height
    across, down = (max(factors, default=1) or 1 for factors in zip(*layout.sampling.values(), strict=True))
    share = sum(h * v for h, v in layout.sampling.values()) / (across * down)
    held = int(2 * pixels * share) if len(layout.scans) > 1 else 0  # all scans' coefficients, of two bytes each
    scans = len(layout.scans) * pixels <= 2 * _MAX_SCANS * MAX_PIXELS
    for scale in (2, 4, 8) if scans and pixels <= MAX_JPEG_PIXELS else ():
        smaller = -(-width // scale) * -(-height // scale)
        if smaller <= MAX_PIXELS and held + 4 * smaller <= _MAX_HELD:
            image.draft(None, (width // scale, height // scale))
            return
    kind = f" in {len(layout.scans)} scans" if held else ""
    raise PhotoError(f"{name} has {width}×{height} pixels{kind}, too many even when reduced.")


def load_jpeg(image: Image.Image, data: bytes, name: str) -> Image.Image:
    """Decode a JPEG.

    Args:
        image: From `open_jpeg`.
        data: The file's bytes.
        name: Its name for errors.

    Returns:
        The loaded image.

    Raises:
        PhotoError: a part of it is missing, or it has too many scans.
        OSError, ValueError and others of Pillow's decoder: it is damaged.
    """
    layout = read_layout(data)
    pixels = layout.width * layout.height
    if len(layout.scans) > _MAX_SCANS and len(layout.scans) * pixels > _MAX_SCANS * MAX_PIXELS:
        raise PhotoError(f"{name} has {len(layout.scans)} scans of {layout.width}×{layout.height} pixels, too many.")

    def decode_small(changed: bytes) -> npt.NDArray[np.uint8]:
        small = JpegImagePlugin.JpegImageFile(io.BytesIO(changed))
        small.draft(None, (-(-small.width // 8), -(-small.height // 8)))
        return np.asarray(small)

    image.load()
    last = max(1, 4 * image.width // max(1, layout.width))  # pixels, of half a block of the file's
    corner = np.asarray(
        image.crop((max(0, image.width - last), max(0, image.height - last), image.width, image.height))
    )
    fault = find_damage(data, layout, corner, decode_small)
    if fault:
        raise PhotoError(f"{name} is damaged ({fault}).")
    return image
