"""From a photo's file to the square of pixels that a network reads: the only place where photos are decoded.

Only the formats below are opened, and nothing is decoded that would fill the memory. Free of Jittor, so that
decoding processes start quickly.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from .backbones.preprocess import crop_pixels
from .clip.preprocess import OPENAI, PixelTransform, square_pixels
from .errors import DataError
from .jpeg_damage import find_damage, read_layout

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# So large that no photo takes more than a gigabyte and about two seconds, whatever its format.
MAX_PIXELS = 8192 * 6144
MAX_BYTES = 400_000_000
_MAX_SCANS = 20  # of a JPEG of MAX_PIXELS, as each goes over all of them; smaller ones may have more
_ZERO_RUN = re.compile(rb"\0{64,}")
Decoded = tuple[int, bytes, npt.NDArray[np.uint8] | str]
"""A job's number, the SHA-256 of its file and its pixels; or b"" and what is wrong."""
# What Pillow's decoders raise on damaged files.
_DECODER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class Job(NamedTuple):
    """A photo's number, its path, the side of the square wanted in pixels, and the way to it."""

    number: int
    path: str
    size: int
    transform: PixelTransform = OPENAI

    def as_json(self) -> list[Any]:
        """The job, for JSON."""
        return [self.number, self.path, self.size, self.transform.as_dict()]

    @classmethod
    def from_json(cls, values: list[Any]) -> Job:
        """What `as_json` gave."""
        number, path, size, transform = values
        return cls(number, path, size, PixelTransform.from_dict(transform))


class PhotoError(DataError):
    """A photo that cannot be read."""


class _Silence:
    """No warnings while any thread decodes: of EXIF data and the like, which nobody reads here.

    `warnings.catch_warnings` alone would leave the process without warnings where threads overlap.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._caught = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


_SILENCE = _Silence()


def open_image(data: bytes, name: str) -> Image.Image:
    """Decode an image completely.

    Args:
        data: The file's bytes.
        name: What to call it in an error.

    Returns:
        The first frame, in the file's own mode (greys of 16 bits in 8) and without rotation by EXIF, as OpenAI's
        preprocessing reads it.

    Raises:
        PhotoError: another format than FORMATS, too large, damaged or truncated; for JPEG and WebP also damage that
            Pillow passes over, as far as it can be told.
    """
    if not data:
        raise PhotoError(f"{name} is empty.")
    try:
        with _SILENCE:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise PhotoError(f"{name} has {image.width}×{image.height} pixels, more than {MAX_PIXELS} in all.")
            if image.format in ("JPEG", "MPO"):
                return _load_jpeg(image, data, name)
            image.load()
            if image.format == "WEBP":
                _check_webp(image, data, name)
            return _eight_bits(image, name)
    except UnidentifiedImageError as error:  # Pillow's own words name a BytesIO object
        raise PhotoError(f"{name} is no readable image (none of {', '.join(FORMATS)}).") from error
    except _DECODER_ERRORS as error:
        raise PhotoError(f"{name} is no readable image ({str(error) or type(error).__name__}).") from error


def _load_jpeg(image: Image.Image, data: bytes, name: str) -> Image.Image:
    """Decode a JPEG, and refuse it where a part of it is missing."""
    layout = read_layout(data)
    if len(layout.scans) > _MAX_SCANS and len(layout.scans) * image.width * image.height > _MAX_SCANS * MAX_PIXELS:
        raise PhotoError(f"{name} has {len(layout.scans)} scans of {image.width}×{image.height} pixels, too many.")

    def decode_small(changed: bytes) -> npt.NDArray[np.uint8]:
        small = Image.open(io.BytesIO(changed), formats=("JPEG",))
        small.draft(None, (-(-small.width // 8), -(-small.height // 8)))
        return np.asarray(small)

    image.load()
    corner = np.asarray(image.crop((max(0, image.width - 4), max(0, image.height - 4), image.width, image.height)))
    fault = find_damage(data, layout, corner, decode_small)
    if fault:
        raise PhotoError(f"{name} is damaged ({fault}).")
    return image


def _check_webp(image: Image.Image, data: bytes, name: str) -> None:
    """Refuse a WebP with a hole; the decoder takes zeros for picture data.

    A lossless file has no long runs of zeros. A lossy one of a single colour has, less than a byte for each
    macroblock of 16 by 16 pixels.
    """
    blocks = -(-image.width // 16) * -(-image.height // 16)
    at = 12
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        allowed = {b"VP8 ": 64 + blocks, b"VP8L": 0}.get(kind)  # other chunks, such as EXIF data, may be padded
        longest = max(map(len, _ZERO_RUN.findall(data, at + 8, at + 8 + length)), default=0)
        if allowed is not None and longest > allowed:
            raise PhotoError(f"{name} is damaged ({longest} bytes of its data are zero).")
        at += 8 + length + length % 2


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Bring grey images of 16 bits to 8, which Pillow's own conversion would turn white all over."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):  # 0 to 1, 0 to 255, metres: a guess would make it black or white
        raise PhotoError(f"{name} has pixels of 32 bits, of which nothing tells the range.")
    return image


def read_square(path: str | Path, size: int, transform: PixelTransform = OPENAI) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """Read one photo as a network does.

    Args:
        path: Of the file.
        size: Side of the result in pixels.
        transform: The network's.

    Returns:
        The SHA-256 of the file's bytes and its pixels, (size, size, 3) uint8.

    Raises:
        PhotoError: the file cannot be read or decoded.
    """
    data = read_file(path)
    try:
        return hashlib.sha256(data).digest(), _square(open_image(data, str(path)), size, transform)
    except (MemoryError, ValueError, OSError) as error:
        raise PhotoError(f"{path} cannot be resized ({error}).") from error


def _square(image: Image.Image, size: int, transform: PixelTransform) -> npt.NDArray[np.uint8]:
    margin = transform.resize == "margin"
    return crop_pixels(image, size) if margin else square_pixels(image, size, transform)


def read_file(path: str | Path) -> bytes:
    """A photo file's bytes, at most MAX_BYTES.

    Raises:
        PhotoError: it cannot be read, is larger, or is no regular file (links are followed).
    """
    try:
        _check_kind(path, Path(path).stat())  # before it is opened, which may wait for ever, or set a machine going
        # Without waiting, should a pipe have taken the file's place since it was looked at.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as handle:
            _check_kind(path, os.fstat(handle.fileno()))
            data = handle.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise PhotoError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    if len(data) > MAX_BYTES:
        raise PhotoError(f"{path} cannot be read (it has more than {MAX_BYTES:,} bytes).")
    return data


def _check_kind(path: str | Path, status: os.stat_result) -> None:
    """Refuse pipes and devices, whose content may never come or never end, and files that are too large."""
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device"
        raise PhotoError(f"{path} cannot be read (it is {kind}).")
    if status.st_size > MAX_BYTES:
        raise PhotoError(f"{path} cannot be read (it has {status.st_size:,} bytes, more than {MAX_BYTES:,}).")


def try_square(job: Job) -> Decoded:
    """`read_square` for other processes: errors come back as text instead of being raised.

    Args:
        job: The job.

    Returns:
        (number, SHA-256, pixels), or (number, b"", what is wrong).
    """
    number, path, size, transform = job
    try:
        digest, pixels = read_square(path, size, transform)
    except PhotoError as error:
        return number, b"", error.message
    return number, digest, pixels
