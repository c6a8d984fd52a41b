import itertools

import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, Queries, normalise
from jclip_adapter.methods import create
from jclip_adapter.methods.clip_adapter import ClipAdapter, adapter_scores, train_adapter
from jclip_adapter.methods.training.loop import Batches
from jclip_adapter.runtime import jt
from tests.golden_files import Golden

from .worlds import World


@pytest.fixture(scope="module")
def golden():
    return Golden("clip_adapter")


@pytest.fixture(scope="module")
def world():
    return World()


def reference(raw, down, up, text, ratio, scale):
    """logits = s·x'/‖x'‖·Tᵀ, x' = R·ReLU(W₂·ReLU(W₁x)) + (1−R)·x, in float64."""
    x = raw.astype(np.float64)
    mixed = ratio * np.maximum(np.maximum(x @ down.T.astype(np.float64), 0) @ up.T, 0) + (1 - ratio) * x
    return scale * (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)) @ text.T


def facts_of(golden):
    arguments = golden.facts["arguments"]
    return {"ratio": arguments["ratio"], "scale": arguments["logit_scale"]}


@pytest.mark.golden
def test_logits_are_the_originals(golden):
    text, facts = normalise(golden["text_raw"]), facts_of(golden)
    task = FewShotTask(
        normalise(golden["train_raw"]),
        golden["train_labels"],
        text,
        tuple(map(str, range(len(text)))),
        logit_scale=facts["scale"],
        support_raw=golden["train_raw"],
    )
    method = create("clip-adapter", ratio=facts["ratio"], epochs=0).fit(task)
    for fc0, fc2, key in (("fc0", "fc2", "test_logits"), ("fc0_after20", "fc2_after20", "test_logits_after20")):
        method.down_, method.up_ = golden[fc0], golden[fc2]
        logits = method.logits(Queries(normalise(golden["test_raw"]), golden["test_raw"]))
        np.testing.assert_allclose(logits, golden[key], atol=golden.tolerance("logits_atol"))


@pytest.mark.golden
def test_loss_and_gradients_are_the_originals(golden):
    down, up, raw, text = (
        jt.array(array) for array in (golden["fc0"], golden["fc2"], golden["train_raw"], normalise(golden["text_raw"]))
    )
    scores = adapter_scores(raw, down, up, text, **facts_of(golden))
    np.testing.assert_allclose(scores.numpy(), golden["train_logits"], atol=golden.tolerance("logits_atol"))
    loss = jt.nn.cross_entropy_loss(scores, jt.array(golden["train_labels"].astype(np.int32)))
    assert loss.item() == pytest.approx(float(golden["loss"]), rel=golden.tolerance("grad_rtol"))
    for gradient, key in zip(jt.grad(loss, [down, up]), ("grad_fc0", "grad_fc2"), strict=True):
        close = golden.tolerance("grad_rtol")
        np.testing.assert_allclose(gradient.numpy(), golden[key], rtol=close, atol=close * np.abs(golden[key]).max())


@pytest.mark.golden
def test_sgd_steps_are_the_originals(golden):
    sgd, facts = golden.facts["arguments"]["sgd"], facts_of(golden)
    values = {key: sgd[key] for key in ("lr", "momentum", "weight_decay")}
    everything = Batches(itertools.repeat(np.arange(len(golden["train_raw"]))), sgd["steps"])
    down, up, history = train_adapter(
        (golden["fc0"], golden["fc2"]),
        (golden["train_raw"], golden["train_labels"]),
        normalise(golden["text_raw"]),
        everything,
        hyper=ClipAdapter.Hyper(ratio=facts["ratio"], **values),
        scale=facts["scale"],
    )
    np.testing.assert_allclose(down, golden["fc0_after20"], atol=golden.tolerance("after20_weight_atol"))
    np.testing.assert_allclose(up, golden["fc2_after20"], atol=golden.tolerance("after20_weight_atol"))
    np.testing.assert_allclose(history.step_losses, golden["losses20"], rtol=golden.tolerance("grad_rtol"))


def test_logits_follow_the_formula(world):
    method = create("clip-adapter", epochs=2, ratio=0.3, reduction=8).fit(world.task)
    assert method.down_.shape == (4, 32)
    queries = Queries(world.queries, world.raw)
    expected = reference(world.raw, method.down_, method.up_, world.task.text_features, 0.3, 100)
    np.testing.assert_allclose(method.logits(queries), expected, atol=1e-3)


def test_training_helps(world):
    queries = Queries(world.queries, world.raw)
    method = create("clip-adapter", ratio=0.5, epochs=60).fit(world.task)
    losses = [row["loss"] for row in method.history_]
    assert losses[-1] < losses[0] / 2
    zero_shot = create("zero-shot").fit(world.task).logits(world.queries)
    assert world.accuracy(method.logits(queries)) > world.accuracy(zero_shot)


def test_ratio_zero_is_zero_shot_and_takes_no_step(world):
    method = create("clip-adapter", ratio=0).fit(world.task)
    assert method.history_ == []
    logits = method.logits(Queries(world.queries, world.raw))
    np.testing.assert_allclose(logits, create("zero-shot").fit(world.task).logits(world.queries), atol=2e-4)


def test_unseen_classes_do_not_collapse():
    world = World(classes=8, unseen=3, shift=0.6)
    queries = Queries(world.queries, world.raw)
    method = create("clip-adapter", epochs=60, ratio=0.5).fit(world.task)
    new = np.arange(5, 8)
    zero_shot = world.accuracy_on(create("zero-shot").fit(world.task).logits(world.queries), new)
    assert world.accuracy_on(method.logits(queries), new) > zero_shot - 0.2


def test_without_raw_features_the_normalised_ones_are_taken():
    raw = World()
    task = FewShotTask(raw.task.support_features, raw.task.support_labels, raw.task.text_features, raw.task.class_names)
    method = create("clip-adapter", epochs=2).fit(task)
    expected = reference(raw.queries, method.down_, method.up_, task.text_features, 0.2, 100)
    np.testing.assert_allclose(method.logits(raw.queries), expected, atol=1e-3)


def test_same_seed_same_bytes(world, tmp_path):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        create("clip-adapter", seed=seed, epochs=2).fit(world.task).save(tmp_path / name)
    same, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert same == again != other
