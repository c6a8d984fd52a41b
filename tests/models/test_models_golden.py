"""Genuine tiny models of open_clip and transformers give their libraries' own pixels, token ids and features.

Features are compared by their relative error: a wrong activation changes them by half a percent and their cosine not
in the fourth digit.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

from jclip_adapter import runtime
from jclip_adapter.data.photos.decode import read_square
from jclip_adapter.data.photos.preprocess import normalise_pixels
from jclip_adapter.models import clip
from jclip_adapter.models.clip import jittor_ops, onednn_ops
from jclip_adapter.models.clip.inference import ImageTower, TextTower, TowerWeights
from jclip_adapter.models.clip.model import state_arrays
from jclip_adapter.models.clip.tokenizer import token_ids
from jclip_adapter.runtime import jt
from tests import ROOT
from tests.conftest import Cli

FOLDER = Path(os.environ.get("JCLIP_MODELS_DIR") or ROOT / "tests/golden/models")
CLIPS = ("oc_gelu", "oc_quick", "oc_squash", "oc_res", "hf_clip_gelu", "hf_clip_quick", "hf_clip_olddict")
FAMILY = ("oc_custom_bias", "chinese_clip", "chinese_clip_pt", "siglip", "siglip2", "oc_siglip2", "pe_core")
MODELS = CLIPS + FAMILY
TOLERANCE = 3e-5  # of the largest number of the features, as the models' golden.json states it
pytestmark = pytest.mark.golden


class Case:
    """A model's folder with what its library computed."""

    def __init__(self, name: str) -> None:
        self.folder = FOLDER / name
        self.facts: dict[str, Any] = json.loads((self.folder / "golden.json").read_text(encoding="utf-8"))
        with np.load(self.folder / "golden.npz", allow_pickle=False) as arrays:
            self.arrays = {key: arrays[key] for key in arrays.files}
        assert "3e-5 *" in self.facts["tolerance"]["features"]

    @property
    def images(self) -> list[Path]:
        return [self.folder / "images" / name for name in self.facts["images"]]

    @property
    def ids(self) -> np.ndarray:
        """Hugging Face pads with the end token, this program with zeros; the features are the same."""
        return self.arrays.get("input_ids_zero_padded", self.arrays["input_ids"])

    @property
    def pixels(self) -> np.ndarray:
        """The original Chinese-CLIP converts photos to RGB after the resize; the features are of the other order."""
        return self.arrays.get("pixel_values_cn_clip", self.arrays["pixel_values"])

    def check(self, found: np.ndarray, name: str, *, without: int | None = None) -> None:
        """Compare the first rows, without one of them if the golden file has it from other input."""
        wanted = self.arrays[f"{name}_f64"][: len(found)]
        assert found.shape == wanted.shape
        kept = np.arange(len(found)) != (-1 if without is None else without)
        assert np.abs(found - wanted)[kept].max() <= TOLERANCE * np.abs(self.arrays[f"{name}_f64"]).max()


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.fixture
def newer_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resize as Pillow 13 does, by which the numbers were made: of a tall picture the rows first, then the columns.

    Both orders are the same filter, but the result between them is rounded and clipped to 8 bits.
    """
    if int(PIL.__version__.split(".")[0]) >= 13:
        return
    resize = Image.Image.resize

    def rows_first(image: Image.Image, size: tuple[int, int], resample: int | None = None, **more: Any) -> Image.Image:
        if image.height > 2 * image.width and image.height > size[1] and image.mode == "RGB":
            image = resize(image, (image.width, size[1]), resample, **more)
        return resize(image, size, resample, **more)

    monkeypatch.setattr(Image.Image, "resize", rows_first)


@pytest.mark.usefixtures("newer_pillow")
def test_pixels(case: Case) -> None:
    config = clip.load(case.folder)[0].config
    side, transform = config.image_resolution, config.pixels
    squares = np.stack([read_square(path, side, transform)[1] for path in case.images])
    np.testing.assert_allclose(normalise_pixels(squares, transform), case.pixels, atol=1e-5)


@pytest.mark.usefixtures("newer_pillow")
def test_the_preprocessing_that_load_returns(case: Case) -> None:
    preprocess = clip.load(case.folder)[1]
    pixels = np.stack([preprocess(Image.open(path)).numpy() for path in case.images])
    np.testing.assert_allclose(pixels, case.pixels, atol=1e-5)


def test_token_ids(case: Case) -> None:
    config = clip.load(case.folder)[0].config
    ids = token_ids(case.facts["texts"], config.context_length, True, config.text_cleaning, config.text_vocabulary)
    np.testing.assert_array_equal(ids, case.ids)


def test_features_of_the_model_that_is_trained(case: Case) -> None:
    model = clip.load(case.folder)[0]
    with jt.no_grad():
        case.check(model.encode_image(case.arrays["pixel_values"]).numpy(), "image_features")
        case.check(model.encode_text(case.ids).numpy(), "text_features")
        logits = model(jt.array(case.arrays["pixel_values"]), jt.array(case.ids))[0].numpy()
    np.testing.assert_allclose(logits, case.arrays["logits_per_image_f64"], atol=2e-3)


OPERATIONS = [jittor_ops, *([onednn_ops] if runtime.has_fast_matmul() else [])]


@pytest.mark.parametrize("ops", OPERATIONS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_features_of_the_towers_that_encode(case: Case, ops: ModuleType) -> None:
    """By either module of operations; photos are the golden pixels in reverse, rounded to whole numbers."""
    model = clip.load(case.folder)[0]
    config, weights = model.config, TowerWeights(state_arrays(model), ops, "float32")
    std, mean = (np.float32(value).reshape(3, 1, 1) for value in (config.pixels.std, config.pixels.mean))
    levels = np.rint((case.arrays["pixel_values"] * std + mean) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    with jt.no_grad():
        case.check(ImageTower(weights, config)(np.ascontiguousarray(levels)), "image_features")
        case.check(TextTower(weights, config)(case.ids), "text_features")


def test_a_wrong_activation_would_be_noticed(case: Case) -> None:
    """The tolerance tells the activations apart: tanh in place of erf costs more than it allows."""
    costs = case.facts["what_a_mistake_costs"]
    towers = ("image_features", "text_features")
    told = [max(cost[tower]["rel"] for tower in towers) for name, cost in costs.items() if "gelu" in name]
    assert min(told) > 2 * TOLERANCE


@pytest.mark.usefixtures("newer_pillow")
@pytest.mark.parametrize("converted", [False, True])
def test_extract(case: Case, converted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    """The whole way through the command line: a folder of weights, photos and texts in, features out."""
    monkeypatch.chdir(tmp_path)
    for number, path in enumerate(case.images):
        for part in ("train", "test"):
            (tmp_path / "photos" / part / f"c{number}").mkdir(parents=True)
            shutil.copy(path, tmp_path / "photos" / part / f"c{number}" / path.name)
    texts = case.facts["texts"][: len(case.images)]
    spellings = "".join(f"  c{number}: {json.dumps(text)}\n" for number, text in enumerate(texts))
    (tmp_path / "p.yaml").write_text(f"templates:\n  default: ['{{}}']\nspellings:\n{spellings}", encoding="utf-8")
    weights = case.folder
    if converted:
        weights = tmp_path / "converted"
        assert cli("--convert", case.folder, weights).status == 0
    flags = ("--data", "photos", "--weights", weights, "--prompts", "p.yaml", "--shots", "1", "--device", "cpu")
    done = cli("--extract", "f.npz", *flags)
    assert done.status == 0, done.err
    with np.load(tmp_path / "f.npz", allow_pickle=False) as found:
        # The original converts to RGB after the resize; the features were computed from pixels of the other order.
        palette = case.facts["images"].index("palette.png") if "pixel_values_cn_clip" in case.arrays else None
        case.check(found["train1_x"], "image_features", without=palette)
        case.check(found["test_x"], "image_features", without=palette)
        # Prompts have no repeated blanks, which SigLIP 2's tokenizer keeps.
        blanks = next((row for row, text in enumerate(texts) if "   " in text), None)
        case.check(found["text"], "text_features_normalised", without=blanks if case.folder.name == "siglip2" else None)
        assert found["logit_scale"] == pytest.approx(case.arrays["logit_scale_exp"], rel=1e-6)
