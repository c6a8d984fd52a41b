import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, normalise
from jclip_adapter.methods import create
from jclip_adapter.methods.proker import kernel
from tests.golden_files import Golden
from tests.methods.few_shot_worlds import top1, without, world


@pytest.fixture(scope="module")
def golden():
    return Golden("proker")


@pytest.fixture(scope="module")
def golden_task(golden):
    text = golden["text_weights_dC"].T
    return FewShotTask(golden["train"], golden["train_labels"], text, tuple(map(str, range(len(text)))))


@pytest.mark.golden
def test_the_kernel_is_the_originals(golden):
    rows = golden["train"][: len(golden["kernel_SS_beta1"])]
    np.testing.assert_allclose(kernel(rows, rows, 1.0), golden["kernel_SS_beta1"], atol=1e-5)


@pytest.mark.golden
def test_logits_are_the_originals(golden, golden_task):
    close = {"atol": golden.tolerance("logits_atol"), "rtol": golden.tolerance("logits_rtol")}
    for number, (beta, lmbda) in enumerate(golden["beta_lmbda"]):
        logits = create("proker", beta=beta, lmbda=lmbda).fit(golden_task).logits(golden["test"])
        np.testing.assert_allclose(logits, golden[f"test_logits_{number}"], **close)
    beta, lmbda = golden["best_beta_lmbda"]
    logits = create("proker", beta=beta, lmbda=lmbda).fit(golden_task).logits(golden["test"])
    np.testing.assert_allclose(logits, golden["test_logits_searched"], **close)


def test_logits_follow_the_formula():
    """(K/λ + I)⁻¹(Y − F·Tᵀ) in float64."""
    task, queries, _ = world()
    f, q, text = (x.astype(np.float64) for x in (task.support_features, queries, task.text_features))
    gram = np.exp(-2 * (1 - f @ f.T)) / 0.1 + np.eye(len(f))
    solution = np.linalg.inv(gram) @ (np.eye(12)[task.support_labels] - f @ text.T)
    expected = q @ text.T + np.exp(-2 * (1 - q @ f.T)) @ solution
    np.testing.assert_allclose(create("proker", beta=2, lmbda=0.1).fit(task).logits(queries), expected, atol=1e-5)


def test_it_beats_zero_shot_and_tends_to_it():
    task, queries, answers = world(queries=50)
    zero_shot = create("zero-shot").fit(task).logits(queries)
    np.testing.assert_allclose(create("proker", lmbda=1e-9).fit(task).logits(queries), zero_shot / 100, atol=1e-5)
    assert top1(create("proker").fit(task).logits(queries), answers) > top1(zero_shot, answers)


def test_views_are_rows_until_there_are_too_many():
    task, queries, _ = world()
    rng = np.random.default_rng(0)
    views = normalise(task.support_features + 0.1 * rng.standard_normal((3, *task.support_features.shape)))
    viewed = FewShotTask(
        task.support_features, task.support_labels, task.text_features, task.class_names, support_views=views
    )
    many, few = create("proker").fit(viewed), create("proker", max_rows=50).fit(viewed)
    np.testing.assert_array_equal(many.keys_, views.reshape(-1, task.width))
    np.testing.assert_allclose(few.keys_, normalise(views.mean(axis=0)))
    assert np.abs(many.logits(queries) - few.logits(queries)).max() < 0.2


def test_an_unseen_class_is_still_found():
    task, queries, answers = world(queries=50)
    unseen = answers >= 9
    zero_shot = create("zero-shot").fit(task).logits(queries)
    logits = create("proker").fit(without(task, 9, 10, 11)).logits(queries)
    assert top1(logits[unseen], answers[unseen]) > top1(zero_shot[unseen], answers[unseen]) - 0.1
    assert top1(logits, answers) > top1(zero_shot, answers)
