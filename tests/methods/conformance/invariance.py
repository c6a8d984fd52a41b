"""Checks of what must not matter to a method."""

from __future__ import annotations

import dataclasses

import numpy as np

from jclip_adapter.core.task import normalise

from .worlds import (
    assert_close,
    fitted,
    permute_classes,
    quick,
    world,
)


def check_the_order_of_the_classes(name: str) -> None:
    """Other class numbers, the same scores under other numbers."""
    method, given = fitted(name)
    order = np.array([3, 0, 4, 1, 2])
    other = quick(name).fit(permute_classes(given.task, order)).logits(given.queries)
    assert_close(name, other[:, np.argsort(order)], method.logits(given.queries))


def check_the_order_of_the_photos(name: str) -> None:
    """Another order of the support rows."""
    method, given = fitted(name)
    order = np.random.default_rng(1).permutation(len(given.task.support_labels))
    assert_close(name, quick(name).fit(given.task.keep(order)).logits(given.queries), method.logits(given.queries))


def check_the_order_of_the_queries(name: str) -> None:
    """Each query keeps its scores wherever it stands; a list sorted by class tells a transductive method nothing."""
    method, given = fitted(name)
    order = np.random.default_rng(2).permutation(len(given.queries))
    scores = method.logits(given.queries)
    size = max(1.0, float(np.abs(scores).max()))
    np.testing.assert_allclose(method.logits(given.queries[order]), scores[order], atol=1e-4 * size)


def check_equal_queries_score_equally(name: str) -> None:
    """The same photo twice; where queries have neighbours, twins may tie for a place and differ a little."""
    method, given = fitted(name)
    scores = method.logits(given.queries[np.array([0, 5, 9, 5, 17])])
    size = max(1.0, float(np.abs(scores).max()))
    np.testing.assert_allclose(scores[1], scores[3], atol=(1e-2 if method.meta.transductive else 1e-4) * size)
    assert scores[1].argmax() == scores[3].argmax()


def check_transductive_or_not_is_the_truth(name: str) -> None:
    """The scores of a query depend on the other queries if and only if the metadata says so."""
    method, given = fitted(name)
    # Photos far from every class: near one, even a transductive method has nothing to doubt.
    doubtful = normalise(np.random.default_rng(3).standard_normal(given.queries.features.shape))
    queries = dataclasses.replace(given.queries, features=doubtful)
    scores = method.logits(queries)
    size = max(1.0, float(np.abs(scores).max()))
    parts = [method.logits(queries[part]) for part in (slice(0, 1), slice(1, 4), slice(4, None))]
    depends = not np.allclose(np.concatenate(parts), scores, atol=1e-4 * size)
    assert depends == method.meta.transductive


def check_inputs_stay_as_they_are(name: str) -> None:
    """Neither `fit` nor `logits` writes into what it is given, and neither needs to."""
    given = world(name)
    arrays = [value for part in (given.task, given.queries) for value in vars(part).values()]
    arrays = [value for value in arrays if isinstance(value, np.ndarray)]
    before = [value.tobytes() for value in arrays]
    assert not any(value.flags.writeable for value in arrays)
    quick(name).fit(given.task).logits(given.queries)
    assert before == [value.tobytes() for value in arrays]


def check_the_first_task_is_forgotten(name: str) -> None:
    """Fitted again on a task of another size, it is what a new one is."""
    first, second = world(name), world(name, seed=5, classes=3, width=8, shots=2)
    again, new = quick(name).fit(first.task).fit(second.task), quick(name).fit(second.task)
    assert again.learnt().keys() == new.learnt().keys()
    np.testing.assert_array_equal(again.logits(second.queries), new.logits(second.queries))


def check_numpys_random_state_stays(name: str) -> None:
    """It draws from a generator of its own."""
    given = world(name)
    np.random.seed(7)  # noqa: NPY002 - the global state is what is watched
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    quick(name, seed=3).fit(given.task).logits(given.queries)
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002
