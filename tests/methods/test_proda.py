import numpy as np
import pytest

from jclip_adapter.core.task import normalise
from jclip_adapter.methods import create
from jclip_adapter.methods.training.prompt_distribution import SPREAD, semantic_orthogonality, upper_bound
from jclip_adapter.methods.training.prompting import Batch
from jclip_adapter.runtime import jt
from tests.reference_text_tower import TextTower, assert_gradient, cross_entropy

from .captured_step import NAMES, SCALE, captured_step, tiny_task

COUNT = 3  # vectors per prompt
LABELS = [0, 1, 2, 1, 0]


def reference_loss(texts, photos, labels, weight):
    """ProDA's loss from (P, C, d) normalised text features, with the covariance matrices written down."""
    prompts, classes, _ = texts.shape
    mean = texts.mean(axis=0)
    logits = SCALE * photos @ (mean / np.linalg.norm(mean, axis=1, keepdims=True)).T

    def covariance(one, other):
        total = sum(np.outer(texts[p, one] - mean[one], texts[p, other] - mean[other]) for p in range(prompts))
        return np.diag(total / (prompts + 1))

    for row, (photo, y) in enumerate(zip(photos, labels, strict=True)):
        for c in range(classes):
            spread = covariance(y, y) + covariance(c, c) - 2 * covariance(y, c)
            logits[row, c] += 0.5 * SCALE**2 * (photo**2 * spread).sum()
    added = np.array([np.mean([texts[p, c] - mean[c] for c in range(classes)], axis=0) for p in range(prompts)])
    cosines = [
        abs(added[i] @ added[j]) / (np.linalg.norm(added[i]) * np.linalg.norm(added[j]))
        for i in range(prompts)
        for j in range(prompts)
        if i != j
    ]
    return cross_entropy(logits, labels) + weight * float(np.mean(cosines))


def reference(task, state, chosen, weight):
    """The loss as a function of the (P, M, D) vectors, through the tower in float64."""
    tower = TextTower(state)
    photos = task.support_features.astype(np.float64)
    seen = task.seen

    def loss(vectors):
        texts = [[tower.prompt(NAMES[c], vectors[p], SPREAD[p % len(SPREAD)]) for c in seen] for p in chosen]
        return reference_loss(np.array(texts), photos, np.searchsorted(seen, task.support_labels), weight)

    return loss


def proda(**values):
    return create("proda", **{"prompts": 4, "context": COUNT, "orthogonality": 0.7, **values})


@pytest.mark.parametrize("labels", [LABELS, [0, 2, 2, 0]], ids=["all classes seen", "one class unseen"])
def test_loss_and_gradient_are_those_of_explicit_covariances(labels):
    task, state = tiny_task(labels)
    step = captured_step(proda(), task)
    loss = reference(task, state, range(4), 0.7)
    at = step.at.astype(np.float64)
    assert step.loss == pytest.approx(loss(at), rel=1e-4)
    assert_gradient(loss, at, step.gradient)


def test_vectors_of_its_own_for_every_class():
    task, state = tiny_task(LABELS)
    step = captured_step(proda(class_specific=True), task)
    tower = TextTower(state)

    def loss(vectors):
        texts = [[tower.prompt(NAMES[c], vectors[p, c], SPREAD[p % len(SPREAD)]) for c in range(3)] for p in range(4)]
        return reference_loss(np.array(texts), task.support_features.astype(np.float64), LABELS, 0.7)

    at = step.at.astype(np.float64)
    assert at.shape[:3] == (4, 3, COUNT)
    assert step.loss == pytest.approx(loss(at), rel=1e-4)
    assert_gradient(loss, at, step.gradient)


def test_a_step_moves_a_few_prompts_by_their_own_loss():
    task, state = tiny_task(LABELS)
    step = captured_step(proda(prompts=7, prompt_batch=3), task)
    moved = np.flatnonzero(np.abs(step.gradient.reshape((7, -1))).max(axis=1))
    assert len(moved) == 3
    loss = reference(task, state, moved, 0.7)
    at = step.at.astype(np.float64)
    assert step.loss == pytest.approx(loss(at), rel=1e-4)
    assert_gradient(loss, at, step.gradient)


@pytest.mark.parametrize("chunk", [1, 5])
def test_chunks_change_nothing(chunk):
    task, _ = tiny_task(LABELS)
    whole, parts = captured_step(proda(), task), captured_step(proda(chunk=chunk), task)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    np.testing.assert_allclose(parts.gradient, whole.gradient, atol=1e-4 * np.abs(whole.gradient).max())


def test_scores_are_those_of_the_mean_of_all_prompts():
    task, state = tiny_task([0, 2, 2])
    method = proda(prompts=5, epochs=2).fit(task)
    tower = TextTower(state)
    texts = [
        [tower.prompt(name, vectors.astype(np.float64), SPREAD[number % len(SPREAD)]) for name in NAMES]
        for number, vectors in enumerate(method.vectors_)
    ]
    mean = np.mean(texts, axis=0)
    expected = SCALE * task.support_features @ (mean / np.linalg.norm(mean, axis=1, keepdims=True)).T
    np.testing.assert_allclose(method.logits(task.support_features), expected, atol=1e-3)


def test_equal_prompts_have_no_upper_bound_term():
    rng = np.random.default_rng(5)
    batch = Batch(normalise(rng.standard_normal((6, 16)).astype(np.float32)), np.array([0, 1, 2, 0, 1, 2]), 100.0)
    rows = normalise(rng.standard_normal((4, 3, 16)).astype(np.float32))
    equal = jt.array(np.repeat(rows[:1], 4, axis=0))
    plain = batch.logits(jt.array(rows[0])).numpy()
    np.testing.assert_allclose(upper_bound(batch, equal).numpy(), plain, atol=1e-3)
    varied = upper_bound(batch, jt.array(rows)).numpy() - batch.logits(jt.array(rows.mean(axis=0))).numpy()
    others = np.arange(3)[None] != batch.labels[:, None]
    assert varied[others].min() > 100
    np.testing.assert_allclose(varied[~others], 0, atol=1e-2)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (3 * np.eye(4, 6), 0),
        (np.tile([[1.0, 2, -3]], (4, 1)), 1),
        ([[1.0, 0], [-2, 0], [0, 5]], 1 / 3),
        (np.zeros((3, 5)), 0),
        ([[1.0, 2]], 0),
    ],
    ids=["orthogonal", "equal", "opposite and orthogonal", "nothing", "one"],
)
def test_semantic_orthogonality(rows, expected):
    found = semantic_orthogonality(jt.array(np.asarray(rows, dtype=np.float32)))
    assert float(found.item()) == pytest.approx(expected, abs=1e-6)


def test_the_gradient_of_equal_prompts_is_finite():
    rows = jt.array(np.zeros((4, 5), dtype=np.float32))
    assert np.isfinite(jt.grad(semantic_orthogonality(rows), rows).numpy()).all()
