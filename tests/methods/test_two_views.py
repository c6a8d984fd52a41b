"""Two views: the weights, what is left out, domains, and the ImageNet names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, ImageNetHead, Queries, class_means
from jclip_adapter.methods import create
from jclip_adapter.methods import load as load_method
from jclip_adapter.methods.training.imagenet_head import imagenet_scores
from jclip_adapter.methods.two_views import held_out_cosines, unit, weigh
from jclip_adapter.methods.zero_shot import ZeroShot

CLASSES, WIDTH, SECOND = 8, 16, 24


def drawn(shots: int, noise: float, second: float, domains: tuple[str, ...] = (), grain: float = 0.8) -> FewShotTask:
    """Texts that are as far from the photos' centres as `noise`, and a second network that is as noisy as `second`."""
    rng = np.random.default_rng(0)
    centres, others = rng.standard_normal((CLASSES, WIDTH)), rng.standard_normal((CLASSES, SECOND))
    labels = np.repeat(np.arange(CLASSES), shots)
    photos = unit(centres[labels] + grain * rng.standard_normal((len(labels), WIDTH)))
    return FewShotTask(
        support_features=photos,
        support_labels=labels,
        text_features=unit(centres + noise * rng.standard_normal(centres.shape)),
        class_names=tuple(map(str, range(CLASSES))),
        domains=domains,
        auxiliary=others[labels] + second * rng.standard_normal((len(labels), SECOND)),
    )


def test_a_shots_own_class_is_judged_without_it() -> None:
    rng = np.random.default_rng(3)
    rows, labels = rng.standard_normal((9, 5)), np.array([0, 0, 0, 1, 1, 2, 2, 2, 3])
    found, alone = held_out_cosines(rows, labels, 4)
    assert alone.tolist() == [True] * 8 + [False]
    for number in range(8):
        rest = np.delete(np.arange(9), number)
        means = class_means(rows[rest], labels[rest], 4)
        np.testing.assert_allclose(found[number], unit(rows[number]) @ unit(means).T, atol=1e-12)


def test_weights_are_where_the_slope_is_zero() -> None:
    rng = np.random.default_rng(4)
    views, labels, prior = rng.standard_normal((3, 50, 4)), rng.integers(0, 4, 50), np.array([1.0, 2.0, 0.5])
    views[0, np.arange(50), labels] += 1.5

    def loss(weights: np.ndarray) -> float:
        scores = np.einsum("v,vnc->nc", weights, views)
        fit = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(50), labels]
        return float(fit.sum() + 2.0 * (np.log(weights / prior) ** 2).sum())

    found = weigh(views, labels, prior, 2.0)
    for step in 0.02 * np.eye(3):
        assert loss(found) < loss(found * np.exp(step))
        assert loss(found) < loss(found * np.exp(-step))
    np.testing.assert_allclose(weigh(views, labels, prior, 1e6), prior, rtol=1e-3)


def test_what_is_noisy_counts_less() -> None:
    good_text, good_second = drawn(4, 0.1, 3.0), drawn(4, 3.0, 0.1)
    text, second = (create("two-views", strength=0.01).fit(task).weights_[0] for task in (good_text, good_second))
    assert text[0] / text[2] > 3 * second[0] / second[2]


def test_a_single_shot_keeps_the_prior_and_more_come_nearer_to_all_of_it() -> None:
    weights = create("two-views").fit(drawn(1, 0.5, 0.5)).weights_
    np.testing.assert_allclose(weights, [[36, 8 / 5, 16 / 5]], rtol=1e-6)
    firm = create("two-views", strength=1e6).fit(drawn(4, 0.5, 0.5)).weights_
    np.testing.assert_allclose(firm, [[36, 4, 8]], rtol=1e-3)


def test_each_domain_has_weights_of_its_own() -> None:
    domains = ("dogs",) * 4 + ("food",) * 4
    task = drawn(8, 1.5, 1.5, domains, grain=2.5)
    rows = np.arange(64)
    rows[32:] = rows[32:].reshape((4, 8)).T.ravel()  # the second network takes every dish for every other
    worse = dataclasses.replace(task, auxiliary=task.auxiliary[rows])
    method = create("two-views", strength=0.1).fit(worse)
    every, dogs, food = method.weights_
    assert method.weights_.shape == (3, 3)
    assert dogs[2] / dogs[0] > 1.5 * food[2] / food[0]
    assert not np.allclose(every, dogs, rtol=0.1)
    assert create("two-views", by_domain=False).fit(worse).weights_.shape == (1, 3)
    asked = Queries(task.support_features, auxiliary=task.auxiliary)
    found = method.logits(asked)
    assert (found.argmax(axis=1) == task.support_labels).mean() > 0.6
    assert not np.allclose(found, create("two-views", strength=0.1, by_domain=False).fit(worse).logits(asked), atol=0.1)


def head_of(task: FewShotTask, known: int) -> ImageNetHead:
    """A last layer that finds the first `known` classes, each under two ids."""
    means = unit(class_means(task.auxiliary, task.support_labels, CLASSES))
    weight = np.repeat(6 * means, 2, axis=0).astype(np.float32)
    ids = tuple((2 * number, 2 * number + 1) if number < known else () for number in range(CLASSES))
    return ImageNetHead(weight, np.zeros(len(weight), np.float32), ids)


def test_names_of_what_stands_beside_clip() -> None:
    task = drawn(4, 4.0, 0.3)
    task = dataclasses.replace(task, imagenet_head=head_of(task, CLASSES))
    asked = Queries(task.support_features, auxiliary=task.auxiliary)
    plain, named = (create("zero-shot", names=share).fit(task).logits(asked) for share in (0.0, 100.0))
    hits = [(scores.argmax(axis=1) == task.support_labels).mean() for scores in (plain, named)]
    assert hits[0] < 0.6
    assert hits[1] > 0.9
    fused = create("two-views", names=5.0).fit(task)
    assert fused.weights_.shape == (1, 4)
    assert (fused.logits(asked).argmax(axis=1) == task.support_labels).mean() > 0.9


def test_classes_without_a_name_share_what_is_left() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1]]))
    means = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(np.exp(imagenet_scores(logits, means)), [[0.7, 0.2, 0.1]], atol=1e-3)


def test_a_class_of_many_imagenet_classes_does_not_get_the_photos_of_those_that_it_shares() -> None:
    """Of dogs and one breed: a photo of which the network is half sure is of the breed."""
    zeros = np.zeros((4, 2), np.float32), np.zeros(4, np.float32)
    shares = ImageNetHead(*zeros, ((0, 1, 2, 3), (0,), ())).matrix
    np.testing.assert_allclose(shares, [[0.5, 1, 0], [0.5, 0, 0], [0.5, 0, 0], [0.5, 0, 0]])
    for breed, best in ((0.55, 1), (0.3, 0)):
        p = np.array([[breed, *[(1 - breed) / 3] * 3]])
        assert imagenet_scores(np.log(p), shares).argmax() == best


def test_zero_shot_scores_are_as_before_without_names() -> None:
    task = drawn(2, 0.5, 0.5)
    expected = 100 * task.support_features @ task.text_features.T
    np.testing.assert_allclose(ZeroShot().fit(task).logits(task.support_features), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["two-views", "zero-shot"])
def test_a_head_is_saved_with_the_method(name: str, tmp_path: Path) -> None:
    task = drawn(2, 0.5, 0.5)
    task = dataclasses.replace(task, imagenet_head=head_of(task, 3))
    method = create(name, names=1.0).fit(task)
    method.save(tmp_path / "x.safetensors")
    asked = Queries(task.support_features, auxiliary=task.auxiliary)
    again = load_method(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(again.logits(asked), method.logits(asked))
