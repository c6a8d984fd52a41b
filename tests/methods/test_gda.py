import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, class_means, normalise
from jclip_adapter.methods import create
from jclip_adapter.methods.gda import precision
from tests.golden_files import Golden
from tests.methods.few_shot_worlds import top1, without, world


def golden_task(golden, count):
    text = golden["text_weights_dC"].T
    views = normalise(golden["support_views_raw"][:count])
    names = tuple(map(str, range(len(text))))
    return FewShotTask(views[0], golden["support_labels"], text, names, support_views=views if count > 1 else None)


def close(actual, golden, key, tolerance):
    """Relative to the largest number: the original inverts in float32."""
    np.testing.assert_allclose(actual, golden[key], atol=golden.tolerance(tolerance) * np.abs(golden[key]).max())


@pytest.fixture(scope="module")
def golden():
    return Golden("gda_iclr24")


@pytest.fixture(params=Golden("gda_iclr24").facts["arguments"]["augment_epoch"])
def case(request, golden):
    return f"aug{request.param}", golden_task(golden, request.param)


@pytest.mark.golden
def test_the_gaussian_is_the_originals(golden, case):
    name, task = case
    features = task.support_features if task.support_views is None else task.support_views.reshape(-1, task.width)
    labels = np.tile(task.support_labels, len(features) // len(task.support_labels))
    means = class_means(features, labels, task.num_classes)
    np.testing.assert_allclose(means, golden[f"mu_{name}"], atol=1e-6)
    close(precision(features.astype(np.float64), labels, means), golden, f"cov_inv_{name}", "cov_inv_rtol")
    method = create("gda").fit(task)
    close(method.weight_.T, golden, f"W_{name}", "W_rtol")
    close(method.bias_, golden, f"b_{name}", "b_rtol")


@pytest.mark.golden
def test_alpha_and_logits_are_the_originals(golden, case):
    name, task = case
    method = create("gda").fit(task)
    alphas = golden.facts["arguments"]["alphas"]
    found = [top1(method.with_values(alpha=a).logits(golden["val"]), golden["val_labels"]) for a in alphas]
    np.testing.assert_allclose(100 * np.array(found), golden[f"val_acc_per_alpha_{name}"], atol=1e-4)
    assert alphas[int(np.argmax(found))] == pytest.approx(float(golden[f"best_alpha_{name}"]))
    logits = method.with_values(alpha=float(golden[f"best_alpha_{name}"])).logits(golden["test"])
    np.testing.assert_allclose(logits, golden[f"test_logits_{name}"], atol=golden.tolerance("logits_atol"))


def test_logits_follow_the_formula():
    """Every step in float64, with numpy's pseudo-inverse and covariance."""
    task, queries, _ = world()
    rows, labels, text = (
        np.asarray(x, np.float64) for x in (task.support_features, task.support_labels, task.text_features)
    )
    means = np.stack([rows[labels == c].mean(axis=0) for c in range(12)])
    centred = rows - means[labels.astype(int)]
    cov, n, d = np.cov(centred.T), len(rows), rows.shape[1]
    p = d * np.linalg.pinv((n - 1) * cov + np.trace(cov) * np.eye(d))
    b = -np.log(12) - 0.5 * np.einsum("cd,de,ce->c", means, p, means)
    expected = 100 * queries @ text.T + 0.3 * (queries @ p @ means.T + b)
    np.testing.assert_allclose(create("gda", alpha=0.3).fit(task).logits(queries), expected, rtol=1e-4, atol=1e-3)


def test_it_beats_zero_shot_and_is_it_without_weight():
    task, queries, answers = world(queries=50)
    zero_shot = create("zero-shot").fit(task).logits(queries)
    np.testing.assert_array_equal(create("gda", alpha=0).fit(task).logits(queries), zero_shot)
    assert top1(create("gda").fit(task).logits(queries), answers) > top1(zero_shot, answers)


@pytest.mark.parametrize("copies", [1, 3])
def test_without_any_scatter_zero_shot_is_left(copies):
    task, queries, _ = world(shots=1)
    rows, labels = np.repeat(task.support_features, copies, axis=0), np.repeat(task.support_labels, copies)
    same = FewShotTask(rows, labels, task.text_features, task.class_names)
    logits = create("gda", alpha=1).fit(same).logits(queries)
    np.testing.assert_array_equal(logits, create("zero-shot").fit(task).logits(queries))


def test_an_unseen_class_is_still_found():
    task, queries, answers = world(queries=50)
    unseen = answers >= 9
    zero_shot = create("zero-shot").fit(task).logits(queries)
    logits = create("gda").fit(without(task, 9, 10, 11)).logits(queries)
    assert top1(logits[unseen], answers[unseen]) > top1(zero_shot[unseen], answers[unseen]) - 0.1
    assert top1(logits, answers) > top1(zero_shot, answers)
