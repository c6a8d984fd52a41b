import numpy as np
import pytest
from scipy.stats import beta

from jclip_adapter.core.calibration import Calibration
from jclip_adapter.evaluation.metrics import wilson_interval
from jclip_adapter.evaluation.rejection import expected_of, in_words, measured

KNOWN = np.linspace(-1.0, -0.01, 99, dtype=np.float32)
HALF = Calibration(1.0, "held-out shots", KNOWN, np.array([-2.0, -1.5, -0.99, -0.5], np.float32))


def test_what_is_expected():
    found = expected_of(HALF, 0.1)
    assert found["threshold"] == pytest.approx(np.sort(KNOWN)[9])
    assert found["expected_kept_interval"] == pytest.approx(100 * beta.ppf([0.025, 0.975], 90, 10))
    assert (found["rate"], found["held_out"], found["passing"]) == (10, 99, 25)
    assert found["passing_interval"] == pytest.approx([100 * end for end in wilson_interval(1, 4)])


def test_it_is_said_in_two_lines():
    kept, passing = in_words(HALF, 0.1)
    assert "99 held-out shots" in kept
    assert "25.0 % (4.6–69.9 %)" in passing
    nothing = in_words(Calibration(1.0, "held-out shots", KNOWN), 0.1)
    assert "with fewer than three classes nothing is known" in nothing[1]


def test_what_is_measured_on_labelled_photos():
    logits = np.log([[0.98, 0.01, 0.01], [0.98, 0.01, 0.01], [0.4, 0.3, 0.3]])
    found = measured(HALF, logits, np.array([0, 1, 0]), 0.1)
    assert found["kept"] == pytest.approx(200 / 3)
    assert found["top1_of_kept"] == 50
    assert found["kept_interval"] == pytest.approx([100 * end for end in wilson_interval(2, 3)])
    assert measured(HALF, np.zeros((2, 9)), np.array([0, 1]), 0.1)["top1_of_kept"] is None
