"""AudioCLIP's audio tower computes what the authors' code does, in both modes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from jclip_adapter import runtime
from jclip_adapter.models.audioclip.shapes import blackman_harris, check_audio
from jclip_adapter.models.audioclip.spectrogram import Spectrogram, fbsp_kernels, frames, scaled
from jclip_adapter.models.audioclip.tower import AudioTower
from jclip_adapter.models.clip.model import build_model, normalise
from jclip_adapter.models.weights.audio_names import split_audio
from jclip_adapter.runtime import jt
from tests.golden_files import Golden

from .audio_weights import audio_state, audioclip_state

pytestmark = pytest.mark.golden
Array = npt.NDArray[np.float32]
FRAME, HOP = 1654, 561
FAST = [False, *([True] if runtime.has_fast_matmul() else [])]
SMALL = {"hop": 67}  # of the golden file's small network


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("audioclip_audio")


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with jt.no_grad():
        yield


def off(found: npt.ArrayLike, wanted: npt.NDArray[np.floating]) -> float:
    """The largest error as a share of the largest number."""
    assert np.shape(found) == wanted.shape
    return float(np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max())


def spectrum64(golden: Golden, waves: npt.NDArray[np.float64], state: dict[str, Array]) -> npt.NDArray[np.complex128]:
    """The spectrogram in float64, (B, F, T), from this program's window, frames and kernels."""
    kernels = fbsp_kernels(state["fbsp.m"], state["fbsp.fb"], state["fbsp.fc"], 2048)
    wave = (waves + 32768) * 2 / 65535 - 1
    cut = np.stack([frames(row[None], FRAME, HOP)[0] for row in wave]) * blackman_harris(FRAME)
    return np.einsum("fl,btl->bft", kernels, np.pad(cut, ((0, 0), (0, 0), (197, 197))))


def test_the_spectrogram_in_float64(golden: Golden) -> None:
    limit = golden.facts["tolerance"]["S_*_f64 (against a float64 implementation)"]["rtol_of_max"]
    state = audio_state(golden, "S", FRAME)
    clips = golden["S_clips_int16"].astype(np.float64)
    assert off(blackman_harris(FRAME), golden["S_window"]) < limit
    rows = golden["S_fbsp_rows"]
    kernels = fbsp_kernels(*(state[f"fbsp.{name}"][rows] for name in ("m", "fb", "fc")), 2048)[:, ::8]
    assert off(np.stack([kernels.real, kernels.imag], -1), golden["S_fbsp_weights_f64"]) < limit
    found = spectrum64(golden, clips[:1], state)
    assert off(np.stack([found.real, found.imag], -1), golden["S_spec_f64"]) < limit
    start = {"fbsp.m": np.zeros(1025), "fbsp.fb": np.ones(1025), "fbsp.fc": np.arange(1025.0)}
    found = spectrum64(golden, clips[:1], start)[:, :, :4]
    assert off(np.stack([found.real, found.imag], -1), golden["S_init_spec_f64"]) < limit


@pytest.mark.parametrize("length", [1, 1000, 1654, 1655, 2215, 2216])
def test_zeros_around_the_frames(length: int, golden: Golden) -> None:
    found = frames(np.arange(1.0, length + 1)[None], FRAME, HOP)[0]
    np.testing.assert_array_equal(found[:, [0, -1]].T, golden[f"S_frames_{length}_firstcol_lastcol"])


def test_the_spectrogram(golden: Golden) -> None:
    spectrogram = Spectrogram(audio_state(golden, "S", FRAME), HOP)
    clips = golden["S_clips_int16"].astype(np.float32)
    spectrum = spectrogram.spectrum(scaled(clips[:1])).numpy().transpose(0, 3, 1, 2)
    limits = golden.facts["tolerance"]
    assert off(spectrum, golden["S_spec_f32"][:, :1023]) < limits["S_spec_f32"]["atol_of_max"]
    found = spectrogram(clips).numpy().transpose(0, 3, 1, 2)
    errors = np.abs(found - golden["S_db_f32"][:, 0])
    assert errors.max() < limits["S_db_f32"]["atol"]
    assert np.median(errors) < limits["S_db_f32"]["median_atol"]


def test_samples_that_are_not_scaled_are_rounded_as_in_the_authors_code(golden: Golden) -> None:
    clip = golden["S_clips_int16"].astype(np.float32)[:1] / np.float32(32768)
    np.testing.assert_array_equal(scaled(clip)[0], golden["S_unscaled_wave_f32"])
    atol = golden.facts["tolerance"]["S_db_f32"]["atol"]
    found = Spectrogram(audio_state(golden, "S", FRAME), HOP)(clip).numpy().transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, golden["S_unscaled_db_f32"][:, 0], atol=atol)


@pytest.mark.parametrize(("name", "sample"), [("silence", 0), ("min", -32768)])
def test_constant_samples(name: str, sample: int, golden: Golden) -> None:
    """Far below the loudest frequency there is only rounding, in the authors' float32 too (17 dB off)."""
    wanted = golden[f"S_{name}_db_f32"][:, 0]
    spectrogram = Spectrogram(audio_state(golden, "S", FRAME), HOP)
    found = spectrogram(np.full((1, 2000), sample, np.float32)).numpy().transpose(0, 3, 1, 2)
    loud = wanted > wanted.max() - 90
    assert loud.mean() > 0.5
    np.testing.assert_allclose(found[loud], wanted[loud], atol=golden.facts["tolerance"]["S_db_f32"]["atol"])


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_each_stage(mode: str, golden: Golden) -> None:
    limit = golden.facts["tolerance"]["N stages"]["atol_of_max"]
    tower = AudioTower(audio_state(golden, "N", 201), 3001, batch_statistics=mode == "train", **SMALL)
    x = tower.stem(golden["N_clips_int16"].astype(np.float32))

    def check(found: jt.Var, name: str, step: int) -> None:
        shown = found.numpy()[[0, 9]][..., ::step].transpose(0, 3, 1, 2)
        assert off(shown, golden[f"N_att_{mode}_{name}"]) < limit, name

    check(x, "maxpool", 4)
    for number, (stage, step) in enumerate(zip(tower.stages, (16, 16, 8, 8), strict=True), 1):
        y, factors = stage.blocks(x), stage.attention(x)
        check(y, f"layer{number}", step)
        check(factors, f"att{number}", step)
        x = y * factors
    check(tower.last_attention(x), "att5", 8)


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_embeddings(mode: str, fast: bool, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """By oneDNN, and by Jittor's operators as on CUDA."""
    monkeypatch.setattr(runtime, "has_fast_matmul", lambda: fast)
    limit = golden.facts["tolerance"]["N embeddings"]["atol_of_max"]
    state = audio_state(golden, "N", 201)
    check_audio({**state, "logit_scale_ai": np.zeros(()), "logit_scale_at": np.zeros(())})
    clips = golden["N_clips_int16"].astype(np.float32)
    tower = AudioTower(state, 3001, batch_statistics=mode == "train", **SMALL)
    assert off(tower(clips), golden[f"N_att_{mode}_embedding"]) < limit
    assert off(tower.reduced(clips).numpy()[[0, 9]], golden[f"N_att_{mode}_reduced"]) < limit
    assert off(tower(clips / np.float32(32768)), golden[f"N_att_{mode}_unscaled_embedding"]) < limit
    stereo = np.stack([clips[:2], clips[2:4]], axis=1)
    assert off(tower(stereo), golden[f"N_stereo_{mode}_embedding"]) < limit
    if mode == "train":
        assert off(tower(clips[:5]), golden["N_att_train_first5_embedding"]) < limit


def test_the_full_network(golden: Golden) -> None:
    limits = golden.facts["tolerance"]
    state = audio_state(golden, "F", FRAME)
    clips = golden["F_clips_int16"].astype(np.float32)
    limit = limits["F_eval, F_noise5s embedding"]["atol_of_max"]
    tower = AudioTower(state, clips.shape[1])
    assert off(tower(clips), golden["F_eval_embedding"]) < limit
    assert off(tower.reduced(clips).numpy(), golden["F_eval_reduced"]) < limit
    noise = np.random.default_rng([golden.facts["seed"], 9000]).standard_normal(220_500, dtype=np.float32)
    assert off(AudioTower(state, 220_500)(np.round(noise * 3000)[None]), golden["F_noise5s_eval_embedding"]) < limit
    published = AudioTower(state, clips.shape[1], batch_statistics=True)
    assert off(published(clips), golden["F_train_embedding"]) < limits["F_train_embedding"]["atol_of_max"]


def test_three_modalities_in_one_space(golden: Golden) -> None:
    """AudioCLIP as a whole: its two halves, and the logits by the three scales."""
    state = audioclip_state(golden)
    halves = split_audio(state)
    clip = build_model(halves.clip)
    audio = AudioTower(halves.audio, 3001, **SMALL)
    clips = golden["N_clips_int16"].astype(np.float32)
    found = {
        "audio": normalise(jt.array(audio(clips[:3]))).numpy(),
        "image": normalise(clip.encode_image(golden["L_images"].astype(np.float32))).numpy(),
        "text": normalise(clip.encode_text(golden["L_tokens"])).numpy(),
    }
    for name, rows in found.items():
        np.testing.assert_allclose(rows, golden[f"L_eval_{name}"], atol=golden.facts["tolerance"]["L features"]["atol"])
    for one, other, scale in (
        ("audio", "image", "logit_scale_ai"),
        ("audio", "text", "logit_scale_at"),
        ("image", "text", "logit_scale"),
    ):
        factor = np.clip(np.exp(state[scale]), 1, 100)
        logits = factor * found[one] @ found[other].T
        atol = golden.facts["tolerance"]["L logits"]["atol"]
        np.testing.assert_allclose(logits, golden[f"L_eval_logits_{one}_{other}"], atol=atol)
    trained = AudioTower(halves.audio, 3001, batch_statistics=True, **SMALL)
    atol = golden.facts["tolerance"]["L features"]["atol"]
    np.testing.assert_allclose(normalise(jt.array(trained(clips))).numpy(), golden["L_train_audio10"], atol=atol)
