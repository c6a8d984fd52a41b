import numpy as np
import pytest

from jclip_adapter.methods.training.optimizers import SGD
from jclip_adapter.methods.training.prompting import (
    POSITIONS,
    Batch,
    class_prompts,
    encode_prompts,
    gradients,
    of_like_length,
    projected,
    shifted_features,
)
from jclip_adapter.models.clip.model import build_model, normalise
from jclip_adapter.runtime import jt
from tests.golden_files import Golden
from tests.random_weights import TINY, random_state


@pytest.fixture(scope="module")
def coop():
    return Golden("coop_cocoop")


@pytest.fixture(scope="module")
def model():
    return build_model(Golden("openai_clip_vit").state_dict())


@pytest.fixture(scope="module")
def names(coop):
    return [name.replace("_", " ") for name in coop.facts["classnames"]]


def batch_of(model, golden, labels="labels"):
    with jt.no_grad():
        photos = normalise(model.encode_image(golden["images"])).numpy()
    return Batch(photos, golden[labels], float(np.exp(model.logit_scale.numpy().item())))


def assert_gradient(ours, golden, key):
    """Relative to the largest: numbers near 0 are what rounding left of larger ones."""
    expected = golden[key]
    close = golden.tolerance("grad_atol") * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=golden.tolerance("grad_rtol"), atol=close, err_msg=key)


@pytest.mark.golden
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(("kind", "key"), [("shared", "ctx"), ("csc", "ctx_csc")])
@pytest.mark.parametrize("parts", [1, 3])
def test_logits_loss_and_gradient_are_coops(coop, model, names, position, kind, key, parts):
    prompts = class_prompts(model, names, coop.facts["arguments"]["n_ctx"], position)
    vectors = jt.array(coop[key])
    batch = batch_of(model, coop)
    cuts = np.array_split(np.arange(len(names)), parts)

    def part(rows):
        chosen = slice(int(rows[0]), int(rows[-1]) + 1)
        return lambda: encode_prompts(model, prompts[chosen], vectors if kind == "shared" else vectors[chosen])

    with jt.no_grad():
        ours = batch.logits(encode_prompts(model, prompts, vectors)).numpy()
    np.testing.assert_allclose(ours, coop[f"logits_{position}_{kind}"], atol=coop.tolerance("logits_atol"))
    value, (gradient,) = gradients([part(rows) for rows in cuts], batch.cross_entropy, [vectors])
    assert value == pytest.approx(float(coop[f"loss_{position}_{kind}"]), abs=coop.tolerance("logits_atol"))
    assert_gradient(gradient, coop, f"grad_ctx_{position}_{kind}")


@pytest.mark.golden
def test_prompts_are_tokenised_as_coops(coop, model, names):
    prompts = class_prompts(model, names, coop.facts["arguments"]["n_ctx"], "end")
    np.testing.assert_array_equal(prompts.end, coop["tokens"].argmax(axis=1))
    assert prompts.fixed.shape[1] == prompts.end.max() + 1


@pytest.mark.golden
def test_logits_loss_and_gradients_are_cocoops(coop, model, names):
    batch = batch_of(model, coop)
    meta = ("linear1__weight", "linear1__bias", "linear2__weight", "linear2__bias")
    params = [jt.array(coop["ctx"]), *(jt.array(coop[f"meta__{name}"]) for name in meta)]
    parts = shifted_features(
        model, class_prompts(model, names, len(coop["ctx"])), params[0], params[1:], batch.features
    )
    found = []

    def loss(texts):
        own = normalise(texts).reshape((len(batch.labels), len(names), -1))
        scores = batch.scale * (own * jt.array(batch.features).unsqueeze(1)).sum(dim=2)
        found.append(scores.numpy())
        return jt.nn.cross_entropy_loss(scores, jt.array(batch.labels.astype(np.int32)))

    value, slopes = gradients(parts, loss, params)
    np.testing.assert_allclose(found[0], coop["cocoop_logits"], atol=coop.tolerance("logits_atol"))
    assert value == pytest.approx(float(coop["cocoop_loss"]), abs=coop.tolerance("logits_atol"))
    for slope, key in zip(slopes, ("ctx", *(f"meta__{name}" for name in meta)), strict=True):
        assert_gradient(slope, coop, f"cocoop_grad_{key}")


PROGRAD = Golden("prograd")


@pytest.mark.golden
@pytest.mark.parametrize(
    "case", sorted(key.removeprefix("labels_") for key in PROGRAD.arrays if key.startswith("labels_"))
)
def test_both_gradients_and_the_step_are_prograds(model, case):
    names = [name.replace("_", " ") for name in PROGRAD.facts["classnames"]]
    arguments, batch = PROGRAD.facts["arguments"], batch_of(model, PROGRAD, f"labels_{case}")
    with jt.no_grad():
        teacher = model.encode_text(PROGRAD["zs_tokens"]).numpy()
    np.testing.assert_allclose(batch.logits(jt.array(teacher)).numpy(), PROGRAD["zs_logits"], atol=5e-3)
    vectors = jt.array(PROGRAD["ctx"])
    prompts = class_prompts(model, names, len(PROGRAD["ctx"]))
    parts = [lambda: encode_prompts(model, prompts, vectors)]
    loss, (wanted,) = gradients(parts, batch.cross_entropy, [vectors])
    general_loss, (general,) = gradients(
        parts, lambda texts: batch.agreement(texts, teacher, arguments["T"]), [vectors]
    )
    assert loss == pytest.approx(float(PROGRAD[f"xe_{case}"]), rel=PROGRAD.tolerance("grad_rtol"))
    assert general_loss == pytest.approx(float(PROGRAD[f"kl_{case}"]), rel=PROGRAD.tolerance("grad_rtol"))
    assert_gradient(wanted, PROGRAD, f"grad_xe_{case}")
    assert_gradient(general, PROGRAD, f"grad_kl_{case}")
    final = projected(wanted, general, arguments["lambda_"])
    assert_gradient(final, PROGRAD, f"grad_final_{case}")
    settings = arguments["sgd"]
    SGD([vectors], settings["lr"], settings["momentum"], settings["weight_decay"]).apply([final])
    np.testing.assert_allclose(vectors.numpy(), PROGRAD[f"ctx_after_{case}"], atol=PROGRAD.tolerance("ctx_after_atol"))


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("own", [False, True])
def test_shared_beginnings_and_groups_change_nothing(position, own):
    """Names of very different lengths; every prompt alone, with all its positions, gives the same."""
    model = build_model(random_state(TINY))
    names = ["cat", "a very long name of many and many more words", "dog", "Saint Bernard", "grey fox"] * 4
    prompts = class_prompts(model, names, 5, position)
    assert prompts.shared == {"end": 6, "middle": 3, "front": 1}[position]
    assert len(of_like_length(prompts.end + 1 - prompts.shared)) == 2
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((len(names), 5, 64) if own else (5, 64)).astype(np.float32)
    with jt.no_grad():
        found = encode_prompts(model, prompts, jt.array(vectors)).numpy()
        for row in range(5):
            x = prompts.fixed[row].copy()
            placed = prompts.place[row] >= 0
            x[placed] = (vectors[row] if own else vectors)[prompts.place[row][placed]]
            x = x[None] + model.positional_embedding.numpy()[: len(x)]
            alone = model.project_text(jt.array(x), prompts.end[row : row + 1]).numpy()
            np.testing.assert_allclose(found[row], alone[0], atol=2e-5)
