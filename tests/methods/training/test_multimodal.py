import math

import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, normalise
from jclip_adapter.methods import create
from jclip_adapter.methods.training.loop import Batches
from jclip_adapter.methods.training.multimodal import adapted_logits, draw, linear, narrow_rows, score_in_chunks
from jclip_adapter.runtime import jt
from tests.golden_files import Golden

# Our names of the module's layers, and the original's.
LAYERS = {
    "down": "downsampler__0__weight",
    "down_bias": "downsampler__0__bias",
    "widen": "downsampler__1__weight",
    "widen_bias": "downsampler__1__bias",
    "inward": "mha__in_proj_weight",
    "inward_bias": "mha__in_proj_bias",
    "outward": "mha__out_proj__weight",
    "outward_bias": "mha__out_proj__bias",
    "narrow": "upsampler__0__weight",
    "narrow_bias": "upsampler__0__bias",
    "up": "upsampler__2__weight",
    "up_bias": "upsampler__2__bias",
}


def module_rows(images, texts, weights, **facts):
    """What the authors' module returns: (C+1, B, d), the texts' rows first."""
    text_rows, image_row = narrow_rows(images, texts, weights, **facts)
    if text_rows.shape[1] != texts.shape[0]:
        text_rows = text_rows.broadcast((images.shape[0], texts.shape[0], text_rows.shape[2]))
    stacked = jt.concat([text_rows.transpose(1, 0, 2), image_row.unsqueeze(0)], dim=0)
    flat = stacked.reshape((-1, stacked.shape[2]))
    return linear(flat, weights["up"], weights["up_bias"]).reshape((*stacked.shape[:2], -1))


@pytest.fixture(scope="module", params=["clip_mma_d64", "clip_mma_d512"])
def golden(request):
    return Golden(request.param)


def variables(golden):
    return {name: jt.array(golden[f"w__{layer}"]) for name, layer in LAYERS.items()}


def inputs(golden, key="image_raw", rows=None):
    return jt.array(normalise(golden[key][:rows])), jt.array(normalise(golden["text_features"]))


def facts_of(golden, **changed):
    arguments = golden.facts["arguments"]
    facts = {"heads": arguments["num_heads"], "mask": "add", "adapt": "both"}
    return {**facts, "ratio": arguments["text_ratio"], "scale": arguments["logit_scale"], **changed}


def sizes(golden):
    found = sorted(int(key.removeprefix("module_out_b")) for key in golden.arrays if key.startswith("module_out_b"))
    assert found
    return found


@pytest.mark.golden
def test_the_module_is_the_originals(golden):
    weights, heads = variables(golden), golden.facts["arguments"]["num_heads"]
    for size in sizes(golden):
        rows = module_rows(*inputs(golden, rows=size), weights, heads=heads, mask="add").numpy()
        np.testing.assert_allclose(rows, golden[f"module_out_b{size}"], atol=golden.tolerance("module_out_atol"))


@pytest.mark.golden
def test_logits_are_the_originals(golden):
    weights, close = variables(golden), {"atol": golden.tolerance("logits_atol")}
    for size in sizes(golden):
        images, texts = inputs(golden, rows=size)
        for adapt, key in (("both", "logits_text"), ("image", "logits_imageonly")):
            logits = adapted_logits(images, texts, weights, **facts_of(golden, adapt=adapt)).numpy()
            np.testing.assert_allclose(logits, golden[f"{key}_b{size}"], **close)
    count = len(golden["logits_text_b1x7"])
    images, texts = inputs(golden, rows=count)
    one_by_one = score_in_chunks(
        images.numpy(), lambda image: adapted_logits(image, texts, weights, **facts_of(golden)), size=1
    )
    np.testing.assert_allclose(one_by_one, golden["logits_text_b1x7"], **close)
    paper = adapted_logits(images, texts, weights, **facts_of(golden, mask="block")).numpy()
    np.testing.assert_allclose(paper, golden["logits_text_b7_PAPER_inf_mask"], **close)


@pytest.mark.golden
def test_loss_and_gradients_are_the_originals(golden):
    weights = variables(golden)
    logits = adapted_logits(*inputs(golden, "support_raw"), weights, **facts_of(golden))
    loss = jt.nn.cross_entropy_loss(logits, jt.array(golden["support_labels"].astype(np.int32)))
    close = golden.tolerance("grad_rtol")
    assert loss.item() == pytest.approx(float(golden["loss"]), rel=close)
    for name, gradient in zip(weights, jt.grad(loss, list(weights.values())), strict=True):
        key = f"grad__{LAYERS[name]}"
        if key in golden.arrays:
            error = close * max(np.abs(golden[key]).max(), 1e-3)
            np.testing.assert_allclose(gradient.numpy(), golden[key], rtol=close, atol=error, err_msg=name)


@pytest.mark.golden
def test_adam_steps_are_the_originals(golden):
    arguments, facts = golden.facts["arguments"], facts_of(golden)
    adam, text = arguments["adam"], normalise(golden["text_features"])
    rows = normalise(golden["support_raw"])
    names = tuple(map(str, range(len(text))))
    task = FewShotTask(rows, golden["support_labels"], text, names, logit_scale=facts["scale"])
    method = create(
        "multimodal-adapter",
        ratio=facts["ratio"],
        heads=facts["heads"],
        lr=adam["lr"],
        weight_decay=adam["weight_decay"],
    )
    start = {name: golden[f"w__{layer}"] for name, layer in LAYERS.items()}
    trained, history = method.train(start, task, Batches([np.arange(len(rows))] * adam["steps"], adam["steps"]))
    np.testing.assert_allclose(history.step_losses, golden["losses5"], rtol=golden.tolerance("grad_rtol"))
    images, texts = inputs(golden)
    weights = {name: jt.array(array) for name, array in trained.items()}
    logits = adapted_logits(images, texts, weights, **facts).numpy()
    np.testing.assert_allclose(logits, golden["logits_text_after5_adam"], atol=golden.tolerance("after5_atol"))


@pytest.mark.golden
def test_the_module_has_as_many_parameters_as_the_original(golden):
    arguments = golden.facts["arguments"]
    inner = len(golden["w__downsampler__0__weight"])
    weights = draw(np.random.default_rng(0), arguments["embed_dim"], arguments["downsampling_dim"], inner)
    assert sum(array.size for array in weights.values()) == golden.facts["n_params"]
    assert {name: array.shape for name, array in weights.items()} == {
        name: golden[f"w__{layer}"].shape for name, layer in LAYERS.items()
    }


def test_the_default_module_has_the_papers_number_of_parameters():
    weights = draw(np.random.default_rng(0), 512, 128, 32)
    assert sum(array.size for array in weights.values()) == 107_712


def test_weights_are_drawn_within_pytorchs_bounds():
    weights = draw(np.random.default_rng(0), 64, 48, 16)
    bounds = {"down": 64, "down_bias": 64, "widen": 16, "outward": 48, "narrow": 48, "up": 16, "up_bias": 16}
    for name, inputs_ in bounds.items():
        top = np.abs(weights[name]).max() * np.sqrt(inputs_)
        assert 0.6 < top <= 1 + 1e-6, name
    assert 0.8 < np.abs(weights["inward"]).max() * np.sqrt(4 * 48 / 6) <= 1 + 1e-6
    assert not weights["inward_bias"].any()
    assert not weights["outward_bias"].any()


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


def layer_norm(x, weight, bias):
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5) * weight + bias


def reference(x, weights, heads, blocked, added):
    """The module on one sequence x (L, d) in float64, as torch's MultiheadAttention and encoder layer define it."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}

    def layer(rows, name):
        return rows @ w[name].T + w[f"{name}_bias"]

    hidden = layer(x, "down")
    if "mix" in w:
        hidden = layer(gelu(hidden), "mix")
    elif "widen" in w:
        hidden = layer(hidden, "widen")
    parts = np.split(layer(hidden, "inward"), 3, axis=1)
    query, key, value = (part.reshape(len(x), heads, -1).transpose(1, 0, 2) for part in parts)
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[2]) + added
    scores[:, blocked] = -np.inf
    share = np.exp(scores - scores.max(axis=2, keepdims=True))
    mixed = (share / share.sum(axis=2, keepdims=True) @ value).transpose(1, 0, 2).reshape(len(x), -1)
    rows = layer(mixed, "outward")
    if "expand" in w:
        rows = layer_norm(hidden + rows, w["norm_1"], w["norm_1_bias"])
        rows = rows + layer(np.maximum(layer(rows, "expand"), 0), "contract")
        rows = layer_norm(rows, w["norm_2"], w["norm_2_bias"])
    return layer(gelu(layer(rows, "narrow")) if "narrow" in w else rows, "up")


def perturbed(rng, *sizes, **shape):
    weights = draw(rng, *sizes, **shape)
    return {name: array + 0.3 * rng.standard_normal(array.shape).astype(np.float32) for name, array in weights.items()}


def masks(mask, classes):
    """Which scores are blocked, and what is added to the others."""
    cross = np.zeros((classes + 1, classes + 1), dtype=bool)
    cross[-1, :-1] = cross[:-1, -1] = True
    return (~cross, 0) if mask == "block" else (np.zeros_like(cross), cross.astype(float))


@pytest.mark.parametrize("mask", ["add", "block"])
@pytest.mark.parametrize("block", ["attention", "transformer"])
@pytest.mark.parametrize("down", ["bottleneck", "linear", "mlp"])
@pytest.mark.parametrize("up", ["bottleneck", "linear", "mlp"])
def test_every_variant_is_its_formula(mask, block, down, up, monkeypatch):
    monkeypatch.setattr("jclip_adapter.methods.training.multimodal.FEED_FORWARD", 20)
    rng = np.random.default_rng(6)
    weights = perturbed(rng, 8, 12, 4, block=block, down=down, up=up)
    names = {
        "expand": block == "transformer",
        "widen": down == "bottleneck",
        "mix": down == "mlp",
        "narrow": up != "linear",
    }
    assert {name: name in weights for name in names} == names
    images, texts = normalise(rng.standard_normal((3, 8))), normalise(rng.standard_normal((5, 8)))
    params = {name: jt.array(array) for name, array in weights.items()}
    facts = {"heads": 2, "mask": mask}
    rows = module_rows(jt.array(images), jt.array(texts), params, **facts).numpy()
    logits = adapted_logits(
        jt.array(images), jt.array(texts), params, **facts, adapt="both", ratio=0.3, scale=50.0
    ).numpy()
    for number, image in enumerate(images):
        expected = reference(np.concatenate([texts, image[None]]), weights, 2, *masks(mask, 5))
        np.testing.assert_allclose(rows[:, number], expected, rtol=1e-4, atol=2e-4)
        mixed = 0.3 * normalise(expected) + 0.7 * np.concatenate([texts, image[None]])
        mixed = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        np.testing.assert_allclose(logits[number], 50 * mixed[:-1] @ mixed[-1], atol=2e-3)


def test_the_encoder_layer_has_pytorchs_sizes():
    weights = draw(np.random.default_rng(0), 512, 128, 32, block="transformer", down="mlp", up="mlp")
    layer = ("inward", "outward", "expand", "contract", "norm_1", "norm_2")
    # The parameters of torch.nn.TransformerEncoderLayer(128, 4), and of two MLPs.
    assert sum(weights[name].size + weights[f"{name}_bias"].size for name in layer) == 593_024
    assert sum(array.size for array in weights.values()) == 593_024 + (512 + 1 + 128 + 1) * 128 + (128 + 1) * (
        128 + 512
    )


@pytest.mark.parametrize("mask", ["add", "block"])
@pytest.mark.parametrize("classes", [1, 5])
def test_the_module_is_attention_over_texts_and_image(mask, classes):
    rng = np.random.default_rng(5)
    weights = perturbed(rng, 8, 12, 4)
    images, texts = normalise(rng.standard_normal((3, 8))), normalise(rng.standard_normal((classes, 8)))
    params = {name: jt.array(array) for name, array in weights.items()}
    rows = module_rows(jt.array(images), jt.array(texts), params, heads=2, mask=mask).numpy()
    for number, image in enumerate(images):
        expected = reference(np.concatenate([texts, image[None]]), weights, 2, *masks(mask, classes))
        np.testing.assert_allclose(rows[:, number], expected, atol=2e-5)
