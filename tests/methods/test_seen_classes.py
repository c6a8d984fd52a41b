import numpy as np

from jclip_adapter.core.task import FewShotTask, Labelled, Queries, normalise
from jclip_adapter.methods.training.seen_classes import only_seen, unseen_offset, with_unseen


def task(labels, **further):
    rng = np.random.default_rng(0)
    text = normalise(rng.standard_normal((4, 8)))
    views = tuple(normalise(rng.standard_normal((2, 8))) for _ in range(4))
    shots = normalise(rng.standard_normal((len(labels), 8)))
    return FewShotTask(
        shots, labels, text, tuple("abcd"), domains=tuple("wxyz"), text_views=views, text_raw=3 * text, **further
    )


def test_a_task_without_gaps_stays_itself():
    whole = task([0, 1, 2, 3])
    assert only_seen(whole) is whole


def test_only_the_seen_classes_are_left():
    gaps = task([3, 1, 3], validation=Labelled(Queries(np.eye(8)), np.array([0, 1, 2, 3] * 2)))
    part = only_seen(gaps)
    assert (part.class_names, part.domains) == (("b", "d"), ("x", "z"))
    assert part.support_labels.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(part.text_features, gaps.text_features[[1, 3]])
    np.testing.assert_array_equal(part.text_raw, gaps.text_raw[[1, 3]])
    np.testing.assert_array_equal(part.text_views[1], gaps.text_views[3])
    assert part.validation is None


def test_zero_shot_scores_on_another_scale_keep_every_order():
    """Scores that are zero-shot's, shifted and stretched per query, give zero-shot's whole row back, moved alike."""
    rng = np.random.default_rng(1)
    zero_shot = rng.standard_normal((5, 7))
    shift, stretch = rng.standard_normal((5, 1)), rng.uniform(0.1, 9, (5, 1))
    seen = np.array([1, 2, 5])
    done = with_unseen((shift + stretch * zero_shot)[:, seen], zero_shot, seen)
    np.testing.assert_allclose(done, shift + stretch * zero_shot, rtol=1e-4, atol=1e-5)


def test_one_seen_class_only_shifts():
    zero_shot = np.array([[1.0, 4.0, 2.0]])
    np.testing.assert_allclose(with_unseen(np.array([[7.0]]), zero_shot, np.array([2])), [[6.0, 9.0, 7.0]])


def test_seen_classes_of_one_text_only_shift():
    zero_shot = np.array([[2.0, 2.0, 5.0]])
    np.testing.assert_allclose(with_unseen(np.array([[3.0, 9.0]]), zero_shot, np.array([0, 1])), [[3.0, 9.0, 9.0]])


def test_without_unseen_classes_the_scores_stay():
    scores = np.array([[1.0, 4.0, 2.0]])
    np.testing.assert_array_equal(with_unseen(scores, np.zeros((1, 3)), np.arange(3)), scores)


def shots_of(labels):
    """Shots near their class's text, so that scores of zero-shot say something."""
    rng = np.random.default_rng(5)
    text = normalise(rng.standard_normal((8, 16)))
    rows = normalise(text[labels] + 0.5 * rng.standard_normal((len(labels), 16)))
    return FewShotTask(rows, labels, text, tuple("abcdefgh"))


def test_the_offset_maximises_the_likelihood_of_photos_that_no_fit_has_seen():
    given = shots_of(np.repeat(np.arange(6), 4))
    photos = []

    def fit(part):
        def scores(asked):
            queries = asked.features
            own = {row.tobytes() for row in part.support_features}
            labels = {
                row.tobytes(): label for row, label in zip(given.support_features, given.support_labels, strict=True)
            }
            assert not own & {row.tobytes() for row in queries}
            result = 7.0 * queries @ given.text_features.T - 2.0 * np.isin(np.arange(8), part.seen)
            photos.extend((row, labels[query.tobytes()], part.seen) for row, query in zip(result, queries, strict=True))
            return result

        return scores

    chosen = unseen_offset(given, fit, seed=0)
    hidden = [label for _, label, seen in photos if label not in seen]
    assert sorted(hidden) == sorted(given.support_labels)  # each class is hidden once, with all of its shots

    def likelihood(offset):
        groups = {True: [], False: []}
        for row, label, seen in photos:
            moved = row.astype(np.float64) + offset * ~np.isin(np.arange(8), seen)
            groups[label in seen].append(moved[label] - np.log(np.exp(moved).sum()))
        return np.mean(groups[True]) + np.mean(groups[False])

    grid = np.arange(-8, 8, 0.01)
    assert abs(chosen - grid[np.argmax([likelihood(offset) for offset in grid])]) < 0.011


def test_without_held_out_shots_there_is_no_offset():
    def fit(part):
        return lambda queries: queries.features @ part.text_features.T

    assert unseen_offset(shots_of(np.array([0, 3])), fit, 0) == 0  # one shot of each class
    assert unseen_offset(shots_of(np.array([3, 3, 3, 3])), fit, 0) == 0  # one class with shots
