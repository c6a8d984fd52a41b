"""auto: its heads by their formulas in float64, its weights, and what tasks it takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, ImageNetHead, Queries, normalise, softmax
from jclip_adapter.methods import create
from jclip_adapter.methods import load as load_method
from jclip_adapter.methods.auto import USUAL, Auto, fit_gaussian, fit_linear, weigh

CLASSES, WIDTH, SECOND = 8, 16, 24


def drawn(
    shots: int, noise: float = 0.6, second: float | None = None, seed: int = 0
) -> tuple[FewShotTask, Queries, np.ndarray]:
    """A task with texts as far from the classes' centres as `noise`, and photos to be classified with their labels."""
    rng = np.random.default_rng(seed)
    centres, others = rng.standard_normal((CLASSES, WIDTH)), rng.standard_normal((CLASSES, SECOND))
    texts = normalise(centres + noise * rng.standard_normal(centres.shape))

    def rows(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        labels = np.repeat(np.arange(CLASSES), count)
        photos = normalise(centres[labels] + 0.8 * rng.standard_normal((len(labels), WIDTH)))
        aux = None if second is None else others[labels] + second * rng.standard_normal((len(labels), SECOND))
        return photos, labels, aux

    photos, labels, aux = rows(shots)
    names = tuple(map(str, range(CLASSES)))
    task = FewShotTask(photos, labels, texts, names, logit_scale=10.0, auxiliary=aux)
    queries, truth, more = rows(20)
    return task, Queries(queries, auxiliary=more), truth


def gaussian_reference(
    x: np.ndarray, y: np.ndarray, texts: np.ndarray | None, same_space: bool
) -> tuple[np.ndarray, ...]:
    """Whitening, centre and class directions by the formulas, one class at a time."""
    classes = CLASSES
    seen = [c for c in range(classes) if (y == c).any()]
    sample = {c: x[y == c].mean(axis=0) for c in seen}
    residuals = np.stack([row - sample[label] for row, label in zip(x, y, strict=True)])
    degrees, width = len(x) - len(seen), x.shape[1]
    covariance, rho = residuals.T @ residuals / degrees, width / (width + degrees)
    values, vectors = np.linalg.eigh((1 - rho) * covariance + rho * np.trace(covariance) / width * np.eye(width))
    whiten, colour = vectors @ np.diag(values**-0.5) @ vectors.T, vectors @ np.diag(values**0.5) @ vectors.T
    centre = np.mean([sample[c] @ whiten for c in seen], axis=0)
    means = {c: sample[c] @ whiten - centre for c in seen}
    prior = {c: np.zeros(width) for c in range(classes)}
    if texts is not None:
        away = texts - texts.mean(axis=0)
        straight = {c: away[c] @ colour for c in range(classes)} if same_space else prior
        over = sum(straight[c] @ straight[c] for c in seen)
        g = sum(straight[c] @ means[c] for c in seen) / over if same_space else 0.0
        level = np.mean([away[c] @ away[c] for c in seen])
        for c in range(classes):
            rest = [k for k in seen if k != c]
            known, wanted = away[rest], np.stack([means[k] - g * straight[k] for k in rest])
            ridge = np.linalg.solve(known.T @ known + level * np.eye(texts.shape[1]), known.T @ wanted)
            prior[c] = g * straight[c] + away[c] @ ridge
    shots = {c: (y == c).sum() for c in seen}
    spread = np.mean([(means[c] - prior[c]) ** 2 for c in seen]) - np.mean([1 / shots[c] for c in seen])
    b = max(spread, 0.02)
    for c in seen:
        prior[c] = prior[c] + b * shots[c] / (1 + b * shots[c]) * (means[c] - prior[c])
    return whiten, centre, np.stack([prior[c] / np.linalg.norm(prior[c]) for c in range(classes)])


@pytest.mark.parametrize("same_space", [True, False])
@pytest.mark.parametrize("missing", [(), (2, 5)])
def test_class_means_by_empirical_bayes(same_space: bool, missing: tuple[int, ...]) -> None:
    task, _, _ = drawn(4)
    kept = ~np.isin(task.support_labels, missing)
    kept[0] = False  # the classes have different numbers of shots
    x, y = task.support_features[kept].astype(np.float64), task.support_labels[kept]
    texts = task.text_features.astype(np.float64)
    found = fit_gaussian(x, y, CLASSES, texts, same_space=same_space)
    for mine, wanted in zip(found, gaussian_reference(x, y, texts, same_space), strict=True):
        np.testing.assert_allclose(mine, wanted, atol=2e-5 * np.abs(wanted).max())


def test_class_means_without_texts_are_those_of_the_shots() -> None:
    task, _, _ = drawn(3)
    x, y = task.support_features.astype(np.float64), task.support_labels
    found = fit_gaussian(x, y, CLASSES, None, same_space=True)
    np.testing.assert_allclose(found.means, gaussian_reference(x, y, None, True)[2], atol=1e-5)


def test_the_linear_classifier_is_where_the_slope_is_zero() -> None:
    task, _, _ = drawn(4)
    x, y = task.support_features.astype(np.float64), task.support_labels
    start = (10 * task.text_features).astype(np.float64)
    share = np.linspace(0.5, 1.5, len(y))
    found = fit_linear(task.support_features, y, start.astype(np.float32), share.astype(np.float32), 2.0).astype(
        np.float64
    )
    p = softmax(x @ found.T) - np.eye(CLASSES)[y]
    slope = (share[:, None] * p).T @ x + 2.0 * (found - start)
    assert np.abs(slope).max() < 1e-2
    assert np.abs(found - start).max() > 0.1


def test_a_class_without_shots_keeps_its_text_in_the_linear_classifier() -> None:
    task, _, _ = drawn(4)
    kept = task.keep(task.support_labels != 3)
    fitted = fit_linear(kept.support_features, kept.support_labels, 10 * kept.text_features)
    np.testing.assert_array_equal(fitted[3], 10 * task.text_features[3])


def test_weights_are_where_the_slope_is_zero_and_few_rows_leave_them() -> None:
    rng = np.random.default_rng(4)
    scores, labels, usual = rng.standard_normal((3, 80, 4)), rng.integers(0, 4, 80), np.array([1.0, 2.0, 0.5])
    scores[0, np.arange(80), labels] += 1.5

    def loss(weights: np.ndarray, rows: np.ndarray, start: np.ndarray) -> float:
        p = softmax(np.tensordot(weights, rows, 1))[np.arange(80), labels]
        return float(-np.log(p).sum() + (np.log(weights / start) ** 2).sum())

    found = weigh(scores, labels, usual)
    alone = []
    for head in range(3):
        grid = np.exp(np.linspace(-6, 4, 4001))[:, None]
        start = usual[head : head + 1] * 3
        alone.append(min(grid, key=lambda one, part=scores[head : head + 1], at=start: loss(one, part, at))[0])
    for step in 0.02 * np.eye(3):
        for sign in (-1, 1):
            assert loss(found, scores, np.array(alone) / 3) < loss(
                found * np.exp(sign * step), scores, np.array(alone) / 3
            )
    few = weigh(scores[:, :1], labels[:1], usual)
    assert np.abs(np.log(few / usual)).max() < 2  # at 80 rows 3.5


def test_one_shot_has_the_usual_weights() -> None:
    task, queries, truth = drawn(1)
    fitted = Auto().fit(task)
    assert fitted.heads == pytest.approx({name: USUAL[name] for name in ("text", "centred", "gaussian", "linear")})
    assert (fitted.logits(queries).argmax(axis=1) == truth).mean() > 0.5


@pytest.mark.parametrize("shots", [2, 4])
def test_the_stack_is_better_than_zero_shot_and_its_probabilities_are_about_right(shots: int) -> None:
    gains, gaps = [], []
    for seed in range(5):
        task, queries, truth = drawn(shots, noise=1.0, seed=seed)
        zero_shot = (queries.features @ task.text_features.T).argmax(axis=1) == truth
        logits = Auto().fit(task).logits(queries)
        right = logits.argmax(axis=1) == truth
        gains.append(right.mean() - zero_shot.mean())
        gaps.append(softmax(logits).max(axis=1).mean() - right.mean())
    assert np.mean(gains) > 0.05
    assert abs(np.mean(gaps)) < 0.1


def test_texts_that_say_nothing_weigh_less() -> None:
    good, bad = (Auto().fit(drawn(4, noise)[0]).heads for noise in (0.2, 20.0))
    assert bad["text"] < good["text"] / 2


def test_a_second_network_counts_by_its_quality() -> None:
    good, queries, truth = drawn(4, second=0.5)
    poor, _, _ = drawn(4, second=50.0)
    fitted = Auto().fit(good)
    assert fitted.heads["second"] > 2 * Auto().fit(poor).heads["second"]
    alone = Auto().fit(dataclasses.replace(good, auxiliary=None)).logits(queries)
    assert (fitted.logits(queries).argmax(axis=1) == truth).mean() > (alone.argmax(axis=1) == truth).mean()


def test_an_imagenet_network_s_names_are_a_head() -> None:
    task, queries, _ = drawn(4, second=0.5)
    rng = np.random.default_rng(1)
    head = ImageNetHead(
        rng.standard_normal((9, SECOND)).astype(np.float32), np.zeros(9, np.float32), ((0,), (1,), *[()] * 6)
    )
    fitted = Auto().fit(dataclasses.replace(task, imagenet_head=head))
    assert list(fitted.heads) == ["text", "centred", "gaussian", "linear", "second", "names"]
    assert np.isfinite(fitted.logits(queries)).all()


def test_a_network_without_texts() -> None:
    task, queries, truth = drawn(4)
    fitted = Auto().fit(dataclasses.replace(task, has_text=False).with_prototypes())
    assert list(fitted.heads) == ["gaussian", "linear"]
    assert (fitted.logits(queries).argmax(axis=1) == truth).mean() > 0.5


def test_classes_without_shots_are_found() -> None:
    found = []
    for seed in range(5):
        task, queries, truth = drawn(4, noise=0.4, seed=seed)
        fitted = Auto().fit(task.keep(task.support_labels > 1))
        predicted = fitted.logits(queries).argmax(axis=1)
        found.append((predicted == truth)[truth < 2].mean())
    assert np.mean(found) > 0.4


def test_refit_learns_from_the_photos_and_says_so(tmp_path: Path) -> None:
    task, queries, truth = drawn(4)
    usual, again = Auto().fit(task), create("auto", refit=True).fit(task)
    assert not usual.meta.transductive
    assert again.meta.transductive
    np.testing.assert_allclose(again.weights_, usual.weights_)
    logits = again.logits(queries)
    assert np.abs(logits - usual.logits(queries)).max() > 1e-3
    assert (logits.argmax(axis=1) == truth).mean() >= (usual.logits(queries).argmax(axis=1) == truth).mean() - 0.02
    without = create("auto", refit=True, pseudo=0.0).fit(task).logits(queries)
    np.testing.assert_allclose(without, usual.logits(queries), atol=2e-2)
    again.save(tmp_path / "auto.safetensors")
    loaded = load_method(tmp_path / "auto.safetensors")
    assert loaded.meta.transductive
    np.testing.assert_array_equal(loaded.logits(queries), logits)
