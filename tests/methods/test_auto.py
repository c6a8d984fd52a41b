"""auto: its heads and weights against the formulas in float64, and what it does without shots, texts or more shots."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import FewShotTask, ImageNetHead, Queries, class_means, normalise, softmax
from jclip_adapter.methods import create, load
from jclip_adapter.methods.auto import USUAL, Auto
from jclip_adapter.methods.training.folds import folds
from jclip_adapter.methods.training.stack import covariance, fit_gaussian, fit_linear, noise_of, weigh
from tests.methods.few_shot_worlds import top1, without, world


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def shrunk(rows, labels):
    """Σ by its definition."""
    width, classes = rows.shape[1], len(np.unique(labels))
    inside = sum(np.outer(r, r) for r in rows - class_means(rows, labels, labels.max() + 1)[labels])
    degrees = len(rows) - classes
    share = width / (width + degrees)
    return (1 - share) * inside / degrees + share * np.trace(inside / degrees) / width * np.eye(width)


def power(matrix, exponent):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(values**exponent) @ vectors.T


def gaussian_by_formula(rows, labels, texts, queries):
    """Head `gaussian`: each class's prior by a ridge regression that is fitted anew without the class."""
    classes = len(texts)
    sigma = shrunk(rows, labels)
    whiten = power(sigma, -0.5)
    counts = np.bincount(labels, minlength=classes)
    seen = np.flatnonzero(counts)
    means = class_means(rows, labels, classes) @ whiten
    centre = means[seen].mean(axis=0)
    means = means - centre
    away = texts - texts.mean(axis=0)
    given = away @ power(sigma, 0.5)
    factor = np.linalg.lstsq(given[seen].reshape(-1, 1), means[seen].ravel(), rcond=None)[0][0]
    rest = means - factor * given
    level = np.mean([row @ row for row in away[seen]])
    prior = np.empty_like(means)
    for number in range(classes):
        others = seen[seen != number]
        ridge = np.linalg.solve(
            away[others].T @ away[others] + level * np.eye(away.shape[1]), away[others].T @ rest[others]
        )
        prior[number] = factor * given[number] + away[number] @ ridge
    shots = counts[seen]
    between = max(((means - prior)[seen] ** 2).mean() - (1 / shots).mean(), 0.02)
    posterior = prior.copy()
    for number in seen:
        pull = between * counts[number] / (1 + between * counts[number])
        posterior[number] += pull * (means[number] - prior[number])
    return unit(queries @ whiten - centre) @ unit(posterior).T


def drawn(unseen=()):
    task, queries, answers = world(classes=9, width=16, shots=4)
    task = without(task, *unseen).keep(np.arange(3, 4 * (9 - len(unseen))))  # one class has a single shot
    return task, queries, answers


@pytest.mark.parametrize("unseen", [(), (7, 8)])
def test_the_gaussian_is_the_formula(unseen):
    task, queries, _ = drawn(unseen)
    rows, texts = task.support_features.astype(np.float64), task.text_features.astype(np.float64)
    spread = covariance(rows, task.support_labels)
    found = fit_gaussian(rows, task.support_labels, 9, texts, spread, same_space=True).scores(queries)
    np.testing.assert_allclose(found, gaussian_by_formula(rows, task.support_labels, texts, queries), atol=2e-5)


def test_the_covariance_of_one_shot_per_class_is_half_of_the_variance_of_all():
    rows = np.random.default_rng(0).standard_normal((5, 3))
    values, vectors = covariance(rows, np.arange(5))
    np.testing.assert_allclose(values, rows.var(axis=0).mean() / 2)
    np.testing.assert_array_equal(vectors, np.eye(3))


def noisy_loss(flat, rows, labels, start, noise, strength, weights):
    """What `fit_linear` minimises, row by row."""
    weight = flat.reshape(start.shape)
    loss = strength / 2 * ((weight - start) ** 2).sum()
    for row, label, share in zip(rows, labels, weights, strict=True):
        away = weight - weight[label]
        scores = weight @ row + 0.5 * np.einsum("cd,de,ce->c", away, noise, away)
        loss += share * (np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[label])
    return loss


def test_the_linear_head_is_at_the_minimum_of_its_loss():
    rng = np.random.default_rng(1)
    rows, labels = rng.standard_normal((12, 3)), np.array([1, 3, 0, 1, 1, 0, 3, 3, 0, 1, 3, 0])
    start, weights = rng.standard_normal((4, 3)), rng.uniform(0.5, 2, 12)
    noise = noise_of(*covariance(rows, labels), 2).astype(np.float64)
    found = fit_linear(
        rows.astype(np.float32),
        labels,
        start.astype(np.float32),
        noise.astype(np.float32),
        strength=0.5,
        weights=weights.astype(np.float32),
    )
    seen = [0, 1, 3]
    own = np.searchsorted(seen, labels)
    best = minimize(noisy_loss, start[seen].ravel(), (rows, own, start[seen], noise, 0.5, weights), tol=1e-12)
    np.testing.assert_allclose(found[seen].ravel(), best.x, atol=2e-3)
    np.testing.assert_array_equal(found[2], start[2].astype(np.float32))  # no row of this class


def test_the_bound_is_above_the_expected_loss():
    """The loss of noisy rows is at most the one that is minimised, and above that without noise."""
    rng = np.random.default_rng(2)
    rows, labels, weight = rng.standard_normal((6, 3)), np.arange(6) % 3, rng.standard_normal((3, 3))
    root = rng.standard_normal((3, 3)) * 0.4
    many = (rng.standard_normal((4000, 6, 3)) @ root.T + rows).reshape(-1, 3)
    losses = -np.log(softmax(many @ weight.T)[np.arange(len(many)), np.tile(labels, 4000)])
    expected = losses.reshape(4000, 6).mean(axis=0).sum()
    bound = noisy_loss(weight.ravel(), rows, labels, weight, root @ root.T, 0, np.ones(6))
    assert noisy_loss(weight.ravel(), rows, labels, weight, 0 * root, 0, np.ones(6)) < expected < bound


def test_the_weights_are_at_the_minimum_of_the_penalised_likelihood():
    rng = np.random.default_rng(3)
    views, labels = rng.standard_normal((3, 60, 4)), rng.integers(0, 4, 60)
    views[0, np.arange(60), labels] += 2
    usual = np.array([0.3, 5.0, 0.3])

    def loss(logs, heads, start):
        p = softmax(np.tensordot(np.exp(logs), heads, 1))
        return -np.log(p[np.arange(60), labels]).sum() + ((logs - start) ** 2).sum()

    alone = [minimize(loss, [np.log(3 * u)], (views[h : h + 1], np.log(3 * u))).x[0] for h, u in enumerate(usual)]
    start = np.array(alone) - np.log(3)
    best = minimize(loss, start, (views, start))
    np.testing.assert_allclose(weigh(views.astype(np.float32), labels, usual), np.exp(best.x), rtol=1e-2)
    few = weigh(views[:, :0].astype(np.float32), labels[:0], usual)
    np.testing.assert_allclose(few, usual)


def test_logits_are_the_weighted_sum_of_its_heads():
    task, queries, answers = world(queries=50)
    method = create("auto").fit(task)
    assert list(method.heads) == ["text", "centred", "gaussian", "linear"]
    scores = method.scores(Queries(queries))
    np.testing.assert_allclose(scores.mean(axis=2), 0, atol=1e-4)
    expected = sum(weight * each for weight, each in zip(method.heads.values(), scores, strict=True))
    logits = method.logits(queries)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    zero_shot = create("zero-shot").fit(task).logits(queries)
    np.testing.assert_allclose(scores[0], zero_shot - zero_shot.mean(axis=1, keepdims=True), atol=1e-3)
    centred = (
        normalise(queries - task.support_features.mean(axis=0))
        @ normalise(task.text_features - task.text_features.mean(axis=0)).T
    )
    np.testing.assert_allclose(scores[1], centred - centred.mean(axis=1, keepdims=True), atol=1e-5)
    assert top1(logits, answers) >= max(top1(each, answers) for each in scores) - 0.02
    held = np.concatenate([rest.labels for _, rest in folds(task)])
    views = np.concatenate([Auto()._fit_heads(part).scores(rest.queries) for part, rest in folds(task)], axis=1)
    usual = np.array([USUAL[name] for name in method.heads])
    np.testing.assert_allclose(method.weights_, weigh(views, held, usual), rtol=1e-4)


def test_its_probabilities_are_calibrated_without_a_temperature():
    task, queries, answers = world(shots=8, queries=200)
    p = softmax(create("auto").fit(task).logits(queries))
    assert abs(p.max(axis=1).mean() - (p.argmax(axis=1) == answers).mean()) < 0.05


def test_with_one_shot_the_weights_are_constants():
    task, _, _ = world(shots=1)
    assert create("auto").fit(task).heads == pytest.approx({name: USUAL[name] for name in list(USUAL)[:4]})


def test_classes_without_shots_are_found_at_the_rate_of_zero_shot():
    task, queries, answers = world(queries=100)
    lacking = without(task, 9, 10, 11)
    method = create("auto").fit(lacking)
    assert (method.unseen_[:9] == 0).all()
    assert len(set(method.unseen_[9:].tolist())) == 1
    logits, zero_shot = method.logits(queries), create("zero-shot").fit(lacking).logits(queries)
    new = answers >= 9
    assert top1(logits[new], answers[new]) > top1(zero_shot[new], answers[new]) - 0.05
    assert top1(logits[~new], answers[~new]) > top1(zero_shot[~new], answers[~new])


def with_second(task, queries, answers):
    rng = np.random.default_rng(9)
    centres = rng.standard_normal((12, 24))

    def second(labels):
        return 5 * (centres[labels] + rng.standard_normal((len(labels), 24)))

    return dataclasses.replace(task, auxiliary=second(task.support_labels)), Queries(queries, None, second(answers))


def test_a_second_network_and_its_names_are_heads_of_their_own(tmp_path):
    task, queries, answers = world(queries=50)
    both, asked = with_second(task, queries, answers)
    centres = unit(class_means(both.auxiliary, both.support_labels, 12)).astype(np.float32)
    head = ImageNetHead(centres, np.zeros(12, np.float32), tuple((number,) for number in range(12)))
    named = dataclasses.replace(both, imagenet_head=head)
    alone, second, names = (create("auto").fit(each) for each in (task, both, named))
    assert list(names.heads) == ["text", "centred", "gaussian", "linear", "second", "names"]
    found = [top1(method.logits(asked), answers) for method in (alone, second, names)]
    assert found[0] < found[1] <= found[2]
    names.save(tmp_path / "auto")
    np.testing.assert_array_equal(load(tmp_path / "auto").logits(asked), names.logits(asked))
    with pytest.raises(DataError, match="needs the queries' too"):
        second.logits(queries)


def test_a_network_without_texts_has_two_heads():
    task, queries, answers = world(queries=50)
    method = create("auto").fit(task.with_prototypes())
    assert list(method.heads) == ["gaussian", "linear"]
    prototypes = create("auto").fit(task.with_prototypes()).text_
    assert top1(method.logits(queries), answers) >= top1(queries @ prototypes.T, answers) - 0.02
    without_text = FewShotTask(
        task.support_features, task.support_labels, task.text_features, task.class_names
    ).with_prototypes()
    np.testing.assert_array_equal(create("auto").fit(without_text).logits(queries), method.logits(queries))


def test_sure_queries_become_shots_with_a_small_weight():
    task, queries, answers = world(shots=2, queries=50)
    plain = create("auto").fit(task)
    method = create("auto-transductive", pseudo=0.5).fit(task)
    p = softmax(plain.logits(queries))
    sure = p.max(axis=1) > 0.5
    rows = np.concatenate([task.support_features, queries[sure]])
    labels = np.concatenate([task.support_labels, p[sure].argmax(axis=1)])
    weights = np.where(np.arange(len(rows)) < len(task.support_labels), 1, 0.5).astype(np.float32)
    noise = noise_of(*covariance(task.support_features, task.support_labels), 2)
    again = fit_linear(rows, labels, plain.scale_ * task.text_features, noise, weights=weights)
    change = queries @ (again - plain.linear_).T
    expected = plain.logits(queries) + plain.heads["linear"] * (change - change.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(method.logits(queries), expected, rtol=1e-4, atol=1e-3)
    assert top1(method.logits(queries), answers) > top1(plain.logits(queries), answers)
    np.testing.assert_allclose(
        create("auto-transductive", pseudo=0).fit(task).logits(queries), plain.logits(queries), atol=0.05
    )
