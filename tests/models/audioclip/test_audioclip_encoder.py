"""AudioCLIP is read from its published format, and its encoders know what determines a feature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jclip_adapter.core.errors import DataError, UsageError, WeightsError
from jclip_adapter.data.sounds import SAMPLES
from jclip_adapter.models.audioclip.encoder import AudioClip, load_audioclip
from jclip_adapter.models.audioclip.tower import AudioTower, adaptive_max_pool
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.models.weights import convert
from jclip_adapter.runtime import jt

from .audio_weights import State, random_audioclip, write_torch


@pytest.fixture(scope="module")
def state() -> State:
    return random_audioclip()


@pytest.fixture(scope="module")
def file(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_torch(tmp_path_factory.mktemp("audioclip") / "AudioCLIP.pt", state)


@pytest.fixture(scope="module")
def waves() -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.3, 0.3, (12, SAMPLES)).astype(np.float32)


def load(file: Path, mode: str = "proper") -> AudioClip:
    return load_audioclip(str(file), "cpu", mode=mode)


def test_both_halves_and_the_scales(file: Path, state: State, waves: np.ndarray) -> None:
    found = load(file)
    assert found.scales == pytest.approx((100, 50, 1))
    assert found.audio.width == found.clip.width == 64
    assert found.audio.sounds(waves[:1]).shape == (1, 64)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    assert found.clip.images(pixels).shape == (2, 64)
    assert found.clip.texts(["a dog"]).shape == (1, 64)
    np.testing.assert_array_equal(found.audio.state["fc.weight"], state["audio.fc.weight"])


def test_photos_and_texts_need_no_sounds(file: Path) -> None:
    """The usual encoder reads the file too: it uses CLIP's half."""
    alone, both = load_encoder(str(file), "cpu"), load(file).clip
    assert alone.image_key() == both.image_key()
    np.testing.assert_array_equal(alone.texts(["a dog"]), both.texts(["a dog"]))


def test_a_conversion_keeps_both_halves(file: Path, waves: np.ndarray, tmp_path: Path) -> None:
    convert(file, tmp_path / "a.safetensors")
    original, converted = load(file), load(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(original.audio.sounds(waves[:1]), converted.audio.sounds(waves[:1]))
    assert original.scales == converted.scales


def test_an_empty_tensor_is_left_out_of_safetensors_too(state: State, tmp_path: Path) -> None:
    """As another program converts AudioCLIP's file: `audio.fbsp.bias` has no numbers."""
    from safetensors.numpy import save_file

    save_file(state, tmp_path / "a.safetensors")
    assert "fbsp.bias" not in load(tmp_path / "a.safetensors").audio.state


def test_proper_features_do_not_depend_on_other_sounds(file: Path, state: State, waves: np.ndarray) -> None:
    audio = load(file).audio
    with jt.no_grad():
        together = AudioTower(audio.state, SAMPLES, batch=3)(waves[:3] * np.float32(32768))
    alone = np.concatenate([audio.sounds(waves[row : row + 1]) for row in range(3)])
    np.testing.assert_allclose(alone, together, atol=1e-5 * np.abs(together).max())
    with pytest.raises(ValueError, match="do not fit"):
        audio.sounds(waves[:2])


def test_published_features_depend_on_the_batch(file: Path, waves: np.ndarray) -> None:
    audio = load(file, "published").audio
    assert audio.batch_size == 10
    ten, five = audio.sounds(waves[:10]), audio.sounds(waves[:5])
    assert np.abs(ten[:5] - five).max() > 1e-2 * np.abs(five).max()
    assert np.abs(audio.sounds(waves[:5]) - five).max() == 0


def test_a_published_batch_of_one_is_refused(file: Path, waves: np.ndarray) -> None:
    with pytest.raises(UsageError, match="at least two sounds"):
        load(file, "published").audio.sounds(waves[:1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(value: float, file: Path, waves: np.ndarray) -> None:
    wave = waves[:1].copy()
    wave[0, 7] = value
    with pytest.raises(DataError, match="NaN or infinite"):
        load(file).audio.sounds(wave)


def test_the_mode_and_the_weights_are_in_the_key(file: Path, tmp_path: Path) -> None:
    other = write_torch(tmp_path / "b.pt", random_audioclip(1))
    keys = {load(file).audio.sound_key(), load(file, "published").audio.sound_key(), load(other).audio.sound_key()}
    assert len(keys) == 3
    assert load(file).audio.sound_key() in keys


def test_an_unknown_mode(file: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'proper'"):
        load(file, "propper")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"audio.att3.conv_point.bias": None}, "missing att3.conv_point.bias"),
        ({"audio.conv1.weight": None}, "audio.conv1.weight is missing"),
        ({"logit_scale_at": None}, "missing logit_scale_at"),
        ({"audio.fc.bias": np.zeros(3, np.float32)}, r"fc.bias has shape \(3,\)"),
        ({"audio.layer5.0.conv1.weight": np.zeros(3, np.float32)}, "unknown layer5"),
        ({"audio.window": np.ones(1654, np.float32)}, "not the Blackman–Harris window"),
        ({"audio.fbsp.fb": np.zeros(1025, np.float32)}, "bandwidth that is not positive"),
        ({"audio.bn1.bias": np.full(8, np.nan, np.float32)}, "NaN or infinity"),
    ],
)
def test_unfit_weights_are_refused(change: dict, words: str, state: State, tmp_path: Path) -> None:
    changed = {name: value for name, value in {**state, **change}.items() if value is not None}
    path = write_torch(tmp_path / "a.pt", changed)
    with pytest.raises(WeightsError, match=words) as caught:
        load(path)
    assert str(path) in caught.value.message


def test_a_clip_without_sounds_is_refused(state: State, tmp_path: Path) -> None:
    clip = {name: value for name, value in state.items() if not name.startswith("audio.")}
    with pytest.raises(WeightsError, match="has no audio encoder"):
        load(write_torch(tmp_path / "a.pt", clip))


@pytest.mark.parametrize(
    ("given", "made"),
    [((43, 49), (22, 25)), ((22, 25), (11, 13)), ((86, 98), (43, 49)), ((11, 13), (1, 1)), ((1, 1), (1, 1))],
)
def test_adaptive_max_pool(given: tuple[int, int], made: tuple[int, int]) -> None:
    (height, width), (rows, columns) = given, made
    x = np.random.default_rng(0).standard_normal((2, height, width, 3)).astype(np.float32)
    wanted = np.zeros((2, rows, columns, 3), np.float32)
    for i in range(rows):
        for j in range(columns):
            down = slice(i * height // rows, -(-(i + 1) * height // rows))
            across = slice(j * width // columns, -(-(j + 1) * width // columns))
            wanted[:, i, j] = x[:, down, across].max(axis=(1, 2))
    np.testing.assert_array_equal(adaptive_max_pool(jt.array(x), (rows, columns)).numpy(), wanted)
