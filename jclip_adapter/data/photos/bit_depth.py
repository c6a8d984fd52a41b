"""Conversion of images with 16 bits per channel to 8 bits, by the range of their values.

Cameras, scanners and medical devices store 10 or 12 bits in 16, of which Pillow takes the upper byte, almost black. The
white level is, in order of precedence: the file's (PNG's sBIT chunk, PGM's and PPM's maxval, TIFF's BitsPerSample and
MaxSampleValue, if below 16 bits); the data set's (`white_level.py`), if at most one non-zero value in a thousand is
above it (defective pixels and lights, which become white); 65535, if more than one in a thousand is above 32767. Other
images are refused.
"""

from __future__ import annotations

import io
import re
import struct
import sys
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from . import tiff

FULL = 65535
_ROWS = 256  # processed at a time, to save memory
_HALF = FULL >> 1  # the largest value of 15 bits
_STRAY = 0.001  # share of an image's values that may exceed its range
_PNM = re.compile(rb"P([2356])" + rb"(?:\s|#[^\n]*\n)+(\d+)" * 3 + rb"\s")  # of a PGM or PPM, plain (2, 3) or binary
_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


class UnknownRangeError(ValueError):
    """The white level of an image is unknown; the message suggests a --white-level."""


@dataclass
class Samples:
    """The channels of an image of 16 bits per channel.

    Attributes:
        values: (H, W, C) uint16; C is 1 for grey, 3 for RGB, plus one with alpha.
        declared: The white level in the file; 0 for none.
        inverted: Whether zero is white.
        clear: The transparent value of each channel; empty for none.
    """

    values: npt.NDArray[np.uint16]
    declared: int = 0
    inverted: bool = False
    clear: tuple[int, ...] = ()

    @property
    def colours(self) -> int:
        """Channels without alpha."""
        return 1 if self.values.shape[2] < 3 else 3

    @property
    def peak(self) -> int:
        """The largest value of the colours."""
        return int(self.values[..., : self.colours].max())

    @property
    def top(self) -> int:
        """The 99.9th percentile of the colours' non-zero values."""
        counts = np.zeros(FULL + 1, dtype=np.int64)
        for first in range(0, len(self.values), _ROWS):
            rows = self.values[first : first + _ROWS, :, : self.colours]
            counts += np.bincount(rows.ravel(), minlength=FULL + 1)
        counts[0] = 0
        above = counts.sum() - np.cumsum(counts)
        return int(np.argmax(above <= _STRAY * counts.sum()))

    def white_level(self, of_data_set: int) -> int:
        """The value that is white.

        Args:
            of_data_set: The data set's white level; 0 if unknown.

        Raises:
            UnknownRangeError: the white level is unknown, or too many values are above the data set's.
        """
        if self.declared:
            return self.declared
        peak = self.peak
        if peak <= of_data_set or not peak:
            return of_data_set or FULL
        top = self.top
        if of_data_set and top <= of_data_set:
            return of_data_set
        if top > _HALF:
            return FULL
        if of_data_set:
            fits = full_scale(top)
            raise UnknownRangeError(
                f"has values up to {peak}, above the white level {of_data_set}: "
                f"--white-level {fits} would fit it ({fits.bit_length()} bits)"
            )
        raise UnknownRangeError(
            f"has 16 bits with values only up to {peak}, and its white level is unknown: "
            "give --white-level, such as 1023 for 10 bits"
        )

    def _opaque_beyond(self, white: int) -> bool:
        """Whether the last channel, alpha, has values above a white level."""
        alpha = self.values[..., -1]
        return bool(np.count_nonzero(alpha > white) > _STRAY * alpha.size)

    def to_image(self, white: int) -> Image.Image:
        """An image of 8 bits per channel, mode "L", "LA", "RGB" or "RGBA".

        Args:
            white: The value that becomes 255.
        """
        height, width, channels = self.values.shape
        table = _table(white)
        faint = table if channels == self.colours or not self._opaque_beyond(white) else _table(FULL)
        out = np.empty((height, width, channels + bool(self.clear)), dtype=np.uint8)
        for top in range(0, height, _ROWS):
            rows = self.values[top : top + _ROWS]
            part = out[top : top + _ROWS]
            part[..., : self.colours] = table[rows[..., : self.colours]]
            if self.inverted:
                part[..., : self.colours] ^= 255
            if channels > self.colours:
                part[..., -1] = faint[rows[..., -1]]
            elif self.clear:
                part[..., -1] = np.where((rows == np.array(self.clear, np.uint16)).all(axis=2), 0, 255)
        return Image.fromarray(out[..., 0] if out.shape[2] == 1 else out)


def full_scale(value: int) -> int:
    """The largest value with as many bits as a value needs, at least 8.

    >>> full_scale(900), full_scale(3)
    (1023, 255)
    """
    return (1 << max(8, value.bit_length())) - 1


def _table(white: int) -> npt.NDArray[np.uint8]:
    """(65536,) uint8 result of each value."""
    values = np.arange(FULL + 1, dtype=np.uint64)
    return np.minimum((values * 255 + white // 2) // white, 255).astype(np.uint8)


def read_samples(image: Image.Image, data: bytes) -> Samples | None:
    """Read the channels of an image of 16 bits per channel.

    Args:
        image: Opened by Pillow; may be loaded here.
        data: The file's bytes.

    Returns:
        The channels; None for an image of other depths, or one that Pillow decodes correctly.

    Raises:
        OSError, ValueError and others of Pillow's decoders for a damaged file.
        UnknownRangeError: the image is dark, and its lower bytes cannot be read.
    """
    if image.format == "PNG" and data[24:25] == b"\x10":
        return _read_png(image, data)
    if image.format == "PPM":
        return _read_pnm(image, data)
    if image.format == "TIFF":
        return _read_tiff(image, data)
    return None


def is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether an image, opened by Pillow, has 16 bits per channel."""
    if image.format == "PNG":
        return data[24:25] == b"\x10"
    return image.format == "TIFF" and tiff.depth_of(image) == 16


def _read_png(image: Image.Image, data: bytes) -> Samples | None:
    chunks = _png_chunks(data)
    bits = max(chunks.get(b"sBIT", b"")[:3], default=16)
    clear = chunks.get(b"tRNS", b"")
    values = _colour_values(image, data, whole=bool(clear))  # a transparent colour has all 16 bits
    if values is None:
        return None
    samples = Samples(values, clear=struct.unpack(f">{len(clear) // 2}H", clear) if len(clear) in (2, 6) else ())
    if 8 <= bits < 16:
        samples.declared = _declared_by_bits(bits, samples)
    return samples


def _png_chunks(data: bytes) -> dict[bytes, bytes]:
    """The chunks before the image data, by type."""
    at, found = 8, {}
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IDAT":
        length = int.from_bytes(data[at : at + 4], "big")
        found[data[at + 4 : at + 8]] = data[at + 8 : at + 8 + length]
        at += 12 + length
    return found


def _declared_by_bits(bits: int, samples: Samples) -> int:
    """The white level by a PNG's number of significant bits.

    PNG scales values of fewer bits up to 16. Many programs store them unscaled: then hardly any is above 2^bits − 1,
    and some are no result of scaling.
    """
    top = (1 << bits) - 1
    if samples.top > top:
        return FULL
    for first in range(0, len(samples.values), _ROWS):
        rows = samples.values[first : first + _ROWS, :, : samples.colours].astype(np.int64)
        upper = rows >> (16 - bits)
        forms = (upper << (16 - bits), upper * FULL // top, (upper * FULL + top // 2) // top)
        if not np.logical_or.reduce([rows == form for form in forms]).all():
            return top
    return FULL


def _colour_values(image: Image.Image, data: bytes, *, whole: bool = False) -> npt.NDArray[np.uint16] | None:
    """(H, W, C) uint16 values of a PNG or TIFF; None if the upper bytes suffice, unless `whole`.

    Pillow gives only the upper bytes of 16-bit colours. If the values use 15 bits or fewer, the file is decoded again
    for the lower bytes.
    """
    image.load()
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if image.mode not in ("RGB", "RGBA"):
        return None
    counts = np.array([image.getchannel(band).histogram() for band in image.getbands()[:3]])
    if counts[:, 128:].sum() > _STRAY * counts.sum() and not whole:
        return None
    if image.format == "PNG" and data[25] == 4:
        return _grey_and_alpha(data)
    with Image.open(io.BytesIO(data), formats=(image.format or "",)) as other:
        other.seek(image.tell() if image.format == "TIFF" else 0)
        other.tile = [tile._replace(args=_swap_bytes(tile.args)) for tile in other.tile]
        other.load()
        return _join(image, other)


def _swap_bytes(arguments: Any) -> Any:
    """Pillow's decoder arguments with swapped byte order, which gives the lower bytes."""
    mode: str = arguments if isinstance(arguments, str) else arguments[0]
    if mode[:-1] not in ("RGB;16", "RGBA;16", "RGBX;16") or mode[-1] not in _SWAPPED:
        raise UnknownRangeError("has colours of 16 bits that use a part of the range, in an unsupported byte order")
    swapped = mode[:-1] + _SWAPPED[mode[-1]]
    return swapped if isinstance(arguments, str) else (swapped, *arguments[1:])


def _join(high: Image.Image, low: Image.Image) -> npt.NDArray[np.uint16]:
    values = np.empty((high.height, high.width, len(high.getbands())), dtype=np.uint16)
    for top in range(0, high.height, _ROWS):
        box = (0, top, high.width, min(high.height, top + _ROWS))
        upper, lower = np.asarray(high.crop(box)), np.asarray(low.crop(box))
        values[top : top + _ROWS] = (upper.astype(np.uint16) << 8) | lower
    return values


def _grey_and_alpha(data: bytes) -> npt.NDArray[np.uint16]:
    """(H, W, 2) values of a PNG of grey and alpha, decoded as four channels of 8 bits."""
    head = b"IHDR" + data[16:24] + b"\x08\x06" + data[26:29]
    changed = data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
    with Image.open(io.BytesIO(changed), formats=("PNG",)) as image:
        pairs = np.asarray(image)
    return np.ascontiguousarray(pairs).view(">u2").astype(np.uint16)


def _read_pnm(image: Image.Image, data: bytes) -> Samples | None:
    """PGM and PPM with maxval above 255, which Pillow decodes slowly, and colours to 8 bits."""
    found = _PNM.match(data)
    limit = int(found[4]) if found else 0
    if not found or not 255 < limit <= FULL:
        return None
    colours = found[1] in b"36"
    shape = (image.height, image.width, 3 if colours else 1)
    count = shape[0] * shape[1] * shape[2]
    if found[1] in b"56":
        values: npt.NDArray[Any] = np.frombuffer(data, ">u2", min(count, (len(data) - found.end()) // 2), found.end())
    else:
        plain = re.sub(rb"#[^\n]*", b" ", data[found.end() :]).decode("ascii")
        values = np.fromstring(plain, dtype=np.int32, sep=" ")[:count]  # it ends at what is no number
    if len(values) < count:
        raise ValueError("image file is truncated")
    if int(values.min()) < 0 or int(values.max()) > limit:
        raise ValueError(f"a value is not from 0 to {limit}")
    return Samples(values.astype(np.uint16).reshape(shape), limit if limit < FULL else 0)


def _read_tiff(image: Image.Image, data: bytes) -> Samples | None:
    tags = dict(tiff.tags_of(image))
    depth = tiff.depth_of(image)
    if depth == 16 and tiff.is_planar(image):
        if image.mode not in ("RGB", "RGBA"):
            raise ValueError(f"it is {tiff.describe_tags(tags, data)}, which is not supported")
        values: npt.NDArray[np.uint16] | None = tiff.read_planes(image, data)
    elif depth == 16 and image.mode == "CMYK":
        image.load()
        if np.asarray(image.getextrema()).max() <= _HALF >> 8:
            raise ValueError(
                f"it is {tiff.describe_tags(tags, data)} that uses less than 16 bits, which is not supported"
            )
        return None
    elif depth in (12, 16) and image.mode in ("I;16", "I;16B", "RGB", "RGBA"):
        values = _colour_values(image, data)
    else:
        return None
    if values is None:
        return None
    samples = Samples(values, inverted=tags.get(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO)
    limits = tags.get(tiff.MAX_SAMPLE, ())
    limit = max(limits if isinstance(limits, tuple) else (limits,), default=0)
    if depth < 16:
        samples.declared = (1 << depth) - 1
    elif 255 <= limit < FULL and samples.top <= limit:
        samples.declared = int(limit)
    return samples
