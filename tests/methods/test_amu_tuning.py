import dataclasses

import numpy as np
import pytest

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import FewShotTask, Queries, class_means, normalise
from jclip_adapter.methods import create
from jclip_adapter.methods.amu_tuning import objective, standardised, uncertainty
from jclip_adapter.runtime import jt
from tests.golden_files import Golden
from tests.methods.few_shot_worlds import top1, world

WIDTH = 24


@pytest.fixture(scope="module")
def golden():
    return Golden("amu_tuning")


@pytest.fixture(scope="module")
def arguments(golden):
    return golden.facts["arguments"]


@pytest.fixture(scope="module")
def kinds(golden):
    """Names of the uncertainties stored, as the files spell them and as the method does."""
    names = [key.removeprefix("factor_") for key in golden.arrays if key.startswith("factor_")]
    return [(name, name.replace("_", "-")) for name in names]


@pytest.fixture(scope="module")
def golden_task(golden):
    text = golden["text_weights_dC"].T
    names = tuple(map(str, range(len(text))))
    return FewShotTask(golden["support"], golden["support_labels"], text, names, auxiliary=golden["support_aux"])


def cross_entropy(scores, labels):
    top = scores.max(axis=1)
    log_sum = np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top
    return np.mean(log_sum - scores[np.arange(len(labels)), labels])


@pytest.mark.golden
def test_start_factors_logits_and_losses_are_the_originals(golden, golden_task, arguments, kinds):
    close, alpha, merge = golden.tolerance("logits_atol"), arguments["alpha"], arguments["lambda_merge"]
    asked, labels = Queries(golden["test"], auxiliary=golden["test_aux"]), golden["test_labels"]
    zero_shot = 100 * golden["test"] @ golden["text_weights_dC"]
    assert kinds
    for stored, kind in kinds:
        power = arguments["uncent_power"]
        options = {"alpha": alpha, "merge": merge, "power": power, "uncertainty": kind, "epochs": 0}
        method = create("amu-tuning", **options).fit(golden_task)
        np.testing.assert_allclose(method.weight_, golden["adapter_init_weight"], atol=1e-5)
        bias = standardised(normalise(golden["test_aux"]) @ method.weight_.T)
        np.testing.assert_allclose(bias, golden["aux_logits_normalised"], atol=close)
        factor = uncertainty(zero_shot, kind, power)
        np.testing.assert_allclose(factor, golden[f"factor_{stored}"], rtol=1e-3)
        logits = method.logits(asked)
        np.testing.assert_allclose(logits, golden[f"logits_{stored}"], atol=close)
        loss = merge * cross_entropy(logits, labels) + (1 - merge) * cross_entropy(bias, labels)
        assert loss == pytest.approx(float(golden[f"loss_{stored}"]), rel=golden.tolerance("loss_rtol"))


@pytest.mark.golden
def test_training_loss_and_gradient_are_the_originals(golden, arguments):
    zero_shot = 100 * golden["support"] @ golden["text_weights_dC"]
    factor = uncertainty(zero_shot, "moment", arguments["uncent_power"]).astype(np.float32)
    weight, rows = jt.array(golden["adapter_init_weight"]), jt.array(normalise(golden["support_aux"]))
    bias = standardised(jt.matmul(rows, weight.transpose(1, 0)))
    fused = jt.array(zero_shot) + arguments["alpha"] * jt.array(factor) * bias
    loss = objective(fused, bias, jt.array(golden["support_labels"].astype(np.int32)), arguments["lambda_merge"])
    assert loss.item() == pytest.approx(float(golden["train_loss_moment"]), rel=golden.tolerance("loss_rtol"))
    gradient, expected = jt.grad(loss, weight).numpy(), golden["grad_moment"]
    np.testing.assert_allclose(gradient, expected, atol=golden.tolerance("grad_rtol") * np.abs(expected).max())


@pytest.fixture(scope="module")
def paired():
    """The common world, seen by a second backbone whose features are another noisy view of the class."""
    task, queries, answers = world(queries=50)
    rng = np.random.default_rng(9)
    centres = rng.standard_normal((12, WIDTH))

    def see(labels):
        return 7 * (centres[labels] + 0.8 * rng.standard_normal((len(labels), WIDTH))).astype(np.float32)

    whole = dataclasses.replace(task, auxiliary=see(task.support_labels))
    return whole, Queries(queries, auxiliary=see(answers)), answers


def test_logits_follow_the_formula(paired):
    task, queries, _ = paired
    method = create("amu-tuning", alpha=0.7, epochs=2).fit(task)
    zero_shot = 100 * queries.features.astype(np.float64) @ task.text_features.T
    p = np.exp(zero_shot - zero_shot.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    standard = (p - p.mean(axis=1, keepdims=True)) / p.std(axis=1, ddof=1, keepdims=True)
    kappa = ((standard**4).mean(axis=1, keepdims=True) / 250) ** -0.4
    z = normalise(queries.auxiliary).astype(np.float64) @ method.weight_.T
    z = (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, ddof=1, keepdims=True)
    np.testing.assert_allclose(method.logits(queries), zero_shot + 0.7 * kappa * z, atol=2e-3)


def test_training_starts_at_class_means_lowers_the_loss_and_helps(paired):
    task, queries, answers = paired
    means = class_means(normalise(task.auxiliary), task.support_labels, 12)
    np.testing.assert_allclose(create("amu-tuning", epochs=0).fit(task).weight_, means, atol=1e-6)
    method = create("amu-tuning").fit(task)
    assert method.history_[-1]["loss"] < method.history_[0]["loss"]
    zero_shot = create("zero-shot").fit(task).logits(queries)
    assert top1(method.logits(queries), answers) > top1(zero_shot, answers) + 0.05
    np.testing.assert_array_equal(method.with_values(alpha=0).logits(queries), zero_shot)


@pytest.mark.parametrize("kind", ["moment", "entropy", "energy", "max", "max-min", "var", "top5", "none"])
def test_every_uncertainty_is_finite_for_scores_that_are_all_the_same(kind):
    for classes in (1, 3, 7):
        assert np.isfinite(uncertainty(np.zeros((2, classes)), kind, 0.4)).all()
        assert np.isfinite(uncertainty(np.eye(classes)[:1] * 1e4, kind, 0.4)).all()


def test_the_surer_clip_is_the_less_the_second_backbone_counts():
    sure, unsure = uncertainty(np.array([[50.0, 0, 0, 0], [1.0, 0.5, 0, 0]]), "moment", 0.4)[:, 0]
    assert sure < unsure


def test_a_second_backbone_of_another_width_is_refused(paired):
    task, queries, _ = paired
    method = create("amu-tuning", epochs=0).fit(task)
    with pytest.raises(DataError, match="auxiliary queries has width 5"):
        method.logits(Queries(queries.features, auxiliary=queries.auxiliary[:, :5]))
    with pytest.raises(DataError, match="needs the queries' auxiliary"):
        method.logits(queries.features)


def test_an_unseen_class_is_still_found(paired):
    task, queries, answers = paired
    kept, unseen = task.support_labels < 9, answers >= 9
    part = dataclasses.replace(
        task,
        support_features=task.support_features[kept],
        support_labels=task.support_labels[kept],
        auxiliary=task.auxiliary[kept],
    )
    zero_shot = create("zero-shot").fit(task).logits(queries)
    logits = create("amu-tuning").fit(part).logits(queries)
    assert top1(logits[unseen], answers[unseen]) > top1(zero_shot[unseen], answers[unseen]) - 0.1
    assert top1(logits, answers) > top1(zero_shot, answers)


def test_same_seed_same_bytes(paired, tmp_path):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        create("amu-tuning", seed=seed, epochs=2, batch_size=16).fit(paired[0]).save(tmp_path / name)
    same, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert same == again != other
