import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, normalise, softmax
from jclip_adapter.methods import create
from tests.golden_files import Golden


def task_of(features, labels, classes):
    width = features.shape[1]
    text = np.random.default_rng(0).standard_normal((classes, width))
    return FewShotTask(features, labels, text, tuple(map(str, range(classes))))


def objective(weight, bias, features, labels, c):
    """8.96·ΣCE + ½‖W‖², in float64 (METHODS: the contest's trained baseline)."""
    logits = features.astype(np.float64) @ weight.T.astype(np.float64) + bias.astype(np.float64)
    top = logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    loss = (log_sum - logits[np.arange(len(labels)), labels]).sum()
    return c * loss + 0.5 * (weight.astype(np.float64) ** 2).sum()


@pytest.mark.golden
def test_the_optimum_is_found():
    golden = Golden("baseline_ft_logreg")
    support, labels = golden["support"], golden["support_labels"]
    method = create("linear-probe").fit(task_of(support, labels, len(golden["coef"])))
    proba = softmax(method.logits(golden["test"]))
    np.testing.assert_allclose(proba, golden["proba"], atol=golden.tolerance("proba_vs_sklearn_atol"))
    np.testing.assert_allclose(proba, golden["exact_proba"], atol=golden.tolerance("proba_vs_exact_atol"))
    reached = objective(method.weight_, method.bias_, support, labels, method.hyper.c)
    assert reached == pytest.approx(float(golden["exact_objective"]), rel=golden.tolerance("objective_rtol"))


def test_two_classes_minimise_the_same_objective():
    rng = np.random.default_rng(1)
    features, labels = rng.standard_normal((12, 5)).astype(np.float32), np.arange(12) % 2
    method = create("linear-probe").fit(task_of(features, labels, 2))
    best = objective(method.weight_, method.bias_, features, labels, 8.96)
    for _ in range(50):
        step = rng.standard_normal((2, 5)) * 1e-3
        assert objective(method.weight_ + step, method.bias_, features, labels, 8.96) > best - 1e-6


def test_an_unseen_class_is_found_by_its_text():
    rng = np.random.default_rng(2)
    text = normalise(rng.standard_normal((4, 16)))
    labels = np.repeat([0, 1, 2], 5)
    photos = normalise(text[labels] + 0.1 * rng.standard_normal((15, 16)))
    method = create("linear-probe").fit(FewShotTask(photos, labels, text, tuple("abcd")))
    logits = method.logits(normalise(text + 0.1 * rng.standard_normal((4, 16))))
    assert logits.argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert method.weight_.shape == (3, 16)
