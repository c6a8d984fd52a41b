"""FewShotClassifier: scikit-learn's conventions on paths of photos."""

import functools
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks

from jclip_adapter import FewShotClassifier
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.data.sets import load_dataset, sample_support
from jclip_adapter.data.texts.prompts import load_prompts
from tests.random_weights import TINY, random_state, write_jclip

CHECKS = (  # those that give the estimator no numeric matrix; all others do, and paths of photos are wanted
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learn_s_check(name: str) -> None:
    getattr(estimator_checks, name)("FewShotClassifier", FewShotClassifier())


@pytest.fixture(scope="session")
def photos(contest_template: Path) -> tuple[list[Path], list[str], list[Path]]:
    """Four photos of each class, their labels in the order of the photos, and test photos."""
    images = load_dataset(contest_template)
    support = sample_support(images, 4, 0)
    labels = [images.class_names[photo.label] for photo in support]
    return [photo.path for photo in support], labels, [photo.path for photo in images.test]


@pytest.fixture
def classifier(tiny_weights: Path, tmp_path: Path) -> FewShotClassifier:
    return FewShotClassifier(str(tiny_weights), "tip-adapter", device="cpu", cache=str(tmp_path / "cache"))


def test_fit_predict_save_load(classifier, photos, tmp_path: Path) -> None:
    paths, labels, tests = photos
    before = classifier.get_params()
    assert classifier.fit(paths, labels) is classifier
    assert classifier.get_params() == before
    assert classifier.classes_.tolist() == sorted(set(labels))
    shares = classifier.predict_proba(tests)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert classifier.predict(tests).tolist() == classifier.classes_[shares.argmax(axis=1)].tolist()
    assert classifier.score(paths, labels) > 0.5
    classifier.save(tmp_path / "saved")
    again = FewShotClassifier.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.predict_proba(tests), shares)
    assert again.method_.calibration_.source == "24 photos: held-out shots"
    known = again.is_known(tests, reject=0.3)
    assert known.shape == (len(tests),)
    np.testing.assert_array_equal(known, classifier.is_known(tests, reject=0.3))
    with pytest.raises(UsageError, match="24 held-out photos"):
        again.is_known(tests, reject=0.01)
    assert again.get_params() == before


def test_photos_of_which_it_is_least_sure_are_unknown(classifier, photos) -> None:
    paths, labels, tests = photos
    with pytest.raises(NotFittedError):
        classifier.is_known(tests)
    shares = classifier.fit(paths, labels).predict_proba(tests)
    certainty = np.sum(shares * np.log(shares), axis=1)
    known = classifier.is_known(tests, reject=0.5)
    assert 0 < known.sum() < len(tests)
    assert certainty[known].min() > certainty[~known].max()


def test_a_broken_photo_and_other_weights_are_told(classifier, photos, tmp_path: Path) -> None:
    paths, labels, _ = photos
    weights = Path(shutil.copy(classifier.model, tmp_path))
    classifier.set_params(model=str(weights)).fit(paths, labels).save(tmp_path / "saved")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(DataError, match=r"1 photo cannot be read.*broken\.jpg"):
        classifier.predict([tmp_path / "broken.jpg", paths[0]])
    write_jclip(weights, random_state(TINY, 1))
    with pytest.raises(DataError, match="trained with other weights"):
        FewShotClassifier.load(tmp_path / "saved")


def test_the_order_of_photos_does_not_matter(classifier, photos, tmp_path: Path) -> None:
    paths, labels, tests = photos
    other = clone(classifier).fit(paths[::-1], labels[::-1])
    np.testing.assert_allclose(
        classifier.fit(paths, labels).predict_proba(tests), other.predict_proba(tests), atol=1e-5
    )


def test_labels_may_be_numbers_with_words(classifier, photos) -> None:
    paths, labels, tests = photos
    names, codes = np.unique(labels, return_inverse=True)
    words = [load_prompts("seed").class_name(name, "") for name in names]
    named = clone(classifier).set_params(class_names=dict(enumerate(words)))
    by_number = named.fit(paths, codes.tolist())
    np.testing.assert_array_equal(by_number.predict_proba(tests), classifier.fit(paths, labels).predict_proba(tests))
    assert by_number.predict(tests).dtype == codes.dtype


def test_what_is_wrong_is_said(classifier, photos, tmp_path: Path) -> None:
    paths, labels, tests = photos
    cases = {
        "one path": (lambda: classifier.fit(paths[0], labels), UsageError, "list of paths"),
        "a matrix": (lambda: classifier.fit(np.zeros((2, 3)), [0, 1]), UsageError, "expected paths"),
        "too few labels": (lambda: classifier.fit(paths, labels[1:]), UsageError, "one label per photo"),
        "a label of None": (
            lambda: classifier.fit(paths, [*labels[1:], None]),
            UsageError,
            f"{paths[-1]} has no label",
        ),
        "a label of NaN": (
            lambda: classifier.fit(paths, [np.nan, *labels[1:]]),
            UsageError,
            f"{paths[0]} has no label",
        ),
        "no photo": (lambda: classifier.fit([], []), DataError, "expected photos, got none"),
        "no such photo": (lambda: classifier.fit(["no.jpg", "no2.jpg"], ["a", "b"]), DataError, "no.jpg"),
        "what to do about it": (
            lambda: classifier.fit(["no.jpg"], ["a"]),
            DataError,
            "Replace them, or leave them out.",
        ),
        "not fitted": (lambda: clone(classifier).predict(tests), NotFittedError, "not fitted"),
        "unfitted saved": (lambda: clone(classifier).save(tmp_path / "x"), NotFittedError, "not fitted"),
        "no method": (lambda: clone(classifier).set_params(method="x").fit(paths, labels), UsageError, "x"),
        "unknown word": (
            functools.partial(clone(classifier).set_params(class_names={"z": "zebra"}).fit, paths, labels),
            UsageError,
            "'z'",
        ),
        "no classifier": (lambda: FewShotClassifier.load(tmp_path), DataError, ""),
    }
    for case, (call, error, words) in cases.items():
        with pytest.raises(error) as told:
            call()
        assert words in str(told.value), case
        assert isinstance(told.value, ValueError), case
