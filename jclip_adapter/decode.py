"""From a photo's file to the square of pixels that CLIP reads: the only place where photos are decoded.

Only the formats below are opened, and nothing is decoded that would fill the memory. Free of Jittor, so that
decoding processes start quickly.
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from .clip.preprocess import square_pixels
from .errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 150_000_000  # a 150-megapixel photo takes 450 MB as RGB
Job = tuple[int, str, int]
"""A photo's number, its path, and the side of the square wanted in pixels."""
Decoded = tuple[int, bytes, npt.NDArray[np.uint8] | str]
"""A job's number, the SHA-256 of its file and its pixels; or b"" and what is wrong."""
# What Pillow's decoders raise on damaged files.
_DECODER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class PhotoError(DataError):
    """A photo that cannot be read."""


def open_image(data: bytes, name: str) -> Image.Image:
    """Decode an image completely.

    Args:
        data: The file's bytes.
        name: What to call it in an error.

    Returns:
        The first frame, in the file's own mode and without rotation by EXIF, as OpenAI's preprocessing reads it.

    Raises:
        PhotoError: another format than FORMATS, too large, damaged or truncated.
    """
    if not data:
        raise PhotoError(f"{name} is empty.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise PhotoError(f"{name} has {image.width}×{image.height} pixels, more than {MAX_PIXELS} in all.")
            image.load()
    except UnidentifiedImageError as error:  # Pillow's own words name a BytesIO object
        raise PhotoError(f"{name} is no readable image (none of {', '.join(FORMATS)}).") from error
    except _DECODER_ERRORS as error:
        raise PhotoError(f"{name} is no readable image ({str(error) or type(error).__name__}).") from error
    return image


def read_square(path: str | Path, size: int) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """Read one photo as CLIP does.

    Args:
        path: Of the file.
        size: Side of the result in pixels.

    Returns:
        The SHA-256 of the file's bytes and its pixels, (size, size, 3) uint8.

    Raises:
        PhotoError: the file cannot be read or decoded.
    """
    data = read_file(path)
    try:
        return hashlib.sha256(data).digest(), square_pixels(open_image(data, str(path)), size)
    except (MemoryError, ValueError, OSError) as error:
        raise PhotoError(f"{path} cannot be resized ({error}).") from error


def read_file(path: str | Path) -> bytes:
    """A photo file's bytes.

    Raises:
        PhotoError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise PhotoError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def try_square(job: Job) -> Decoded:
    """`read_square` for other processes: errors come back as text instead of being raised.

    Args:
        job: (number, path, size).

    Returns:
        (number, SHA-256, pixels), or (number, b"", what is wrong).
    """
    number, path, size = job
    try:
        digest, pixels = read_square(path, size)
    except PhotoError as error:
        return number, b"", error.message
    return number, digest, pixels
