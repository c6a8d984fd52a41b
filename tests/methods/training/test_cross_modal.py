import dataclasses
import itertools
import re

import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, normalise
from jclip_adapter.methods.training.cross_modal import (
    Head,
    joint_batches,
    text_rows,
    train_head,
    zero_shot_weights,
)
from jclip_adapter.methods.training.layers import bottleneck, bottleneck_numpy
from jclip_adapter.methods.training.loop import Batches
from jclip_adapter.methods.training.optimizers import warmup_cosine
from jclip_adapter.runtime import jt
from tests.golden_files import Golden


@pytest.fixture(scope="module")
def golden():
    return Golden("cross_modal")


def cases():
    """The training runs in the file: every key that ends in _losses."""
    return sorted(key.removesuffix("_losses") for key in Golden("cross_modal").arrays if key.endswith("_losses"))


def batches_of(golden, case, images, texts):
    """Each step's rows of [images; texts]: all, or fixed mini-batches that are cycled through."""
    steps = len(golden[f"{case}_losses"])
    if "mini" not in case:
        return [np.arange(images + (0 if "uni" in case else texts))] * steps
    share, other = map(int, re.findall(r"batch (\d+)", golden.facts["arguments"]["mini"]))
    pairs = zip(
        itertools.cycle(golden["mini_image_index"].reshape(-1, share)),
        itertools.cycle(golden["mini_text_index"].reshape(-1, other) + images),
        strict=False,
    )
    return [np.concatenate(pair) for pair in itertools.islice(pairs, steps)]


def start_of(golden, case):
    weight = golden["zero_shot_weights"] if "_zs_" in case else golden["W0"]
    if not case.startswith("adapter"):
        return Head(weight)
    return Head(weight, golden["adapter_fc0"], golden["adapter_fc2"])


def scale_of(golden, case):
    stated = golden.facts["arguments"]["logit_scale"]
    return float(np.exp(float(re.findall(r"exp\(([\d.]+)\)", stated)["logit4" in case])))


@pytest.mark.golden
@pytest.mark.parametrize("case", cases())
def test_training_is_the_originals(golden, case):
    images, texts = normalise(golden["train_image_raw"]), normalise(golden["text_raw"])
    rows = np.concatenate([images, texts]), np.concatenate([golden["train_image_labels"], golden["text_labels"]])
    batches = batches_of(golden, case, len(images), len(texts))
    arguments = golden.facts["arguments"]["adapter" if case.startswith("adapter") else "linear"]
    warmup, scale = golden.facts["arguments"]["warmup"], scale_of(golden, case)
    stated = re.search(r"T_max (\d+)", golden.facts["arguments"]["logit_scale"]) if "short" in case else None
    period = int(stated[1]) if stated else golden.facts["arguments"]["cosine_T_max"]

    def schedule(step):
        return warmup_cosine(step, arguments["lr"], period, warmup=warmup["iters"], floor=warmup["min_lr"])

    def train(steps):
        head, history = train_head(
            start_of(golden, case),
            rows,
            Batches(batches[:steps], steps),
            scale=scale,
            schedule=schedule,
            weight_decay=arguments["wd"],
        )
        return [part for part in (head.down, head.up, head.weight) if part is not None], head, history

    first, _, _ = train(1)
    np.testing.assert_allclose(first[0], golden[f"{case}_param0_step1"], atol=golden.tolerance("weight_atol"))
    learnt, head, history = train(len(batches))
    for number, array in enumerate(learnt):
        np.testing.assert_allclose(
            array, golden[f"{case}_param{number}_last"], atol=golden.tolerance("weight_atol"), err_msg=case
        )
    np.testing.assert_allclose(history.step_losses, golden[f"{case}_losses"], rtol=golden.tolerance("loss_rtol"))
    test = normalise(golden["test"])
    if head.down is not None:
        test = bottleneck_numpy(test, head.down, head.up, head.ratio)
    close = {"atol": golden.tolerance("logits_atol")}
    np.testing.assert_allclose(scale * test @ head.weight.T, golden[f"{case}_test_logits_last"], **close)
    for share in (0.5, 0.2):  # of zero-shot
        weight = (1 - share) * head.weight + share * golden["zero_shot_weights"]
        np.testing.assert_allclose(scale * test @ weight.T, golden[f"{case}_wiseft{share}_logits"], **close)


@pytest.mark.golden
def test_zero_shot_weights_are_the_originals(golden):
    texts, width = golden["text_raw"], golden["text_raw"].shape[1]
    several = golden["text_raw_3templates"].reshape(len(texts), -1, width).mean(axis=1)
    for raw, key in ((texts, "zero_shot_weights"), (several, "zero_shot_weights_3templates")):
        names = tuple(map(str, range(len(raw))))
        task = FewShotTask(np.zeros((0, width)), np.zeros(0), normalise(raw), names, text_raw=raw)
        np.testing.assert_allclose(zero_shot_weights(task), golden[key], atol=golden.tolerance("weight_atol"))


@pytest.fixture
def task():
    rng = np.random.default_rng(0)
    rows = normalise(rng.standard_normal((14, 8)))
    return FewShotTask(rows[:4], [0, 1, 1, 2], rows[4:7], ("a", "b", "c"))


def test_rows_are_the_views_templates_and_modalities_where_there_are_any(task):
    np.testing.assert_array_equal(task.photo_rows()[0], task.support_features)
    np.testing.assert_array_equal(text_rows(task)[1], [0, 1, 2])
    assert task.extra_rows() == {}
    views = np.stack([task.support_features, task.support_features[:, ::-1]])
    templates = tuple(np.repeat(task.text_features[[c]], c + 1, axis=0) for c in range(3))
    rich = dataclasses.replace(
        task, support_views=views, text_views=templates, extra_features=task.text_features[:1], extra_labels=[2]
    )
    features, labels = rich.photo_rows()
    np.testing.assert_array_equal(labels, [0, 1, 1, 2, 0, 1, 1, 2])
    np.testing.assert_array_equal(features[5], views[1, 1])
    np.testing.assert_array_equal(text_rows(rich)[1], [0, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(rich.extra_rows()[""][1], [2])


def test_each_modality_gives_an_equal_share_of_a_batch():
    batch = next(joint_batches([10, 6, 1], 9, 1, np.random.default_rng(2)).stream)
    assert [int(((batch >= low) & (batch < high)).sum()) for low, high in ((0, 10), (10, 16), (16, 17))] == [3, 3, 1]


def test_a_bottleneck_is_the_same_in_numpy():
    rng = np.random.default_rng(3)
    x, down, up = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, 8), (2, 8), (8, 2)))
    expected = 0.3 * np.maximum(up.astype(np.float64) @ np.maximum(down @ x.T.astype(np.float64), 0), 0).T + 0.7 * x
    np.testing.assert_allclose(bottleneck_numpy(x, down, up, 0.3), expected, atol=1e-6)
    np.testing.assert_allclose(bottleneck(*map(jt.array, (x, down, up)), 0.3).numpy(), expected, atol=1e-6)


def test_masked_rows_leave_the_masked_classes_alone():
    rng = np.random.default_rng(6)
    rows = normalise(rng.standard_normal((4, 8))), np.array([0, 1, 0, 2])
    head = Head(rng.standard_normal((3, 8)).astype(np.float32))
    left_out = np.array([0, 0, 0, 1]), np.array([[False, False, True], [False, False, False]])
    facts = {"scale": 10.0, "schedule": lambda step: 1e-2, "weight_decay": 0.0, "left_out": left_out}
    photos, _ = train_head(head, rows, Batches([np.array([0, 1, 2])] * 3, 3), **facts)
    np.testing.assert_array_equal(photos.weight[2], head.weight[2])
    assert (photos.weight[:2] != head.weight[:2]).all()
    text, _ = train_head(head, rows, Batches([np.array([3])], 1), **facts)
    assert (text.weight != head.weight).all()
