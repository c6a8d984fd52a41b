import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, normalise
from jclip_adapter.methods import create

CLASSES, WIDTH, SHOTS = 6, 24, 4


def world(seed=0, shots=SHOTS, views=0):
    """Photos that differ most in a few directions which tell nothing about their class, and texts a little off."""
    rng = np.random.default_rng(seed)
    centres = normalise(rng.standard_normal((CLASSES, WIDTH)))
    text = normalise(centres + 1.1 * normalise(rng.standard_normal((CLASSES, WIDTH))))
    noise = np.where(np.arange(WIDTH) < 6, 0.5, 0.1)

    def photos(labels):
        return normalise(centres[labels] + noise * rng.standard_normal((len(labels), WIDTH)))

    labels = np.repeat(np.arange(CLASSES), shots)
    answers = np.repeat(np.arange(CLASSES), 30)
    support = photos(labels)
    further = {"support_views": np.stack([support, *(photos(labels) for _ in range(views))])} if views else {}
    task = FewShotTask(support, labels, text, tuple("abcdef"), logit_scale=20.0, **further)
    return task, photos(answers), answers


def accuracy(method, queries, answers):
    return (method.logits(queries).argmax(axis=1) == answers).mean()


@pytest.fixture(scope="module")
def fitted():
    task, queries, answers = world()
    return task, queries, answers, create("dac", lr=3e-3, epochs=15, text_lr=1e-2).fit(task)


def test_both_losses_fall(fitted):
    history = fitted[3].history_
    for key in ("contrastive_loss", "loss"):
        values = [row[key] for row in history if key in row]
        assert len(values) == (15 if key == "contrastive_loss" else 10)
        assert values[-1] < 0.9 * values[0]


def test_the_adapter_brings_photos_of_a_class_together(fitted):
    task, queries, answers, method = fitted

    def right(adapter):
        """Nearest shot, asked in the adapted space."""
        near = normalise(queries @ adapter.T) @ normalise(task.support_features @ adapter.T).T
        return (task.support_labels[near.argmax(axis=1)] == answers).mean()

    assert right(method.adapter_) > right(np.eye(WIDTH, dtype=np.float32)) + 0.02


def test_the_texts_learn(fitted):
    task, queries, answers, method = fitted
    zero_shot = accuracy(create("zero-shot").fit(task), queries, answers)
    assert accuracy(method.with_values(alpha=0), queries, answers) > zero_shot + 0.02


@pytest.mark.parametrize("variant", ["visual", "visual+text"])
def test_logits_follow_the_formula(variant):
    task, queries, _ = world(1)
    method = create("dac", variant=variant, alpha=2.5, beta=3.0, epochs=2, text_epochs=2).fit(task)
    f, q = task.support_features.astype(np.float64), queries.astype(np.float64)
    text = method.tuned_ if variant == "visual+text" else task.text_features

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    votes = np.exp(-3 * (1 - unit(q @ method.adapter_.T) @ unit(f @ method.adapter_.T).T))
    expected = 20 * q @ text.T + 2.5 * votes @ np.eye(CLASSES)[task.support_labels]
    np.testing.assert_allclose(method.logits(queries), expected, atol=1e-4)


def test_the_visual_variant_without_its_cache_is_zero_shot():
    task, queries, _ = world(2)
    method = create("dac", variant="visual", alpha=0, epochs=1).fit(task)
    np.testing.assert_allclose(method.logits(queries), create("zero-shot").fit(task).logits(queries), atol=1e-5)


def test_without_a_pair_the_adapter_stays_the_identity():
    one, _, _ = world(3, shots=1)
    np.testing.assert_array_equal(create("dac", variant="visual").fit(one).adapter_, np.eye(WIDTH))
    viewed, _, _ = world(3, shots=1, views=2)
    assert not np.array_equal(create("dac", variant="visual", epochs=1).fit(viewed).adapter_, np.eye(WIDTH))


def test_the_mean_view_is_the_key():
    task, _, _ = world(4, views=2)
    method = create("dac", variant="visual", epochs=0).fit(task)
    np.testing.assert_allclose(method.keys_, normalise(task.support_views.mean(axis=0)), atol=1e-6)


def test_weight_decay_alone_leaves_identity_and_texts():
    """Both are trained as differences from where they start, so decay pulls back to there, not to 0."""
    task, _, _ = world(5)
    method = create("dac", lr=0, text_lr=0, weight_decay=1.0, epochs=2, text_epochs=2).fit(task)
    np.testing.assert_array_equal(method.adapter_, np.eye(WIDTH))
    np.testing.assert_allclose(method.tuned_, task.text_features, atol=1e-6)


def test_an_unseen_class_is_still_found():
    task, queries, answers = world(6)
    kept = task.support_labels != 2
    part = FewShotTask(
        task.support_features[kept], task.support_labels[kept], task.text_features, task.class_names, logit_scale=20.0
    )
    unseen = answers == 2
    ours = create("dac").fit(part).logits(queries).argmax(axis=1)
    zero_shot = create("zero-shot").fit(part).logits(queries).argmax(axis=1)
    assert (ours[unseen] == 2).mean() >= 0.5 * (zero_shot[unseen] == 2).mean() > 0.2
