import re

import numpy as np
import pytest
from scipy.stats import beta, entropy

from jclip_adapter.core.calibration import Calibration, certainty
from jclip_adapter.core.errors import UsageError


def calibration(known, unknown=()):
    return Calibration(1.0, "held-out shots", np.array(known, np.float32), np.array(unknown, np.float32))


def test_certainty_is_the_negative_entropy():
    shares = np.random.default_rng(0).dirichlet(np.ones(7), 20)
    np.testing.assert_allclose(certainty(shares), -entropy(shares, axis=1))
    assert certainty([[1.0, 0.0, 0.0]]).tolist() == [0.0]


def test_a_temperature_changes_probabilities_and_no_ranking():
    logits = np.random.default_rng(0).normal(size=(50, 6))
    plain, warm = (Calibration(value).probabilities(logits) for value in (1.0, 3.0))
    np.testing.assert_allclose(warm, np.exp(logits / 3) / np.exp(logits / 3).sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(np.argsort(plain), np.argsort(warm))
    assert (warm.max(axis=1) < plain.max(axis=1)).all()


def test_the_share_refused_of_new_photos_is_at_most_the_rate():
    """The guarantee of split conformal prediction, over many draws of held-out photos."""
    rng = np.random.default_rng(0)
    refused = [float((rng.random(200) < calibration(rng.random(39)).threshold(0.1)).mean()) for _ in range(2000)]
    assert np.mean(refused) == pytest.approx(0.1, abs=0.005)


def test_the_interval_of_the_share_kept():
    """k = 4 of 39: the share above the 4th smallest value has the distribution Beta(36, 4)."""
    found = calibration(np.linspace(-1, 0, 39)).kept_interval(0.1)
    assert found == pytest.approx(beta.ppf([0.025, 0.975], 36, 4))
    assert found[0] < 0.9 < found[1]


def test_passing_counts_unknown_photos_above_the_threshold():
    known = calibration(-np.arange(1, 10), [-9.5, -9.0, -8.0])
    assert known.threshold(0.1) == -9.0
    assert known.passing(0.1) == 2
    assert known.is_known([[0.0, 0.0]], 0.1).tolist() == [True]


@pytest.mark.parametrize(
    ("count", "reject"), [(18, 0.05), (1, 0.4), (9, 1.0), (9, 0.0), (9, -0.5), (9, np.nan), (9, np.inf)]
)
def test_too_few_held_out_photos_for_the_share_are_refused(count, reject):
    with pytest.raises(UsageError, match=f"{count} held-out photos allow shares from"):
        calibration([-1.0] * count).threshold(reject)
    assert calibration([-1.0] * 19).threshold(0.05) == -1.0


@pytest.mark.parametrize("count", range(1, 999, 7))
def test_the_shares_that_the_refusal_names_are_possible(count):
    known = calibration(-np.arange(1, count + 1))
    with pytest.raises(UsageError, match="allow shares from") as refused:
        known.threshold(0.0)
    least, most = map(float, re.findall(r"0\.\d+", str(refused.value)))
    assert known.threshold(least) == -count
    assert np.isfinite(known.threshold(most))


def test_without_held_out_photos_nothing_can_be_refused():
    with pytest.raises(UsageError, match="no photos were held out"):
        Calibration().is_known([[1.0, 0.0]], 0.05)
