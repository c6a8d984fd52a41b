"""Small pictures of photos, for the report and the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from jclip_adapter.data.photos.decode import open_image, read_file
from jclip_adapter.data.photos.reading import AS_SEEN, Reading

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
    picture = open_image(read_file(path), path.name, reading, 2 * side).convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def data_uri(jpeg: bytes) -> str:
    """A JPEG as the address of an `<img>` that needs no file and no network."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
