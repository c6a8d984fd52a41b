import numpy as np
import pytest

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import FewShotTask, normalise, softmax, text_classifier

GOOD = {
    "support_features": np.eye(3, 4),
    "support_labels": [0, 1, 1],
    "text_features": np.eye(2, 4),
    "class_names": ("a", "b"),
}
EXTRA = {"extra_features": np.eye(2, 4), "extra_labels": [1, 0]}


def test_arrays_are_float32_and_read_only():
    task = FewShotTask(**GOOD)
    assert task.support_features.dtype == task.text_features.dtype == np.float32
    assert (task.num_classes, task.width, task.seen.tolist()) == (2, 4, [0, 1])
    for array in (task.support_features, task.text_features, task.support_labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_the_callers_arrays_stay_writable():
    mine = np.eye(2, 4, dtype=np.float32)
    task = FewShotTask(**{**GOOD, "text_features": mine})
    mine[0, 0] = 5
    assert mine[0, 0] == 5
    assert task.text_features[0, 0] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"support_labels": [0, 1]}, "labels"),
        ({"support_labels": [0, 1, 2]}, "expected 0 to 1"),
        ({"support_labels": [0, 1, -1]}, "-1"),
        ({"support_features": np.eye(3, 5)}, "width 5, expected 4"),
        ({"support_features": np.full((3, 4), np.nan)}, "NaN"),
        ({"text_features": np.zeros(4)}, "shape"),
        ({"class_names": ("a",)}, "1 entries for 2 classes"),
        ({"domains": ("x", "y", "z")}, "domains has 3"),
        ({"support_raw": np.eye(2, 4)}, "2 rows, expected 3"),
        ({"text_views": (np.eye(1, 4),)}, "text_views has 1"),
        ({"support_views": np.zeros((2, 3, 5))}, "width 5, expected 4"),
        ({"extra_features": np.eye(1, 4)}, "both extra_features and extra_labels"),
        ({**EXTRA, "extra_labels": [2, 0]}, "extra labels range from 0 to 2"),
        ({**EXTRA, "extra_modalities": ("audio",)}, "1 names for 2 rows"),
        ({**EXTRA, "extra_modalities": ("audio", "sound")}, "unknown modality 'sound'"),
        ({"extra_modalities": ("audio",)}, "1 names for 0 rows"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        FewShotTask(**{**GOOD, **change})


def test_further_rows_are_known_by_modality():
    rows = {"extra_features": np.eye(3, 4), "extra_labels": [1, 0, 1], "extra_modalities": ["audio", "image", "audio"]}
    task = FewShotTask(**GOOD, **rows)
    found = task.extra_rows()
    assert list(found) == ["audio", "image"]
    np.testing.assert_array_equal(found["audio"][0], np.eye(3, 4)[[0, 2]])
    assert found["audio"][1].tolist() == [1, 1]
    assert task.keep([0]).extra_rows().keys() == found.keys()
    kept = task.keep_extra(np.array([False, True, False]))
    assert {name: labels.tolist() for name, (_, labels) in kept.extra_rows().items()} == {"image": [0]}
    assert list(FewShotTask(**GOOD, **EXTRA).extra_rows()) == [""]
    assert FewShotTask(**GOOD).extra_rows() == {}


def test_a_row_of_zeros_stays_zero():
    assert normalise([[0.0, 0.0], [3.0, 4.0]]).tolist() == [[0, 0], [pytest.approx(0.6), pytest.approx(0.8)]]


def test_softmax_of_large_logits_is_finite():
    np.testing.assert_allclose(softmax([[1000.0, 1000.0, -1000.0]]), [[0.5, 0.5, 0.0]])


def test_text_classifier_normalises_each_template_first():
    views = np.array([[[10.0, 0.0], [0.0, 0.1]]])
    np.testing.assert_allclose(text_classifier(views), [[0.5**0.5, 0.5**0.5]], rtol=1e-6)
