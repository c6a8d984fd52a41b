import numpy as np
import pytest

from jclip_adapter.core.errors import UsageError
from jclip_adapter.methods import create
from jclip_adapter.methods.training.multimodal import adapted_logits
from jclip_adapter.runtime import jt

from .worlds import World

SMALL = {"attention": 16, "inner": 8, "lr": 5e-3, "epochs": 40}


@pytest.fixture(scope="module")
def world():
    return World(noise=1.5, shift=2.0)


@pytest.mark.parametrize("mask", ["add", "block"])
@pytest.mark.parametrize("adapt", ["both", "image"])
def test_training_helps(world, mask, adapt):
    method = create("multimodal-adapter", **SMALL, mask=mask, adapt=adapt, ratio=0.5).fit(world.task)
    losses = [row["loss"] for row in method.history_]
    assert losses[-1] < losses[0]
    zero_shot = create("zero-shot").fit(world.task).logits(world.queries)
    assert world.accuracy(method.logits(world.queries)) > world.accuracy(zero_shot)


def test_ratio_zero_is_zero_shot(world):
    zero_shot = create("zero-shot").fit(world.task).logits(world.queries)
    for values in ({"ratio": 0.0}, {"epochs": 0}):
        logits = create("multimodal-adapter", **{**SMALL, **values}).fit(world.task).logits(world.queries)
        np.testing.assert_allclose(logits, zero_shot, atol=1e-4)


def test_queries_are_scored_each_for_itself(world):
    method = create("multimodal-adapter", **{**SMALL, "epochs": 1}).fit(world.task)
    many = np.tile(world.queries, (3, 1))  # more than one chunk of them
    logits = method.logits(many)
    weights = {name[7:-1]: jt.array(value) for name, value in method.learnt().items() if name.startswith("module_")}
    text = jt.array(world.task.text_features)
    facts = {"heads": 4, "mask": "add", "adapt": "both", "ratio": 0.2, "scale": 100.0}
    expected = adapted_logits(jt.array(world.queries), text, weights, **facts).numpy()
    np.testing.assert_allclose(logits, np.tile(expected, (3, 1)), atol=1e-3)


def test_unseen_classes_do_not_collapse():
    world = World(classes=8, unseen=3, shift=0.6)
    method = create("multimodal-adapter", **SMALL).fit(world.task)
    new = np.arange(5, 8)
    zero_shot = world.accuracy_on(create("zero-shot").fit(world.task).logits(world.queries), new)
    assert world.accuracy_on(method.logits(world.queries), new) > zero_shot - 0.2


def test_the_width_of_the_attention_is_divided_by_the_heads():
    with pytest.raises(UsageError, match="not a multiple of heads"):
        create("multimodal-adapter", attention=10, heads=4)


def test_same_seed_same_bytes(world, tmp_path):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        create("multimodal-adapter", seed=seed, **{**SMALL, "epochs": 2}).fit(world.task).save(tmp_path / name)
    same, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert same == again != other
