import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, normalise
from jclip_adapter.methods import create

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
