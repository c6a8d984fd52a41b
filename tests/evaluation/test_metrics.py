"""Accuracies, intervals and confusions against plain references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.evaluation import metrics

RNG = np.random.default_rng(0)
LOGITS = np.round(RNG.normal(size=(60, 7)), 1).astype(np.float32)  # rounded, so that there are ties
LABELS = RNG.integers(0, 7, size=60)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=7),
        elements=st.sampled_from([-np.inf, -1, 0, 0.5, np.inf]),
    ),
    st.integers(1, 9),
)
def test_top_k_agrees_with_sorting_by_score_then_index(logits, k):
    expected = [sorted(range(len(row)), key=lambda j: (-row[j], j))[:k] for row in logits.tolist()]
    assert metrics.top_k_ids(logits, k).tolist() == expected


def test_top_k_gives_ids_where_wanted():
    assert metrics.top_k_ids([[1, 3, 2]], 2, class_ids=[10, 11, 12]).tolist() == [[11, 12]]
    assert metrics.top_k_ids(np.array([[1, 3, 2]], np.uint8), 5).tolist() == [[1, 2, 0]]
    assert metrics.top_k_ids(np.zeros((0, 3)), 2).shape == (0, 2)


@pytest.mark.parametrize("k", [1, 3, 5, 16, 17])
def test_few_best_are_searched_for_as_a_stable_sort_finds_them(k):
    rng = np.random.default_rng(k)
    for logits in (
        rng.integers(0, 4, (50, 20)),
        rng.standard_normal((50, 20)).astype(np.float32),
        np.where(rng.random((50, 20)) < 0.7, -np.inf, rng.standard_normal((50, 20))),
        np.full((2, 20), -np.inf),
    ):
        before = logits.copy()
        sort = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        assert (metrics.top_k_ids(logits, k) == sort).all()
        assert (logits == before).all()


@pytest.mark.parametrize(
    "logits", [[[0.1, np.nan]], [0.1, 0.2], np.zeros((2, 0)), [["a", "b"]], np.zeros((1, 2), complex)]
)
def test_broken_logits_are_refused(logits):
    with pytest.raises(DataError, match="logits"):
        metrics.top_k_ids(logits, 1)


def test_k_below_one_is_refused():
    with pytest.raises(UsageError):
        metrics.top_k_ids([[1.0]], 0)


@pytest.mark.parametrize("k", [1, 2, 5, 7, 9])
def test_accuracy_counts_hits(k):
    best = metrics.top_k_ids(LOGITS, k)
    assert metrics.accuracy(LOGITS, LABELS, k) == sum(y in row for y, row in zip(LABELS, best, strict=True)) / 60
    assert metrics.accuracy(LOGITS, LABELS, 7) == 1.0


@pytest.mark.parametrize("labels", [[0], [0, 7], [0, -1], [0.0, 1.0], [[0], [1]]])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(DataError, match="labels"):
        metrics.accuracy(np.zeros((2, 7)), labels)


def test_nothing_to_score_is_refused():
    with pytest.raises(DataError, match="no labelled photos"):
        metrics.accuracy(np.zeros((0, 3)), np.zeros(0, int))


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(counts):
    correct, total = counts
    expected = stats.binomtest(correct, total).proportion_ci(method="wilson")
    low, high = metrics.wilson_interval(correct, total)
    assert np.allclose([low, high], [expected.low, expected.high], atol=1e-9)
    assert 0.0 <= low <= correct / total <= high <= 1.0


def test_by_domain_rows():
    domains = ["b", "b", "a", "a", "b", "empty", "c"]
    labels = np.where(LABELS == 5, 6, LABELS)
    rows = metrics.by_domain(LOGITS, labels, domains)
    assert [row.domain for row in rows] == ["b", "a", "c", "total"]
    for row in rows[:-1]:
        mask = np.array([domains[y] == row.domain for y in labels])
        assert row.n == mask.sum()
        assert row.top1 == pytest.approx(metrics.accuracy(LOGITS[mask], labels[mask], 1))
        assert row.top5 == pytest.approx(metrics.accuracy(LOGITS[mask], labels[mask], 5))
        assert row.top1_interval == metrics.wilson_interval(round(row.top1 * row.n), row.n)
        assert row.top5_interval == metrics.wilson_interval(round(row.top5 * row.n), row.n)
    assert rows[-1].n == 60
    assert rows[-1].top1 == metrics.accuracy(LOGITS, labels)


def test_by_domain_of_fewer_than_five_classes():
    rows = metrics.by_domain([[0.1, 0.2, 0.0]], [2], ["", "", ""])
    assert [(row.domain, row.top1, row.top5) for row in rows] == [("total", 0.0, 1.0)]


def test_by_domain_needs_a_domain_per_class():
    with pytest.raises(DataError, match="one domain per class"):
        metrics.by_domain(LOGITS, LABELS, ["a"])


def test_confusion_matrix_counts_pairs():
    predictions = metrics.top_k_ids(LOGITS, 1)[:, 0]
    counts = metrics.confusion_matrix(LABELS, predictions, 7)
    expected = np.zeros((7, 7), int)
    for y, p in zip(LABELS, predictions, strict=True):
        expected[y, p] += 1
    assert (counts == expected).all()


@pytest.mark.parametrize("predictions", [[0], [0, 3], [[0, 1]], 1])
def test_predictions_that_do_not_fit_are_refused(predictions):
    with pytest.raises(DataError):
        metrics.confusion_matrix([0, 1], predictions, 3)


def test_worst_pairs_by_count_then_share():
    counts = np.array([[5, 2, 0], [2, 9, 4], [1, 0, 0]])
    pairs = metrics.worst_pairs(counts, ["a", "b", "c"])
    assert [(p.true, p.predicted, p.count) for p in pairs] == [
        ("b", "c", 4),
        ("a", "b", 2),
        ("b", "a", 2),
        ("c", "a", 1),
    ]
    assert pairs[0].share == pytest.approx(4 / 15)
    assert metrics.worst_pairs(np.diag([3, 3]), ["a", "b"]) == []
    names = [str(number) for number in range(6)]
    assert len(metrics.worst_pairs(np.ones((6, 6), int), names)) == 20


def test_interval_is_students() -> None:
    # t(0.975; 2) = 4.302653, deviation 10, √3
    mean, half = metrics.mean_interval([60.0, 80.0, 70.0])
    assert mean == pytest.approx(70.0)
    assert half == pytest.approx(4.302653 * 10 / 3**0.5, rel=1e-6)


def test_calibration_error_agrees_with_its_definition_in_a_loop() -> None:
    """Guo et al. 2017, equation 3, photo by photo."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(4, 0.5), 500)
    labels = np.array([rng.choice(4, p=row) for row in shares**2 / (shares**2).sum(axis=1, keepdims=True)])
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(metrics.BINS)]
    for row, label in zip(shares, labels, strict=True):
        place = next(
            number
            for number in range(metrics.BINS)
            if row.max() < (number + 1) / metrics.BINS or number == metrics.BINS - 1
        )
        bins[place].append((row.max(), row.argmax() == label))
    gaps = [abs(np.mean([c for c, _ in each]) - np.mean([r for _, r in each])) * len(each) for each in bins if each]
    assert metrics.calibration_error(shares, labels) == pytest.approx(sum(gaps) / 500)


def test_probabilities_that_are_the_truth_have_a_small_calibration_error() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(5, 0.3), 20_000)
    labels = np.array([rng.choice(5, p=row) for row in shares])
    assert metrics.calibration_error(shares, labels) < 0.02
    assert metrics.calibration_error(np.eye(5)[labels], labels) == 0
    assert metrics.calibration_error(np.eye(5)[labels], (labels + 1) % 5) == 1


def test_bins_of_confidence_count_every_photo() -> None:
    found = metrics.confidence_bins([[1.0, 0.0], [0.6, 0.4], [0.5, 0.5]], [0, 1, 0])
    assert len(found) == metrics.BINS
    assert [count for count, _, _ in found] == [0] * 7 + [1, 0, 1] + [0] * 4 + [1]
    assert found[-1] == (1, 1.0, 1.0)
    assert found[9] == (1, 0.6, 0.0)
    assert np.isnan(found[0][1])
    with pytest.raises(DataError):
        metrics.confidence_bins([[1.0, 0.0]], [2])
