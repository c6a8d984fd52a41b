import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, normalise
from jclip_adapter.methods import create
from jclip_adapter.methods.tip_adapter_f import cache_logits
from jclip_adapter.methods.training.class_columns import ClassColumns
from jclip_adapter.methods.training.optimizers import AdamW, cosine
from jclip_adapter.runtime import jt
from tests.golden_files import Golden
from tests.methods.few_shot_worlds import top1, without, world


@pytest.fixture(scope="module")
def golden():
    return Golden("tip_adapter_F")


@pytest.mark.golden
def test_every_step_is_the_originals(golden):
    arguments = golden.facts["arguments"]
    options = {"alpha": arguments["alpha"], "beta": arguments["beta"], "scale": 100.0}
    train, labels = normalise(golden["train_raw"]), golden["train_labels"].astype(np.int32)
    keys = jt.array(np.ascontiguousarray(golden["cache_keys_dN"].T))
    columns = ClassColumns(golden["cache_values_NC"].argmax(axis=1), golden["cache_values_NC"].shape[1])
    text = jt.array(np.ascontiguousarray(golden["text_weights_dC"].T))
    optimiser = AdamW([keys], arguments["lr"], eps=arguments["eps"], weight_decay=arguments["weight_decay"])
    batches = golden["batch_index"]
    for step, expected in enumerate(golden["weight_after_step"]):
        rows = batches[step % len(batches)]
        rate = cosine(step, arguments["lr"], arguments["epochs"] * len(batches))
        assert rate == pytest.approx(golden["lr_at_step"][step], rel=1e-6)
        scores = cache_logits(jt.array(train[rows]), keys, columns, text, **options)
        loss = jt.nn.cross_entropy_loss(scores, jt.array(labels[rows]))
        optimiser.step(loss, rate)
        assert loss.item() == pytest.approx(golden["loss_at_step"][step], abs=golden.tolerance("loss_atol"))
        np.testing.assert_allclose(keys.numpy(), expected, atol=golden.tolerance("weight_atol"))
        if (step + 1) % len(batches) == 0:
            logits = cache_logits(jt.array(golden["test"]), keys, columns, text, **options).numpy()
            wanted = golden["test_logits_per_epoch"][step // len(batches)]
            np.testing.assert_allclose(logits, wanted, atol=golden.tolerance("logits_atol"))


@pytest.mark.golden
def test_the_methods_own_loop_is_the_originals_where_one_batch_holds_all(golden):
    """Its keys after one step on the whole set: those of the first step of the formula on the whole set."""
    arguments = golden.facts["arguments"]
    train, labels, text = normalise(golden["train_raw"]), golden["train_labels"], golden["text_weights_dC"].T
    task = FewShotTask(train, labels, text, tuple(map(str, range(len(text)))), support_views=train[None])
    method = create("tip-adapter-f", epochs=1, batch_size=len(train), lr=arguments["lr"]).fit(task)
    order = np.argsort(labels, kind="stable")
    keys = jt.array(train[order])
    rows, columns = jt.array(train[order]), ClassColumns(labels[order], len(text))
    options = {"alpha": method.hyper.train_alpha, "beta": method.hyper.train_beta, "scale": 100.0}
    scores = cache_logits(rows, keys, columns, jt.array(np.ascontiguousarray(text)), **options)
    loss = jt.nn.cross_entropy_loss(scores, jt.array(labels[order].astype(np.int32)))
    AdamW([keys], arguments["lr"], eps=arguments["eps"], weight_decay=arguments["weight_decay"]).step(loss)
    np.testing.assert_allclose(method.keys_, keys.numpy(), atol=golden.tolerance("weight_atol"))


def test_without_epochs_it_is_tip_adapter():
    task, queries, _ = world()
    plain = create("tip-adapter", alpha=3, beta=2).fit(task).logits(queries)
    np.testing.assert_array_equal(create("tip-adapter-f", alpha=3, beta=2, epochs=0).fit(task).logits(queries), plain)


def test_training_lowers_the_loss_and_helps():
    task, queries, answers = world(queries=50)
    method = create("tip-adapter-f", alpha=5, train_alpha=5, lr=1e-2).fit(task)
    assert method.history_[-1]["loss"] < method.history_[0]["loss"]
    plain = create("tip-adapter", alpha=5).fit(task)
    assert top1(method.logits(queries), answers) > top1(plain.logits(queries), answers)
    zero_shot = create("zero-shot").fit(task).logits(queries)
    np.testing.assert_array_equal(method.with_values(alpha=0).logits(queries), zero_shot)


def test_each_epoch_takes_the_next_view():
    """The loss of each epoch's only step, without a step that changes anything, is that of the epoch's view."""
    task, _, _ = world()
    rng = np.random.default_rng(0)
    views = normalise(task.support_features + 0.3 * rng.standard_normal((2, *task.support_features.shape)))
    task = FewShotTask(
        task.support_features, task.support_labels, task.text_features, task.class_names, support_views=views
    )
    keys, labels = normalise(views.mean(axis=0)).astype(np.float64), task.support_labels
    method = create("tip-adapter-f", epochs=3, lr=0).fit(task)
    for row, view in zip(method.history_, (0, 1, 0), strict=True):
        f = views[view].astype(np.float64)
        scores = 100 * f @ task.text_features.T + 1.17 * np.exp(f @ keys.T - 1) @ np.eye(12)[labels]
        top = scores.max(axis=1)
        loss = np.mean(np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - scores[np.arange(len(f)), labels])
        assert row["loss"] == pytest.approx(loss, rel=1e-4)


def test_an_unseen_class_is_still_found():
    task, queries, answers = world(queries=50)
    unseen = answers >= 9
    zero_shot = create("zero-shot").fit(task).logits(queries)
    logits = create("tip-adapter-f").fit(without(task, 9, 10, 11)).logits(queries)
    assert top1(logits[unseen], answers[unseen]) > top1(zero_shot[unseen], answers[unseen]) - 0.1
    assert top1(logits, answers) > top1(zero_shot, answers)


def test_same_seed_same_bytes(tmp_path):
    task, _, _ = world()
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        create("tip-adapter-f", seed=seed, epochs=2, batch_size=16).fit(task).save(tmp_path / name)
    same, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert same == again != other
