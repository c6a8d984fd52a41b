"""Labels that do not fit, near duplicates and odd photos, on features."""

from __future__ import annotations

import numpy as np
import pytest

from jclip_adapter.core.task import normalise
from jclip_adapter.evaluation.inspection import MEAN, fit_to_labels, neighbours, odd_ones

CLASSES, SHOTS, WIDTH = 6, 4, 16


def rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photos around class centres, their labels, and texts near the centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((CLASSES, WIDTH))
    labels = np.repeat(np.arange(CLASSES), SHOTS)
    photos = normalise(centres[labels] + 0.5 * rng.standard_normal((len(labels), WIDTH)))
    return photos, labels, normalise(centres + 0.5 * rng.standard_normal((CLASSES, WIDTH)))


def reference(x: np.ndarray, y: np.ndarray, texts: np.ndarray, row: int) -> np.ndarray:
    """(C,) scores of one photo, by the formula, in float64."""
    x, texts = x.astype(np.float64), texts.astype(np.float64)
    residuals = np.concatenate([x[y == c] - x[y == c].mean(axis=0) for c in range(CLASSES)])
    degrees = len(x) - CLASSES
    covariance, rho = residuals.T @ residuals / degrees, WIDTH / (WIDTH + degrees)
    shrunk = (1 - rho) * covariance + rho * np.trace(covariance) / WIDTH * np.eye(WIDTH)
    values, vectors = np.linalg.eigh(shrunk)
    whiten = vectors @ np.diag(values**-0.5) @ vectors.T
    centre = np.mean([x[y == c].mean(axis=0) for c in range(CLASSES)], axis=0)
    others = np.arange(len(x)) != row
    found = []
    for c in range(CLASSES):
        a, b = (x[row] - centre) @ whiten, (x[(y == c) & others].mean(axis=0) - centre) @ whiten
        found.append(100 * x[row] @ texts[c] + MEAN * a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return np.array(found)


def test_margins_by_the_formula() -> None:
    x, y, texts = rows()
    fit = fit_to_labels(x, y, texts, 100.0, CLASSES)
    for row in (0, 7, len(x) - 1):
        scores = reference(x, y, texts, row)
        own, scores[y[row]] = scores[y[row]], -np.inf
        assert fit.margin[row] == pytest.approx(own - scores.max(), abs=1e-3)
        assert fit.other[row] == scores.argmax()


@pytest.mark.parametrize("with_texts", [True, False])
def test_wrong_labels_come_first(with_texts: bool) -> None:
    x, y, texts = rows()
    wrong = np.array([1, 10, 17])
    y = y.copy()
    true = y[wrong]
    y[wrong] = (true + 2) % CLASSES
    fit = fit_to_labels(x, y, texts if with_texts else None, 100.0, CLASSES)
    assert set(np.argsort(fit.margin)[:3]) == set(wrong)
    assert fit.other[wrong].tolist() == true.tolist()


def test_texts_without_meaning_do_not_count() -> None:
    x, y, texts = rows()
    wrong = [1, 10, 17]
    y = y.copy()
    y[wrong] = (y[wrong] + 2) % CLASSES
    means = fit_to_labels(x, y, None, 100.0, CLASSES)
    np.testing.assert_allclose(fit_to_labels(x, y, texts[[3, 4, 5, 0, 1, 2]], 100.0, CLASSES).margin, means.margin)


def test_a_label_without_another_photo() -> None:
    x, y, texts = rows()
    kept = np.flatnonzero((y > 0) | (np.arange(len(y)) == 0))
    logits = 100 * x[0] @ texts.T
    fit = fit_to_labels(x[kept], y[kept], texts, 100.0, CLASSES)
    assert fit.margin[0] == pytest.approx(logits[0] - logits[1:].max(), rel=1e-5)
    alone = fit_to_labels(x[kept], y[kept], None, 100.0, CLASSES)
    assert np.isnan(alone.margin).tolist() == [True] + [False] * (len(kept) - 1)


def test_duplicates_name_the_first_and_odd_photos_are_far_from_all() -> None:
    rng = np.random.default_rng(1)
    photos = rng.standard_normal((40, WIDTH)) * 0.3 + np.eye(WIDTH)[0] * 3
    photos[20], photos[30] = photos[3], photos[3] + 1e-3
    photos[35] = -photos[35]
    found = neighbours(normalise(photos), 0.9999)
    assert {int(row): int(found.duplicate_of[row]) for row in np.flatnonzero(found.duplicate_of >= 0)} == {20: 3, 30: 3}
    assert np.flatnonzero(odd_ones(found.similarity)).tolist() == [35]


def test_too_few_photos_to_call_one_odd() -> None:
    photos = normalise(np.eye(3))
    assert neighbours(photos, 0.9).duplicate_of.tolist() == [-1, -1, -1]
    assert not odd_ones(neighbours(photos, 0.9).similarity).any()
    assert neighbours(photos[:1], 0.9).similarity.tolist() == [1.0]
