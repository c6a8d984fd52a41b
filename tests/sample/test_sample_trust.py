"""Calibration and "none of these" on the sample's photos: what is expected from held-out shots is what happens."""

from __future__ import annotations

import numpy as np
import pytest

from jclip_adapter import FewShotClassifier
from jclip_adapter.core.task import softmax
from jclip_adapter.data.sample import ensure_sample
from jclip_adapter.data.sets import load_dataset, sample_support
from jclip_adapter.data.sets.labelled import labelled_photos
from jclip_adapter.evaluation.calibration import temperature
from jclip_adapter.evaluation.metrics import calibration_error
from jclip_adapter.evaluation.rejection import expected_of

UNKNOWN = 12  # of 48 classes, every fourth


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A classifier for three quarters of the classes, and all test photos with their class names."""
    images = load_dataset(ensure_sample())
    known = [name for number, name in enumerate(images.class_names) if number % 4]
    support = [photo for photo in sample_support(images, 8, 0) if images.class_names[photo.label] in known]
    cache = str(tmp_path_factory.mktemp("cache"))
    words = {name: name.partition("_")[2].replace("_", " ") for name in known}
    classifier = FewShotClassifier("sample", "proker", class_names=words, device="cpu", cache=cache, workers=0).fit(
        [photo.path for photo in support], [images.class_names[photo.label] for photo in support]
    )
    labelled, _ = labelled_photos(images, (), 0)
    paths = [photo.path for photo in labelled]
    names = np.array([images.class_names[photo.label] for photo in labelled])
    return classifier, paths, names, np.isin(names, known)


def test_probabilities_are_the_shares_of_correct_photos(world) -> None:
    classifier, paths, names, known = world
    inside = [path for path, is_known in zip(paths, known, strict=True) if is_known]
    shares = classifier.predict_proba(inside)
    labels = np.searchsorted(classifier.classes_, names[known])
    own = classifier.method_.calibration_.temperature
    logits = own * np.log(np.maximum(shares, 1e-300))
    assert own == pytest.approx(temperature(logits, labels), rel=0.15)  # the one that fits the test labels best
    before = calibration_error(softmax(logits), labels)
    assert before > 0.4  # proker's scores as they are
    assert calibration_error(shares, labels) < before / 3
    assert (classifier.classes_[shares.argmax(axis=1)] == classifier.predict(inside)).all()


def test_as_many_are_refused_as_was_expected(world) -> None:
    classifier, paths, _, known = world
    assert 0 < known.sum() < len(known)
    expected = expected_of(classifier.method_.calibration_, 0.1)
    kept = 100 * classifier.is_known(paths, reject=0.1)
    low, high = expected["expected_kept_interval"]
    assert low - 4 < kept[known].mean() < high + 4  # 4: the deviation of 432 test photos
    assert expected["passing"] - 15 < kept[~known].mean() < expected["passing"] + 15
    assert kept[~known].mean() < kept[known].mean() - 10
