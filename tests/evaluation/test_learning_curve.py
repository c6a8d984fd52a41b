"""Expected accuracy at fewer shots, from the shots alone."""

from __future__ import annotations

import numpy as np
import pytest

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import FewShotTask, normalise
from jclip_adapter.evaluation.calibration import ENOUGH
from jclip_adapter.evaluation.learning_curve import learning_curve
from jclip_adapter.methods import create

CLASSES, WIDTH = 12, 24


def drawn(shots: int, seed: int = 0) -> FewShotTask:
    """Photos around class centres, and texts that say little."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((CLASSES, WIDTH))
    labels = np.repeat(np.arange(CLASSES), shots)
    photos = normalise(centres[labels] + 0.8 * rng.standard_normal((len(labels), WIDTH)))
    texts = normalise(centres + 3 * rng.standard_normal(centres.shape))
    return FewShotTask(photos, labels, texts, tuple(map(str, range(CLASSES))), logit_scale=20.0)


def test_more_shots_are_better_and_all_but_one_are_the_last_point() -> None:
    curve = learning_curve(create("linear-probe"), drawn(8), 0)
    assert [point.shots for point in curve] == [1, 2, 4, 7]
    shares = [point.correct / point.tested for point in curve]
    assert shares[0] < shares[2] < shares[3] + 0.05
    assert shares[3] > shares[0] + 0.05


def test_photos_are_scored_until_there_are_enough_and_none_twice() -> None:
    few = learning_curve(create("tip-adapter"), drawn(3), 0)
    assert [point.shots for point in few] == [1, 2]
    assert few[1].tested == 3 * CLASSES  # each shot once, the others fitted
    assert few[0].tested == 3 * 2 * CLASSES  # each with either of the two others
    many = learning_curve(create("tip-adapter"), drawn(30), 0)
    assert all(ENOUGH <= point.tested < ENOUGH + 29 * CLASSES for point in many)


def test_classes_with_fewer_shots_keep_one() -> None:
    task = drawn(4)
    place = np.arange(len(task.support_labels)) % 4
    kept = (task.support_labels > 1) | (place == 0) | ((task.support_labels == 1) & (place == 1))
    curve = learning_curve(create("tip-adapter"), task.keep(kept), 0)
    assert [point.shots for point in curve] == [1, 2, 3]
    # The class with one shot is never scored; that with two lends one.
    assert curve[2].tested == 4 * (CLASSES - 2) + 4


@pytest.mark.parametrize(
    ("method", "shots", "told"), [("gda", 1, "no class has two shots"), ("transclip", 4, "transductive")]
)
def test_where_nothing_can_be_held_out(method: str, shots: int, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        learning_curve(create(method), drawn(shots), 0)
