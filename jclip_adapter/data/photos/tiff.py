"""TIFF features that Pillow lacks: the choice of the page, planar channels, descriptions of unsupported files.

Pillow opens the first page, even a thumbnail, and decodes planar 16-bit channels as 8 bits.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

WIDTH, HEIGHT, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
FILL_ORDER, ORIENTATION, CHANNELS, ROWS_PER_STRIP, MAX_SAMPLE, PLANAR = 266, 274, 277, 278, 281, 284
PREDICTOR, TILE_WIDTH, TILE_LENGTH, EXTRA, SAMPLE_FORMAT = 317, 322, 323, 338, 339
WHITE_IS_ZERO = 0
_NEWER_SUBFILE, _SUBFILE, _SUB_IFDS, _DNG_VERSION = 254, 255, 330, 50706
_REDUCED, _MASK, _OLD_REDUCED = 1, 4, 2  # bits of _NEWER_SUBFILE; a value of _SUBFILE
_STRIPS, _TILES = (273, 279), (324, 325)  # places and lengths
_APART = 2  # value of PLANAR
_PREMULTIPLIED = 1  # value of EXTRA
_MOST_PAGES = 100
_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BIG = 43  # third byte of a BigTIFF
_FORMATS = {1: "", 2: "signed ", 3: "floating-point "}
_PHOTOMETRICS = {0: "grey, zero being white", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}


def is_raw_preview(image: Image.Image) -> bool:
    """Whether an opened TIFF is a camera raw file (DNG, NEF, ARW …), whose preview Pillow would decode."""
    tags = tags_of(image)
    return image.format == "TIFF" and (_DNG_VERSION in tags or bool(_is_aside(tags) and _SUB_IFDS in tags))


def seek_photo(image: Image.Image) -> None:
    """Seek the first page of an opened TIFF that is neither a thumbnail nor a mask; a single page is always the photo.

    Raises:
        ValueError: there is none among the first pages.
        OSError, SyntaxError and others of Pillow for a damaged page.
    """
    for page in range(_MOST_PAGES):
        try:
            image.seek(page)
        except EOFError:
            if page == 1:
                image.seek(0)
                return
            break
        if not _is_aside(tags_of(image)):
            return
    raise ValueError("each of its pages is a thumbnail or a mask")


def _is_aside(tags: Mapping[int, Any]) -> bool:
    """Whether a page is a thumbnail or a mask."""
    return bool(int(tags.get(_NEWER_SUBFILE, 0)) & (_REDUCED | _MASK)) or tags.get(_SUBFILE) == _OLD_REDUCED


def tags_of(image: Image.Image) -> Mapping[int, Any]:
    """The tags of an opened TIFF's page; none for other formats."""
    return getattr(image, "tag_v2", {})


def depth_of(image: Image.Image) -> int:
    """Most bits per channel of an opened TIFF; 1 for other formats."""
    return max(tags_of(image).get(BITS_PER_SAMPLE, (1,)))


def is_planar(image: Image.Image) -> bool:
    """Whether an opened TIFF has planar channels."""
    tags = tags_of(image)
    return bool(tags.get(PLANAR, 1) == _APART and tags.get(CHANNELS, 1) > 1)


def read_planes(image: Image.Image, data: bytes) -> npt.NDArray[np.uint16]:
    """Decode a TIFF with planar channels of 16 bits, each as a grey image by a directory appended to the file.

    Args:
        image: Opened by Pillow and not loaded; its EXIF orientation is removed, as the values are upright.
        data: The file's bytes.

    Returns:
        (H, W, C) values.

    Raises:
        OSError, ValueError and others of Pillow's decoders for a damaged file.
    """
    tags, order = tags_of(image), ">" if data[:2] == b"MM" else "<"
    kind = _TILES if _TILES[0] in tags else _STRIPS
    places, lengths = (_listed(tags[tag]) for tag in kind)
    count = int(tags[CHANNELS])
    if tags.get(EXTRA) == (_PREMULTIPLIED,):
        raise ValueError(f"it is {describe_tags(tags, data)} with premultiplied alpha, which is not supported")
    if len(places) % count or len(places) != len(lengths):
        raise ValueError(f"{len(places)} parts cannot be divided among {count} channels")
    share = len(places) // count
    shared = (WIDTH, HEIGHT, COMPRESSION, FILL_ORDER, ORIENTATION, ROWS_PER_STRIP, PREDICTOR, TILE_WIDTH, TILE_LENGTH)
    same = {tag: [int(tags[tag])] for tag in shared if tag in tags}
    values = np.empty((image.height, image.width, len(image.getbands())), dtype=np.uint16)
    for number in range(values.shape[2]):  # without unspecified channels
        own = slice(number * share, (number + 1) * share)
        entries = {BITS_PER_SAMPLE: [16], PHOTOMETRIC: [1], CHANNELS: [1], kind[0]: places[own], kind[1]: lengths[own]}
        with Image.open(io.BytesIO(with_directory(data, {**same, **entries}, order)), formats=("TIFF",)) as plane:
            turned = np.asarray(plane)
        values = values.reshape((*turned.shape, -1))  # Pillow applies the orientation
        values[..., number] = turned
    image.getexif().pop(ORIENTATION, None)
    return values


def _listed(value: Any) -> list[int]:
    return [int(item) for item in value] if isinstance(value, Sequence) else [int(value)]


def with_directory(data: bytes, entries: Mapping[int, list[int]], order: str) -> bytes:
    """A TIFF with another directory of tags.

    Args:
        data: The file's bytes; the first eight are replaced.
        entries: Integers by tag, written with 32 bits each.
        order: The file's byte order, "<" or ">".

    Returns:
        The bytes with the directory at the end.
    """
    start = len(data) + len(data) % 2
    behind = start + 2 + 12 * len(entries) + 4
    table, lists = struct.pack(f"{order}H", len(entries)), b""
    for tag, values in sorted(entries.items()):
        body = struct.pack(f"{order}{len(values)}I", *values)
        table += struct.pack(f"{order}HHI", tag, 4, len(values))
        table += body if len(values) == 1 else struct.pack(f"{order}I", behind + len(lists))
        lists += b"" if len(values) == 1 else body
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}I", start)
    return head + data[8:] + bytes(start - len(data)) + table + bytes(4) + lists


def describe(data: bytes) -> str:
    """Describe a TIFF's first page, from the file's bytes; empty for other formats."""
    if not data.startswith(_MARKS):
        return ""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if data[2] == _BIG else 8])
        handle = io.BytesIO(data)
        handle.seek(tags.next)
        tags.load(handle)
        if WIDTH in tags and HEIGHT in tags:
            return describe_tags(tags, data)
    except (OSError, ValueError, LookupError, SyntaxError, TypeError, struct.error):
        pass
    return "a TIFF without a complete directory of tags"


def describe_tags(tags: Mapping[int, Any], data: bytes) -> str:
    """Describe a page.

    Args:
        tags: The page's tags.
        data: The file's bytes, or its first two.

    >>> describe_tags({258: (16, 16), 262: 1, 277: 2}, b"MM")
    'a big-endian TIFF of 2 channels of 16 bits (grey)'
    """
    most = max(tags.get(BITS_PER_SAMPLE, (1,)))
    depth = "1 bit" if most == 1 else f"{most} bits"
    channels = int(tags.get(CHANNELS, 1))
    form = _FORMATS.get(max(tags.get(SAMPLE_FORMAT, (1,))), "other ")
    colours = _PHOTOMETRICS.get(tags.get(PHOTOMETRIC, -1), "other colours")
    order = "big-endian" if data[:2] == b"MM" else "little-endian"
    apart = ", one after the other" if tags.get(PLANAR, 1) == _APART and channels > 1 else ""
    number = "1 channel" if channels == 1 else f"{channels} channels"
    return f"a {order} TIFF of {number} of {form}{depth}{apart} ({colours})"
