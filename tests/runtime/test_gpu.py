"""What only a CUDA device can show: `pytest -m gpu`; all other tests run on it too, where Jittor chooses it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from jclip_adapter import runtime
from jclip_adapter.data.photos.preprocess import normalise_pixels
from jclip_adapter.models.clip.config import VIT_B_32
from jclip_adapter.models.clip.encoder import Encoder, load_encoder
from tests.conftest import Cli
from tests.random_weights import write_safe

pytestmark = pytest.mark.gpu
TEXTS = ["a photo of a cat.", "a dog", "a long text of many words about a lynx in the snow, " * 3]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_safe(tmp_path_factory.mktemp("weights") / "vit-b-32.safetensors", config=VIT_B_32)


@pytest.fixture(scope="module")
def photos() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), dtype=np.uint8)


def least_cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    return float(((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def test_cuda_is_chosen_by_itself() -> None:
    runtime.start()
    assert runtime.current_device() == "cuda"


def test_the_towers_give_the_models_features(weights: Path, photos: npt.NDArray[np.uint8]) -> None:
    jt = runtime.start()
    encoder = load_encoder(str(weights), "cuda", 16)
    with jt.no_grad():
        model = encoder.model.encode_image(normalise_pixels(photos)).numpy()
    found = encoder.images(photos)
    np.testing.assert_allclose(found, model, atol=1e-3 * np.abs(model).max())


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_keeps_the_features(precision: str, weights: Path, photos: npt.NDArray[np.uint8]) -> None:
    def features(encoder: Encoder) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        return encoder.images(photos), encoder.texts(TEXTS)

    whole = features(load_encoder(str(weights), "cuda", 16))
    half = features(load_encoder(str(weights), "cuda", 16, precision=precision))
    for a, b in zip(whole, half, strict=True):
        assert np.isfinite(b).all()
        assert 0.999 < least_cosine(a, b) < 1 - 1e-9


def test_the_main_job(workplace: Path, cli: Cli) -> None:
    flags = ("--weights", "tiny.pkl", "--device", "cuda")
    assert cli("--train", *flags).status == 0
    assert cli("--predict", "result.txt", *flags).status == 0
    assert cli("--check", "result.txt").status == 0
