"""Small pictures of photos, for the report and the page."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

from PIL import Image

from jclip_adapter.data.photos.decode import open_image, read_file
from jclip_adapter.data.photos.reading import AS_SEEN, Reading
from jclip_adapter.storage import KEPT, write_bytes

_QUALITY = 70


def thumbnail(path: Path, side: int, reading: Reading = AS_SEEN) -> bytes:
    """A small JPEG of a photo, which a browser can show whatever the photo's format is.

    Args:
        path: The photo.
        side: Longest side in pixels; smaller photos keep their size.
        reading: How photo files are read.

    Returns:
        The bytes of a JPEG without metadata.

    Raises:
        PhotoError: the photo cannot be read.
        OSError: the file cannot be opened.
    """
    return small_jpeg(read_file(path), path.name, side, reading)


def small_jpeg(data: bytes, name: str, side: int, reading: Reading = AS_SEEN) -> bytes:
    """`thumbnail` of a photo's bytes.

    Raises:
        PhotoError: it cannot be read; `name` says which.
    """
    picture = open_image(data, name, reading, 2 * side).convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def data_uri(jpeg: bytes) -> str:
    """A JPEG as the address of an `<img>` that needs no file and no network."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def kept_thumbnail(path: Path, side: int, reading: Reading, folder: Path) -> bytes:
    """`thumbnail` from a folder of pictures, or made and kept there.

    Args:
        path: The photo.
        side: As for `thumbnail`.
        reading: As for `thumbnail`.
        folder: Its folder `thumbnails` keeps the pictures, by the photo's path, size and time of change.

    Raises:
        PhotoError: the photo cannot be read.
        OSError: the file cannot be opened.
        SetupError: the picture cannot be kept.
    """
    state = path.stat()
    facts = f"{path.absolute()}\0{state.st_size}\0{state.st_mtime_ns}\0{side}\0{reading.key}"
    digest = hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()
    kept = folder / "thumbnails" / digest[:2] / f"{digest}.jpg"
    try:
        return kept.read_bytes()
    except FileNotFoundError:
        data = thumbnail(path, side, reading)
        write_bytes(kept, data, KEPT)
        return data
