"""Decodes photo files to a network's square input; all photos are decoded here.

Only the supported formats are opened, with limits on size. Without Jittor, so that decoding processes start quickly.
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
}  # the inverse of each orientation
Decoded = tuple[int, bytes, npt.NDArray[np.uint8] | str]
"""A job's number, the SHA-256 of its file and its pixels; or b"" and an error message."""
# Errors of Pillow's decoders for damaged files.
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
    """A photo's number, its path, the side of the result in pixels, the transform, and how the file is read."""

    number: int
    path: str
    size: int
    transform: PixelTransform = OPENAI
    reading: Reading = AS_SEEN

    def as_json(self) -> list[Any]:
        """The job as JSON."""
        return [self.number, self.path, self.size, self.transform.as_dict(), self.reading]

    @classmethod
    def from_json(cls, values: list[Any]) -> Job:
        """The job from `as_json`."""
        number, path, size, transform, reading = values
        return cls(number, path, size, PixelTransform.from_dict(transform), Reading(*reading))


class _Silence:
    """Suppresses warnings while any thread decodes.

    `warnings.catch_warnings` alone could leave them suppressed when threads overlap.
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


def open_image(data: bytes, name: str, reading: Reading = AS_SEEN, least: int = 0) -> Image.Image:
    """Decode an image completely.

    Args:
        data: The file's bytes.
        name: Its name for errors.
        reading: How files are read.
        least: For small pictures, which need not be exact: a JPEG may be reduced to a half, a quarter or an eighth
            while both sides keep as many pixels; 0 for the exact picture.

    Returns:
        The first frame, upright, in the file's mode; 16 bits are converted to 8, transparent images to opaque RGB. A
        JPEG of more than MAX_PIXELS is reduced to a half, a quarter or an eighth.

    Raises:
        PhotoError: the image has an unsupported format, is too large, damaged or truncated (for JPEG and WebP also
            damage that Pillow ignores, if detected), or has 16 bits of unknown range.
    """
    if not data:
        raise PhotoError(f"{name} is empty.")
    try:
        with _SILENCE:
            image = _open(data, name, least)
            picture = _eight_bits(image, data, name, reading.white_level)
            if reading.exif == "apply":
                picture = _upright(picture, _orientation(image))
            return picture if reading.transparent == "drop" else _opaque(picture, reading.transparent)
    except PhotoError:
        raise
    except UnknownRangeError as error:
        raise PhotoError(f"{name} {error}.") from error
    except UnidentifiedImageError as error:  # Pillow's own words name a BytesIO object
        with _SILENCE:
            kind, page = name_of(data), describe(data)
        what = f"it is {kind}" if kind else f"it is {page}, which is not supported" if page else f"none of {READABLE}"
        raise PhotoError(f"{name} is not a readable image ({what}).") from error
    except _DECODER_ERRORS as error:
        raise PhotoError(f"{name} is not a readable image ({str(error) or type(error).__name__}).") from error


def unsettled_top(path: str | Path) -> int:
    """`Samples.top` of a photo of 16 bits per channel that does not declare its range; 0 for all others.

    Args:
        path: The file.

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
    except PhotoError:
        raise
    except _DECODER_ERRORS as error:
        raise PhotoError(f"{path} is not a readable image ({str(error) or type(error).__name__}).") from error


def _open(data: bytes, name: str, least: int = 0) -> Image.Image:
    """Open an image of a supported format and size; a large JPEG is set to be reduced."""
    kind = brand(data)
    if kind in ("HEIC", "HEIF"):
        image = open_heic(data)
        if image is None:
            raise PhotoError(f"{name} is a {kind} photo: run `pip install {HEIC_PACKAGE}` to read it.")
    elif kind == "AVIF" and not features.check("avif"):
        raise PhotoError(f"{name} is an AVIF photo: run `pip install pillow`, whose wheels read it from 11.3 on.")
    elif data.startswith(b"\xff\xd8\xff"):
        image = open_jpeg(data, name, least)
    else:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    if is_raw_preview(image):
        raise PhotoError(f"{name} is not a readable image (it is camera raw; export it as JPEG).")
    if image.format == "TIFF":
        seek_photo(image)
    if image.width * image.height > MAX_PIXELS:
        raise PhotoError(f"{name} has {image.width}×{image.height} pixels, more than {MAX_PIXELS}.")
    return image


def _orientation(image: Image.Image) -> int:
    """A loaded image's EXIF orientation, 1 to 8; 1 if it is missing or unreadable."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _DECODER_ERRORS:
        return 1
    return orientation if isinstance(orientation, int) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    """Rotate and mirror an image upright."""
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _opaque(image: Image.Image, colour: str) -> Image.Image:
    """Put an image with transparent pixels on a background colour."""
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
    """Refuse a WebP with a run of zero bytes, which the decoder accepts as image data.

    A lossless file has no long runs of zeros; a lossy one of a single colour has up to a byte per macroblock of 16 by
    16 pixels.
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
    """Decode an image, converting 16 bits per channel to 8 by their range."""
    if image.format == "JPEG":
        return load_jpeg(image, data, name)
    samples: Samples | None = read_samples(image, data)
    if samples is not None:
        return samples.to_image(samples.white_level(white_level))
    image.load()
    if image.format == "WEBP":
        _check_webp(image, data, name)
    if image.mode.startswith("I") or image.mode == "F":  # the range may be 0 to 1, 0 to 255, or metres
        what = describe_tags(tags_of(image), data) if image.format == "TIFF" else "a picture of 32 bits per channel"
        raise PhotoError(f"{name} is {what}, whose value range is unknown.")
    return image


def read_square(
    path: str | Path, size: int, transform: PixelTransform = OPENAI, reading: Reading = AS_SEEN
) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """Decode and preprocess one photo.

    Args:
        path: The file.
        size: Side of the result in pixels.
        transform: The network's.
        reading: How files are read.

    Returns:
        The SHA-256 of the file's bytes and its pixels, (size, size, 3) uint8.

    Raises:
        PhotoError: the file cannot be read or decoded.
    """
    data = read_file(path)
    return hashlib.sha256(data).digest(), pixels_of(data, str(path), size, transform, reading)


def pixels_of(
    data: bytes, name: str, size: int, transform: PixelTransform = OPENAI, reading: Reading = AS_SEEN
) -> npt.NDArray[np.uint8]:
    """Decode and preprocess one photo of which the bytes are at hand.

    Args:
        data: The file's bytes.
        name: Its name for errors.
        size: Side of the result in pixels.
        transform: The network's.
        reading: How files are read.

    Returns:
        (size, size, 3) uint8.

    Raises:
        PhotoError: it cannot be decoded.
    """
    try:
        least = 0 if reading.jpeg == "exact" else 2 * max(size, transform.edge)
        return _square(open_image(data, name, reading, least), size, transform)
    except PhotoError:
        raise
    except (MemoryError, ValueError, OSError) as error:
        raise PhotoError(f"{name} cannot be resized ({error}).") from error


def _square(image: Image.Image, size: int, transform: PixelTransform) -> npt.NDArray[np.uint8]:
    margin = transform.resize == "margin"
    return crop_pixels(image, size) if margin else square_pixels(image, size, transform)


def read_file(path: str | Path, first: int = MAX_BYTES) -> bytes:
    """A photo file's bytes, at most MAX_BYTES.

    Args:
        path: The file.
        first: Number of bytes to read; all by default.

    Raises:
        PhotoError: it cannot be read, is larger, or is not a regular file (links are followed).
    """
    try:
        _check_kind(path, Path(path).stat())  # before opening, which may block on a pipe or start a device
        # Non-blocking, in case a pipe has replaced the file since.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as handle:
            _check_kind(path, os.fstat(handle.fileno()))
            return handle.read(first)
    except PhotoError:
        raise
    except (OSError, ValueError) as error:
        raise PhotoError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def _check_kind(path: str | Path, status: os.stat_result) -> None:
    """Refuse folders, pipes, devices, and files that are too large."""
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device"
        raise PhotoError(f"{path} cannot be read (it is {kind}).")
    if status.st_size > MAX_BYTES:
        raise PhotoError(f"{path} cannot be read (it has {status.st_size:,} bytes, more than {MAX_BYTES:,}).")


def try_square(job: Job) -> Decoded:
    """`read_square` for other processes: returns (number, SHA-256, pixels), or (number, b"", error message)."""
    number, path, size, transform, reading = job
    try:
        digest, pixels = read_square(path, size, transform, reading)
    except PhotoError as error:
        return number, b"", error.message
    return number, digest, pixels
