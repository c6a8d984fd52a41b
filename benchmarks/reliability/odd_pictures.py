"""The table of odd and broken pictures, and what is to become of each.

A row is a name, how the file is made, and the outcome: "read" (and, where the picture is known, alike to it),
"refused" with words that its message must hold, or "passed over" where it is no photo of the folder, or one whose name
fits no list. Nearly all are made from one picture.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.tiny_contest import picture

READ, REFUSED, PASSED = "read", "refused", "passed over"
EOI = b"\xff\xd9"
LARGEST = (8192, 6144)  # as many pixels as are decoded at most


@dataclass(frozen=True)
class Oddity:
    """One kind of picture.

    Attributes:
        name: What is odd about it.
        make: Writes the file (or link, folder, pipe) at a path.
        outcome: READ, REFUSED or PASSED.
        words: What the message about it must hold, as a regular expression; for READ nothing.
        file: The name of the file.
        alike: For READ: whether it must come out as the plain picture, in grey, but for small differences.
        heavy: Whether it takes a second or more to make.
    """

    name: str
    make: Callable[[Path], object]
    outcome: str
    words: str = ""
    file: str = "image_9.jpg"
    alike: bool = True
    heavy: bool = False


@cache
def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """The plain picture in a format and mode."""
    buffer = io.BytesIO()
    image = picture(0)
    if mode == "P":
        image = image.quantize(256)
    elif mode == "RGBA":
        image.putalpha(255)
    elif mode == "LA":
        image = image.convert("LA")
    elif mode != "RGB":
        image = image.convert(mode)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _frames(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    others = [Image.new("RGB", (300, 200), colour) for colour in ("red", "blue")]
    picture(0).save(buffer, kind, save_all=True, append_images=others, **options)
    return buffer.getvalue()


def stored_as(image: Image.Image, orientation: int) -> Image.Image:
    """What a camera stores of an upright picture with an EXIF orientation.

    EXIF says at which side of the upright picture the stored row 0 and column 0 lie: top and left (1), top and right
    (2), bottom and right (3), bottom and left (4), left and top (5), right and top (6), right and bottom (7), left and
    bottom (8).

    Args:
        image: The upright picture.
        orientation: 1 to 8.
    """
    pixels = np.asarray(image)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    return Image.fromarray(np.ascontiguousarray(pixels))


def _dng() -> bytes:
    buffer = io.BytesIO()
    picture(0).save(buffer, "TIFF", tiffinfo={50706: bytes((1, 4, 0, 0))})
    return buffer.getvalue()


def _exif(data_kind: str, orientation: int) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored_as(picture(0), orientation).save(buffer, data_kind, exif=exif, quality=90)
    return buffer.getvalue()


def _cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def _cut_of(kind: str, share: float) -> bytes:
    return _cut(encoded(kind), share)


def _zeroed_of(kind: str, start: float, end: float, **options: Any) -> bytes:
    return _zeroed(encoded(kind, **options), start, end)


def _zeroed(data: bytes, start: float, end: float) -> bytes:
    first, last = int(len(data) * start), int(len(data) * end)
    return data[:first] + bytes(last - first) + data[last:]


def _random(data: bytes, start: int) -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, len(data) - start, dtype=np.uint8)
    return data[:start] + noise.tobytes()


def _head(data: bytes) -> bytes:
    """A JPEG's headers, up to the first scan's data."""
    at = data.index(b"\xff\xda")
    return data[: at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]


def _resized(data: bytes, width: int, height: int, frame: bytes) -> bytes:
    """A JPEG whose header has another size."""
    at = data.index(frame)
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def _first_scan_zeroed() -> bytes:
    data = encoded("JPEG", progressive=True)
    start = len(_head(data))
    return data[: start + 20] + bytes(200) + data[start + 220 :]


def _late_scans_zeroed() -> bytes:
    data = encoded("JPEG", progressive=True)
    start = data.rindex(b"\xff\xda") + 20
    return data[:start] + bytes(len(data) - 2 - start) + EOI


def _small_webp_hole() -> bytes:
    data = encoded("WEBP")
    middle = len(data) // 2
    return data[:middle] + bytes(200) + data[middle + 200 :]


def _random_middle() -> bytes:
    data = _plain()
    middle = len(data) // 2
    noise = np.random.default_rng(3).integers(0, 255, 100, dtype=np.uint8)  # without 255, which begins a marker
    return data[:middle] + noise.tobytes() + data[middle + 100 :]


def _many_scans() -> bytes:
    data = _resized(encoded("JPEG", progressive=True), *LARGEST, b"\xff\xc2")
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * 500 + EOI


def _tables(data: bytes, change: Callable[[bytearray, int], None]) -> bytes:
    """A JPEG with something done to each Huffman table (its place is where the sixteen counts begin)."""
    changed = bytearray(data)
    at = data.find(b"\xff\xc4")
    while at >= 0:
        end, here = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big"), at + 5
        while here < end:
            change(changed, here)
            here += 17 + sum(data[here : here + 16])
        at = data.find(b"\xff\xc4", end)
    return bytes(changed)


def _no_symbols(data: bytearray, at: int) -> None:
    count = sum(data[at : at + 16])
    data[at + 16 : at + 16 + count] = bytes(count)


def _too_many(data: bytearray, at: int) -> None:
    data[at] = 200


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk."""
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def _png(width: int, height: int, body: bytes, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _flat_png(width: int, height: int) -> bytes:
    row, deflate = b"\0" * (1 + 3 * width), zlib.compressobj(1)
    return _png(width, height, b"".join(deflate.compress(row) for _ in range(height)) + deflate.flush())


def _interlaced() -> bytes:
    """The plain picture in Adam7's seven passes."""
    pixels = np.asarray(picture(0))
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [pixels[top::down, left::across] for top, left, down, across in passes]
    raw = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    head = struct.pack(">IIBBBBB", 300, 200, 8, 2, 0, 0, 1)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _deep_grey(kind: str) -> bytes:
    values = np.asarray(picture(0).convert("L")).astype(np.uint16) * 257
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def _deep_colour() -> bytes:
    values = np.asarray(picture(0)).astype(">u2") * 257
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return _png(300, 200, zlib.compress(raw), 16, 2)


def _numbers(kind: type) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(picture(0).convert("L")).astype(kind) / kind(255)).save(buffer, "TIFF")
    return buffer.getvalue()


def _tiff(entries: list[tuple[int, int, int, int]], after: int = 0) -> bytes:
    """A little-endian TIFF of one directory."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", after)


def _circular_tiff() -> bytes:
    """The next directory of the last one is the first."""
    data = bytearray(encoded("TIFF"))
    first = struct.unpack("<I", data[4:8])[0]
    end = first + 2 + 12 * struct.unpack("<H", data[first : first + 2])[0]
    data[end : end + 4] = struct.pack("<I", first)
    return bytes(data)


def _bmp(width: int, height: int, bits: int = 24, body: bytes = b"") -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 54) + head + body


def _upside_down_bmp() -> bytes:
    """Rows from the top, marked by a negative height."""
    return _bmp(300, -200, 24, np.ascontiguousarray(np.asarray(picture(0))[..., ::-1]).tobytes())


def _shape(width: int, height: int, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    picture(0, width, height).save(buffer, kind)
    return buffer.getvalue()


def _largest(kind: str, mode: str = "RGB", size: tuple[int, int] = LARGEST, cut: float = 1.0, **options: Any) -> bytes:
    tile = np.asarray(picture(0, 1024, 1024))
    tiles = np.tile(tile, (-(-size[1] // 1024), -(-size[0] // 1024), 1))
    image = Image.fromarray(tiles[: size[1], : size[0]])
    if mode == "RGBA":
        image.putalpha(200)
    elif mode != "RGB":
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    data = buffer.getvalue()
    return data if cut == 1 else _cut(data, cut) + EOI


def _icc() -> bytes:
    return encoded("JPEG", icc_profile=np.random.default_rng(0).integers(0, 256, 5_000_000, dtype=np.uint8).tobytes())


def _link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def _pipe_link(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path may have no more than 107 bytes
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


def _sparse(path: Path) -> None:
    path.write_bytes(encoded("JPEG"))
    os.truncate(path, 10_000_000_000)


def _file(data: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data())  # storage's partial file would have too long a name for some


def _odd(name: str, outcome: str, data: Callable[[], bytes], words: str = "", **others: Any) -> Oddity:
    return Oddity(name, _file(data), outcome, words, **others)


def _plain() -> bytes:
    return encoded("JPEG", quality=90)


def _cuts() -> list[Oddity]:
    """Each format cut short at several places."""
    rows = []
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"):
        for share in (0.02, 0.5, 0.97):
            rows.append(_odd(f"{kind} cut at {share:.0%}", REFUSED, partial(_cut_of, kind, share), "not a readable"))
    rows += [
        _odd("progressive JPEG cut at 50%", REFUSED, lambda: _cut(encoded("JPEG", progressive=True), 0.5), "truncated"),
        _odd("JPEG without its last 2 bytes", REFUSED, lambda: _plain()[:-2], "truncated"),
        _odd("JPEG cut at 50%, end marker put on", REFUSED, lambda: _cut(_plain(), 0.5) + EOI, "end before"),
        _odd("JPEG of headers and end marker", REFUSED, lambda: _head(_plain()) + EOI, "end before"),
        _odd(
            "progressive JPEG of headers and end marker",
            REFUSED,
            lambda: _head(encoded("JPEG", progressive=True)) + EOI,
            "end before",
        ),
        _odd("PNG without its end chunk", READ, lambda: encoded("PNG")[:-12]),
    ]
    return rows


def _holes() -> list[Oddity]:
    """A middle or an end of zeros, as interrupted copies have it."""
    rows = []
    families: dict[str, dict[str, Any]] = {
        "JPEG": {},
        "JPEG with its own Huffman tables": {"optimize": True},
        "JPEG with restart markers": {"restart_marker_rows": 1},
        "grey JPEG": {"mode": "L"},
    }
    for label, options in families.items():
        rows += [
            _odd(
                f"{label}, {part}",
                REFUSED,
                partial(_zeroed_of, "JPEG", start, end, **options),
                words,
            )
            for part, start, end, words in (
                ("middle third zeroed", 1 / 3, 2 / 3, "damaged"),
                ("5% in the middle zeroed", 0.5, 0.55, "damaged"),
                ("last half zeroed", 0.5, 1, "truncated|are zero"),
            )
        ]
    rows += [
        _odd(f"{kind}, middle third zeroed", REFUSED, partial(_zeroed_of, kind, 1 / 3, 2 / 3), words)
        for kind, words in (("PNG", "not a readable"), ("GIF", "not a readable"), ("WEBP", "damaged"))
    ]
    rows += [
        _odd(
            "lossless WebP, last half zeroed",
            REFUSED,
            lambda: _zeroed(encoded("WEBP", lossless=True), 0.5, 1),
            "are zero",
        ),
        _odd("progressive JPEG, first scan zeroed", REFUSED, _first_scan_zeroed, "are zero"),
        # What is lost are fine details; the scans before the hole hold the picture.
        _odd("progressive JPEG, last third zeroed", READ, _late_scans_zeroed),
        # In these formats zeros are black; nothing tells them from a black part of the picture.
        _odd("BMP, middle third zeroed", READ, lambda: _zeroed(encoded("BMP"), 1 / 3, 2 / 3), alike=False),
        _odd("PPM, middle third zeroed", READ, lambda: _zeroed(encoded("PPM"), 1 / 3, 2 / 3), alike=False),
        _odd("raw TIFF, middle third zeroed", READ, lambda: _zeroed(encoded("TIFF"), 1 / 3, 2 / 3), alike=False),
        # The decoders take these for data as well: what comes out is a wrong picture, though not a blank one.
        _odd("lossy WebP, 200 bytes zeroed", READ, _small_webp_hole, alike=False),
        _odd("JPEG, 100 random bytes in the middle", READ, _random_middle, alike=False),
        _odd("JPEG all of zeros", REFUSED, lambda: bytes(20_000), "not a readable"),
    ]
    return rows


def _garbage() -> list[Oddity]:
    return [
        _odd("nothing in it", REFUSED, lambda: b"", "is empty"),
        _odd("random bytes after a JPEG's first 20", REFUSED, lambda: _random(_plain(), 20), "not a readable"),
        _odd("random bytes after a PNG's headers", REFUSED, lambda: _random(encoded("PNG"), 60), "not a readable"),
        _odd("random bytes alone", REFUSED, lambda: _random(bytes(9999), 0), "not a readable"),
        _odd("bytes behind a JPEG's end", READ, lambda: _plain() + b"trailing" * 999),
        _odd("JPEG with impossible Huffman tables", REFUSED, lambda: _tables(_plain(), _too_many), "not a readable"),
        _odd("JPEG whose Huffman tables give nothing", REFUSED, lambda: _tables(_plain(), _no_symbols), "plain grey"),
        # As in films of JPEGs: the decoder takes the usual tables.
        _odd("JPEG without Huffman tables", READ, lambda: _plain().replace(b"\xff\xc4", b"\xff\xfe")),
        _odd(
            "JPEG without quantisation", REFUSED, lambda: _plain().replace(b"\xff\xdb", b"\xff\xfe"), "not a readable"
        ),
        _odd(
            "JPEG with a larger size in its header",
            REFUSED,
            lambda: _resized(_plain(), 600, 800, b"\xff\xc0"),
            "end before",
        ),
        _odd(
            "JPEG that claims arithmetic coding",
            REFUSED,
            lambda: _plain().replace(b"\xff\xc0", b"\xff\xc9"),
            "do not end",
        ),
        _odd("JPEG of size 0", REFUSED, lambda: _resized(_plain(), 0, 0, b"\xff\xc0"), "not a readable"),
        _odd("PNG with a wrong check sum", REFUSED, lambda: encoded("PNG").replace(b"IDAT", b"IDAU"), "not a readable"),
        _odd("page of a web site", REFUSED, lambda: b"<!DOCTYPE html><html><body>404</body></html>", "not a readable"),
        _odd(
            "pointer of Git LFS",
            REFUSED,
            lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n",
            "not a readable",
        ),
        _odd("SVG", REFUSED, lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>', "not a readable"),
        _odd("HEIC", REFUSED, lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500), "HEIC photo|not a readable"),
        _odd("AVIF cut at 50%", REFUSED, partial(_cut_of, "AVIF", 0.5), "not a readable"),
        _odd("JPEG 2000", REFUSED, lambda: encoded("JPEG2000"), "it is JPEG 2000"),
        _odd("JPEG XL", REFUSED, lambda: b"\xff\x0a" + bytes(500), "it is JPEG XL"),
        _odd("Canon CR2", REFUSED, lambda: b"II*\0\x10\0\0\0CR\2\0" + bytes(500), "camera raw"),
        _odd("DNG", REFUSED, _dng, "camera raw"),
        _odd(
            "PSD", REFUSED, lambda: b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x08\0\0\0\x08\0\x08\0\3" + bytes(999), "PSD"
        ),
        _odd("ICO", REFUSED, lambda: encoded("ICO"), "not a readable"),
        _odd("PDF", REFUSED, lambda: encoded("PDF"), "not a readable"),
        _odd("PostScript", REFUSED, lambda: encoded("EPS"), "not a readable"),
    ]


def _kinds() -> list[Oddity]:
    """Readable ones of every mode."""
    return [
        _odd("progressive JPEG", READ, lambda: encoded("JPEG", progressive=True)),
        _odd("JPEG with restart markers", READ, lambda: encoded("JPEG", restart_marker_rows=1)),
        _odd("CMYK JPEG", READ, lambda: encoded("JPEG", "CMYK")),
        _odd("grey JPEG", READ, lambda: encoded("JPEG", "L")),
        _odd("JPEG with an ICC profile of 5 MB", READ, _icc),
        _odd("JPEG with a comment of 60 kB", READ, lambda: encoded("JPEG", comment=b"x" * 60_000)),
        _odd("JPEG of one even mid-grey", READ, lambda: _even("JPEG", (128, 128, 128)), alike=False),
        _odd("JPEG of one even white, own tables", READ, lambda: _even("JPEG", (255,) * 3, optimize=True), alike=False),
        _odd("WebP of one even white", READ, lambda: _even("WEBP", (255, 255, 255)), alike=False),
        _odd("MPO of two pictures", READ, lambda: _frames("MPO", quality=90)),
        *(
            _odd(f"{k}, EXIF orientation {n}", READ, partial(_exif, k, n))
            for k in ("JPEG", "WEBP")
            for n in range(1, 9)
        ),
        _odd("PNG of 16-bit grey", READ, lambda: _deep_grey("PNG")),
        _odd("PNG of 16-bit colours", READ, _deep_colour),
        _odd("TIFF of 16-bit grey", READ, lambda: _deep_grey("TIFF")),
        _odd("TIFF of 32-bit fractions", REFUSED, lambda: _numbers(np.float32), "32 bits"),
        _odd("AVIF", READ, lambda: encoded("AVIF")),
        _odd("PNG with palette", READ, lambda: encoded("PNG", "P")),
        _odd("PNG with palette and transparency", READ, lambda: encoded("PNG", "P", transparency=3)),
        _odd("PNG with alpha", READ, lambda: encoded("PNG", "RGBA")),
        _odd("PNG of grey and alpha", READ, lambda: encoded("PNG", "LA")),
        _odd("PNG of 1 bit", READ, lambda: encoded("PNG", "1"), alike=False),
        _odd("PNG, interlaced", READ, _interlaced),
        _odd("GIF, interlaced", READ, lambda: encoded("GIF", interlace=1)),
        _odd("animated GIF", READ, lambda: _frames("GIF")),
        _odd("animated WebP", READ, lambda: _frames("WEBP", lossless=True)),
        _odd("animated PNG", READ, lambda: _frames("PNG")),
        _odd("lossless WebP", READ, lambda: encoded("WEBP", lossless=True)),
        _odd("BMP, rows from the top", READ, _upside_down_bmp),
        *(
            _odd(f"TIFF, {name}", READ, partial(encoded, "TIFF", compression=name))
            for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
        ),
        _odd("TIFF in tiles", READ, lambda: encoded("TIFF", tile=(64, 64), compression="tiff_lzw"), alike=True),
        _odd("TIFF of several pages", READ, lambda: _frames("TIFF")),
        _odd("TIFF whose directories go in a circle", READ, _circular_tiff),
        _odd("1×1", READ, lambda: _shape(1, 1), alike=False),
        _odd("1×20000", READ, lambda: _shape(1, 20_000), alike=False),
        _odd("20000×1", READ, lambda: _shape(20_000, 1), alike=False),
        _odd("PNG named .jpg", READ, lambda: encoded("PNG")),
        _odd("JPEG named .png", READ, _plain, file="image_9.png"),
        _odd("WebP named .gif", READ, lambda: encoded("WEBP", lossless=True), file="image_9.gif"),
        _odd("PPM named .TIFF", READ, lambda: encoded("PPM"), file="image_9.TIFF"),
    ]


def _even(kind: str, colour: tuple[int, ...], **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (600, 400), colour).save(buffer, kind, **options)
    return buffer.getvalue()


def _bombs() -> list[Oddity]:
    """Much out of little."""
    size = 60_000
    strip = [(256, 4, 1, size), (257, 4, 1, size), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    gif = b"GIF89a" + struct.pack("<HH", size, size) + b"\x80\0\0" + bytes(6)
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(300_000_000)))
    return [
        _odd("PNG that says 60000×60000", REFUSED, lambda: _png(size, size, zlib.compress(b"0" * 1000)), "bomb"),
        _odd("TIFF that says 60000×60000", REFUSED, lambda: _tiff([*strip, (279, 4, 1, 100)]), "bomb"),
        _odd("BMP that says 60000×60000", REFUSED, lambda: _bmp(size, size), "bomb"),
        _odd("PPM that says 60000×60000", REFUSED, lambda: b"P6 60000 60000 255\n" + bytes(99), "bomb"),
        _odd("JPEG that says 60000×60000", REFUSED, lambda: _resized(_plain(), size, size, b"\xff\xc0"), "pixels"),
        _odd(
            "GIF that says 60000×60000",
            REFUSED,
            lambda: gif + b"," + struct.pack("<HHHH", 0, 0, size, size) + b"\0\x02\x02\x4c\x01\0;",
            "bomb",
        ),
        _odd("PPM of negative size", REFUSED, lambda: b"P6 -5 10 255\n" + bytes(99), "not a readable"),
        _odd("PPM with a value limit of 0", REFUSED, lambda: b"P6 10 10 0\n" + bytes(300), "not a readable"),
        _odd("PPM with too few values", REFUSED, lambda: b"P6 500 500 255\n" + bytes(300), "truncated"),
        _odd("TIFF without directories", REFUSED, lambda: _tiff([]), "not a readable"),
        _odd("even PNG of 9000×9000", REFUSED, lambda: _flat_png(9000, 9000), "more than 50331648", heavy=True),
        _odd("even PNG of 8192×6144", READ, lambda: _flat_png(*LARGEST), alike=False, heavy=True),
        _odd(
            "PNG with 300 MB of packed text", REFUSED, lambda: _png(8, 8, b"", extra=text), "not a readable", heavy=True
        ),
        _odd("progressive JPEG with 500 scans of 8192×6144", REFUSED, _many_scans, "scans"),
        *(
            _odd(name, outcome, partial(_largest, "JPEG", **o), words, alike=False, heavy=True)
            for name, outcome, words, o in (
                ("JPEG of 108 megapixels", READ, "", {"size": (12000, 9000)}),
                ("JPEG of 200 megapixels", READ, "", {"size": (16320, 12240)}),
                ("panorama of 20000×3000", READ, "", {"size": (20000, 3000)}),
                ("progressive JPEG of 108 megapixels", READ, "", {"size": (12000, 9000), "progressive": True}),
                ("JPEG of 108 megapixels cut at 50%", REFUSED, "end before", {"size": (12000, 9000), "cut": 0.5}),
                ("JPEG of 420 megapixels", REFUSED, "pixels", {"size": (21000, 20000)}),
            )
        ),
        *(
            _odd(f"{label} of {LARGEST[0]}×{LARGEST[1]}", READ, partial(_largest, k, m, **o), alike=False, heavy=True)
            for label, k, m, o in (
                ("JPEG", "JPEG", "RGB", {}),
                ("progressive CMYK JPEG", "JPEG", "CMYK", {"progressive": True}),
                ("PNG with alpha", "PNG", "RGBA", {"compress_level": 1}),
                ("TIFF of LZW", "TIFF", "RGB", {"compression": "tiff_lzw"}),
                ("WebP", "WEBP", "RGB", {"quality": 75, "method": 0}),
            )
        ),
    ]


def _no_files() -> list[Oddity]:
    """What is no plain file, or has an odd name."""
    return [
        Oddity("folder named .jpg", lambda path: path.mkdir(), PASSED),
        Oddity("link to a folder", _link("."), PASSED),
        Oddity("dangling link", _link("nowhere.jpg"), REFUSED, "No such file"),
        Oddity("link to itself", _link("image_9.jpg"), REFUSED, "symbolic links"),
        Oddity("link to a name that is too long", _link("x" * 300), REFUSED, "too long"),
        Oddity("link to a photo", _link("image_1.jpg"), READ, alike=False),
        Oddity("unreadable file (input/output error)", _link("/proc/self/mem"), REFUSED, "error"),
        Oddity("pipe", os.mkfifo, REFUSED, "a pipe"),
        Oddity("link to a pipe", _pipe_link, REFUSED, "a pipe"),
        Oddity("socket", _socket, REFUSED, "a pipe"),
        Oddity("link to /dev/zero", _link("/dev/zero"), REFUSED, "a device"),
        Oddity("link to /dev/null", _link("/dev/null"), REFUSED, "a device"),
        Oddity("file of 10 GB without content", _sparse, REFUSED, "more than 400,000,000"),
        _odd("Chinese name", READ, _plain, file="测试图片_九.jpg"),
        _odd("name of Hangul and an emoji", READ, _plain, file="사진 🐻.jpg"),
        _odd("name with blanks", READ, _plain, file="my  photo 9 .jpg"),
        _odd("name with quotes and shell signs", READ, _plain, file="a'b\"$(rm -rf x);`.jpg"),
        _odd("name like a flag", READ, _plain, file="--predict.jpg"),
        _odd("name of 250 letters", READ, _plain, file="n" * 246 + ".jpg"),
        _odd("name with 5000 digits' worth of number", READ, _plain, file="9" * 240 + ".jpg"),
        _odd("ending in capitals", READ, _plain, file="IMAGE_9.JPEG"),
        _odd("name with a line end", PASSED, _plain, "fit no list", file="image\n9.jpg"),
        _odd("name with a tab", PASSED, _plain, "fit no list", file="image\t9.jpg"),
        _odd("name with a Unicode line end", PASSED, _plain, "fit no list", file="image\u20289.jpg"),
        _odd("name that begins with a blank", PASSED, _plain, "fit no list", file=" 9.jpg"),
        _odd("name in Latin-1", PASSED, _plain, "fit no list", file=os.fsdecode("café.jpg".encode("latin-1"))),
        _odd("name in GBK", PASSED, _plain, "fit no list", file=os.fsdecode("测试.jpg".encode("gbk"))),
        _odd("hidden file", PASSED, _plain, "ignored", file=".image_9.jpg"),
    ]


ODDITIES: tuple[Oddity, ...] = (*_cuts(), *_holes(), *_garbage(), *_kinds(), *_bombs(), *_no_files())
