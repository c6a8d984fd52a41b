import numpy as np
import pytest

from jclip_adapter.core.task import normalise
from jclip_adapter.methods import create
from tests.reference_text_tower import TextTower, assert_gradient, cross_entropy

from .captured_step import NAMES, SCALE, captured_step, tiny_task

TEMPLATES = normalise(np.random.default_rng(6).standard_normal((3, 2, 16)).astype(np.float32))  # two of each class

HEARD = {  # of classes 0, 2 and 1, the last of which has no photo
    "extra_features": normalise(np.random.default_rng(7).standard_normal((3, 16)).astype(np.float32)),
    "extra_labels": np.array([0, 2, 1]),
    "extra_modalities": ("audio",) * 3,
}


def reference(task, state, position, class_specific):
    """Cross-entropy over the photos and all texts of the classes with photos, in float64, through the tower."""
    tower, seen = TextTower(state), list(task.seen)
    rows, labels = list(task.support_features), list(task.support_labels)
    for number in seen:
        rows += list(TEMPLATES[number])
        labels += [number] * len(TEMPLATES[number])
    for sounds, own in task.extra_rows().values():
        known = np.isin(own, seen)
        rows += list(sounds[known])
        labels += list(own[known])
    answers = np.array([seen.index(label) for label in labels])

    def loss(vectors):
        own = vectors if class_specific else [vectors] * len(NAMES)
        texts = np.array([tower.prompt(NAMES[number], own[number], position) for number in seen])
        return cross_entropy(SCALE * np.array(rows, dtype=np.float64) @ texts.T, answers)

    return loss


def prompting(**values):
    return create("cross-modal-prompting", **{"context": 3, **values})


@pytest.mark.parametrize(
    ("position", "class_specific", "labels", "sounds"),
    [
        ("end", False, [0, 1, 2, 1, 0, 2], {}),
        ("middle", True, [0, 1, 2, 1, 0, 2], {}),
        ("front", False, [0, 2, 2, 0], {}),
        ("end", False, [0, 2, 2, 0], HEARD),
    ],
)
def test_loss_and_gradient_are_those_of_all_modalities(position, class_specific, labels, sounds):
    task, state = tiny_task(labels, text_views=tuple(TEMPLATES), **sounds)
    step = captured_step(prompting(position=position, class_specific=class_specific), task)
    loss = reference(task, state, position, class_specific)
    at = step.at.astype(np.float64)
    assert step.loss == pytest.approx(loss(at), rel=1e-4)
    assert_gradient(loss, at, step.gradient)
    if not class_specific:
        photos_only = captured_step(create("coop", context=3, position=position), task)
        assert abs(photos_only.loss - step.loss) > 1e-2


def test_chunks_change_nothing():
    task, _ = tiny_task([0, 1, 2, 1, 0, 2], text_views=tuple(TEMPLATES))
    whole, parts = captured_step(prompting(), task), captured_step(prompting(chunk=2), task)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    np.testing.assert_allclose(parts.gradient, whole.gradient, atol=1e-4 * np.abs(whole.gradient).max())


def test_as_many_texts_as_photos_are_drawn_each_with_its_class():
    task, _ = tiny_task([0, 1, 2, 1], text_views=tuple(TEMPLATES))
    rows, seen = np.array([2, 0, 3]), set()
    for seed in range(5):
        batch = prompting()._batch(task, rows, np.random.default_rng(seed))
        np.testing.assert_array_equal(batch.features[:3], task.support_features[rows])
        np.testing.assert_array_equal(batch.labels[:3], [2, 0, 1])
        texts = [tuple(text) for text in batch.features[3:]]
        assert len(set(texts)) == len(texts) == 3
        for text, label in zip(batch.features[3:], batch.labels[3:], strict=True):
            assert (TEMPLATES[label] == text).all(axis=1).any()
        seen.update(texts)
    assert len(seen) == 6
