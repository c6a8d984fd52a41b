import numpy as np
import pytest
from PIL import Image

from jclip_adapter.data.photos import augmentation
from jclip_adapter.data.photos.augmentation import TrainingPhotos, random_square
from jclip_adapter.data.photos.decode import PhotoError
from jclip_adapter.data.photos.preprocess import square_pixels


def gradient(width, height):
    """A photo whose red tells the column, and whose green the row."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def spans(smallest, count=300, width=160, height=120):
    """Share of the area, ratio of the sides and whether flipped, of many crops."""
    image, rng = gradient(width, height), np.random.default_rng(0)
    found = []
    for _ in range(count):
        pixels = random_square(image, 48, rng, smallest).astype(float)
        across, down = pixels[24, -1, 0] - pixels[24, 0, 0], pixels[-1, 24, 1] - pixels[0, 24, 1]
        area = abs(across) * down / 255**2
        found.append((area, abs(across) * width / (down * height), across < 0))
    return np.array(found)


@pytest.mark.parametrize("smallest", [0.08, 0.5])
def test_crops_show_the_share_that_is_wanted(smallest):
    """From the smallest share to nearly all (few so large fit), sides within 3:4 and 4:3, half of them flipped."""
    area, ratio, flipped = spans(smallest).T
    assert area.min() > 0.85 * smallest
    assert 0.8 < area.max() <= 1
    assert abs(area.mean() - (smallest + 1) / 2) < 0.15
    assert 0.7 < ratio.min() < 0.85
    assert 1.2 < ratio.max() < 1.45
    assert 0.4 < flipped.mean() < 0.6


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3), (33, 32)])
def test_any_shape_of_photo_can_be_cropped(size):
    rng = np.random.default_rng(1)
    for smallest in (0.01, 0.5, 1.0):
        assert random_square(gradient(*size), 8, rng, smallest).shape == (8, 8, 3)


def test_the_generator_decides_all():
    image = gradient(50, 40)
    one, same, other = (random_square(image, 16, np.random.default_rng(seed), 0.3) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_palette_and_grey_photos_become_rgb():
    for mode in ("L", "P", "1", "RGBA", "CMYK"):
        assert random_square(gradient(30, 20).convert(mode), 8, np.random.default_rng(0), 0.5).shape == (8, 8, 3)


@pytest.fixture
def photos(tmp_path):
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.png")
        gradient(40 + number, 30).save(paths[-1])
    return paths


def test_without_a_generator_photos_are_as_clip_reads_them(photos):
    pixels = TrainingPhotos(photos, 16)(np.array([2, 0]), None, 1.0)
    expected = [square_pixels(gradient(40 + number, 30), 16) for number in (2, 0)]
    np.testing.assert_array_equal(pixels, expected)


def test_photos_are_read_once_as_long_as_they_fit(photos, monkeypatch):
    read = []
    original = augmentation.read_file
    monkeypatch.setattr(augmentation, "read_file", lambda path: read.append(path) or original(path))
    everything = TrainingPhotos(photos, 16)
    for _ in range(2):
        everything(np.arange(3), np.random.default_rng(0), 0.5)
    assert len(read) == 3
    monkeypatch.setattr(augmentation, "_KEPT_BYTES", 2 * 42 * 30 * 3)
    few = TrainingPhotos(photos, 16)
    for row in (0, 1, 2, 2, 1, 0):
        few(np.array([row]), None, 1.0)
    assert len(read) == 3 + 4


def test_an_unreadable_photo_is_named(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"no photo")
    with pytest.raises(PhotoError, match=r"x\.jpg"):
        TrainingPhotos([tmp_path / "x.jpg"], 16)(np.array([0]), None, 1.0)
