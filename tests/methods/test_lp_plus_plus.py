import numpy as np
import pytest

from jclip_adapter.core.task import class_means
from jclip_adapter.methods import create
from jclip_adapter.methods.lp_plus_plus import Probe, initial_alpha, step_sizes, train
from tests.golden_files import Golden
from tests.methods.few_shot_worlds import top1, without, world


@pytest.fixture(scope="module")
def golden():
    return Golden("lp_plus_plus")


@pytest.fixture(scope="module")
def start(golden):
    """The features, the cosines, the labels and the probe that the original starts from."""
    features, labels = golden["train_features"], golden["train_labels"]
    cosines = features @ golden["text_weights_dC"]
    alpha = initial_alpha(cosines, labels)
    probe = Probe(golden["W0"], golden["b0"], np.full(cosines.shape[1], alpha, dtype=np.float32))
    return features, cosines, labels, probe


@pytest.mark.golden
def test_the_start_is_the_originals(golden, start):
    features, cosines, labels, probe = start
    rate_weight, rate_alpha = step_sizes(features, cosines)
    assert rate_weight == pytest.approx(float(golden["lr_w"]), rel=golden.tolerance("lr_w_rtol"))
    assert rate_alpha == pytest.approx(float(golden["lr_alpha"]), rel=golden.tolerance("lr_alpha_rtol"))
    assert probe.alpha[0] == pytest.approx(float(golden["init_alpha"]), rel=golden.tolerance("init_alpha_rtol"))
    sums = class_means(features, labels, cosines.shape[1]) * np.bincount(labels)[:, None]
    np.testing.assert_allclose(sums, golden["init_centroid_sums"], atol=1e-5)


@pytest.mark.golden
def test_the_steps_are_the_originals(golden, start):
    features, cosines, labels, probe = start
    rates = step_sizes(features, cosines)
    relative = {"atol": 1e-6, "rtol": golden.tolerance("loss_rtol")}
    for number, step in enumerate(golden["steps_saved"]):
        steps = int(step)
        done, (_, losses) = train(probe, features, cosines, labels, rates, steps=steps)
        np.testing.assert_allclose(losses, golden["losses"][:steps], **relative)
        size = golden.tolerance("W_rtol") * np.abs(golden["W_after"][number]).max()
        np.testing.assert_allclose(done.weight, golden["W_after"][number], atol=size)
        np.testing.assert_allclose(done.bias, golden["b_after"][number], atol=size)
        later = (
            golden["final_alpha"][0]
            if steps == len(losses) == len(golden["losses"])
            else golden["alpha_before_step"][steps]
        )
        np.testing.assert_allclose(done.alpha, later, rtol=golden.tolerance("W_rtol"))


@pytest.mark.golden
def test_the_logits_are_the_originals(golden, start):
    features, cosines, labels, probe = start
    steps = len(golden["losses"])
    method = create("lp-plus-plus")
    done, _ = train(probe, features, cosines, labels, step_sizes(features, cosines), steps=steps)
    method.weight_, method.bias_, method.alpha_ = done.weight, done.bias, done.alpha
    method.classes_ = tuple(map(str, range(cosines.shape[1])))
    method.seen_, method.text_, method.scale_ = (
        np.arange(cosines.shape[1]),
        golden["text_weights_dC"].T,
        np.float32(100),
    )
    method.width_ = features.shape[1]
    expected = golden["final_test_logits"]
    logits = method.logits(golden["test"])
    np.testing.assert_allclose(logits, expected, atol=golden.tolerance("final_logits_atol"))
    # Not the file's returned_test_acc: that is the accuracy after the epoch that was best on the validation set.
    found, wanted = (top1(scores, golden["test_labels"]) for scores in (logits, expected))
    assert found == pytest.approx(wanted, abs=1 / len(expected))


def reference(task, steps, accumulate):
    """LP++ in float64, with the gradients written out."""
    f, text, labels = (
        np.asarray(x, np.float64) for x in (task.support_features, task.text_features, task.support_labels)
    )
    labels, n = labels.astype(int), len(f)
    near, y = f @ text.T, np.eye(len(text))[labels]
    weight, bias = y.T @ f, np.zeros(len(text))
    alpha = np.full(len(text), 250 * np.mean([near[labels == c, c].mean() for c in range(len(text))]))
    rate_weight = 4 * n / np.linalg.eigvalsh(f.T @ f).max()
    rate_alpha = n / (4 * (near**2).sum(axis=0).max())
    speed, slope = 0.0, 0.0
    for step in range(1, steps + 1):
        scores = f @ weight.T + bias + alpha * near
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        error = (p / p.sum(axis=1, keepdims=True) - y) / n
        gradient = np.concatenate([error.T @ f, error.sum(axis=0)[:, None]], axis=1)
        speed = 0.9 * speed + gradient
        slope = (slope if accumulate else 0) + (error * near).sum(axis=0)
        weight, bias = weight - rate_weight * speed[:, :-1], bias - rate_weight * speed[:, -1]
        if step % 10 == 0:
            alpha = alpha - rate_alpha * slope
    return weight, bias, alpha


@pytest.mark.parametrize("accumulate", [True, False])
def test_training_follows_the_formulas(accumulate):
    task, _, _ = world()
    cosines = task.support_features @ task.text_features.T
    alpha = initial_alpha(cosines, task.support_labels)
    means = class_means(task.support_features, task.support_labels, 12)
    probe = Probe((4 * means).astype(np.float32), np.zeros(12, np.float32), np.full(12, alpha, np.float32))
    rates = step_sizes(task.support_features, cosines)
    done, _ = train(probe, task.support_features, cosines, task.support_labels, rates, steps=25, accumulate=accumulate)
    weight, bias, alpha = reference(task, 25, accumulate)
    np.testing.assert_allclose(done.weight, weight, atol=1e-3)
    np.testing.assert_allclose(done.bias, bias, atol=1e-3)
    np.testing.assert_allclose(done.alpha, alpha, rtol=1e-3)


def test_it_learns_and_beats_zero_shot():
    task, queries, answers = world(queries=50)
    method = create("lp-plus-plus").fit(task)
    assert method.history_[-1]["loss"] < method.history_[0]["loss"]
    assert top1(method.logits(queries), answers) > top1(create("zero-shot").fit(task).logits(queries), answers)


def test_text_alone_decides_where_its_weight_is_enormous():
    task, queries, _ = world()
    method = create("lp-plus-plus", epochs=0, alpha_factor=1e6).fit(task)
    zero_shot = create("zero-shot").fit(task).logits(queries)
    np.testing.assert_array_equal(method.logits(queries).argmax(axis=1), zero_shot.argmax(axis=1))


def test_an_unseen_class_is_still_found():
    task, queries, answers = world(queries=50)
    unseen = answers >= 9
    zero_shot = create("zero-shot").fit(task).logits(queries)
    logits = create("lp-plus-plus").fit(without(task, 9, 10, 11)).logits(queries)
    assert top1(logits[unseen], answers[unseen]) > top1(zero_shot[unseen], answers[unseen]) - 0.1
    assert top1(logits, answers) > top1(zero_shot, answers)


def test_same_seed_same_bytes(tmp_path):
    task, _, _ = world()
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        create("lp-plus-plus", seed=seed, epochs=20).fit(task).save(tmp_path / name)
    same, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert same == again != other
