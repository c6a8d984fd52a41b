import hashlib
import io
import itertools
import os
import zlib

import numpy as np
import PIL.features
import pytest
from PIL import Image

from jclip_adapter.data.photos import decode
from jclip_adapter.data.photos.preprocess import square_pixels
from jclip_adapter.data.photos.reading import JPEG, Reading


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
    "PNG with a wrong checksum": encoded("PNG").replace(b"IDAT", b"IDAU"),
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
    number, digest, problem = decode.try_square(decode.Job(3, str(path), 32))
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


HOLE = bytes(300)


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_jpeg_with_a_hole_or_an_early_end_is_refused(options):
    data = encoded("JPEG", size=(300, 200), **options)
    start = data.index(b"\xff\xda") + 60
    decode.open_image(data, "whole.jpg")
    for broken in (data[:start] + HOLE + data[start + 300 :], data[:start] + b"\xff\xd9"):
        with pytest.raises(decode.PhotoError, match=r"x\.jpg is damaged"):
            decode.open_image(broken, "x.jpg")


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (640, 480)])
def test_an_even_jpeg_is_whole(size, subtests):
    kinds = [{}, {"optimize": True}, {"progressive": True}]
    for mode, options, shade in itertools.product(["RGB", "L", "CMYK"], kinds, [0, 127, 128, 255]):
        with subtests.test(mode=mode, options=options, shade=shade):
            buffer = io.BytesIO()
            Image.new("L", size, shade).convert(mode).save(buffer, "JPEG", **options)
            decode.open_image(buffer.getvalue(), "even.jpg")


@pytest.mark.parametrize("quality", [1, 50, 100])
@pytest.mark.parametrize("lossless", [False, True])
def test_an_even_webp_is_whole_and_one_with_a_hole_is_not(quality, lossless):
    buffer = io.BytesIO()
    Image.new("RGB", (640, 480), "white").save(buffer, "WEBP", quality=quality, lossless=lossless)
    decode.open_image(buffer.getvalue(), "even.webp")
    data = encoded("WEBP", size=(300, 200), quality=100, lossless=lossless)
    with pytest.raises(decode.PhotoError, match=r"x\.webp is damaged \(at least \d+ bytes of its data are zero"):
        decode.open_image(data[: len(data) // 2] + bytes(len(data) - len(data) // 2), "x.webp")


def test_greys_of_16_bits_keep_their_shades_and_unknown_ranges_are_refused():
    shades = np.array([[0, 257 * 64], [257 * 128, 65535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF", "PPM"):
        buffer = io.BytesIO()
        Image.fromarray(shades).save(buffer, kind)
        image = decode.open_image(buffer.getvalue(), "deep")
        assert (image.mode, np.asarray(image).tolist()) == ("L", [[0, 64], [128, 255]])
    buffer = io.BytesIO()
    Image.fromarray(np.ones((2, 2), np.float32)).save(buffer, "TIFF")
    with pytest.raises(decode.PhotoError, match="whose value range is unknown"):
        decode.open_image(buffer.getvalue(), "floats.tif")


@pytest.mark.parametrize("target", ["pipe", "/dev/zero"])
def test_what_never_ends_is_not_read(target, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "x.jpg").symlink_to(target)
    with pytest.raises(decode.PhotoError, match="a pipe, a socket or a device"):
        decode.read_file(tmp_path / "x.jpg")


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_BYTES", 10)
    (tmp_path / "x.jpg").write_bytes(bytes(11))
    with pytest.raises(decode.PhotoError, match="11 bytes, more than 10"):
        decode.read_file(tmp_path / "x.jpg")
    (tmp_path / "x.jpg").write_bytes(bytes(10))
    assert decode.read_file(tmp_path / "x.jpg") == bytes(10)


def test_another_pillow_or_decoder_has_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow 13 resizes tall pictures in another order than 12.1, up to seven levels apart: features must not mix."""
    before = Reading().key
    assert Reading().key == before
    keys = {before}
    with monkeypatch.context() as patch:
        patch.setattr(PIL, "__version__", "13.0.0")
        keys.add(Reading().key)
    plain = PIL.features.version
    for decoder in ("libjpeg_turbo", "libtiff", "webp", "avif"):
        with monkeypatch.context() as patch:
            patch.setattr(PIL.features, "version", lambda name, other=decoder: f"{plain(name)}{'x' * (name == other)}")
            keys.add(Reading().key)
    assert len(keys) == 6


@pytest.mark.parametrize(("side", "same"), [(1000, False), (100, True)])
def test_a_large_jpeg_is_reduced_where_that_is_asked_for(side, same):
    """Its pixels are nearly those of the whole photo; a small one's are the same."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((side, side * 3 // 4))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, exif=bytes.fromhex("45786966000049492a0008000000010012010300010000000600"))
    exact, reduced = (decode.pixels_of(buffer.getvalue(), "x.jpg", 64, reading=Reading(jpeg=how)) for how in JPEG)
    difference = np.abs(exact.astype(int) - reduced.astype(int))
    assert bool(difference.max() == 0) is same
    assert difference.mean() < 2
    with pytest.raises(decode.PhotoError):
        decode.pixels_of(buffer.getvalue()[: len(buffer.getvalue()) // 2], "x.jpg", 64, reading=Reading(jpeg="reduced"))


def test_photos_that_are_not_reduced_keep_their_features():
    assert Reading(jpeg="exact").key == Reading().key
    assert Reading(jpeg="reduced").key == f"{Reading().key} reduced"
