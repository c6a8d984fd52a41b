import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, Queries, normalise
from jclip_adapter.methods import create
from jclip_adapter.methods.training.layers import linear_weight
from jclip_adapter.methods.training.seen_classes import only_seen

CLASSES, WIDTH, SHOTS = 6, 32, 4


@pytest.fixture(scope="module")
def world():
    """Classes whose text and photos disagree by one common shift: what an adapter can learn."""
    rng = np.random.default_rng(3)
    text = normalise(rng.standard_normal((CLASSES, WIDTH)))
    shift = 1.2 * rng.standard_normal(WIDTH) / WIDTH**0.5

    def photos(count):
        labels = np.repeat(np.arange(CLASSES), count)
        noise = 0.25 * rng.standard_normal((len(labels), WIDTH)) / WIDTH**0.5 * 4
        return normalise(text[labels] + shift + noise), labels

    features, labels = photos(SHOTS)
    queries, answers = photos(20)
    return FewShotTask(features, labels, text, tuple("abcdef")), queries, answers


@pytest.mark.parametrize("adapt", ["image", "text", "both"])
def test_training_lowers_the_loss_and_helps(world, adapt):
    task, queries, answers = world
    method = create("jclip-adapter", adapt=adapt, lr=1e-2, epochs=30).fit(task)
    losses = [row["loss"] for row in method.history_]
    assert losses[-1] < losses[0]
    zero_shot = create("zero-shot").fit(task).logits(queries).argmax(axis=1)
    assert (method.logits(queries).argmax(axis=1) == answers).mean() > (zero_shot == answers).mean()


@pytest.mark.parametrize("adapt", ["image", "text", "both"])
def test_ratio_zero_is_zero_shot(world, adapt):
    task, queries, _ = world
    logits = create("jclip-adapter", adapt=adapt, ratio=0, epochs=1).fit(task).logits(queries)
    np.testing.assert_allclose(logits, create("zero-shot").fit(task).logits(queries), atol=2e-4)


def test_logits_follow_the_formula(world):
    """f* = normalise(R·(W₂·ReLU(W₁f + b₁) + b₂) + (1−R)·f); logits = s·f*·Tᵀ, in float64."""
    task, queries, _ = world
    method = create("jclip-adapter", ratio=0.3, width=5, epochs=2).fit(task)
    assert method.down_.shape == (5, WIDTH)
    f = queries.astype(np.float64)
    hidden = np.maximum(f @ method.down_.T.astype(np.float64) + method.down_bias_, 0)
    mixed = 0.3 * (hidden @ method.up_.T.astype(np.float64) + method.up_bias_) + 0.7 * f
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    np.testing.assert_allclose(method.logits(queries), 100 * mixed @ task.text_features.T, atol=1e-3)


def adapted(rows, arrays, ratio):
    """normalise(R·(W₂·ReLU(W₁x + b₁) + b₂) + (1−R)·x), in float64."""
    down, down_bias, up, up_bias = (array.astype(np.float64) for array in arrays)
    mixed = ratio * (np.maximum(rows @ down.T + down_bias, 0) @ up.T + up_bias) + (1 - ratio) * rows
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


@pytest.mark.parametrize("bias", [True, False])
def test_ratios_temperature_and_bias_follow_the_formula(world, bias):
    """The first loss is the cross-entropy of f*·T*ᵀ/τ with weights as drawn; α and β have adapters of their own.

    The weights as drawn are read off a method without epochs; one without training on texts gives the image's.
    """
    task, queries, _ = world
    given = {"adapt": "both", "ratio": 0.3, "text_ratio": 0.6, "temperature": 0.05, "bias": bias, "width": 5}
    drawn = create("jclip-adapter", **given, epochs=0).fit(task)
    image = (drawn.down_, drawn.down_bias_, drawn.up_, drawn.up_bias_)
    text = text_bottleneck(drawn)
    f, t = (np.asarray(rows, dtype=np.float64) for rows in (task.support_features, task.text_features))
    np.testing.assert_allclose(drawn.text_, adapted(t, text, 0.6), atol=1e-5)
    logits = adapted(f, image, 0.3) @ adapted(t, text, 0.6).T / 0.05
    loss = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(f)), task.support_labels])
    method = create("jclip-adapter", **given, epochs=20, batch_size=999).fit(task)
    assert method.step_losses_[0] == pytest.approx(loss, rel=1e-4)
    assert method.down_bias_.any() == method.up_bias_.any() == bias
    image = (method.down_, method.down_bias_, method.up_, method.up_bias_)
    expected = adapted(queries.astype(np.float64), image, 0.3) @ method.text_.T.astype(np.float64) / 0.05
    np.testing.assert_allclose(method.logits(queries), expected, atol=1e-3)


def text_bottleneck(method):
    """The text adapter's weights as they are drawn, after the image adapter's, from the method's seed."""
    rng = np.random.default_rng(method.seed)
    draws = [linear_weight(rng, *shape) for shape in 2 * ((WIDTH, 5), (5, WIDTH))]
    np.testing.assert_array_equal(draws[0], method.down_)
    return draws[2], np.zeros(5), draws[3], np.zeros(WIDTH)


def test_text_ratio_is_the_ratio_unless_it_is_given(world):
    task, queries, _ = world
    same, given, other = (
        create("jclip-adapter", adapt="text", epochs=2, ratio=0.3, **more).fit(task).logits(queries)
        for more in ({}, {"text_ratio": 0.3}, {"text_ratio": 0.0})
    )
    np.testing.assert_array_equal(same, given)
    np.testing.assert_allclose(other, create("zero-shot").fit(task).logits(queries), atol=2e-4)


@pytest.fixture(scope="module")
def gaps(world):
    """The same world without shots of its last two classes."""
    task, _, _ = world
    return task.keep(task.support_labels < CLASSES - 2)


def close_world(count=12, noise=0.9):
    """Classes in pairs whose texts have a cosine of about 0.9; the second of each pair of the last half has no shot."""
    rng = np.random.default_rng(4)
    first = normalise(rng.standard_normal((count // 2, WIDTH)))
    text = normalise(np.concatenate([first, first + 0.5 * normalise(rng.standard_normal(first.shape))]))

    def photos(shots):
        labels = np.repeat(np.arange(count), shots)
        return normalise(text[labels] + noise * normalise(rng.standard_normal((len(labels), WIDTH)))), labels

    task = FewShotTask(*photos(SHOTS), text, tuple("abcdefghijkl"))
    return task.keep(task.support_labels < 3 * count // 4), *photos(40)


@pytest.mark.parametrize("adapt", ["image", "text", "both"])
def test_classes_without_shots_are_not_pushed_away(adapt):
    task, queries, answers = close_world()
    unseen = ~np.isin(answers, task.seen)
    method = create("jclip-adapter", adapt=adapt, lr=1e-2, epochs=30).fit(task)
    zero_shot = create("zero-shot").fit(task)
    right, before = (scorer.logits(queries).argmax(axis=1) == answers for scorer in (method, zero_shot))
    assert right[unseen].mean() >= before[unseen].mean() - 0.05
    assert right[~unseen].mean() >= before[~unseen].mean() - 0.05


def test_with_gaps_scores_are_the_mean_with_zero_shots_and_an_offset(world, gaps):
    _, queries, _ = world
    method = create("jclip-adapter", ratio=0.3, epochs=2).fit(gaps)
    image = (method.down_, method.down_bias_, method.up_, method.up_bias_)
    f, t = queries.astype(np.float64), gaps.text_features.astype(np.float64)
    offset = method.offset_[-1]
    expected = 50 * (adapted(f, image, 0.3) + f) @ t.T + offset * np.array([0, 0, 0, 0, 1, 1])
    np.testing.assert_allclose(method.logits(queries), expected, atol=1e-3)
    assert offset


def test_among_classes_of_one_kind_the_adapters_own_scores_count(world, gaps):
    rows = Queries(world[1])
    method = create("jclip-adapter", epochs=3).fit(gaps)
    alone = create("jclip-adapter", epochs=3).fit(only_seen(gaps))
    unseen = np.setdiff1d(np.arange(CLASSES), gaps.seen)
    np.testing.assert_allclose(method.logits_among(rows, gaps.seen), alone.logits(rows), atol=1e-4)
    zero_shot = 100 * rows.features @ gaps.text_features.T
    own = 2 * (method.logits(rows) - method.offset_) - zero_shot
    np.testing.assert_allclose(method.logits_among(rows, unseen), own[:, unseen], atol=1e-3)
    every = np.arange(CLASSES)
    np.testing.assert_array_equal(method.logits_among(rows, every), method.logits(rows))


def test_fitted_again_without_gaps_nothing_of_them_is_left(world, gaps):
    task, queries, _ = world
    method = create("jclip-adapter", epochs=2)
    fresh = create("jclip-adapter", epochs=2).fit(task)
    np.testing.assert_array_equal(method.fit(gaps).fit(task).logits(queries), fresh.logits(queries))
    assert method.learnt().keys() == fresh.learnt().keys()


def test_history_is_the_cross_entropy_of_the_first_step(world):
    """One epoch in one batch: the loss reported is that of the weights as drawn, here with ratio 0."""
    task, _, _ = world
    method = create("jclip-adapter", ratio=0, epochs=1, batch_size=999).fit(task)
    logits = 100 * task.support_features.astype(np.float64) @ task.text_features.T
    chosen = logits[np.arange(len(logits)), task.support_labels]
    loss = np.mean(np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1) - chosen)
    assert method.history_[0]["loss"] == pytest.approx(loss, rel=1e-4)
    top1 = 100 * (logits.argmax(1) == task.support_labels).mean()
    assert method.history_[0]["top1"] == pytest.approx(top1)


def test_the_slides_double_softmax_cannot_get_below_its_floor(world):
    """With softmax before the cross-entropy the loss cannot fall below ln(1 + (C−1)/e)."""
    task, _, _ = world
    method = create("jclip-adapter", double_softmax=True, epochs=40, lr=1e-2).fit(task)
    floor = np.log(1 + (CLASSES - 1) / np.e)
    losses = [row["loss"] for row in method.history_]
    assert min(losses) >= floor - 1e-4
    assert losses[-1] < losses[0]
    assert create("jclip-adapter", epochs=40, lr=1e-2).fit(task).history_[-1]["loss"] < floor / 2


def test_same_seed_same_bytes(world, tmp_path):
    task, _, _ = world
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        create("jclip-adapter", seed=seed, epochs=2).fit(task).save(tmp_path / name)
    same, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert same == again != other
