import base64
import io

import numpy as np
import pytest
from PIL import Image

from jclip_adapter.core.errors import PhotoError
from jclip_adapter.data.photos.decode import open_image
from jclip_adapter.web.thumbnails import data_uri, thumbnail
from tests.tiny_contest import picture


def saved(path, size=(300, 200), **options):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(path, **options)
    return path


@pytest.mark.parametrize(("size", "expected"), [((300, 200), (96, 64)), ((200, 300), (64, 96)), ((40, 30), (40, 30))])
def test_the_longest_side_is_limited(size, expected, tmp_path):
    with Image.open(io.BytesIO(thumbnail(saved(tmp_path / "a.png", size), 96))) as picture:
        assert (picture.format, picture.size) == ("JPEG", expected)


def test_it_is_upright_and_tells_nothing_else_of_the_photo(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"  # rotated by 90 degrees; maker
    jpeg = thumbnail(saved(tmp_path / "a.jpg", exif=exif), 96)
    with Image.open(io.BytesIO(jpeg)) as picture:
        assert picture.size == (64, 96)
        assert not picture.getexif()


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(tmp_path):
    whole = picture(1, 2000, 1500)
    exif = Image.Exif()
    exif[0x0112] = 6
    whole.save(tmp_path / "a.jpg", quality=90, exif=exif)
    assert open_image((tmp_path / "a.jpg").read_bytes(), "a").size == (1500, 2000)
    assert open_image((tmp_path / "a.jpg").read_bytes(), "a", least=288).size == (375, 500)
    with Image.open(io.BytesIO(thumbnail(tmp_path / "a.jpg", 144))) as small:
        assert small.size == (108, 144)
        upright = whole.transpose(Image.Transpose.ROTATE_270).resize(small.size, Image.Resampling.BOX)
        assert np.abs(np.asarray(small).astype(int) - np.asarray(upright)).mean() < 3


def test_what_is_no_photo_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"<svg onload='alert(1)'>")
    with pytest.raises(PhotoError, match=r"a\.jpg is not a readable image"):
        thumbnail(tmp_path / "a.jpg", 96)


def test_its_address_holds_it():
    address = data_uri(b"jpeg")
    assert base64.b64decode(address.removeprefix("data:image/jpeg;base64,")) == b"jpeg"
