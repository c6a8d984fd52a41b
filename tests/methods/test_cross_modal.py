import dataclasses

import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, normalise
from jclip_adapter.methods import create
from jclip_adapter.methods.training.cross_modal import joint_batches, text_rows, zero_shot_weights
from jclip_adapter.methods.training.optimizers import warmup_cosine

from .worlds import World

CROSS = ["cross-modal-linear", "cross-modal-wise-ft", "cross-modal-adapter"]
UNI = ["uni-modal-linear", "wise-ft"]
TRAINED = {"iterations": 60, "lr": 3e-3, "batch_size": 16}


@pytest.fixture(scope="module")
def world():
    return World(noise=2.0, shift=2.0)


@pytest.mark.parametrize("name", CROSS + UNI)
def test_training_helps(world, name):
    method = create(name, **TRAINED).fit(world.task)
    zero_shot = create("zero-shot").fit(world.task).logits(world.queries)
    assert world.accuracy(method.logits(world.queries)) > world.accuracy(zero_shot)
    losses = [row["loss"] for row in method.history_]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


@pytest.mark.parametrize("name", CROSS + UNI)
def test_no_iterations_are_zero_shot(world, name):
    logits = create(name, iterations=0).fit(world.task).logits(world.queries)
    zero_shot = create("zero-shot").fit(world.task).logits(world.queries)
    np.testing.assert_array_equal(logits.argmax(axis=1), zero_shot.argmax(axis=1))
    factor = 0.8 if name == "cross-modal-adapter" else 1  # (1−R)·x + R·0
    np.testing.assert_allclose(logits, factor * zero_shot, atol=1e-3)


@pytest.mark.parametrize("name", ["cross-modal-wise-ft", "wise-ft"])
def test_the_interpolation_lies_between_zero_shot_and_the_trained_classifier(world, name):
    method = create(name, **TRAINED, alpha=0.3).fit(world.task)
    plain = {"cross-modal-wise-ft": "cross-modal-linear", "wise-ft": "uni-modal-linear"}[name]
    trained = create(plain, **TRAINED).fit(world.task).logits(world.queries)
    zero_shot = create("zero-shot").fit(world.task).logits(world.queries)
    np.testing.assert_allclose(method.logits(world.queries), 0.3 * trained + 0.7 * zero_shot, atol=1e-3)
    np.testing.assert_allclose(method.with_values(alpha=0).logits(world.queries), zero_shot, atol=1e-4)


def test_logits_follow_the_adapters_formula(world):
    method = create("cross-modal-adapter", **TRAINED, ratio=0.4, alpha=0.5, reduction=8).fit(world.task)
    x, down, up = (array.astype(np.float64) for array in (world.queries, method.down_, method.up_))
    assert down.shape == (4, 32)
    adapted = 0.4 * np.maximum(np.maximum(x @ down.T, 0) @ up.T, 0) + 0.6 * x
    weight = 0.5 * method.weight_.astype(np.float64) + 0.5 * world.task.text_features
    np.testing.assert_allclose(method.logits(world.queries), 100 * adapted @ weight.T, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "init"), [*((name, "zero-shot") for name in CROSS + UNI), *((name, "random") for name in UNI)]
)
def test_unseen_classes_do_not_collapse(name, init):
    world = World(classes=8, unseen=3, shift=0.6)
    method = create(name, init=init, **TRAINED).fit(world.task)
    logits, new = method.logits(world.queries), np.arange(5, 8)
    zero_shot = world.accuracy_on(create("zero-shot").fit(world.task).logits(world.queries), new)
    assert world.accuracy_on(logits, new) > zero_shot - 0.25


@pytest.mark.parametrize("name", UNI)
def test_photos_alone_leave_the_unseen_rows_where_they_were(name):
    world = World(classes=8, unseen=3)
    method = create(name, **TRAINED).fit(world.task)
    np.testing.assert_array_equal(method.weight_[5:], world.task.text_features[5:])
    assert np.abs(method.weight_[:5] - world.task.text_features[:5]).max() > 1e-3


def test_a_further_modality_is_further_rows(world):
    """Sound rows of one class, far from its photos and its text, must be learnt too."""
    sound = normalise(np.random.default_rng(9).standard_normal((4, 32)))
    task = dataclasses.replace(world.task, extra_features=sound, extra_labels=np.full(4, 2))
    with_sound = create("cross-modal-linear", **TRAINED).fit(task).logits(sound)
    without = create("cross-modal-linear", **TRAINED).fit(world.task).logits(sound)
    assert (with_sound.argmax(axis=1) == 2).all()
    assert not (without.argmax(axis=1) == 2).all()


def audio_of(world, per_class=3, without=()):
    """Audio rows of the world's classes, all around a shifted text."""
    rng = np.random.default_rng(4)
    labels = np.repeat(np.setdiff1d(np.arange(world.task.num_classes), without), per_class)
    rows = world.task.text_features[labels] + 0.1 + 0.1 * rng.standard_normal((len(labels), world.task.width))
    return {
        "extra_features": normalise(rows),
        "extra_labels": labels,
        "extra_modalities": ("audio",) * len(labels),
    }


def test_training_on_photos_texts_and_sounds_is_the_formula(world):
    """A float64 AdamW on batches with equal shares of three modalities; class 1 has no sound, 4 no photo, 5 neither."""
    kept = world.task.keep(world.task.support_labels < 4)
    task = dataclasses.replace(kept, **audio_of(world, without=[1, 5]))
    steps, lr, decay = 12, 1e-3, 0.01
    values = {"iterations": steps, "lr": lr, "weight_decay": decay, "batch_size": 9, "warmup": 2}
    method = create("cross-modal-linear", seed=3, **values).fit(task)
    parts = [task.photo_rows(), text_rows(task), task.extra_rows()["audio"]]
    features = np.concatenate([rows for rows, _ in parts]).astype(np.float64)
    labels = np.concatenate([own for _, own in parts])
    counts = [len(own) for _, own in parts]
    kinds = np.repeat(np.arange(3), counts)
    absent = np.zeros((3, 6), dtype=bool)
    absent[0, 4:] = absent[2, 5] = True
    weight, mean, square = zero_shot_weights(task).astype(np.float64), 0.0, 0.0
    batches = joint_batches(counts, 9, steps, np.random.default_rng(3)).stream
    for step, rows in enumerate(batches):
        assert np.bincount(kinds[rows]).tolist() == [3, 3, 3]
        scores = task.logit_scale * features[rows] @ weight.T
        scores[absent[kinds[rows]]] = -np.inf
        share = np.exp(scores - scores.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        gradient = task.logit_scale * (share - np.eye(task.num_classes)[labels[rows]]).T @ features[rows] / len(rows)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        rate = warmup_cosine(step, lr, steps, warmup=2, floor=1e-5)
        weight *= 1 - rate * decay
        weight -= rate * mean / (1 - 0.9 ** (step + 1)) / (np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8)
    assert np.abs(weight - zero_shot_weights(task)).max() > 1e-3
    np.testing.assert_allclose(method.weight_, weight, atol=2e-5)


def test_each_modality_has_a_share_of_its_own(world):
    """Two modalities by name get twice the share that they would get as one."""
    heard = audio_of(world)
    half = len(heard["extra_labels"]) // 2
    names = ("audio",) * half + ("image",) * (len(heard["extra_labels"]) - half)
    weights = [
        create("cross-modal-linear", **TRAINED).fit(dataclasses.replace(world.task, **each)).weight_
        for each in (heard, {**heard, "extra_modalities": names})
    ]
    assert np.abs(weights[0] - weights[1]).max() > 1e-4


def test_uni_modal_methods_take_no_texts_for_samples(world):
    changed = dataclasses.replace(
        world.task, extra_features=world.task.text_features, extra_labels=np.zeros(6), text_views=()
    )
    for name in UNI:
        logits = [create(name, **TRAINED).fit(task).logits(world.queries) for task in (world.task, changed)]
        np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize("name", CROSS + UNI)
def test_the_smallest_task_works(name):
    task = FewShotTask(np.eye(8)[:1], [0], np.eye(8)[:1], ("only",))
    logits = create(name, iterations=3, init="random").fit(task).logits(np.eye(8))
    assert logits.shape == (8, 1)
    assert np.isfinite(logits).all()


def test_same_seed_same_bytes(world, tmp_path):
    for name in (*CROSS, *UNI):
        for file, seed in (("a", 7), ("b", 7), ("c", 8)):
            method = create(name, seed=seed, iterations=5, init="random", batch_size=8).fit(world.task)
            method.save(tmp_path / file)
        same, again, other = ((tmp_path / file).read_bytes() for file in "abc")
        assert same == again != other
