import numpy as np
import pytest
from PIL import Image

from jclip_adapter.data.photos.preprocess import Preprocess, square_pixels
from tests.golden_files import Golden


def image_of(golden: Golden, name: str) -> Image.Image:
    mode, pixels = golden.facts["images"][name]["mode"], golden[f"px__{name}"]
    if mode == "P":
        image = Image.fromarray(pixels, "L").copy()
        image.putpalette(golden[f"palette__{name}"].tobytes())
    else:
        image = Image.fromarray(pixels)
        if mode in ("CMYK", "LA"):
            image = Image.fromarray(pixels, mode)
    assert image.mode == mode
    return image


@pytest.mark.golden
def test_every_mode_comes_out_as_from_openais_transform():
    golden = Golden("openai_preprocess")
    checked = 0
    for key, wanted in golden.arrays.items():
        kind, _, name = key.partition("__")
        if kind.startswith("p") and kind[1:].isdigit():
            ours = Preprocess(int(kind[1:])).pixels(image_of(golden, name))
            np.testing.assert_allclose(ours, wanted, atol=golden.tolerance("atol"), err_msg=key)
            checked += 1
    assert checked >= len(golden.facts["images"])


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (64, 64), (65, 63), (7, 64)])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "I;16", "F", "RGBA", "1"])
def test_any_shape_and_mode_becomes_a_square(size, mode):
    image = Image.new(mode, size)
    if image.width * image.height:
        assert square_pixels(image, 64).shape == (64, 64, 3)


def test_an_extremely_long_image_needs_no_extreme_memory():
    pixels = square_pixels(Image.new("RGB", (1, 60_000), (10, 20, 30)), 224)
    assert pixels.shape == (224, 224, 3)
    assert (pixels == (10, 20, 30)).all()


def test_call_gives_a_variable_as_jclip_does():
    var = Preprocess(32)(Image.new("RGB", (40, 50)))
    assert tuple(var.unsqueeze(0).shape) == (1, 3, 32, 32)
