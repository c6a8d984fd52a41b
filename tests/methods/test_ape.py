import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask
from jclip_adapter.methods import create
from jclip_adapter.methods.ape import best_channels, criterion, surprise
from tests.golden_files import Golden
from tests.methods.few_shot_worlds import top1, without, world


@pytest.fixture(scope="module")
def golden():
    return Golden("ape")


@pytest.fixture(scope="module")
def cases(golden):
    """(texts and photos or texts alone, the weight of the similarity) of the criteria stored."""
    names = [key.removeprefix("criterion_") for key in golden.arrays if key.startswith("criterion_")]
    return [(name, *name.rsplit("_w", 1)) for name in names]


@pytest.mark.golden
def test_criterion_and_channels_are_the_originals(golden, cases):
    assert cases
    text, kept = golden["text_weights_dC"].T, golden.facts["arguments"]["training_free_feat_num"]
    for name, rows, weight in cases:
        photos = slice(None) if rows == "txt_img" else slice(0)
        found = criterion(text, golden["support"][photos], golden["support_labels"][photos], float(weight))
        expected = golden[f"criterion_{name}"]
        close = golden.tolerance("criterion_rtol") * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=close)
        assert set(best_channels(found, kept / len(found))) == set(golden[f"indices_{name}"].tolist())


def fitted(golden, weight):
    arguments, text = golden.facts["arguments"], golden["text_weights_dC"].T
    task = FewShotTask(golden["support"], golden["support_labels"], text, tuple(map(str, range(len(text)))))
    values = {key: arguments["init"][key] for key in ("alpha", "beta", "gamma")}
    share = arguments["training_free_feat_num"] / text.shape[1]
    return create("ape", **values, channels=share, similarity=weight).fit(task)


@pytest.mark.golden
def test_logits_before_and_after_the_search_are_the_originals(golden, cases):
    """Which of the criteria the stored logits were made with is not said: one of them it is, the same for both."""
    alpha, beta, gamma = (float(value) for value in golden["best_alpha_beta_gamma"])
    worst = []
    for weight in {weight for _, _, weight in cases}:
        method = fitted(golden, float(weight))
        before = method.logits(golden["test"]) - golden["ape_logits_before_search"]
        after = method.with_values(alpha=alpha, beta=beta, gamma=gamma).logits(golden["test"])
        worst.append(max(np.abs(before).max(), np.abs(after - golden["ape_logits_after_search"]).max()))
    assert min(worst) <= golden.tolerance("logits_atol")


def test_the_criterion_is_the_mean_over_pairs():
    """Pair by pair, with classes of unequal size."""
    rng = np.random.default_rng(0)
    text, rows, labels = rng.standard_normal((3, 5)), rng.standard_normal((4, 5)), np.array([0, 0, 2, 0])
    every, owner = np.concatenate([text, rows]), np.array([0, 1, 2, *labels])
    products = [every[i] * every[j] for i in range(7) for j in range(7) if owner[i] != owner[j]]
    expected = -0.4 * np.mean(products, axis=0) + 0.6 * text.var(axis=0, ddof=1)
    np.testing.assert_allclose(criterion(text, rows, labels, 0.4), expected, rtol=1e-10)
    assert not criterion(text[:1], rows, np.zeros(4, int), 0.4).any()


def test_surprise_is_the_divergence_of_the_label():
    rng = np.random.default_rng(0)
    keys, text, labels = rng.standard_normal((4, 6)), rng.standard_normal((3, 6)), np.array([0, 2, 1, 1])
    p = np.exp(keys @ text.T) / np.exp(keys @ text.T).sum(axis=1, keepdims=True)
    y = np.eye(3)[labels]
    np.testing.assert_allclose(surprise(keys, labels, text), (y * np.log2((y + 1e-6) / (p + 1e-6))).sum(1), rtol=1e-5)


def test_all_channels_and_equal_votes_are_tip_adapter():
    task, queries, _ = world()
    tip = create("tip-adapter", alpha=3, beta=2).fit(task).logits(queries)
    ape = create("ape", alpha=3, beta=2, gamma=0, channels=1).fit(task)
    np.testing.assert_allclose(ape.logits(queries), tip, atol=1e-4)
    zero_shot = create("zero-shot").fit(task).logits(queries)
    np.testing.assert_array_equal(ape.with_values(alpha=0).logits(queries), zero_shot)


def test_logits_follow_the_formula():
    task, queries, _ = world()
    method = create("ape", alpha=2, beta=3, gamma=0.2, channels=0.5).fit(task)
    kept = method.channels_
    assert len(kept) == task.width // 2
    q, f, t = (x.astype(np.float64) for x in (queries, task.support_features, task.text_features))
    q2, f2, t2 = (x[:, kept] / np.linalg.norm(x[:, kept], axis=1, keepdims=True) for x in (q, f, t))
    y = np.eye(12)[task.support_labels]
    p = np.exp(f2 @ t2.T) / np.exp(f2 @ t2.T).sum(axis=1, keepdims=True)
    values = y * np.exp(0.2 * (y * np.log2((y + 1e-6) / (p + 1e-6))).sum(axis=1, keepdims=True))
    expected = 100 * q @ t.T + 2 * np.exp(-3 * (1 - q2 @ f2.T)) @ values
    np.testing.assert_allclose(method.logits(queries), expected, atol=1e-3)


def test_it_beats_zero_shot_and_unseen_classes_are_still_found():
    task, queries, answers = world(queries=50)
    unseen = answers >= 9
    zero_shot = create("zero-shot").fit(task).logits(queries)
    method = create("ape", alpha=5).fit(task)
    assert top1(method.logits(queries), answers) > top1(zero_shot, answers)
    logits = create("ape", alpha=5).fit(without(task, 9, 10, 11)).logits(queries)
    assert top1(logits[unseen], answers[unseen]) > top1(zero_shot[unseen], answers[unseen]) - 0.1
    assert top1(logits, answers) > top1(zero_shot, answers)
