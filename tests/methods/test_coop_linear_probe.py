import dataclasses

import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, Labelled, Queries
from jclip_adapter.methods import create, load
from jclip_adapter.methods.coop_linear_probe import GRID, binary_search

from .worlds import World


@pytest.fixture(scope="module")
def world():
    return World(noise=2.0, shots=6)


def gradient(method, task):
    """Of C·ΣCE + ½‖W‖² over the seen classes, in float64, divided by C·N; and of the biases."""
    seen, rows = task.seen, task.raw.astype(np.float64)
    weight, bias = method.weight_[seen].astype(np.float64), method.bias_[seen].astype(np.float64)
    logits = rows @ weight.T + bias
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    share -= task.support_labels[:, None] == seen
    slope = share.T @ rows + weight / float(method.c_)
    return np.abs(slope).max() / len(rows), np.abs(share.sum(axis=0)).max() / len(rows)


@pytest.mark.parametrize("unseen", [0, 4])
@pytest.mark.parametrize("c", [1e-3, 1.0])
def test_the_objectives_gradient_vanishes(c, unseen):
    """With 4 of 6 classes unseen, two are left, which scikit-learn treats in a way of its own."""
    world = World(noise=2.0, unseen=unseen)
    method = create("coop-linear-probe", c=c).fit(world.task)
    assert float(method.c_) == c
    assert max(gradient(method, world.task)) < 3e-4  # the authors' tolerance is 1e-4 on their own scale


def test_features_are_not_normalised(world):
    logits = create("coop-linear-probe", c=0.1).fit(world.task).logits(Queries(world.queries, world.raw))
    plain = FewShotTask(
        world.task.support_features, world.task.support_labels, world.task.text_features, world.task.class_names
    )
    normalised = create("coop-linear-probe", c=0.1).fit(plain).logits(world.queries)
    assert np.abs(logits).max() > 3 * np.abs(normalised).max()
    assert world.accuracy(logits) > 0.4


def test_the_search_finds_the_peak():
    asked = []

    def accuracy(c):
        asked.append(c)
        return -abs(np.log10(c) - 1.3)

    assert np.log10(binary_search(accuracy, 8)) == pytest.approx(1.3, abs=0.3)
    assert asked[: len(GRID)] == list(GRID)
    assert binary_search(accuracy, 0) == 100.0
    # Where all are equally good the authors take the weakest penalty of the grid, then the lower ends.
    assert binary_search(lambda c: 0.5, 3) == pytest.approx(1e5)


def test_held_out_shots_or_the_validation_set_decide(world):
    task = world.task
    searched = create("coop-linear-probe", steps=2).fit(task)
    assert 1e-7 <= float(searched.c_) <= 1e7
    # A validation set whose labels are the support's own, moved by one class, likes the strongest penalty.
    wrong = Labelled(Queries(task.support_features, task.support_raw), (task.support_labels + 1) % task.num_classes)
    right = Labelled(Queries(task.support_features, task.support_raw), task.support_labels)
    chosen = [
        float(create("coop-linear-probe", steps=2).fit(dataclasses.replace(task, validation=validation)).c_)
        for validation in (wrong, right)
    ]
    assert chosen[0] < 1e-3 < chosen[1]


def test_with_one_shot_the_documented_penalty_is_taken():
    task = World(shots=1).task
    method = create("coop-linear-probe", unsearched=50.0).fit(task)
    assert float(method.c_) == pytest.approx(50 / (task.raw**2).sum(axis=1).mean())


def test_unseen_classes_are_scored_by_their_texts():
    world = World(classes=8, unseen=3, shift=0.6)
    method = create("coop-linear-probe").fit(world.task)
    logits = method.logits(Queries(world.queries, world.raw))
    assert world.accuracy_on(logits, np.arange(5, 8)) > 0.5
    assert world.accuracy_on(logits, np.arange(5)) > 0.5


def test_one_class_with_shots_leaves_zero_shot():
    world = World(unseen=5)
    logits = create("coop-linear-probe").fit(world.task).logits(Queries(world.queries, world.raw))
    zero_shot = create("zero-shot").fit(world.task).logits(world.queries)
    np.testing.assert_array_equal(logits.argmax(axis=1), zero_shot.argmax(axis=1))


def test_it_is_restored_as_it_was(world, tmp_path):
    method = create("coop-linear-probe", steps=1).fit(world.task)
    method.save(tmp_path / "probe.safetensors")
    queries = Queries(world.queries, world.raw)
    np.testing.assert_array_equal(load(tmp_path / "probe.safetensors").logits(queries), method.logits(queries))
