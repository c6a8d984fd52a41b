"""JPEG files: decoded whole, or reduced while they are decoded where they would fill the memory; damage is noticed."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin

from jclip_adapter.core.errors import PhotoError

from .jpeg_damage import Layout, find_damage, read_layout

# So large that no photo takes more than a gigabyte and about two seconds, whatever its format.
MAX_PIXELS = 8192 * 6144
MAX_JPEG_PIXELS = 8 * MAX_PIXELS
"""Of a JPEG, which is reduced to a half, a quarter or an eighth of each side where it has more than MAX_PIXELS."""
_MAX_SCANS = 20  # of a JPEG of MAX_PIXELS, as each goes over all of them; smaller ones may have more
_MAX_HELD = 14 * MAX_PIXELS  # bytes of a reduced picture, and of the coefficients where it has several scans


def open_jpeg(data: bytes, name: str) -> JpegImagePlugin.JpegImageFile:
    """Open a JPEG, or the first picture of an MPO; where it is too large, let it be reduced when it is loaded.

    `Image.open` would refuse by its size what can be decoded smaller.

    Args:
        data: The file's bytes.
        name: What to call it in an error.

    Raises:
        PhotoError: it cannot be reduced so far that it fits the memory.
        SyntaxError and what else Pillow raises: it is damaged.
    """
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if image.width * image.height > MAX_PIXELS:
        _reduce(image, read_layout(data), name)
    return image


def _reduce(image: Image.Image, layout: Layout, name: str) -> None:
    """Let a JPEG that is too large be decoded at a half, a quarter or an eighth, or refuse it."""
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
    raise PhotoError(f"{name} has {width}×{height} pixels{kind}, more than can be reduced while they are decoded.")


def load_jpeg(image: Image.Image, data: bytes, name: str) -> Image.Image:
    """Decode a JPEG.

    Args:
        image: As `open_jpeg` opened it.
        data: The file's bytes.
        name: What to call it in an error.

    Returns:
        The image, loaded.

    Raises:
        PhotoError: a part of it is missing, or it has too many scans.
        OSError, ValueError and what else Pillow's decoder raises: it is damaged.
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
