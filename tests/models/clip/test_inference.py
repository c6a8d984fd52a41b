"""The towers that encode compute what the model computes, by either module of operations."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from jclip_adapter import runtime
from jclip_adapter.core.errors import UsageError
from jclip_adapter.data.photos.preprocess import MEAN, STD, normalise_pixels
from jclip_adapter.models.clip import inference, jittor_ops, onednn_ops
from jclip_adapter.models.clip.config import ACTIVATIONS, ClipConfig
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.models.clip.inference import ImageTower, TextTower, TowerWeights
from jclip_adapter.models.clip.model import CLIP, build_model, state_arrays
from jclip_adapter.models.clip.tokenizer import token_ids
from jclip_adapter.runtime import jt, onednn
from tests.random_weights import TINY, random_state, write_jclip, write_safe

MODULES = [jittor_ops, *([onednn_ops] if runtime.has_fast_matmul() else [])]
TEXTS = ["a photo of a cat.", "a dog", "a very long text of very many words about a lynx, " * 3]
by_module = pytest.mark.parametrize("ops", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])


def drawn(*shape: int) -> Any:
    return jt.array(np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32))


def pixels(count: int = 5) -> npt.NDArray[np.uint8]:
    side = TINY.image_resolution
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def state() -> dict[str, npt.NDArray[np.float32]]:
    return random_state(TINY)


def test_one_of_them_is_chosen() -> None:
    assert inference.operations() is MODULES[-1]


@by_module
def test_both_towers_give_the_models_features(ops: ModuleType, state: dict[str, npt.NDArray[np.float32]]) -> None:
    model, weights = build_model(state), TowerWeights(state, ops, "float32")
    tokens = token_ids(TEXTS, TINY.context_length)
    with jt.no_grad():
        images = model.encode_image(normalise_pixels(pixels())).numpy()
        texts = model.encode_text(tokens).numpy()
        np.testing.assert_allclose(ImageTower(weights, TINY)(pixels()), images, atol=2e-5 * np.abs(images).max())
        np.testing.assert_allclose(TextTower(weights, TINY)(tokens), texts, atol=2e-5 * np.abs(texts).max())


def activated(x: np.ndarray, activation: str) -> np.ndarray:
    """The activations by their formulas, in float64."""
    if activation == "quick_gelu":
        return x / (1 + np.exp(-1.702 * x))
    if activation == "gelu":
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@by_module
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_told_apart(ops: ModuleType, activation: str) -> None:
    """To 1e-6: erf and tanh differ by 5e-4 at most, which a cosine of features does not show."""
    x = np.linspace(-6, 6, 4800, dtype=np.float32).reshape(100, 48)
    weight, bias = jt.array(np.eye(48, dtype=np.float32)), jt.array(np.zeros(48, np.float32))
    found = ops.linear(jt.array(x), ops.pack(weight, "float32"), bias, "float32", activation=activation)
    np.testing.assert_allclose(found.numpy(), activated(x.astype(np.float64), activation), atol=2e-6)


@by_module
@pytest.mark.parametrize("activation", ["", *ACTIVATIONS])
@pytest.mark.parametrize("added", [False, True])
def test_linear(ops: ModuleType, activation: str, added: bool) -> None:
    x, weight, bias, residual = drawn(37, 96), drawn(70, 96), jt.array(np.arange(70, dtype=np.float32)), drawn(37, 70)
    wanted = x.numpy() @ weight.numpy().T + bias.numpy()
    if activation:
        wanted = activated(wanted.astype(np.float64), activation)
    more = {"activation": activation, "residual": residual if added else None}
    found = ops.linear(x, ops.pack(weight, "float32"), bias, "float32", **more)
    np.testing.assert_allclose(found.numpy(), wanted + (residual.numpy() if added else 0), rtol=2e-5, atol=2e-4)


@by_module
@pytest.mark.parametrize("eps", [1e-5, 1e-2, 1e-12])
def test_layer_norm(ops: ModuleType, eps: float) -> None:
    x = drawn(7, 50).numpy() * 3 + 100  # a mean that is large beside the deviation
    weight, bias = np.linspace(0.5, 2, 50, dtype=np.float32), np.linspace(-1, 1, 50, dtype=np.float32)
    exact = x.astype(np.float64)
    centred = exact - exact.mean(axis=1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + eps) * weight + bias
    found = ops.layer_norm(jt.array(x), jt.array(weight), jt.array(bias), eps=eps).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@by_module
def test_attention(ops: ModuleType, subtests: pytest.Subtests) -> None:
    kinds = ["whole", "causal", "padded", "rotary", "one"]
    for length, kind, head in itertools.product([1, 17, 64, 130], kinds, [64, 80, 104, 12, 6]):
        with subtests.test(length=length, kind=kind, head=head):
            check_attention(ops, length, kind, head)


@pytest.mark.skipif(not runtime.has_fast_matmul(), reason="without oneDNN there is no bfloat16 on the CPU")
def test_attention_of_bfloat16(subtests: pytest.Subtests) -> None:
    kinds = ["whole", "causal", "padded", "rotary", "one"]
    for length, kind, head in itertools.product([1, 9, 31, 32, 50, 77, 130], kinds, [32, 64, 80, 96]):
        with subtests.test(length=length, kind=kind, head=head):
            check_attention(onednn_ops, length, kind, head, "bfloat16")


@pytest.mark.skipif(not runtime.has_fast_matmul(), reason="without oneDNN there is no bfloat16 on the CPU")
@pytest.mark.parametrize("width", [48, 64, 768])
def test_layer_norm_to_bfloat16(width: int) -> None:
    x, weight, bias = drawn(7, width).numpy() * 3 + 100, np.linspace(0.5, 2, width), np.linspace(-1, 1, width)
    exact = x.astype(np.float64)
    centred = exact - exact.mean(axis=1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * weight + bias
    found = onednn_ops.layer_norm(*(jt.array(each.astype(np.float32)) for each in (x, weight, bias)), "bfloat16")
    np.testing.assert_allclose(widened(found), wanted, rtol=2**-8, atol=1e-3)


def turned(x: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Neighbouring channels as complex numbers, turned by their angle."""
    numbers = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles[:, 0::2])
    return np.stack([numbers.real, numbers.imag], axis=-1).reshape(x.shape)


def widened(x: Any) -> npt.NDArray[np.float32]:
    """The float32 of bfloat16's bits, or of float32."""
    numbers = x.numpy()
    return (numbers.astype(np.uint32) << 16).view(np.float32) if numbers.dtype == np.uint16 else numbers


def check_attention(ops: ModuleType, length: int, kind: str, head: int, precision: str = "float32") -> None:
    """The formula, in float64."""
    tolerance = 1e-5 if precision == "float32" else 0.02

    def given(array: npt.NDArray[np.float32]) -> Any:
        return ops.cast(jt.array(np.ascontiguousarray(array)), precision)

    batch, heads = 2, 3
    width = head * heads
    joined = widened(given(drawn(batch * length, 3 * width).numpy()))
    query, key, value = (
        part.reshape(batch, length, heads, head).transpose(0, 2, 1, 3).astype(np.float64)
        for part in np.split(joined, 3, axis=1)
    )
    more: dict[str, Any] = {"causal": kind == "causal"}
    if kind == "rotary":
        angles = np.random.default_rng(3).uniform(0, 6, (length, head // 2)).repeat(2, axis=1)
        more["rotary"] = jt.array(np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32))
        query, key = (turned(part, angles) for part in (query, key))
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(head)
    places = np.arange(length)
    seen = np.array([length, max(1, length - 5)])
    if kind == "causal":
        scores = np.where(places[:, None] >= places, scores, -np.inf)
    if kind in ("one", "padded"):
        more["seen"] = jt.array(seen.astype(np.int32))
        scores = np.where(places < seen[:, None, None, None], scores, -np.inf)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (shares / shares.sum(axis=-1, keepdims=True)) @ value
    wanted = mixed.transpose(0, 2, 1, 3).reshape(batch, length, width)
    if kind == "one":
        last = seen - 1
        rows = given(joined[np.arange(batch) * length + last, :width])
        found = widened(ops.attention(given(joined[:, width:]), batch, heads, one=rows, **more))
        np.testing.assert_allclose(found, wanted[np.arange(batch), last], atol=tolerance)
    else:
        found = widened(ops.attention(given(joined), batch, heads, **more))
        np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=tolerance)


@by_module
def test_patches(ops: ModuleType) -> None:
    photos, patch = pixels(2), TINY.vision_patch_size
    grid = TINY.image_resolution // patch
    wanted = normalise_pixels(photos).reshape((2, 3, grid, patch, grid, patch)).transpose(0, 2, 4, 1, 3, 5)
    found = ops.patches(jt.array(photos), patch, MEAN, STD, "float32").numpy()
    np.testing.assert_allclose(found, wanted.reshape(found.shape), atol=1e-5)


def test_half_precision_where_the_processor_has_it(tmp_path: Any) -> None:
    path = str(write_safe(tmp_path / "tiny.safetensors"))
    if not (onednn.has_bfloat16() and runtime.has_fast_matmul()):
        with pytest.raises(UsageError, match="no bfloat16 instructions"):
            load_encoder(path, "cpu", precision="bfloat16")
        return
    whole, half = load_encoder(path, "cpu", 8), load_encoder(path, "cpu", 8, precision="bfloat16")
    assert whole.image_key() != half.image_key()
    assert whole.text_key() != half.text_key()
    for of in (lambda encoder: encoder.images(pixels()), lambda encoder: encoder.texts(TEXTS[:2])):
        a, b = of(whole), of(half)
        cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert 0.999 < cosines.min() < 0.9999999


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_feature_does_not_depend_on_its_place(precision: str, tmp_path: Any) -> None:
    if precision == "bfloat16" and not onednn.has_bfloat16():
        precision = "float32"
    encoder = load_encoder(str(write_safe(tmp_path / "tiny.safetensors")), "cpu", 6, precision=precision)
    photos = pixels(6)
    found = encoder.images(photos)
    np.testing.assert_array_equal(encoder.images(photos[::-1])[::-1], found)
    np.testing.assert_array_equal(encoder.images(photos[3:5]), found[3:5])
    other = load_encoder(str(tmp_path / "tiny.safetensors"), "cpu", 3, precision=precision)
    np.testing.assert_array_equal(other.images(photos[:3]), found[:3])


def test_a_resnet_encodes_photos_in_single_precision(tmp_path: Any) -> None:
    path = str(tmp_path / "resnet.pkl")
    write_jclip(Path(path), state_arrays(CLIP(ClipConfig(16, 96, (1, 1, 1, 1), 8, 0, 77, 49408, 64, 1))))
    encoder = load_encoder(path, "cpu", 4, model_config="openai")
    photos = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    wanted = encoder.model.encode_image(normalise_pixels(photos)).numpy()
    np.testing.assert_allclose(encoder.images(photos), wanted, rtol=1e-3, atol=1e-5)
    with pytest.raises(UsageError, match="is for vision transformers"):
        load_encoder(path, "cpu", precision="bfloat16", model_config="openai")


def test_bfloat16_needs_the_processors_instructions(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "has_bfloat16", lambda: False)
    with pytest.raises(UsageError, match="no bfloat16 instructions"):
        load_encoder(str(write_safe(tmp_path / "tiny.safetensors")), "cpu", precision="bfloat16")


@pytest.mark.skipif(runtime.current_device() == "cuda", reason="with CUDA, float16 is taken")
def test_float16_is_for_cuda(tmp_path: Any) -> None:
    path = str(write_safe(tmp_path / "tiny.safetensors"))
    with pytest.raises(UsageError, match="float16 is for CUDA"):
        load_encoder(path, "cpu", precision="float16")
