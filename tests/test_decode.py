import hashlib
import io
import zlib

import numpy as np
import pytest
from PIL import Image

from jclip_adapter import decode
from jclip_adapter.clip.preprocess import square_pixels


def encoded(kind: str, mode: str = "RGB", size=(40, 30), **options) -> bytes:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", decode.FORMATS)
def test_every_allowed_format_is_read(kind, tmp_path):
    data = encoded(kind)
    path = tmp_path / "photo"
    path.write_bytes(data)
    digest, pixels = decode.read_square(path, 32)
    assert digest == hashlib.sha256(data).digest()
    np.testing.assert_array_equal(pixels, square_pixels(Image.open(path), 32))


BROKEN = {
    "empty": b"",
    "text": b"this is no photo",
    "html": b"<!DOCTYPE html><html></html>",
    "truncated JPEG": encoded("JPEG")[:-200],
    "truncated PNG": encoded("PNG")[:-200],
    "PNG with a wrong check sum": encoded("PNG").replace(b"IDAT", b"IDAU"),
    "a format that is not allowed": encoded("PCX"),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_photo_is_told(name, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(BROKEN[name])
    with pytest.raises(decode.PhotoError, match=r"photo\.jpg") as caught:
        decode.read_square(path, 32)
    assert "\n" not in str(caught.value)
    number, digest, problem = decode.try_square((3, str(path), 32))
    assert (number, digest) == (3, b"")
    assert "photo.jpg" in problem


def test_a_bomb_is_refused_before_it_unfolds():
    """A PNG that says 60,000 × 60,000 pixels in a few bytes."""
    head = (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"0" * 1000)) + chunk(b"IEND", b"")
    )
    with pytest.raises(decode.PhotoError, match="bomb"):
        decode.open_image(data, "bomb.png")


@pytest.mark.parametrize("make", ["missing", "folder", "dangling"])
def test_what_is_no_file_is_told(make, tmp_path):
    path = tmp_path / "x.jpg"
    if make == "folder":
        path.mkdir()
    elif make == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(decode.PhotoError, match="cannot be read"):
        decode.read_square(path, 32)


def test_the_first_frame_of_an_animation_counts(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    _, pixels = decode.read_square(tmp_path / "a.gif", 8)
    assert pixels[0, 0].tolist() == [255, 0, 0]
