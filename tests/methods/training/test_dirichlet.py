import numpy as np
import pytest
from scipy.special import digamma, gammaln, polygamma
from scipy.stats import dirichlet as scipy_dirichlet

from jclip_adapter.methods.training.dirichlet import (
    EPSILON,
    curvature,
    em_dirichlet,
    fit_dirichlet,
    log_density,
    match_clusters,
)
from tests.golden_files import Golden

KINDS = [(few, kind) for few in ("zs", "fs") for kind in ("em", "hard")]


@pytest.fixture(scope="module")
def golden():
    return Golden("em_dirichlet")


def problem(golden, number, few):
    """Query probabilities, the shots' log sums and counts of one of the golden tasks."""
    probabilities = golden["query_probs"][number]
    classes = probabilities.shape[1]
    sums, counts = np.zeros((classes, classes)), np.zeros(classes)
    if few == "fs":
        labels = golden["support_labels"][number]
        np.add.at(sums, labels, np.log(golden["support_probs"][number].astype(np.float64) + EPSILON))
        counts += np.bincount(labels, minlength=classes)
    return probabilities, sums, counts


def penalty(golden, few):
    given = golden.facts["arguments"]
    return given["lambd_zero_shot" if few == "zs" else "lambd_few_shot"] / given["n_query"]


def objective(probabilities, support_sum, support_count, u, alpha, *, penalty):
    """−½ log-likelihood of queries and support − λ·Σ_k ū_k ln ū_k + Σ u ln u: the authors' `objective_function`.

    They never call it; their steps follow it without the ½.
    """
    queries = np.sum(u * log_density(np.log(probabilities.astype(np.float64) + EPSILON), alpha))
    constant = gammaln(alpha.sum(axis=1)) - gammaln(alpha).sum(axis=1)
    support = np.sum(support_count * constant) + np.sum(support_sum * (alpha - 1))
    share = u.mean(axis=0)
    partition, entropy = np.sum(share * np.log(share + EPSILON)), np.sum(u * np.log(u + EPSILON))
    return float(-0.5 * (queries + support) - penalty * len(u) * partition + entropy)


@pytest.mark.golden
@pytest.mark.parametrize(("few", "kind"), KINDS)
def test_assignments_parameters_and_objective_are_the_authors(golden, few, kind):
    given, key = golden.facts["arguments"], f"{few}_{kind}_"
    for number in range(given["n_task"]):
        inputs = problem(golden, number, few)
        weight = penalty(golden, few)
        u, alpha, v = em_dirichlet(
            *inputs,
            penalty=weight,
            iterations=given[f"iter_{kind}"],
            mm_steps=given["iter_mm"],
            hard=kind == "hard",
        )
        np.testing.assert_allclose(u, golden[key + "u"][number], atol=golden.tolerance("u_atol"))
        np.testing.assert_allclose(alpha, golden[key + "alpha"][number], rtol=golden.tolerance("alpha_rtol"))
        np.testing.assert_allclose(v, golden[key + "v"][number], atol=golden.tolerance("u_atol"))
        predictions = u.argmax(axis=1)
        np.testing.assert_array_equal(predictions, golden[key + ("pred" if few == "fs" else "cluster_pred")][number])
        if few == "zs":
            matched = match_clusters(u, inputs[0])[predictions]
            np.testing.assert_array_equal(matched, golden[key + "matched_pred"][number])
        wanted = (golden[key + name][number].astype(np.float64) for name in ("u", "alpha"))
        value = objective(*inputs, *wanted, penalty=weight)
        assert value == pytest.approx(golden[key + "objective"][number], rel=golden.tolerance("objective_rtol"))


@pytest.mark.golden
def test_the_accuracies_are_the_authors(golden):
    for few, kind in KINDS:
        predictions = golden[f"{few}_{kind}_{'pred' if few == 'fs' else 'matched_pred'}"]
        right = (predictions == golden["query_labels"]).mean(axis=1)
        np.testing.assert_allclose(right, golden.facts["accuracy"][f"{few}_{kind}"], atol=1e-6)


@pytest.mark.golden
@pytest.mark.parametrize("steps", [1, 2, 5, 50, None])
def test_majorise_minimise_steps_are_the_authors(golden, steps):
    target = golden["mm_target_y"]
    alpha = fit_dirichlet(target, np.ones_like(target), steps or golden.facts["arguments"]["iter_mm"])
    expected = golden["mm_alpha" if steps is None else f"mm_alpha_iter{steps}"]
    np.testing.assert_allclose(alpha, expected, rtol=golden.tolerance("mm_alpha_iterN_rtol"))


@pytest.mark.golden
def test_special_functions_are_the_authors(golden):
    """The curvature is compared where float32 can hold it: below, theirs is off by up to 10 orders of magnitude."""
    x = golden["curv_x"].astype(np.float64)
    rtol = golden.tolerance("curvature_rtol")
    exact = (x**2 > np.finfo(np.float32).eps / rtol) | (x <= 1e-11)
    assert exact.sum() > 5
    np.testing.assert_allclose(curvature(x, digamma(x + 1))[exact], golden["curvature"][exact], rtol=rtol)
    for ours, theirs in (
        (digamma(x + 1), "digamma_x_plus_1"),
        (gammaln(x), "lgamma_x"),
        (digamma(x), "digamma_x"),
        (polygamma(1, x), "trigamma_x"),
    ):
        np.testing.assert_allclose(ours, golden[theirs], rtol=rtol, atol=1e-6)


def test_the_curvature_falls_without_a_jump():
    x = np.concatenate([[0], np.logspace(-9, 3, 500)])
    values = curvature(x, digamma(x + 1))
    assert values[0] == pytest.approx(np.pi**2 / 6)
    assert (np.diff(values) < 1e-7).all()
    below, above = curvature(near := np.array([0.99e-4, 1.01e-4]), digamma(near + 1))
    assert abs(below - above) < 1e-5


def test_the_parabola_lies_above():
    """lnΓ(x+1) ≤ its value at α + slope·(x−α) + ½c(α)·(x−α)², so every step lowers the objective."""
    alpha, x = np.meshgrid(np.logspace(-3, 2, 30), np.logspace(-3, 2, 40))
    bound = (
        gammaln(alpha + 1)
        + digamma(alpha + 1) * (x - alpha)
        + 0.5 * curvature(alpha, digamma(alpha + 1)) * (x - alpha) ** 2
    )
    assert (gammaln(x + 1) <= bound + 1e-9).all()


def test_the_maximum_of_the_likelihood_is_found():
    """At the optimum ψ(α_j) − ψ(Σα) is the mean log-probability; a sample's own parameters come back."""
    true = np.array([2.0, 0.7, 5.0, 1.3])
    means = digamma(true) - digamma(true.sum())
    np.testing.assert_allclose(fit_dirichlet(means[None], np.ones((1, 4)), 5000)[0], true, rtol=1e-3)


def test_log_density_is_scipys():
    rng = np.random.default_rng(0)
    alpha = rng.uniform(0.3, 4, (3, 5))
    points = rng.dirichlet(np.ones(5), 6)
    expected = [[scipy_dirichlet.logpdf(point, row) for row in alpha] for point in points]
    np.testing.assert_allclose(log_density(np.log(points), alpha), expected)


def test_an_empty_cluster_keeps_its_parameters():
    probabilities = np.array([[0.98, 0.01, 0.01], [0.97, 0.02, 0.01]])
    none = np.zeros((3, 3)), np.zeros(3)
    u, alpha, _ = em_dirichlet(probabilities, *none, penalty=0, iterations=1, mm_steps=5, hard=True)
    _, later, _ = em_dirichlet(probabilities, *none, penalty=0, iterations=2, mm_steps=5, hard=True)
    empty = u.sum(axis=0) == 0
    assert 0 < empty.sum() < 3
    np.testing.assert_array_equal((alpha == later).all(axis=1), empty)


@pytest.mark.parametrize("hard", [False, True])
def test_a_heavier_penalty_leaves_fewer_clusters(hard):
    probabilities = np.random.default_rng(1).dirichlet(np.full(8, 0.5), 40)
    used = []
    for weight in (0, 30):
        u, _, _ = em_dirichlet(
            probabilities, np.zeros((8, 8)), np.zeros(8), penalty=weight, iterations=10, mm_steps=20, hard=hard
        )
        np.testing.assert_allclose(u.sum(axis=1), 1)
        used.append(len(np.unique(u.argmax(axis=1))))
    assert used[1] < used[0]


def test_matching_maximises_the_sum():
    """Cluster 0's prototype likes class 1 best, cluster 2's still better: cluster 0 gets its second choice."""
    u = np.eye(3)[[0, 2, 2]]
    probabilities = [[0.4, 0.5, 0.1], [0.0, 0.9, 0.1], [0.05, 0.9, 0.05]]
    assert match_clusters(u, probabilities).tolist() == [0, -1, 1]
