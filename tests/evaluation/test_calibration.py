import dataclasses
from typing import ClassVar

import numpy as np
import pytest

from jclip_adapter.core.calibration import Calibration
from jclip_adapter.core.errors import DivergedError
from jclip_adapter.core.task import FewShotTask, normalise, softmax
from jclip_adapter.evaluation import calibration
from jclip_adapter.evaluation.calibration import ENOUGH, calibrate, estimate, held_out, temperature
from jclip_adapter.evaluation.metrics import calibration_error, wilson_interval
from jclip_adapter.methods import create, load
from jclip_adapter.methods.base import Meta, Method


def noisy(shots, classes=10, width=24, seed=0, tests=0):
    """A task whose photos lie around their text, and test photos with labels."""
    rng = np.random.default_rng(seed)
    text = normalise(rng.standard_normal((classes, width)))
    labels = np.repeat(np.arange(classes), shots + tests)
    rows = normalise(text[labels] + 0.45 * rng.standard_normal((len(labels), width)))
    train = np.tile(np.arange(shots + tests) < shots, classes)
    task = FewShotTask(rows[train], labels[train], text, tuple(f"class {number}" for number in range(classes)))
    return task, rows[~train], labels[~train]


def sampled(scale, count=4000, classes=5):
    """Logits of which the softmax of `scale` times them is the truth, and labels drawn from it."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((count, classes))
    shares = softmax(scale * logits)
    return logits, np.array([rng.choice(classes, p=row) for row in shares])


@pytest.mark.parametrize("scale", [0.01, 0.5, 1.0, 3.0])
def test_the_temperature_of_a_known_model_is_found(scale):
    logits, labels = sampled(scale)
    if scale == 0.01:  # hardly any information: any high temperature is as likely
        assert temperature(logits, labels) > 10
    else:
        assert temperature(logits, labels) == pytest.approx(1 / scale, rel=0.1)


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e4])
def test_it_is_the_most_likely_one_in_any_unit(unit):
    logits, labels = sampled(2.0)
    found = temperature(unit * logits, labels)

    def likelihood(value):
        return np.log(softmax(unit * logits / value)[np.arange(len(labels)), labels]).sum()

    assert likelihood(found) >= max(likelihood(found * factor) for factor in (0.98, 1.02))


def test_a_shift_of_a_photos_logits_changes_nothing():
    logits, labels = sampled(1.0, 200)
    shifts = np.random.default_rng(1).normal(size=(200, 1))
    assert temperature(logits + shifts, labels) == pytest.approx(temperature(logits, labels), rel=1e-3)


def test_only_correct_photos_do_not_give_certainty():
    logits = 5 * np.eye(4)[np.arange(12) % 4]
    found = temperature(logits, np.arange(12) % 4)
    assert softmax(logits / found).max(axis=1).mean() == pytest.approx(13 / 14, abs=1e-3)


def test_only_wrong_photos_and_equal_logits_are_finite():
    logits = 5 * np.eye(4)[np.arange(12) % 4]
    wrong = temperature(logits, (np.arange(12) + 1) % 4)
    assert np.isfinite(wrong)
    assert softmax(logits / wrong).max() == pytest.approx(0.25, abs=1e-3)
    assert temperature(np.zeros((3, 4)), np.array([0, 1, 2])) == 1.0


@pytest.mark.parametrize("name", ["proker", "linear-probe", "gda", "tip-adapter", "clip-adapter"])
def test_calibrated_probabilities_are_closer_to_the_accuracy(name):
    task, queries, labels = noisy(8, classes=40, tests=50)
    method = create(name).fit(task)
    logits = method.logits(queries)
    before = calibration_error(method.calibration_.probabilities(logits), labels)
    after = calibration_error(calibrate(method, task).calibration_.probabilities(logits), labels)
    assert after < max(0.06, 0.5 * before)


def test_the_scale_of_each_fit_is_brought_to_the_methods():
    """gda divides by a covariance that depends on the number of shots: its logits at 2 shots are another size."""
    task, *_ = noisy(2, classes=30)
    method = create("gda", alpha=1.0).fit(task)
    (part, held), *_ = calibration.folds(task)
    other = create("gda", alpha=1.0).fit(part)
    ratio = method.logits(part.support_features).std(axis=1).mean()
    ratio /= other.logits(part.support_features).std(axis=1).mean()
    found = held_out(method, task)
    np.testing.assert_allclose(found.logits[: len(held.labels)], ratio * other.logits(held.queries), rtol=1e-4)
    assert found.source == "60 photos: held-out shots"


def test_zero_shot_holds_out_all_shots_without_a_fit(monkeypatch):
    task, *_ = noisy(4)
    method = create("zero-shot").fit(task)
    monkeypatch.setattr(type(method), "fit", lambda *_: pytest.fail("fitted again"))
    found = held_out(method, task)
    np.testing.assert_array_equal(found.logits, method.logits(task.support_features))
    assert "does not use" in found.source
    assert held_out(method, task.keep(np.zeros(0, dtype=np.int64))) is None


class Counting(Method):
    """Zero-shot that counts its fits, and diverges without some classes."""

    meta: ClassVar[Meta] = Meta("counting", "a test", "none", 2024, "nothing")
    fits: ClassVar[list[int]] = []
    bad: ClassVar[set[int]] = set()

    def _fit(self, task):
        self.fits.append(len(task.support_labels))
        if len(self.fits) in self.bad:
            raise DivergedError("it diverged")
        self.text_ = task.text_features

    def _logits(self, queries):
        return 30 * queries.features @ self.text_.T


@pytest.fixture
def counting():
    Counting.fits.clear()
    Counting.bad.clear()
    yield Counting
    Counting.fits.clear()
    Counting.bad.clear()
    Counting.meta = Meta("counting", "a test", "none", 2024, "nothing")


@pytest.mark.parametrize(("classes", "fits"), [(10, 4), (130, 2), (260, 1)])
def test_no_more_folds_than_photos_are_needed(counting, classes, fits):
    task, *_ = noisy(4, classes)
    found = held_out(counting().fit(task), task)
    assert len(counting.fits) == 1 + fits
    assert len(found.labels) == fits * classes
    assert len(found.labels) >= min(ENOUGH, 4 * classes)


@pytest.mark.parametrize(("classes", "fits"), [(3, 4), (10, 3), (25, 1), (100, 1)])
def test_a_training_through_clip_is_repeated_for_fewer_photos(counting, monkeypatch, classes, fits):
    counting.meta = dataclasses.replace(counting.meta, needs=("support", "encoder"))
    monkeypatch.setattr(counting, "check_needs", lambda *_: None)
    task, *_ = noisy(4, classes)
    held_out(counting().fit(task), task)
    assert len(counting.fits) == 1 + fits


def test_one_shot_holds_out_the_shots_of_half_of_the_classes(counting):
    task, *_ = noisy(1)
    found = held_out(counting().fit(task), task)
    assert counting.fits == [10, 5, 5]
    assert found.labels.tolist() == [*range(0, 10, 2), *range(1, 10, 2)]
    assert "held-out classes" in found.source


@pytest.mark.parametrize("change", [{"classes": 3}, {"has_text": False}])
def test_one_shot_without_enough_classes_or_texts_leaves_the_temperature(counting, change):
    task, *_ = noisy(1, change.get("classes", 10))
    task = dataclasses.replace(task, has_text=change.get("has_text", True))
    method = calibrate(counting().fit(task), task)
    assert (method.calibration_.temperature, method.calibration_.source) == (1.0, "")


def test_a_diverging_fit_is_left_out(counting):
    task, *_ = noisy(4)
    counting.bad.update({2, 3})
    found = held_out(counting().fit(task), task)
    assert len(found.labels) == 20
    counting.fits.clear()
    counting.bad.update(range(2, 9))
    assert held_out(counting().fit(task), task) is None


def test_a_transductive_method_is_not_calibrated():
    task, *_ = noisy(4)
    assert held_out(create("transclip").fit(task), task) is None


def test_unknown_photos_are_held_out_ones_without_their_class():
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]], np.float32)
    found = calibration.calibration_on(calibration.HeldOut(logits, np.array([0, 1]), "a test"))
    two = softmax(np.array([[1.0, 0.0], [0.0, 1.0]]) / found.temperature)
    np.testing.assert_allclose(found.unknown, (two * np.log(two)).sum(axis=1), rtol=1e-5)
    pair = calibration.calibration_on(calibration.HeldOut(logits[:, :2], np.array([0, 1]), "a test"))
    assert len(pair.unknown) == 0  # one class is left: it has all probability


def test_it_is_saved_with_the_method_and_forgotten_by_another_fit(tmp_path):
    task, queries, _ = noisy(4, tests=5)
    method = calibrate(create("tip-adapter").fit(task), task)
    known = method.calibration_
    assert known.source == "40 photos: held-out shots"
    assert not any("calibration" in name for name in method.learnt())
    method.save(tmp_path / "x")
    again = load(tmp_path / "x")
    assert (again.calibration_.temperature, again.calibration_.source) == (known.temperature, known.source)
    np.testing.assert_array_equal(again.calibration_.known, known.known)
    np.testing.assert_array_equal(again.calibration_.unknown, known.unknown)
    assert again.learnt().keys() == method.learnt().keys()
    np.testing.assert_array_equal(again.logits(queries), method.logits(queries))
    assert method.with_values(alpha=2.0).calibration_.source == ""
    assert method.fit(task).calibration_.source == ""
    method.save(tmp_path / "plain")
    assert load(tmp_path / "plain").calibration_.temperature == 1.0


def test_the_estimate_counts_held_out_shots_that_stand_for_new_photos():
    task = noisy(4)[0]
    method = calibrate(create("tip-adapter").fit(task), task)
    held = held_out(method, task)
    known = method.calibration_
    assert known.tested == len(held.labels) == len(task.support_labels)
    assert known.correct == (held.logits.argmax(axis=1) == held.labels).sum()
    one = noisy(1)[0]
    assert calibrate(create("tip-adapter").fit(one), one).calibration_.tested == 0
    assert calibrate(create("zero-shot").fit(one), one).calibration_.tested == len(one.support_labels)


def test_the_estimate_is_saved(tmp_path):
    task = noisy(2)[0]
    method = calibrate(create("tip-adapter").fit(task), task)
    method.save(tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors").calibration_
    assert (loaded.correct, loaded.tested) == (method.calibration_.correct, method.calibration_.tested)
    assert loaded.tested == 20


def test_the_estimate_allows_for_the_shots_that_were_held_out():
    """The interval is Wilson's of half the photos, as new ones vary too; its upper end allows for more shots."""
    known = Calibration(correct=80, tested=100, share=0.75)
    low, high = wilson_interval(40, 50)
    assert estimate(known) == (0.8, low, pytest.approx(1 - 0.75 * (1 - high)), 100)
    assert estimate(Calibration(correct=80, tested=100)) == (0.8, low, pytest.approx(high), 100)
    assert estimate(Calibration()) is None


@pytest.mark.parametrize(("shots", "share"), [(2, 1 / 2), (4, 3 / 4), (8, 3 / 4)])
def test_the_share_of_the_shots_in_the_fits_is_kept_in_the_file(shots, share, tmp_path):
    task, _, _ = noisy(shots)
    method = calibrate(create("tip-adapter").fit(task), task)
    assert method.calibration_.share == pytest.approx(share)
    method.save(tmp_path / "adapter.safetensors")
    assert estimate(load(tmp_path / "adapter.safetensors").calibration_) == estimate(method.calibration_)


def test_a_method_without_shots_is_tested_on_all_of_them():
    task, _, _ = noisy(4)
    known = calibrate(create("zero-shot").fit(task), task).calibration_
    assert (known.share, known.tested) == (1, 40)


def test_the_interval_holds_the_accuracy_of_most_draws():
    """The true accuracy is that of the method fitted to all shots, on many new photos."""
    held = 0
    for seed in range(25):
        task, rows, labels = noisy(3, seed=seed, tests=100)
        method = calibrate(create("gda").fit(task), task)
        expected = estimate(method.calibration_)
        held += expected.low <= (method.logits(rows).argmax(axis=1) == labels).mean() <= expected.high
    assert held >= 22
