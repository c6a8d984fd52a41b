import numpy as np
import pytest

from jclip_adapter.methods.training.encoder_training import Checkpoint, train_through
from jclip_adapter.methods.training.optimisers import AdamW, Sgd
from jclip_adapter.runtime import jt

ROWS = np.random.default_rng(0).standard_normal((10, 6)).astype(np.float32)
OPTIMISERS = {
    "sgd": lambda params: Sgd(params, 0.1, momentum=0.9, weight_decay=5e-4),
    "adamw": lambda params: AdamW(params, 0.1),
}


class StoppedError(Exception):
    """The process is gone."""


def train(kind, path=None, stop_after=None, fingerprint="a", **length):
    """A training towards noisy rows, stopped in the middle of an epoch or not."""
    value = jt.array(np.zeros(6, np.float32))
    steps = []

    def step(rows, rng):
        if stop_after is not None and len(steps) == stop_after:
            raise StoppedError
        steps.append(rows)
        target = jt.array(ROWS[rows] + rng.standard_normal((len(rows), 6)).astype(np.float32))
        loss = ((value.unsqueeze(0) - target) ** 2).mean()
        return float(loss.item()), jt.grad(loss, [value])

    history = train_through(
        step,
        OPTIMISERS[kind]([value]),
        rows=len(ROWS),
        **(length or {"epochs": 6}),
        batch_size=4,
        schedule=lambda epoch, number: 0.1 / (1 + epoch + 0.01 * number),
        seed=3,
        checkpoint=None if path is None else Checkpoint(path, fingerprint, pause_s=0),
    )
    return value.numpy().tobytes(), history, len(steps)


@pytest.mark.parametrize("kind", OPTIMISERS)
@pytest.mark.parametrize("stop_after", [1, 5, 11])
def test_stopped_and_gone_on_it_is_as_unbroken(tmp_path, kind, stop_after):
    whole, history, count = train(kind)
    assert (len(history), count) == (6, 12)
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
    assert (len(history), count) == (3, 5)


def test_a_state_is_not_written_before_its_time(tmp_path):
    path = tmp_path / "state"
    checkpoint = Checkpoint(path, "a", pause_s=1000)
    assert not checkpoint.due()
    checkpoint.write({}, [])
    assert not checkpoint.due()
