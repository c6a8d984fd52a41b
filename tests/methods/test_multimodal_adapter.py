import dataclasses

import numpy as np
import pytest

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.task import Labelled, Queries
from jclip_adapter.methods import create
from jclip_adapter.methods.training.multimodal import adapted_logits
from jclip_adapter.methods.training.seen_classes import only_seen
from jclip_adapter.runtime import jt

from .worlds import World

SMALL = {"attention": 16, "inner": 8, "lr": 5e-3, "epochs": 40}


@pytest.fixture(scope="module")
def world():
    return World(noise=1.5, shift=2.0)


@pytest.mark.parametrize("mask", ["add", "block"])
@pytest.mark.parametrize("adapt", ["both", "image"])
def test_training_helps(world, mask, adapt):
    method = create("multimodal-adapter", **SMALL, mask=mask, adapt=adapt, ratio=0.5).fit(world.task)
    losses = [row["loss"] for row in method.history_]
    assert losses[-1] < losses[0]
    zero_shot = create("zero-shot").fit(world.task).logits(world.queries)
    assert world.accuracy(method.logits(world.queries)) > world.accuracy(zero_shot)


@pytest.mark.parametrize("values", [{"block": "transformer"}, {"down": "linear", "up": "linear"}, {"up": "mlp"}])
def test_training_an_ablation_reduces_the_loss(world, values):
    method = create("multimodal-adapter", **{**SMALL, "epochs": 15}, **values, ratio=0.5).fit(world.task)
    assert method.step_losses_[-1] < 0.8 * method.step_losses_[0]


def test_the_transformers_chunks_do_not_change_scores(world, monkeypatch):
    method = create("multimodal-adapter", **{**SMALL, "epochs": 1}, block="transformer").fit(world.task)
    whole = method.logits(world.queries)
    monkeypatch.setattr("jclip_adapter.methods.multimodal_adapter._PAIRS", 3 * world.task.num_classes)
    np.testing.assert_allclose(method.logits(world.queries), whole, atol=1e-3)


@pytest.fixture(scope="module")
def half():
    """A world whose last classes have no shots, and its groups of classes."""
    world = World(classes=8, unseen=4, noise=1.0, shift=0.6)
    return world, np.arange(4), np.arange(4, 8)


def test_training_knows_the_classes_with_shots_alone(half):
    world, base, _ = half
    values = {**SMALL, "epochs": 3}
    whole = create("multimodal-adapter", **values).fit(world.task)
    alone = create("multimodal-adapter", **values).fit(only_seen(world.task))
    for name, array in alone.learnt().items():
        if name.startswith("module_"):
            np.testing.assert_array_equal(whole.learnt()[name], array)
    queries = Queries(world.queries)
    np.testing.assert_allclose(whole.logits_among(queries, base), alone.logits(queries), atol=1e-4)


def test_among_some_classes_their_texts_alone_take_part(half):
    world, _, new = half
    method = create("multimodal-adapter", **{**SMALL, "epochs": 3}).fit(world.task)
    queries = Queries(world.queries)
    among = method.logits_among(queries, new)
    weights = {name[7:-1]: jt.array(value) for name, value in method.learnt().items() if name.startswith("module_")}
    facts = {"heads": 4, "mask": "add", "adapt": "both", "ratio": 0.2, "scale": 100.0}
    text = jt.array(world.task.text_features[new])
    np.testing.assert_allclose(
        among, adapted_logits(jt.array(world.queries), text, weights, **facts).numpy(), atol=1e-3
    )
    assert np.abs(among - method.logits(queries)[:, new]).max() > 1e-2
    assert method.classes_ == world.task.class_names


def validated(world, rows=slice(None)):
    held = Labelled(Queries(world.queries[rows]), world.answers[rows])
    return dataclasses.replace(world.task, validation=held)


def test_patience_keeps_the_best_epoch_by_validation(world):
    task = validated(world, slice(0, None, 2))
    held = task.validation
    values = {**SMALL, "lr": 3e-2, "epochs": 12}
    scores = []
    for epochs in range(1, 13):
        method = create("multimodal-adapter", **{**values, "epochs": epochs}).fit(world.task)
        scores.append((method.logits(held.queries).argmax(axis=1) == held.labels).mean())
    best, epoch = 0, 0
    while epoch < 12 and epoch - best < 3:
        epoch += 1
        best = epoch if not best or scores[epoch - 1] > scores[best - 1] else best
    assert best < epoch < 12  # it ends early, and not with its last epoch
    stopped = create("multimodal-adapter", **values, patience=3).fit(task)
    expected = create("multimodal-adapter", **{**values, "epochs": best}).fit(world.task)
    np.testing.assert_allclose(stopped.logits(world.queries), expected.logits(world.queries), atol=1e-3)
    assert len(stopped.history_) == epoch


def test_validation_photos_of_classes_without_shots_are_not_used(half):
    world, base, _ = half
    values = {**SMALL, "epochs": 4, "patience": 2}
    known = np.isin(world.answers, base)
    outcomes = [create("multimodal-adapter", **values).fit(validated(world, rows)) for rows in (known, slice(None))]
    np.testing.assert_array_equal(outcomes[0].module_up_, outcomes[1].module_up_)


def test_patience_without_a_validation_set_is_refused(half, world):
    _, _, new = half
    without_base = validated(half[0], np.isin(half[0].answers, new))
    for task in (world.task, without_base):
        with pytest.raises(DataError, match="patience needs a validation set"):
            create("multimodal-adapter", **SMALL, patience=2).fit(task)


def test_ratio_zero_is_zero_shot(world):
    zero_shot = create("zero-shot").fit(world.task).logits(world.queries)
    for values in ({"ratio": 0.0}, {"epochs": 0}):
        logits = create("multimodal-adapter", **{**SMALL, **values}).fit(world.task).logits(world.queries)
        np.testing.assert_allclose(logits, zero_shot, atol=1e-4)


def test_queries_are_scored_each_for_itself(world):
    method = create("multimodal-adapter", **{**SMALL, "epochs": 1}).fit(world.task)
    many = np.tile(world.queries, (3, 1))  # more than one chunk of them
    logits = method.logits(many)
    weights = {name[7:-1]: jt.array(value) for name, value in method.learnt().items() if name.startswith("module_")}
    text = jt.array(world.task.text_features)
    facts = {"heads": 4, "mask": "add", "adapt": "both", "ratio": 0.2, "scale": 100.0}
    expected = adapted_logits(jt.array(world.queries), text, weights, **facts).numpy()
    np.testing.assert_allclose(logits, np.tile(expected, (3, 1)), atol=1e-3)


def test_unseen_classes_do_not_collapse():
    world = World(classes=8, unseen=3, shift=0.6)
    method = create("multimodal-adapter", **SMALL).fit(world.task)
    new = np.arange(5, 8)
    zero_shot = world.accuracy_on(create("zero-shot").fit(world.task).logits(world.queries), new)
    assert world.accuracy_on(method.logits(world.queries), new) > zero_shot - 0.2


def test_the_width_of_the_attention_is_divided_by_the_heads():
    with pytest.raises(UsageError, match="not a multiple of heads"):
        create("multimodal-adapter", attention=10, heads=4)


def test_same_seed_same_bytes(world, tmp_path):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        create("multimodal-adapter", seed=seed, **{**SMALL, "epochs": 2}).fit(world.task).save(tmp_path / name)
    same, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert same == again != other
