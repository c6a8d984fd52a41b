import numpy as np
import pytest

from jclip_adapter.methods.training import lora
from jclip_adapter.models.clip.model import build_model, normalise
from jclip_adapter.runtime import jt
from tests.golden_files import Golden


@pytest.fixture(scope="module")
def golden():
    return Golden("clip_lora")


@pytest.fixture(scope="module")
def state():
    return Golden("openai_clip_vit").state_dict()


@pytest.fixture(scope="module")
def arrays(golden):
    """The original's A and B by our names."""
    found = {}
    for key, value in golden.arrays.items():
        if key.startswith("lora__"):
            layer, projection, part = key.removeprefix("lora__").rsplit(".", 2)
            found[f"{layer}.{projection[0]}.{part[-1]}"] = value
    return found


def logits_of(model, golden):
    images, texts = model.encode_image(golden["images"]), model.encode_text(golden["tokens"])
    scale = model.logit_scale.exp()
    return images, texts, scale * jt.nn.matmul_transpose(normalise(images), normalise(texts))


@pytest.mark.golden
def test_names_are_those_of_the_originals_layers(golden, state, arrays):
    model = build_model(state)
    rank = golden.facts["arguments"]["r"]
    ours = lora.draw(model, rank, np.random.default_rng(0))
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in arrays.items()}
    assert all(not value.any() for key, value in ours.items() if key.endswith(".B"))


@pytest.mark.golden
def test_features_loss_and_gradients_are_the_originals(golden, state, arrays):
    model = build_model(state)
    variables = {key: jt.array(value) for key, value in arrays.items()}
    alpha = golden.facts["arguments"]["alpha"]
    with lora.added(model, variables, alpha, through=False):
        images, texts, logits = logits_of(model, golden)
        loss = jt.nn.cross_entropy_loss(logits, jt.array(golden["labels"].astype(np.int32)))
        slopes = jt.grad(loss, list(variables.values()))
        close = golden.tolerance("features_atol")
        np.testing.assert_allclose(images.numpy(), golden["image_features_train"], atol=close)
        np.testing.assert_allclose(texts.numpy(), golden["text_features_train"], atol=close)
        np.testing.assert_allclose(logits.numpy(), golden["logits_train"], atol=golden.tolerance("logits_atol"))
        assert loss.item() == pytest.approx(float(golden["loss"]), abs=golden.tolerance("logits_atol"))
    for key, slope in zip(variables, slopes, strict=True):
        layer, projection, part = key.rsplit(".", 2)
        expected = golden[f"grad__{layer}.{projection}_proj.w_lora_{part}"]
        size = golden.tolerance("grad_atol") * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(slope.numpy(), expected, rtol=golden.tolerance("grad_rtol"), atol=size, err_msg=key)


@pytest.mark.golden
def test_merged_it_computes_the_same_without_additions(golden, state, arrays):
    weights = lora.merged(state, arrays, golden.facts["arguments"]["alpha"])
    model = build_model({**state, **weights})
    with jt.no_grad():
        images, texts, _ = logits_of(model, golden)
    close = golden.tolerance("features_atol")
    np.testing.assert_allclose(images.numpy(), golden["image_features_eval"], atol=close)
    np.testing.assert_allclose(texts.numpy(), golden["text_features_eval"], atol=close)


def test_afterwards_the_model_is_as_before(golden, state, arrays):
    model = build_model(state)
    with jt.no_grad():
        before = logits_of(model, golden)[2].numpy()
        with (
            pytest.raises(RuntimeError, match="stop"),
            lora.added(model, {k: jt.array(v) for k, v in arrays.items()}, 1),
        ):
            assert not np.allclose(logits_of(model, golden)[2].numpy(), before)
            raise RuntimeError("stop")
        np.testing.assert_array_equal(logits_of(model, golden)[2].numpy(), before)


def test_dropout_is_the_same_when_a_step_is_computed_again():
    first, again, other = (lora.Dropout(0.25, seed).mask("layer", (40, 50)).numpy() for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert set(np.unique(first)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    assert abs((first == 0).mean() - 0.25) < 0.05
    assert lora.Dropout(0, 3).mask("layer", (2, 2)) is None


def test_gradients_pass_through_the_additions(golden, state, arrays):
    """Finite differences along a random direction; without `through` the gradient is another one."""
    model = build_model(state)
    variables = {key: jt.array(value) for key, value in arrays.items()}
    names = list(variables)
    target = jt.array(golden["labels"].astype(np.int32))

    def loss_of(values):
        with lora.added(model, dict(zip(names, values, strict=True)), 1.0):
            return jt.nn.cross_entropy_loss(logits_of(model, golden)[2] / 20, target)

    slopes = [slope.numpy() for slope in jt.grad(loss_of(list(variables.values())), list(variables.values()))]
    rng = np.random.default_rng(0)
    directions = [rng.standard_normal(slope.shape).astype(np.float32) for slope in slopes]
    ahead, behind = (
        float(loss_of([jt.array(arrays[k] + sign * 1e-3 * d) for k, d in zip(names, directions, strict=True)]).item())
        for sign in (1, -1)
    )
    expected = sum(float((slope * direction).sum()) for slope, direction in zip(slopes, directions, strict=True))
    assert (ahead - behind) / 2e-3 == pytest.approx(expected, rel=0.02)
