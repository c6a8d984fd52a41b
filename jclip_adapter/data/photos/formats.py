"""Photo formats, recognised by their first bytes."""

from __future__ import annotations

import importlib
import io

from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF")
"""Pillow's names of the supported formats."""
READABLE = "JPEG, PNG, BMP, GIF, WebP, TIFF, PPM, AVIF, HEIC"
HEIC_PACKAGE = "pillow-heif"

_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF = frozenset({b"avif", b"avis"})
_SIGNATURES = (
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL \r\n\x87\n", "JPEG XL"),
    (4, b"jP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\xd8\xff\xf7", "JPEG-LS"),
    (8, b"CR\x02\0", "camera raw (Canon CR2)"),
    (4, b"ftypcrx ", "camera raw (Canon CR3)"),
    (0, b"FUJIFILMCCD-RAW", "camera raw (Fujifilm RAF)"),
    (0, b"IIRO", "camera raw (Olympus ORF)"),
    (0, b"IIRS", "camera raw (Olympus ORF)"),
    (0, b"MMOR", "camera raw (Olympus ORF)"),
    (0, b"IIU\0", "camera raw (Panasonic RW2)"),
    (0, b"FOVb", "camera raw (Sigma X3F)"),
    (0, b"\0MRM", "camera raw (Minolta MRW)"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"\0\0\1\0", "an icon (ICO)"),
    (0, b"SIMPLE  =", "FITS"),
    (128, b"DICM", "DICOM"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the photo itself"),
)


def brand(data: bytes) -> str:
    """The HEIF format of a file, from at least its first hundred bytes.

    Returns:
        "HEIC", "AVIF", "HEIF" for another codec, or empty for other formats.
    """
    if data[4:8] != b"ftyp":
        return ""
    end = max(16, min(int.from_bytes(data[:4], "big"), 256))
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
    if brands & _AVIF and data[8:12] not in _HEIC:
        return "AVIF"
    if brands & _HEIC:
        return "HEIC"
    return "HEIF" if brands & {b"mif1", b"msf1", b"mif2"} else ""


def name_of(data: bytes) -> str:
    """The name of an unsupported format, from the file's bytes; empty for an unknown one.

    >>> name_of(b"8BPS" + bytes(99))
    'Photoshop (PSD)'
    """
    for at, mark, name in _SIGNATURES:
        if data.startswith(mark, at):
            return name
    head = data[:256].lstrip().lower()
    if head.startswith((b"<svg", b"<?xml")):
        return "SVG" if b"<svg" in data[:1000] else "XML"
    return "a page of a web site" if head.startswith((b"<!doctype html", b"<html")) else ""


def open_heic(data: bytes) -> Image.Image | None:
    """Open a HEIC file with pillow-heif, without decoding.

    Args:
        data: The file's bytes.

    Returns:
        The image, or None if pillow-heif is not installed.

    Raises:
        SyntaxError: it is damaged, or has an unsupported codec.
    """
    try:
        module = importlib.import_module("pillow_heif")
    except ImportError:
        return None
    image: Image.Image = module.HeifImageFile(io.BytesIO(data))
    return image
