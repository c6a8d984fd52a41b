import numpy as np
import pytest

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import FewShotTask, normalise, softmax
from jclip_adapter.evaluation.selection import grids
from jclip_adapter.methods import create, load
from jclip_adapter.methods.training.dirichlet import em_dirichlet, match_clusters

NAMES = ("em-dirichlet", "hard-em-dirichlet")
CLASSES, WIDTH = 20, 8
TEMPERATURE = 3.0  # random texts lie as far apart at 3 as CLIP's at 30


def world(seed=0, shots=3, present=(0, 1, 2), count=25):
    """Photos of a few of the classes, all shifted alike, so that zero-shot errs: what clustering repairs."""
    rng = np.random.default_rng(seed)
    text = normalise(rng.standard_normal((CLASSES, WIDTH)))
    shift = 0.9 * normalise(rng.standard_normal(WIDTH))

    def photos(labels):
        return normalise(text[labels] + shift + 0.6 * rng.standard_normal((len(labels), WIDTH)) / WIDTH**0.5)

    labels = np.repeat(np.arange(CLASSES), shots)
    answers = rng.permutation(np.repeat(present, count))
    return FewShotTask(photos(labels), labels, text, tuple(map(str, range(CLASSES)))), photos(answers), answers


@pytest.mark.parametrize("shots", [0, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_few_classes_gains(name, shots):
    gains = []
    for seed in range(8):
        task, queries, answers = world(seed, shots)
        clustered = create(name, temperature=TEMPERATURE).fit(task).logits(queries).argmax(axis=1)
        zero_shot = create("zero-shot").fit(task).logits(queries).argmax(axis=1)
        gains.append((clustered == answers).mean() - (zero_shot == answers).mean())
    assert np.mean(gains) > 0.02


@pytest.mark.parametrize("name", NAMES)
def test_the_best_score_is_the_assigned_class(name):
    """Without shots: that of the Hungarian assignment; with shots: cluster k is class k."""
    for shots in (0, 3):
        task, queries, _ = world(1, shots)
        method = create(name, k_eff=3, temperature=TEMPERATURE).fit(task)
        probabilities = softmax(TEMPERATURE * queries.astype(np.float64) @ task.text_features.T)
        u, _, _ = em_dirichlet(
            probabilities,
            method.support_sum_,
            method.support_count_,
            penalty=CLASSES // 3,
            iterations=method.hyper.iterations,
            mm_steps=method.hyper.mm_steps,
            hard=name.startswith("hard"),
        )
        expected = u.argmax(axis=1)
        if not shots:
            expected = match_clusters(u, probabilities)[expected]
        np.testing.assert_array_equal(method.logits(queries).argmax(axis=1), expected)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_ruled_out_keeps_zero_shots_order(name):
    task, queries, _ = world(2)
    scores = create(name, temperature=TEMPERATURE).fit(task).logits(queries)
    zero_shot = create("zero-shot").fit(task).logits(queries)
    low = scores < np.log(1e-6)
    assert low.sum() > len(queries)
    for row, other, mask in zip(scores, zero_shot, low, strict=True):
        np.testing.assert_array_equal(np.argsort(row[mask]), np.argsort(other[mask]))


@pytest.mark.parametrize("shots", [0, 3])
@pytest.mark.parametrize("name", NAMES)
def test_no_iteration_is_zero_shot(name, shots):
    task, queries, _ = world(3, shots)
    scores = create(name, iterations=0, temperature=100.0).fit(task).logits(queries)
    zero_shot = create("zero-shot").fit(task).logits(queries)
    np.testing.assert_allclose(softmax(scores), softmax(zero_shot), atol=1e-5)
    assert 0 in grids(type(create(name)), {})[1]["iterations"]


@pytest.mark.parametrize("name", NAMES)
def test_batches_are_drawn_without_the_given_order(name):
    """Sorted by class or not, a batch holds any classes: the list's order tells nothing."""
    task, queries, answers = world(4, 0)
    method = create(name, batch_size=15, temperature=TEMPERATURE).fit(task)
    plain = method.logits(queries)
    assert not np.array_equal(plain, create(name, temperature=TEMPERATURE).fit(task).logits(queries))
    np.testing.assert_array_equal(plain, method.logits(queries))
    chosen = np.random.default_rng(0).permutation(len(queries))[:15]
    np.testing.assert_allclose(
        plain[chosen], create(name, temperature=TEMPERATURE).fit(task).logits(queries[chosen]), rtol=1e-5
    )
    assert len(np.unique(answers[chosen])) > 1


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_classes_expected_changes_the_outcome(name):
    task, queries, _ = world(5, 0)
    counts = [
        len(np.unique(create(name, k_eff=k, temperature=TEMPERATURE).fit(task).logits(queries).argmax(axis=1)))
        for k in (1, CLASSES)
    ]
    assert counts[0] < counts[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_shots_is_found(name):
    task, queries, answers = world(6, 3, present=(0, 1, 5), count=20)
    kept = task.support_labels != 5
    part = FewShotTask(task.support_features[kept], task.support_labels[kept], task.text_features, task.class_names)
    predictions = create(name, temperature=TEMPERATURE).fit(part).logits(queries).argmax(axis=1)
    zero_shot = create("zero-shot").fit(part).logits(queries).argmax(axis=1)
    unseen = answers == 5
    assert (predictions[unseen] == 5).mean() >= (zero_shot[unseen] == 5).mean() - 0.1


@pytest.mark.parametrize("name", NAMES)
def test_on_top_it_clusters_the_bases_probabilities(name, tmp_path):
    """z = softmax(T/s·logits) of the base, clustered without shots; in float64."""
    task, queries, _ = world(2)
    method = create(name, base="tip-adapter", base_values="alpha=2, beta=3", temperature=TEMPERATURE).fit(task)
    logits = create("tip-adapter", alpha=2, beta=3).fit(task).logits(queries).astype(np.float64)
    probabilities = softmax(TEMPERATURE / 100 * logits)
    none = np.zeros((CLASSES, CLASSES))
    u, _, _ = em_dirichlet(
        probabilities,
        none,
        none[0],
        penalty=CLASSES // len(np.unique(probabilities.argmax(axis=1))),
        iterations=method.hyper.iterations,
        mm_steps=method.hyper.mm_steps,
        hard=name.startswith("hard"),
    )
    expected = match_clusters(u, probabilities)[u.argmax(axis=1)]
    np.testing.assert_array_equal(method.logits(queries).argmax(axis=1), expected)
    method.save(tmp_path / "x")
    np.testing.assert_array_equal(load(tmp_path / "x").logits(queries), method.logits(queries))


def test_on_top_of_zero_shots_logits_it_is_itself_without_shots():
    task, queries, _ = world(3, shots=0)
    given = {"temperature": TEMPERATURE, "batch_size": 40}
    itself, on_top = (
        create("em-dirichlet", base_values=values, **given).fit(task).logits(queries) for values in ("", "names=0")
    )
    np.testing.assert_allclose(on_top, itself, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base": "em-dirichlet"}, "cannot refine itself"),
        ({"base": "tip-adaptor"}, "Did you mean 'tip-adapter'"),
        ({"base_values": "alpha=3"}, "no hyper-parameter 'alpha'"),
    ],
)
def test_an_unfit_base_is_refused(values, message):
    with pytest.raises(UsageError, match=message):
        create("em-dirichlet", **values).fit(world(4)[0])
