"""Checks of what goes in and what comes out, and of unusual tasks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import Queries

from .worlds import (
    CLASSES,
    assert_scores,
    fitted,
    predictions,
    quick,
    world,
)

# What goes in and what comes out


def check_scores_are_finite_float32_of_the_right_shape(name: str) -> None:
    """(M, C) float32, finite."""
    method, given = fitted(name)
    assert_scores(method.logits(given.queries), len(given.queries), CLASSES)


def check_any_real_dtype_is_taken(name: str) -> None:
    """float64 and float16 queries, and nested lists, score as float32 ones do, up to their own rounding."""
    method, given = fitted(name)
    rows = given.queries.features
    for taken in (rows.astype(np.float64), rows.astype(np.float16), rows.tolist()):
        features = np.asarray(taken, dtype=np.float32)
        expected = method.logits(dataclasses.replace(given.queries, features=features))
        ours = method.logits(
            taken if given.queries.auxiliary is None else Queries(taken, None, given.queries.auxiliary)
        )
        assert_scores(ours, len(rows), CLASSES)
        np.testing.assert_array_equal(ours, expected)


def check_plain_rows_are_queries(name: str) -> None:
    """An array is taken like `Queries` of it; a method that needs more says so."""
    method, given = fitted(name)
    if "auxiliary" in method.meta.needs:
        with pytest.raises(DataError, match="auxiliary"):
            method.logits(given.queries.features)
    else:
        np.testing.assert_array_equal(method.logits(given.queries.features), method.logits(given.queries))


def check_no_queries(name: str) -> None:
    """No query, no row: (0, C)."""
    method, given = fitted(name)
    assert_scores(method.logits(given.queries[:0]), 0, CLASSES)


def check_one_query(name: str) -> None:
    """A single photo is enough."""
    method, given = fitted(name)
    assert_scores(method.logits(given.queries[:1]), 1, CLASSES)


def check_the_scores_tell_photos_apart(name: str) -> None:
    """Neither all photos nor all classes score alike."""
    method, given = fitted(name)
    scores = method.logits(given.queries)
    assert len(np.unique(scores.argmax(axis=1))) > 1
    assert (scores.std(axis=1) > 0).all()


def check_scores_are_a_new_array(name: str) -> None:
    """Changing what was returned changes nothing else."""
    method, given = fitted(name)
    before = method.logits(given.queries)
    kept = before.copy()
    assert not any(np.shares_memory(before, array) for array in (*method.learnt().values(), given.queries.features))
    before[:] = -1
    np.testing.assert_array_equal(method.logits(given.queries), kept)


def check_asking_twice_is_asking_once(name: str) -> None:
    """`logits` leaves the method as it is."""
    method, given = fitted(name)
    learnt = {key: value.tobytes() for key, value in method.learnt().items()}
    np.testing.assert_array_equal(method.logits(given.queries), method.logits(given.queries))
    assert learnt == {key: value.tobytes() for key, value in method.learnt().items()}


# Unusual tasks


def check_one_class(name: str) -> None:
    """With one class there is one answer."""
    given = world(name, classes=1)
    assert_scores(quick(name).fit(given.task).logits(given.queries), len(given.queries), 1)


def check_two_narrow_classes(name: str) -> None:
    """Two classes, features eight wide."""
    given = world(name, classes=2, width=8)
    assert_scores(quick(name).fit(given.task).logits(given.queries), len(given.queries), 2)


def check_one_shot(name: str) -> None:
    """One photo per class."""
    given = world(name, shots=1)
    assert_scores(quick(name).fit(given.task).logits(given.queries), len(given.queries), CLASSES)


def check_a_single_photo(name: str) -> None:
    """One photo in all: four classes have none."""
    given = world(name)
    method = quick(name).fit(given.task.keep(np.array([0])))
    assert_scores(method.logits(given.queries), len(given.queries), CLASSES)


def check_uneven_shots(name: str) -> None:
    """Three photos of some classes, one of others."""
    given = world(name)
    method = quick(name).fit(given.task.keep(np.array([0, 1, 2, 3, 6, 9, 10, 11, 12])))
    assert_scores(method.logits(given.queries), len(given.queries), CLASSES)


def check_duplicate_photos(name: str) -> None:
    """The same photo several times, also as the only photo of its class."""
    given = world(name)
    method = quick(name).fit(given.task.keep(np.array([0, 0, 0, 3, 4, 5, 6, 6, 9, 10, 12, 12])))
    assert_scores(method.logits(given.queries), len(given.queries), CLASSES)


def check_a_photo_in_two_classes(name: str) -> None:
    """Contradicting labels are no reason to fail."""
    given = world(name)
    features = given.task.support_features.copy()
    features[3] = features[0]
    method = quick(name).fit(dataclasses.replace(given.task, support_features=features))
    assert_scores(method.logits(given.queries), len(given.queries), CLASSES)


def check_classes_of_the_same_text(name: str) -> None:
    """Two classes whose prompts say the same."""
    given = world(name)
    text = given.task.text_features.copy()
    text[1] = text[0]
    method = quick(name).fit(dataclasses.replace(given.task, text_features=text))
    assert_scores(method.logits(given.queries), len(given.queries), CLASSES)


def check_a_full_task(name: str) -> None:
    """Raw features, views, templates, domains, another modality, validation photos and a second backbone.

    Of a method that says that it does not use raw features, those of the queries change nothing.
    """
    given = world(name, full=True)
    method = quick(name).fit(given.task)
    scores = method.logits(given.queries)
    assert_scores(scores, len(given.queries), CLASSES)
    if not method.uses_raw:
        np.testing.assert_array_equal(method.logits(dataclasses.replace(given.queries, raw=None)), scores)


def check_an_unseen_class_has_finite_scores(name: str) -> None:
    """A class without photos among others that have some."""
    given = world(name)
    method = quick(name).fit(given.task.keep(given.task.support_labels != 2))
    assert_scores(method.logits(given.queries), len(given.queries), CLASSES)


def check_unseen_classes_do_not_collapse(name: str) -> None:
    """At least half of zero-shot's accuracy on a class without photos."""
    shares = []
    for unseen in range(CLASSES):
        ours, given = predictions(name, unseen)
        theirs, _ = predictions("zero-shot", unseen)
        rows = given.answers == unseen
        shares.append(((ours[rows] == unseen).mean(), (theirs[rows] == unseen).mean()))
    ours_mean, theirs_mean = np.mean(shares, axis=0)
    assert theirs_mean > 0.5
    assert ours_mean >= theirs_mean / 2
