import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, normalise
from jclip_adapter.methods import create
from jclip_adapter.methods.clap import multipliers, penalty, scores
from jclip_adapter.methods.training.optimizers import SGD
from jclip_adapter.runtime import jt
from tests.golden_files import Golden
from tests.methods.few_shot_worlds import top1, without, world


@pytest.fixture(scope="module")
def golden():
    return Golden("clap")


@pytest.mark.golden
def test_multipliers_are_the_originals(golden):
    close = golden.tolerance("alpha_rtol")
    features, text = normalise(golden["train_raw"]), normalise(golden["base_text_features"])
    logits, labels = 100 * features @ text.T, golden["train_labels"]
    np.testing.assert_allclose(logits, golden["zs_train_logits"], atol=golden.tolerance("logits_atol"))
    np.testing.assert_allclose(multipliers(logits, labels, "l2"), golden["alpha"], rtol=close)
    for name in ("corrected", "constant", "balanced"):
        np.testing.assert_allclose(multipliers(logits, labels, name), golden[f"alpha_l2_{name}"], rtol=close)


@pytest.mark.golden
def test_loss_gradient_and_steps_are_the_originals(golden):
    settings = golden.facts["arguments"]["sgd"]
    features, labels = jt.array(normalise(golden["train_raw"])), jt.array(golden["train_labels"].astype(np.int32))
    prototypes, base, alpha = (jt.array(golden[key]) for key in ("base_text_features", "base_text_features", "alpha"))
    optimiser = SGD([prototypes], settings["lr"], settings["momentum"], settings["wd"])
    for step, expected in enumerate(golden["losses"]):
        held = penalty(prototypes, base, alpha)
        loss = jt.nn.cross_entropy_loss(scores(features, prototypes, 100.0), labels) + held
        close = golden.tolerance("loss_rtol")
        assert loss.item() == pytest.approx(expected, rel=close)
        assert held.item() == pytest.approx(golden["constraint"][step], rel=10 * close, abs=1e-7)
        if step == 0:
            assert loss.item() == pytest.approx(float(golden["loss0"]), rel=close)
            gradient = jt.grad(loss, prototypes).numpy()
            largest = np.abs(golden["grad0"]).max()
            np.testing.assert_allclose(gradient, golden["grad0"], atol=golden.tolerance("grad_rtol") * largest)
        optimiser.step(loss)
    np.testing.assert_allclose(prototypes.numpy(), golden["prototypes_after30"], atol=golden.tolerance("proto_atol"))
    logits = scores(jt.array(normalise(golden["test_raw"])), prototypes, 100.0).numpy()
    np.testing.assert_allclose(logits, golden["test_logits_after30"], atol=golden.tolerance("logits_atol"))


def test_the_loss_follows_the_formula():
    """The first loss, in float64: at the start nothing is paid for; and after a step, what was moved is."""
    task, _, _ = world()
    f, t, labels = task.support_features.astype(np.float64), task.text_features.astype(np.float64), task.support_labels
    logits = 100 * f @ t.T
    top = logits.max(axis=1)
    log_sum = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    probability = np.exp(logits[np.arange(len(f)), labels] - log_sum)
    alpha = np.array([probability[labels == c].mean() for c in range(12)])
    np.testing.assert_allclose(multipliers(logits, labels, "l2"), alpha, rtol=1e-5)
    method = create("clap", epochs=1).fit(task)
    assert method.history_[0]["loss"] == pytest.approx(-np.log(probability).mean(), rel=1e-4)
    moved = method.prototypes_ + 1
    found = penalty(jt.array(moved), jt.array(10 * task.text_features), jt.array(alpha.astype(np.float32))).item()
    assert found == pytest.approx((alpha * ((moved - 10 * t) ** 2).sum(axis=1)).mean(), rel=1e-4)


def test_it_beats_zero_shot_and_without_epochs_it_is_it():
    task, queries, answers = world(queries=50)
    zero_shot = create("zero-shot").fit(task).logits(queries)
    np.testing.assert_allclose(create("clap", epochs=0).fit(task).logits(queries), zero_shot, atol=1e-3)
    method = create("clap").fit(task)
    assert method.history_[-1]["loss"] < method.history_[0]["loss"]
    assert top1(method.logits(queries), answers) > top1(zero_shot, answers)


def test_the_constraint_holds_the_prototypes_near_the_text():
    task, _, _ = world()
    free, held = (create("clap", constraint=name).fit(task).prototypes_ for name in ("none", "l2"))
    distance = [np.linalg.norm(rows - 10 * task.text_features, axis=1).mean() for rows in (free, held)]
    assert distance[1] < 0.9 * distance[0]


def test_raw_text_features_are_where_it_starts():
    task, _, _ = world()
    raw = task.text_features * np.linspace(2, 5, 12, dtype=np.float32)[:, None]
    known = FewShotTask(task.support_features, task.support_labels, task.text_features, task.class_names, text_raw=raw)
    np.testing.assert_allclose(create("clap", epochs=0).fit(known).prototypes_, raw, rtol=1e-6)


def test_an_unseen_class_is_still_found():
    task, queries, answers = world(queries=50)
    unseen = answers >= 9
    zero_shot = create("zero-shot").fit(task).logits(queries)
    logits = create("clap").fit(without(task, 9, 10, 11)).logits(queries)
    assert top1(logits[unseen], answers[unseen]) > top1(zero_shot[unseen], answers[unseen]) - 0.1
    assert top1(logits, answers) > top1(zero_shot, answers)


def test_same_seed_same_bytes(tmp_path):
    task, _, _ = world()
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        create("clap", seed=seed, epochs=3, batch_size=16).fit(task).save(tmp_path / name)
    same, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert same == again != other
