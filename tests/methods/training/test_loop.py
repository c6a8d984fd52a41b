import numpy as np
import pytest

from jclip_adapter.core.errors import DivergedError
from jclip_adapter.methods.training import loop
from jclip_adapter.methods.training.checkpoint import Checkpoint
from jclip_adapter.methods.training.optimizers import SGD, AdamW
from jclip_adapter.runtime import jt

ROWS = np.random.default_rng(0).standard_normal((10, 6)).astype(np.float32)
OPTIMIZERS = {
    "sgd": lambda params: SGD(params, 0.1, momentum=0.9, weight_decay=5e-4),
    "adamw": lambda params: AdamW(params, 0.1),
}


class StoppedError(Exception):
    """The process is gone."""


def train(kind, path=None, stop_after=None, fingerprint="a", **length):
    """A training towards noisy rows, stopped in the middle of an epoch or not."""
    value = jt.array(np.zeros(6, np.float32))
    steps = []

    def step(batch):
        rows, rng = batch
        if stop_after is not None and len(steps) == stop_after:
            raise StoppedError
        steps.append(rows)
        target = jt.array(ROWS[rows] + rng.standard_normal((len(rows), 6)).astype(np.float32))
        loss = ((value.unsqueeze(0) - target) ** 2).mean()
        return loop.Step(float(loss.item()), jt.grad(loss, [value])) if kind == "sgd" else loop.Step(loss)

    history = loop.train(
        step,
        OPTIMIZERS[kind]([value]),
        loop.resumable(len(ROWS), 4, 3, **(length or {"epochs": 6})),
        schedule=lambda number: 0.1 / (1 + number // 2 + 0.01 * number),
        checkpoint=None if path is None else Checkpoint(path, fingerprint, pause_s=0),
    )
    return value.numpy().tobytes(), history, len(steps)


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("stop_after", [1, 5, 11])
def test_stopped_and_gone_on_it_is_as_unbroken(tmp_path, kind, stop_after):
    whole, history, count = train(kind)
    assert (len(history.epochs), len(history.step_losses), count) == (6, 12, 12)
    with pytest.raises(StoppedError):
        train(kind, tmp_path / "state", stop_after)
    again, later, rest = train(kind, tmp_path / "state")
    assert again == whole
    assert later == history
    assert rest == 12 - 2 * (stop_after // 2)
    assert train(kind, tmp_path / "state")[::2] == (whole, 0)


def test_the_state_of_another_training_is_not_taken_up(tmp_path):
    train("sgd", tmp_path / "state")
    assert train("sgd", tmp_path / "state", fingerprint="b")[2] == 12


def test_a_damaged_state_is_no_state(tmp_path):
    path = tmp_path / "state"
    whole = train("sgd", path)[0]
    path.write_bytes(path.read_bytes()[:-9])
    assert train("sgd", path)[::2] == (whole, 12)


def test_steps_are_counted_where_no_epochs_are_given():
    """The last epoch is shorter then."""
    _, history, count = train("sgd", steps=5)
    assert (len(history.epochs), len(history.step_losses), count) == (3, 5, 5)
    means = [np.mean(history.step_losses[first : first + 2]) for first in (0, 2, 4)]
    assert [row["loss"] for row in history.epochs] == pytest.approx(means)


def test_a_state_is_not_written_before_its_time(tmp_path):
    path = tmp_path / "state"
    checkpoint = Checkpoint(path, "a", pause_s=1000)
    assert not checkpoint.due()
    checkpoint.write({"losses": np.zeros(1)})
    assert not checkpoint.due()


def classifier(batches, scale=1.0):
    """A linear classifier trained on ten rows of three classes."""
    weight, labels = jt.array(np.zeros((3, 6), np.float32)), np.arange(10) % 3

    def step(rows):
        return loop.classification(scale * jt.nn.matmul_transpose(jt.array(ROWS[rows]), weight), labels[rows])

    return loop.train(step, SGD([weight], 0.5), batches), weight.numpy(), labels


def test_the_history_weighs_batches_by_their_rows():
    """Batches of 4, 4 and 2 rows; the first step of all starts at ln 3."""
    history, _, _ = classifier(loop.shuffled(10, 4, 3, np.random.default_rng(0)))
    assert [row["epoch"] for row in history.epochs] == [1, 2, 3]
    assert history.step_losses[0] == pytest.approx(np.log(3), rel=1e-6)
    for number, row in enumerate(history.epochs):
        own = history.step_losses[3 * number : 3 * number + 3]
        assert row["loss"] == pytest.approx(np.average(own, weights=[4, 4, 2]))


def test_top1_is_that_of_the_epochs_own_steps():
    """With one batch per epoch: the share that the weights before the step classify correctly."""
    history, weight, labels = classifier(loop.shuffled(10, 10, 5, np.random.default_rng(0)))
    again, _, _ = classifier(loop.shuffled(10, 10, 6, np.random.default_rng(0)))
    right = 100 * ((ROWS @ weight.T).argmax(axis=1) == labels).mean()
    assert again.epochs[:5] == history.epochs
    assert again.epochs[5]["top1"] == pytest.approx(right)


def test_a_loss_that_is_not_finite_ends_the_training():
    with pytest.raises(DivergedError, match="the loss is nan in epoch 1"):
        classifier(loop.shuffled(10, 4, 3, np.random.default_rng(0)), scale=np.float32(np.nan))


def test_permutations_cover_the_rows_and_go_on():
    stream = loop.permutations(5, 2, np.random.default_rng(1), drop_last=False)
    epochs = [[next(stream) for _ in range(3)] for _ in range(2)]
    assert [len(batch) for batch in epochs[0]] == [2, 2, 1]
    assert sorted(np.concatenate(epochs[0])) == sorted(np.concatenate(epochs[1])) == list(range(5))
    assert [list(batch) for batch in epochs[0]] != [list(batch) for batch in epochs[1]]
    full = loop.permutations(5, 2, np.random.default_rng(1), drop_last=True)
    assert [len(next(full)) for _ in range(5)] == [2] * 5
    assert sorted(next(loop.permutations(3, 9, np.random.default_rng(1), drop_last=True))) == [0, 1, 2]
