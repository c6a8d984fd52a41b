import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask
from jclip_adapter.methods import create
from jclip_adapter.methods.tip_adapter import class_sums
from tests.golden_files import Golden
from tests.methods.few_shot_worlds import top1, without, world


@pytest.fixture(scope="module")
def golden():
    return Golden("tip_adapter")


@pytest.fixture(scope="module")
def golden_task(golden):
    text = golden["text_weights_dC"].T
    views, labels = golden["support_views_raw"], golden["support_labels"]
    return FewShotTask(views[0], labels, text, tuple(map(str, range(len(text)))), support_views=views)


@pytest.mark.golden
def test_keys_are_the_normalised_mean_of_the_views(golden, golden_task):
    method = create("tip-adapter").fit(golden_task)
    order = np.argsort(golden["support_labels"], kind="stable")
    np.testing.assert_allclose(method.keys_, golden["cache_keys_dN"].T[order], atol=golden.tolerance("atol"))
    np.testing.assert_array_equal(method.key_labels_, golden["cache_values_NC"].argmax(axis=1)[order])


@pytest.mark.golden
def test_logits_are_the_originals(golden, golden_task):
    method = create("tip-adapter").fit(golden_task)
    for number, (beta, alpha) in enumerate(golden["beta_alpha"]):
        logits = method.with_values(alpha=alpha, beta=beta).logits(golden["test"])
        close = {"atol": golden.tolerance("atol"), "rtol": golden.tolerance("rtol")}
        np.testing.assert_allclose(logits, golden[f"tip_logits_{number}"], **close)


@pytest.mark.golden
def test_the_authors_search_ends_at_the_same_point(golden, golden_task):
    method = create("tip-adapter").fit(golden_task)
    beta_axis, alpha_axis = (
        [i * (scale - 0.1) / steps + 0.1 for i in range(steps)]
        for scale, steps in zip(
            golden.facts["arguments"]["search_scale"], golden.facts["arguments"]["search_step"], strict=True
        )
    )
    best, point = 0.0, (0.0, 0.0)
    for beta in beta_axis:
        for alpha in alpha_axis:
            logits = method.with_values(alpha=alpha, beta=beta).logits(golden["val"])
            if top1(logits, golden["val_labels"]) > best:
                best, point = top1(logits, golden["val_labels"]), (beta, alpha)
    np.testing.assert_allclose(point, golden["best_beta_alpha"], rtol=1e-12)


def test_logits_follow_the_formula():
    """s·Q·Tᵀ + α·exp(−β(1 − Q·Fᵀ))·Y in float64, with the shots in any order."""
    task, queries, _ = world()
    shuffled = np.random.default_rng(0).permutation(len(task.support_labels))
    mixed = FewShotTask(
        task.support_features[shuffled], task.support_labels[shuffled], task.text_features, task.class_names
    )
    q, keys = queries.astype(np.float64), mixed.support_features.astype(np.float64)
    votes = np.exp(-2.5 * (1 - q @ keys.T)) @ np.eye(12)[mixed.support_labels]
    expected = 100 * q @ task.text_features.T.astype(np.float64) + 3 * votes
    np.testing.assert_allclose(create("tip-adapter", alpha=3, beta=2.5).fit(mixed).logits(queries), expected, atol=1e-4)


def test_without_weight_it_is_zero_shot():
    task, queries, _ = world()
    zero_shot = create("zero-shot").fit(task).logits(queries)
    np.testing.assert_array_equal(create("tip-adapter", alpha=0).fit(task).logits(queries), zero_shot)


def test_an_unseen_class_is_still_found():
    task, queries, answers = world(queries=50)
    unseen = answers >= 9
    zero_shot = top1(create("zero-shot").fit(task).logits(queries)[unseen], answers[unseen])
    method = create("tip-adapter", alpha=20).fit(without(task, 9, 10, 11))
    assert top1(method.logits(queries)[unseen], answers[unseen]) > zero_shot - 0.1
    assert top1(method.logits(queries), answers) > top1(create("zero-shot").fit(task).logits(queries), answers)


def test_class_sums():
    np.testing.assert_array_equal(
        class_sums(np.float32([[1, 2, 4], [8, 16, 32]]), np.array([0, 1, 1])), [[1, 6], [8, 48]]
    )
