import numpy as np
import pytest
from scipy.sparse import csr_matrix, vstack

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import FewShotTask, normalise, softmax
from jclip_adapter.methods import create, load
from jclip_adapter.methods.training.transduction import affinity, transclip
from tests.golden_files import Golden

CLASSES, WIDTH = 6, 24


@pytest.fixture(scope="module")
def golden():
    return Golden("transclip")


def wide(golden, key):
    return golden[key].astype(np.float64)


def task_of(golden, shots=True):
    text = golden["text_weights_dC"].T
    rows = len(golden["support"]) if shots else 0
    names = tuple(map(str, range(len(text))))
    return FewShotTask(golden["support"][:rows], golden["support_labels"][:rows], text, names)


def close(golden, ours, theirs):
    """z within the tolerance, and the same predictions."""
    np.testing.assert_allclose(
        ours, golden[theirs] if isinstance(theirs, str) else theirs, atol=golden.tolerance("z_atol")
    )
    expected = golden[theirs] if isinstance(theirs, str) else theirs
    np.testing.assert_array_equal(np.argmax(ours, axis=1), expected.argmax(axis=1))


@pytest.mark.golden
def test_affinity_is_the_authors(golden):
    queries, shots = wide(golden, "query"), wide(golden, "support")
    count, atol = golden.facts["arguments"]["n_neighbors"], golden.tolerance("affinity_atol")
    among = affinity(queries, queries, count, skip="self").toarray()
    np.testing.assert_allclose(among, golden["affinity_zs_dense"], atol=atol)
    below = affinity(shots, queries, count, skip="nearest").toarray()
    theirs = golden["affinity_fs_dense_rows_support_first"]
    np.testing.assert_allclose(np.concatenate([below, among]), theirs, atol=atol)


@pytest.mark.golden
def test_zero_shot_is_the_authors_after_every_iteration(golden):
    given = golden.facts["arguments"]
    method = create("transclip", lambda_zero_shot=given["lambda_zs"], neighbours=given["n_neighbors"])
    method.fit(task_of(golden, shots=False))
    for iterations, theirs in enumerate(golden["zs_z_per_iter"]):
        close(golden, softmax(method.with_values(iterations=iterations).logits(golden["query"])), theirs)
    close(golden, softmax(method.with_values(iterations=given["max_iter"]).logits(golden["query"])), "zs_z")


@pytest.mark.golden
def test_on_top_of_prototypes_is_the_authors(golden):
    queries = wide(golden, "query")
    prior = softmax(100 * queries @ wide(golden, "init_prototypes_dC"))
    votes = affinity(queries, queries, golden.facts["arguments"]["n_neighbors"], skip="self")
    given = golden.facts["arguments"]
    log_z, _, _ = transclip(queries, prior, votes, pull=given["lambda_zs"], iterations=given["max_iter"])
    close(golden, np.exp(log_z), "ontop_proto_z")


@pytest.mark.golden
@pytest.mark.parametrize("aligned", [False, True])
def test_few_shot_is_the_authors_gamma_by_gamma(golden, aligned):
    """As they run it: every γ goes on from the last one's state. Misaligned, rows of the shots come first."""
    given = golden.facts["arguments"]
    queries, shots, labels = wide(golden, "query"), wide(golden, "support"), golden["support_labels"]
    among = affinity(queries, queries, given["n_neighbors"], skip="self")
    below = affinity(shots, queries, given["n_neighbors"], skip="nearest")
    votes = vstack([among, below] if aligned else [below, among], format="csr")
    prior = softmax(100 * queries @ wide(golden, "text_weights_dC"))
    state, after = None, []
    for gamma in given["gammas"]:
        log_z, centres, variance = transclip(
            queries,
            prior,
            votes,
            pull=given["lambda_fs"],
            iterations=given["max_iter"],
            shots=shots,
            labels=labels,
            gamma=gamma,
            start=state,
        )
        state = np.exp(log_z), centres, variance
        after.append(state[0])
    if aligned:
        close(golden, after[-1], "fs_z_last_gamma_CORRECTED_row_order")
        return
    for ours, theirs in zip(after, golden["fs_z_after_each_gamma"], strict=True):
        close(golden, ours, theirs)
    close(golden, after[-1], "fs_z_last_gamma")


@pytest.mark.golden
def test_the_method_takes_the_aligned_rows(golden):
    """Its first γ is the authors' first step but for the rows' order: from the same start it is `transclip`'s."""
    given = golden.facts["arguments"]
    method = create(
        "transclip",
        gamma=given["gammas"][0],
        lambda_few_shot=given["lambda_fs"],
        neighbours=given["n_neighbors"],
        iterations=given["max_iter"],
        drop_nearest=True,
    ).fit(task_of(golden))
    queries, shots, labels = wide(golden, "query"), wide(golden, "support"), golden["support_labels"]
    votes = vstack(
        [
            affinity(queries, queries, given["n_neighbors"], skip="self"),
            affinity(shots, queries, given["n_neighbors"], skip="nearest"),
        ]
    )
    log_z, _, _ = transclip(
        queries,
        softmax(100 * queries @ wide(golden, "text_weights_dC")),
        csr_matrix(votes),
        pull=given["lambda_fs"],
        iterations=given["max_iter"],
        shots=shots,
        labels=labels,
        gamma=given["gammas"][0],
    )
    close(golden, softmax(method.logits(golden["query"])), np.exp(log_z))


def reference(queries, prior, shots, labels, pull, gamma, neighbours, iterations):
    """Steps (a) to (d), spelt out with dense arrays and loops."""
    known = np.eye(prior.shape[1])[labels]
    rows = np.concatenate([queries, shots])
    dense = np.zeros((len(rows), len(queries)))
    for i, row in enumerate(rows):
        near = [j for j in np.argsort(-(queries @ row), kind="stable") if j != i][:neighbours]
        dense[i, near] = queries[near] @ row
    centres = normalise(known.T @ shots).astype(np.float64)
    variance, z = np.full(queries.shape[1], 1 / queries.shape[1]), prior
    share = gamma * 50 / len(shots)
    for iteration in range(iterations + 1):
        gap = (queries[:, None] - centres) ** 2
        for _ in range(5):
            vote = dense.T @ np.concatenate([z, known]) + (dense @ z)[: len(queries)]
            t = -0.5 * (gap / variance).sum(axis=2) + 50 / 6 * vote
            z = prior**pull * np.exp((t - t.max(axis=1, keepdims=True)) / 50)
            z = z / z.sum(axis=1, keepdims=True)
        if iteration < iterations:
            centres = normalise(z.T @ queries / len(queries) + share * known.T @ shots).astype(np.float64)
            gap = (queries[:, None] - centres) ** 2
            far = (z[..., None] * gap).sum(axis=(0, 1)) / len(queries)
            far += share * ((shots - centres[labels]) ** 2).sum(axis=0)
            variance = far / (1 + share * len(shots))
    return z


def world(seed=0, shots=3, count=12):
    rng = np.random.default_rng(seed)
    text = normalise(rng.standard_normal((CLASSES, WIDTH)))
    centres = normalise(text + 1.4 * normalise(rng.standard_normal((CLASSES, WIDTH))))

    def photos(labels):
        return normalise(centres[labels] + 0.8 * rng.standard_normal((len(labels), WIDTH)) / WIDTH**0.5)

    labels = np.repeat(np.arange(CLASSES), shots)
    answers = rng.permutation(np.repeat(np.arange(CLASSES), count))
    task = FewShotTask(photos(labels), labels, text, tuple("abcdef"), logit_scale=10.0)
    return task, photos(answers), answers


def test_few_shot_follows_the_formula():
    task, queries, _ = world()
    method = create("transclip", gamma=0.3, lambda_few_shot=0.7, neighbours=2, iterations=3).fit(task)
    wide_queries = queries.astype(np.float64)
    prior = softmax(10 * wide_queries @ task.text_features.T)
    shots = task.support_features.astype(np.float64)
    expected = reference(wide_queries, prior, shots, task.support_labels, 0.7, 0.3, 2, 3)
    np.testing.assert_allclose(softmax(method.logits(queries)), expected, atol=1e-5)


@pytest.mark.parametrize("shots", [0, 3])
def test_it_gains_where_photos_of_a_class_lie_together(shots):
    gains = []
    for seed in range(6):
        task, queries, answers = world(seed, shots)
        ours = create("transclip").fit(task).logits(queries).argmax(axis=1)
        zero_shot = create("zero-shot").fit(task).logits(queries).argmax(axis=1)
        gains.append((ours == answers).mean() - (zero_shot == answers).mean())
    assert np.mean(gains) > 0.03


def test_a_great_pull_is_the_base():
    task, queries, _ = world(1)
    ours = create("transclip", lambda_few_shot=100.0).fit(task).logits(queries)
    np.testing.assert_array_equal(ours.argmax(1), create("zero-shot").fit(task).logits(queries).argmax(1))


def test_on_top_it_starts_from_the_bases_logits(tmp_path):
    task, queries, _ = world(2)
    method = create("transclip", base="linear-probe", base_values="c=3.5, max_iter=50", iterations=2).fit(task)
    wide_queries = queries.astype(np.float64)
    prior = softmax(create("linear-probe", c=3.5, max_iter=50).fit(task).logits(queries))
    votes = affinity(wide_queries, wide_queries, 3, skip="self")
    expected, _, _ = transclip(wide_queries, prior, votes, pull=1.0, iterations=2)
    np.testing.assert_allclose(method.logits(queries), expected, rtol=1e-4, atol=1e-5)
    method.save(tmp_path / "x")
    np.testing.assert_array_equal(load(tmp_path / "x").logits(queries), method.logits(queries))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base": "transclip"}, "cannot refine itself"),
        ({"base": "linear-prob"}, "Did you mean 'linear-probe'"),
        ({"base": "linear-probe", "base_values": "d=3"}, "no hyper-parameter 'd'"),
    ],
)
def test_an_unfit_base_is_refused(values, message):
    task, _, _ = world(3)
    with pytest.raises(UsageError, match=message):
        create("transclip", **values).fit(task)


def test_a_query_does_not_vote_for_itself_nor_a_twin_lose_its_twin():
    """Of two equal photos each is the other's nearest; dropping the top hit would drop either at random."""
    queries = normalise([[1.0, 0], [1.0, 0], [0, 1.0]]).astype(np.float64)
    np.testing.assert_array_equal(affinity(queries, queries, 1, skip="self").toarray()[:2], [[0, 1, 0], [1, 0, 0]])


def test_blocks_do_not_change_the_affinity():
    queries = normalise(np.random.default_rng(0).standard_normal((17, 5))).astype(np.float64)
    whole, blocks = (affinity(queries, queries, 3, skip="self", block=size).toarray() for size in (100, 4))
    np.testing.assert_allclose(whole, blocks, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_queries_than_neighbours(count):
    task, queries, _ = world(4)
    scores = create("transclip").fit(task).logits(queries[:count])
    assert scores.shape == (count, CLASSES)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)


def test_a_class_without_shots_starts_from_confident_queries():
    task, queries, answers = world(5)
    kept = task.support_labels != 2
    part = FewShotTask(task.support_features[kept], task.support_labels[kept], task.text_features, task.class_names)
    predictions = create("transclip").fit(part).logits(queries).argmax(axis=1)
    zero_shot = create("zero-shot").fit(part).logits(queries).argmax(axis=1)
    unseen = answers == 2
    assert (predictions[unseen] == 2).mean() >= (zero_shot[unseen] == 2).mean() - 0.1
