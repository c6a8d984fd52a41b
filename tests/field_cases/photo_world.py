"""Small data sets of the sample's pictures, saved as a camera or scanner would, and photo files made by hand."""

from __future__ import annotations

import functools
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tools.sample.classes import CLASSES
from tools.sample.painter import PHOTO_STYLE, SEED, paint, picture_rng

KINDS = CLASSES[:10]
SHOTS, TESTS = 2, 8
Save = Callable[[Image.Image, Path, int], None]


@functools.cache
def pictures() -> tuple[tuple[str, Image.Image], ...]:
    """Relative paths without ending, and the pictures that belong there: SHOTS training and TESTS test ones a class."""
    return tuple(
        (f"{split}/{kind.name}/{index}", paint(kind, PHOTO_STYLE, picture_rng(SEED, split, label, index)))
        for split, count in (("train", SHOTS), ("test", TESTS))
        for label, kind in enumerate(KINDS)
        for index in range(count)
    )


def lay_out(
    root: Path, save: Save, ending: str = ".png", change: Callable[[Image.Image], Image.Image] | None = None
) -> Path:
    """A folder per class below train/ and test/; `save` is given each picture, its path and its number."""
    for number, (relative, picture) in enumerate(pictures()):
        path = root / f"{relative}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(change(picture) if change else picture, path, number)
    return root


def save_plain(picture: Image.Image, path: Path, _: int) -> None:
    """As it is."""
    picture.save(path, "PNG")


def grey(picture: Image.Image) -> Image.Image:
    """Without colours."""
    return picture.convert("L")


def deepened(picture: Image.Image, bits: int) -> npt.NDArray[np.uint16]:
    """(H, W) or (H, W, C) values of so many bits, which come back to the same 8 bits."""
    top = (1 << bits) - 1
    return ((np.asarray(picture).astype(np.uint32) * top + 127) // 255).astype(np.uint16)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk."""
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png16(values: npt.NDArray[np.uint16], extra: bytes = b"") -> bytes:
    """A PNG of 16 bits per channel; 1 to 4 channels."""
    height, width = values.shape[:2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[values.size // (height * width)]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff16(values: npt.NDArray[np.uint16], order: str = "<", photometric: int = 1, highest: int = 0) -> bytes:
    """An uncompressed TIFF of 16 bits per channel, in one of the two orders of bytes."""
    height, width = values.shape[:2]
    channels = values.size // (height * width)
    body = values.astype(f"{order}u2").tobytes()
    entries: list[tuple[int, int, int, int | None]] = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, 16 if channels == 1 else None),
        (259, 3, 1, 1),
        (262, 3, 1, photometric if channels == 1 else 2),
        (273, 4, 1, None),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 1, len(body)),
        *([(281, 3, 1, highest)] if highest else []),
    ]
    behind = 8 + 2 + 12 * len(entries) + 4
    depths = struct.pack(f"{order}{channels}H", *[16] * channels)
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    for tag, kind, count, value in entries:
        number = value if value is not None else behind if tag == 258 else behind + len(depths)
        packed = struct.pack(f"{order}HH", number, 0) if kind == 3 and count == 1 else struct.pack(f"{order}I", number)
        out += struct.pack(f"{order}HHI", tag, kind, count) + packed
    return out + struct.pack(f"{order}I", 0) + depths + body


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image's file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def top1(folder: Path) -> float:
    """Top-1 accuracy in percent of the one evaluation below a folder."""
    (path,) = folder.glob("**/evaluation.json")
    return float(json.loads(path.read_text())["scores"][-1]["top1"])
