"""A training that reaches NaN or infinity stops and names the hyper-parameters."""

from __future__ import annotations

import numpy as np
import pytest

from jclip_adapter.core.errors import DivergedError
from jclip_adapter.core.task import FewShotTask, Queries
from jclip_adapter.evaluation.selection import choose
from jclip_adapter.methods import create
from tests.conftest import Cli


def task(width: int = 16) -> FewShotTask:
    """Three classes of four noisy shots, un-normalised features beside the normalised ones."""
    rng = np.random.default_rng(0)
    text = np.linalg.qr(rng.standard_normal((width, 3)))[0].T
    raw = (np.repeat(text, 4, axis=0) + 0.1 * rng.standard_normal((12, width))) * 10
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    return FewShotTask(unit, np.repeat([0, 1, 2], 4), text, ("a", "b", "c"), support_raw=raw)


def test_an_adapter_that_a_relu_empties_is_trained() -> None:
    """`clip-adapter --set ratio=1 --set reduction=512` is in range; a bottleneck of one unit is often all zero.

    A row of zeros has no direction, and its norm no gradient.
    """
    shots = queries(task())
    empty = 0
    for seed in range(8):
        start = create("clip-adapter", ratio=1, reduction=512, seed=seed, epochs=0).fit(task())
        empty += bool((start.logits(shots) == 0).all(axis=1).any())
        scores = create("clip-adapter", ratio=1, reduction=512, seed=seed, epochs=3).fit(task()).logits(shots)
        assert np.isfinite(scores).all()
    assert empty


def queries(known: FewShotTask) -> Queries:
    """The task's own shots."""
    return Queries(known.support_features, known.support_raw)


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("clip-adapter", {"lr": 10, "momentum": 1}),
        ("jclip-adapter", {"lr": 1e30}),
        ("cross-modal-linear", {"lr": 1e30}),
        ("tip-adapter-f", {"lr": 1e30}),
        ("clap", {"lr": 1e30}),
    ],
)
def test_what_diverges_is_told_with_its_hyperparameters(method: str, values: dict[str, float]) -> None:
    from jclip_adapter.methods import get

    fields = get(method).Hyper.__dataclass_fields__
    high = fields["lr"].metadata["high"]
    values = {**values, "lr": min(values["lr"], high)}
    hostile = task()
    try:
        scores = create(method, **values).fit(hostile).logits(queries(hostile))
    except DivergedError as error:
        assert error.message.startswith(f"{method}: the training diverged: ")
        assert all(f"{name}=" in error.hint for name, value in values.items() if value != fields[name].default)
    else:
        assert np.isfinite(scores).all()


def test_nan_in_the_middle_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the epoch that it happens in, not after all of them."""
    from jclip_adapter.methods.training import loop as training

    epochs = []
    check = training.check_loss

    def poisoned(loss: float, epoch: int) -> float:
        epochs.append(epoch)
        return check(float("nan") if epoch == 3 else loss, epoch)

    monkeypatch.setattr(training, "check_loss", poisoned)
    with pytest.raises(DivergedError) as caught:
        create("jclip-adapter", epochs=50, lr=0.001).fit(task())
    assert epochs == [1, 2, 3]
    assert "the loss is nan in epoch 3" in str(caught.value)
    assert "lr=0.001 (default 0.0003)" in str(caught.value)


def test_a_candidate_that_diverges_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs itself, not the selection."""
    from jclip_adapter.methods.clip_adapter import ClipAdapter

    fit = ClipAdapter._fit

    def diverging(self: ClipAdapter, given: FewShotTask) -> None:
        if self.hyper.ratio == 0.2:
            raise DivergedError("the loss is nan in epoch 1")
        fit(self, given)

    monkeypatch.setattr(ClipAdapter, "_fit", diverging)
    chosen = choose("support", "clip-adapter", task(), given={"epochs": 1})
    assert chosen.values["ratio"] != 0.2
    assert chosen.accuracy > 0


def test_the_command_line_tells_it_in_one_line(workplace: object, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from jclip_adapter.methods.training import loop as training

    check = training.check_loss
    monkeypatch.setattr(training, "check_loss", lambda loss, epoch: check(float("inf"), epoch))
    outcome = cli("--train", "--weights", "tiny.pkl", "--set", "lr=0.5")
    assert outcome.status == 2
    line = outcome.err.splitlines()[-1]
    assert line.startswith("error: jclip-adapter: the training diverged: the loss is inf in epoch 1. Change lr=")
