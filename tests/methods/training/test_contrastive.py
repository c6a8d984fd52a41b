import itertools

import numpy as np
import pytest

from jclip_adapter.methods.training.contrastive import class_batches, contrastive_loss
from jclip_adapter.runtime import jt


def reference(rows, labels, temperature):
    """The loss in float64, pair by pair."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similar = unit @ unit.T / temperature
    terms = []
    for i in range(len(labels)):
        others = [k for k in range(len(labels)) if k != i]
        partners = [j for j in others if labels[j] == labels[i]]
        if partners:
            log_sum = np.log(np.exp(similar[i, others]).sum())
            terms.append(np.mean([log_sum - similar[i, j] for j in partners]))
    return np.mean(terms)


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).standard_normal((7, 5))


LABELS = np.array([0, 1, 0, 2, 1, 0, 3])  # classes 2 and 3 have no pair


def test_the_loss_is_the_formulas(rows):
    loss = contrastive_loss(jt.array(rows.astype(np.float32)), LABELS, 0.3)
    assert float(loss.item()) == pytest.approx(reference(rows, LABELS, 0.3), rel=1e-5)


def test_jittors_gradient_is_that_of_finite_differences(rows):
    variable = jt.array(rows.astype(np.float32))
    gradient = jt.grad(contrastive_loss(variable, LABELS, 0.3), variable).numpy()
    expected = np.zeros_like(rows)
    for place in np.ndindex(rows.shape):
        step = np.zeros_like(rows)
        step[place] = 1e-5
        expected[place] = (reference(rows + step, LABELS, 0.3) - reference(rows - step, LABELS, 0.3)) / 2e-5
    np.testing.assert_allclose(gradient, expected, atol=1e-4)


def test_no_pair_no_loss(rows):
    assert float(contrastive_loss(jt.array(rows.astype(np.float32)), np.arange(7), 0.3).item()) == 0


@pytest.mark.parametrize("size", [1, 6, 100])
def test_batches_are_whole_classes(size):
    labels = np.repeat(np.arange(7), 3)
    found = class_batches(labels, size, 1, np.random.default_rng(1))
    batches = list(itertools.islice(found.stream, found.steps))
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(21))
    for batch in batches:
        classes, counts = np.unique(labels[batch], return_counts=True)
        assert len(classes) >= 2
        assert (counts == 3).all()
    assert (len(batches) == 1) == (size == 100)


def test_a_single_class_is_one_batch():
    batches = class_batches(np.zeros(3, int), 1, 2, np.random.default_rng(0))
    assert (batches.steps, batches.per_epoch, next(iter(batches.stream)).tolist()) == (2, 1, [0, 1, 2])
