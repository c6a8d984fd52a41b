import numpy as np
import pytest

from jclip_adapter.methods import create
from jclip_adapter.methods.ape import best_channels, criterion
from tests.methods.few_shot_worlds import top1, without, world


def loss_of(task, residual, votes, alpha, beta):
    """APE-T's cross-entropy on the shots, in float64, from its formula."""
    f, t = task.support_features.astype(np.float64), task.text_features.astype(np.float64)
    y = np.eye(len(t))[task.support_labels]
    scores = 100 * f @ (t + residual).T
    scores += alpha * np.exp(-beta * (1 - f @ (f + residual[task.support_labels]).T)) @ (y * votes[:, None])
    top = scores.max(axis=1, keepdims=True)
    return np.mean(np.log(np.exp(scores - top).sum(axis=1)) + top[:, 0] - (scores * y).sum(axis=1))


def test_the_first_step_goes_down_the_slope():
    """Adam's first step is −lr·g/(|g| + ε); g by differences of the float64 loss. The decay moves the votes alone."""
    task, _, _ = world()
    options = {"train_alpha": 3, "train_beta": 2, "channels": 0.5}
    method = create("ape-t", **options, epochs=1, lr=1e-3).fit(task)
    kept = best_channels(criterion(task.text_features, task.support_features, task.support_labels, 0.7), 0.5)
    zeros, ones = np.zeros_like(task.text_features, dtype=np.float64), np.ones(len(task.support_labels))
    assert method.history_[0]["loss"] == pytest.approx(loss_of(task, zeros, ones, 3, 2), rel=1e-5)
    assert set(np.flatnonzero(np.abs(method.residual_).sum(axis=0))) == set(kept.tolist())
    rng = np.random.default_rng(0)
    for _ in range(5):
        place = (rng.integers(12), rng.choice(kept))
        moved = zeros.copy()
        moved[place] = 1e-5
        slope = (loss_of(task, moved, ones, 3, 2) - loss_of(task, -moved, ones, 3, 2)) / 2e-5
        assert method.residual_[place] == pytest.approx(-1e-3 * slope / (abs(slope) + 1e-3), rel=1e-2, abs=1e-6)
        vote, step = rng.integers(len(ones)), np.zeros_like(ones)
        step[vote] = 1e-5
        slope = (loss_of(task, zeros, ones + step, 3, 2) - loss_of(task, zeros, ones - step, 3, 2)) / 2e-5
        expected = 1 - 1e-3 * 0.1 - 1e-3 * slope / (abs(slope) + 1e-3)
        assert method.votes_[vote] == pytest.approx(expected, abs=2e-6)


def test_logits_follow_the_formula():
    task, queries, _ = world()
    method = create("ape-t", alpha=2, beta=3, epochs=3, lr=1e-2).fit(task)
    q, f, t, r = (x.astype(np.float64) for x in (queries, task.support_features, task.text_features, method.residual_))
    values = np.eye(12)[task.support_labels] * method.votes_[:, None]
    expected = 100 * q @ (t + r).T + 2 * np.exp(-3 * (1 - q @ (f + r[task.support_labels]).T)) @ values
    np.testing.assert_allclose(method.logits(queries), expected, atol=1e-3)


def test_without_epochs_it_is_tip_adapter():
    task, queries, _ = world()
    tip = create("tip-adapter", alpha=3, beta=2).fit(task).logits(queries)
    np.testing.assert_allclose(create("ape-t", alpha=3, beta=2, epochs=0).fit(task).logits(queries), tip, atol=1e-4)


def test_training_lowers_the_loss_and_helps():
    task, queries, answers = world(queries=50)
    method = create("ape-t", lr=1e-2).fit(task)
    assert method.history_[-1]["loss"] < method.history_[0]["loss"]
    assert top1(method.logits(queries), answers) > top1(create("zero-shot").fit(task).logits(queries), answers)


def test_an_unseen_class_is_still_found():
    task, queries, answers = world(queries=50)
    unseen = answers >= 9
    zero_shot = create("zero-shot").fit(task).logits(queries)
    logits = create("ape-t").fit(without(task, 9, 10, 11)).logits(queries)
    assert top1(logits[unseen], answers[unseen]) > top1(zero_shot[unseen], answers[unseen]) - 0.1
    assert top1(logits, answers) > top1(zero_shot, answers)


def test_same_seed_same_bytes(tmp_path):
    task, _, _ = world()
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        create("ape-t", seed=seed, epochs=2, batch_size=16).fit(task).save(tmp_path / name)
    same, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert same == again != other
