"""From a photo's file to the square of pixels that a network reads: the only place where photos are decoded.

Only the formats below are opened, and nothing is decoded that would fill the memory. Free of Jittor, so that
decoding processes start quickly.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError, features

from jclip_adapter.core.errors import PhotoError

from .bit_depth import FULL, Samples, UnknownRangeError, is_deep, read_samples
from .formats import FORMATS, HEIC_PACKAGE, READABLE, brand, name_of, open_heic
from .jpeg import MAX_PIXELS, load_jpeg, open_jpeg
from .margin_crop import crop_pixels
from .preprocess import OPENAI, PixelTransform, square_pixels
from .reading import AS_SEEN, Reading
from .tiff import describe, describe_tags, is_raw_preview, seek_photo, tags_of

MAX_BYTES = 400_000_000
_ORIENTATION = 0x0112  # of EXIF
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # what undoes each orientation
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
    """A photo's number, its path, the side of the square wanted in pixels, the way to it, and how the file is read."""

    number: int
    path: str
    size: int
    transform: PixelTransform = OPENAI
    reading: Reading = AS_SEEN

    def as_json(self) -> list[Any]:
        """The job, for JSON."""
        return [self.number, self.path, self.size, self.transform.as_dict(), self.reading]

    @classmethod
    def from_json(cls, values: list[Any]) -> Job:
        """What `as_json` gave."""
        number, path, size, transform, reading = values
        return cls(number, path, size, PixelTransform.from_dict(transform), Reading(*reading))


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


def open_image(data: bytes, name: str, reading: Reading = AS_SEEN) -> Image.Image:
    """Decode an image completely, as a person sees it.

    Args:
        data: The file's bytes.
        name: What to call it in an error.
        reading: What to do about rotation, transparent pixels and 16 bits.

    Returns:
        The first frame, upright, in the file's own mode but for 16 bits, which become 8, and for transparent pixels,
        which become opaque RGB. A JPEG of more than MAX_PIXELS is reduced to a half, a quarter or an eighth.

    Raises:
        PhotoError: another format than those read here, too large, damaged or truncated; for JPEG and WebP also damage
            that Pillow passes over, as far as it can be told; 16 bits of which nothing tells the range.
    """
    if not data:
        raise PhotoError(f"{name} is empty.")
    try:
        with _SILENCE:
            image = _open(data, name)
            picture = _eight_bits(image, data, name, reading.white_level)
            if reading.exif == "apply":
                picture = _upright(picture, _orientation(image))
            return picture if reading.transparent == "drop" else _opaque(picture, reading.transparent)
    except UnknownRangeError as error:
        raise PhotoError(f"{name} {error}.") from error
    except UnidentifiedImageError as error:  # Pillow's own words name a BytesIO object
        with _SILENCE:
            kind, page = name_of(data), describe(data)
        told = f"it is {kind}" if kind else f"it is {page}, which is not read" if page else f"none of {READABLE}"
        raise PhotoError(f"{name} is no readable image ({told}).") from error
    except _DECODER_ERRORS as error:
        raise PhotoError(f"{name} is no readable image ({str(error) or type(error).__name__}).") from error


def unsettled_top(path: str | Path) -> int:
    """`Samples.top` of a photo of 16 bits per channel whose file does not tell its range; 0 for all others.

    Args:
        path: Of the file.

    Raises:
        PhotoError: the file cannot be read or decoded.
    """
    data = read_file(path)
    try:
        with _SILENCE:
            image = _open(data, str(path))
            samples = read_samples(image, data)
            if samples is None:
                return FULL if is_deep(image, data) else 0
            return 0 if samples.declared else samples.top
    except _DECODER_ERRORS as error:
        raise PhotoError(f"{path} is no readable image ({str(error) or type(error).__name__}).") from error


def _open(data: bytes, name: str) -> Image.Image:
    """Open an image of a format and size that is decoded here; a JPEG is told to reduce itself where it must."""
    kind = brand(data)
    if kind in ("HEIC", "HEIF"):
        image = open_heic(data)
        if image is None:
            raise PhotoError(f"{name} is a {kind} photo: run `pip install {HEIC_PACKAGE}` to read it.")
    elif kind == "AVIF" and not features.check("avif"):
        raise PhotoError(f"{name} is an AVIF photo: run `pip install pillow`, whose wheels read it from 11.3 on.")
    elif data.startswith(b"\xff\xd8\xff"):
        image = open_jpeg(data, name)
    else:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    if is_raw_preview(image):
        raise PhotoError(f"{name} is no readable image (it is camera raw; export it as JPEG).")
    if image.format == "TIFF":
        seek_photo(image)
    if image.width * image.height > MAX_PIXELS:
        raise PhotoError(f"{name} has {image.width}×{image.height} pixels, more than {MAX_PIXELS} in all.")
    return image


def _orientation(image: Image.Image) -> int:
    """A loaded image's EXIF orientation, 1 to 8; 1 where its EXIF data tell none or cannot be read."""
    try:
        told = image.getexif().get(_ORIENTATION, 1)
    except _DECODER_ERRORS:
        return 1
    return told if isinstance(told, int) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn and mirror an image so that it is upright."""
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _opaque(image: Image.Image, colour: str) -> Image.Image:
    """Put an image on a colour; it stays as it is where no pixel is transparent."""
    if not image.has_transparency_data:
        return image
    whole = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha = whole.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return image
    base = Image.new("RGB", image.size, colour)
    base.paste(whole, mask=alpha)
    return base


def _check_webp(image: Image.Image, data: bytes, name: str) -> None:
    """Refuse a WebP with a hole; the decoder takes zeros for picture data.

    A lossless file has no long runs of zeros. A lossy one of a single colour has, less than a byte for each
    macroblock of 16 by 16 pixels.
    """
    blocks = -(-image.width // 16) * -(-image.height // 16)
    at = 12
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        hole = {b"VP8 ": 65 + blocks, b"VP8L": 64}.get(kind)  # other chunks, such as EXIF data, may be padded
        if hole and data.find(bytes(hole), at + 8, at + 8 + length) >= 0:
            raise PhotoError(f"{name} is damaged (at least {hole} bytes of its data are zero).")
        at += 8 + length + length % 2


def _eight_bits(image: Image.Image, data: bytes, name: str, white_level: int) -> Image.Image:
    """Decode an image; more than 8 bits per channel, of which Pillow takes the upper ones, become 8 by their range."""
    if image.format == "JPEG":
        return load_jpeg(image, data, name)
    samples: Samples | None = read_samples(image, data)
    if samples is not None:
        return samples.to_image(samples.white_level(white_level))
    image.load()
    if image.format == "WEBP":
        _check_webp(image, data, name)
    if image.mode.startswith("I") or image.mode == "F":  # 0 to 1, 0 to 255, metres: a guess would be black or white
        what = describe_tags(tags_of(image), data) if image.format == "TIFF" else "a picture of 32 bits per channel"
        raise PhotoError(f"{name} is {what}, of which nothing tells the range.")
    return image


def read_square(
    path: str | Path, size: int, transform: PixelTransform = OPENAI, reading: Reading = AS_SEEN
) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """Read one photo as a network does.

    Args:
        path: Of the file.
        size: Side of the result in pixels.
        transform: The network's.
        reading: What to do about rotation, transparent pixels and 16 bits.

    Returns:
        The SHA-256 of the file's bytes and its pixels, (size, size, 3) uint8.

    Raises:
        PhotoError: the file cannot be read or decoded.
    """
    data = read_file(path)
    try:
        return hashlib.sha256(data).digest(), _square(open_image(data, str(path), reading), size, transform)
    except PhotoError:
        raise
    except (MemoryError, ValueError, OSError) as error:
        raise PhotoError(f"{path} cannot be resized ({error}).") from error


def _square(image: Image.Image, size: int, transform: PixelTransform) -> npt.NDArray[np.uint8]:
    margin = transform.resize == "margin"
    return crop_pixels(image, size) if margin else square_pixels(image, size, transform)


def read_file(path: str | Path, first: int = MAX_BYTES + 1) -> bytes:
    """A photo file's bytes, at most MAX_BYTES.

    Args:
        path: Of the file.
        first: How many bytes to read from its beginning; all by default.

    Raises:
        PhotoError: it cannot be read, is larger, or is no regular file (links are followed).
    """
    try:
        _check_kind(path, Path(path).stat())  # before it is opened, which may wait for ever, or set a machine going
        # Without waiting, should a pipe have taken the file's place since it was looked at.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as handle:
            _check_kind(path, os.fstat(handle.fileno()))
            data = handle.read(min(first, MAX_BYTES + 1))
    except PhotoError:
        raise
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
    number, path, size, transform, reading = job
    try:
        digest, pixels = read_square(path, size, transform, reading)
    except PhotoError as error:
        return number, b"", error.message
    return number, digest, pixels
