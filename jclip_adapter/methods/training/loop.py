"""The training loop of all methods that use gradients, and the batches that it runs over."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.console import progress
from jclip_adapter.core.errors import DivergedError
from jclip_adapter.runtime import jt

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .optimizers import Optimizer

logger = logging.getLogger(__name__)
Indices = npt.NDArray[np.int64]


class Step(NamedTuple):
    """What one training step computes.

    Attributes:
        loss: Mean loss of the batch: a scalar jt.Var, or a number where the gradients are given.
        gradients: One per parameter; None lets the loop differentiate the loss.
        correct: How many rows of the batch are classified correctly, a scalar jt.Var; None where this is not measured.
        rows: Rows of the batch, its weight in the epoch's mean loss.
    """

    loss: Any
    gradients: Any = None
    correct: Any = None
    rows: int = 1


class History(NamedTuple):
    """The course of a training.

    Attributes:
        epochs: Per epoch: "epoch" from 1, mean "loss" and, where it is measured, "top1" in percent.
        step_losses: The loss of every step.
    """

    epochs: list[dict[str, float]]
    step_losses: list[float]


@dataclass(frozen=True)
class Batches:
    """The batches of a training.

    Attributes:
        stream: The batches, at least `steps` of them.
        steps: Number of steps.
        per_epoch: Steps per epoch; the last epoch may be shorter.
    """

    stream: Iterable[Any]
    steps: int
    per_epoch: int = 1


def permutations(rows: int, size: int, rng: np.random.Generator, *, drop_last: bool) -> Iterator[Indices]:
    """Endless batches of `size` row numbers, drawn without replacement, reshuffled after every pass.

    Args:
        rows: Number of rows.
        size: Rows per batch, at most all of them.
        rng: Shuffles.
        drop_last: Whether a smaller last batch of a pass is dropped.
    """
    size = min(size, rows)
    while True:
        order = rng.permutation(rows)
        for first in range(0, rows - size + 1 if drop_last else rows, size):
            yield order[first : first + size]


def shuffled(rows: int, size: int, epochs: int, rng: np.random.Generator) -> Batches:
    """Shuffled batches of row numbers; the last batch of an epoch may be smaller.

    Args:
        rows: Number of rows.
        size: Rows per batch.
        epochs: Number of epochs.
        rng: Shuffles.
    """
    per_epoch = -(-rows // size)
    return Batches(permutations(rows, size, rng, drop_last=False), epochs * per_epoch, per_epoch)


def resumable(rows: int, size: int, seed: int, *, epochs: int | None = None, steps: int = 0) -> Batches:
    """Shuffled batches of full size, each a pair of row numbers and the generator of its epoch.

    The generator is made of the seed and the epoch's number, and everything random in a step is drawn from it. So a
    training that is resumed after an epoch draws the same numbers as an uninterrupted one.

    Args:
        rows: Number of rows.
        size: Rows per batch; a smaller last batch of an epoch is dropped.
        seed: The seed.
        epochs: Number of epochs; None for `steps` steps.
        steps: Number of steps, if the number of epochs is not given.
    """
    size = min(size, rows)
    per_epoch = rows // size

    def stream() -> Iterator[tuple[Indices, np.random.Generator]]:
        for epoch in itertools.count():
            rng = np.random.default_rng([seed, epoch])
            order = rng.permutation(rows)
            for first in range(0, per_epoch * size, size):
                yield order[first : first + size], rng

    return Batches(stream(), steps if epochs is None else epochs * per_epoch, per_epoch)


def count_hits(scores: Any, target: Any) -> Any:
    """Number of rows whose highest score is that of the target class, as a jt.Var.

    The first of several equal scores counts, as in numpy's argmax. Jittor's own argmax is made of cub, whose sources
    in CUDA 13 need C++17, which Jittor does not ask nvcc for.

    Args:
        scores: (B, C) jt.Var.
        target: (B,) jt.Var of class indices.
    """
    classes = scores.shape[1]
    index = jt.array(np.arange(classes, dtype=np.int32)).reshape((1, classes)).broadcast(scores.shape)
    highest = jt.ternary(scores >= scores.max(dim=1, keepdims=True), index, jt.full_like(index, classes))
    return (highest.min(dim=1) == target).sum()


def classification(scores: Any, labels: Indices, loss: Callable[[Any, Any], Any] | None = None) -> Step:
    """The step of a classifier.

    Args:
        scores: (B, C) jt.Var.
        labels: (B,) class indices.
        loss: Takes the scores and (B,) jt.Var labels, returns a scalar; None for cross-entropy.
    """
    target = jt.array(labels.astype(np.int32))
    value = (loss or jt.nn.cross_entropy_loss)(scores, target)
    return Step(value, correct=count_hits(scores, target), rows=len(labels))


def train(
    step: Callable[[Any], Step],
    optimizer: Optimizer,
    batches: Batches,
    *,
    schedule: Callable[[int], float] | None = None,
    checkpoint: Checkpoint | None = None,
    finished: Callable[[], bool] | None = None,
) -> History:
    """Run a training.

    Args:
        step: Computes the loss of a batch.
        optimizer: Over the parameters that the loss depends on.
        batches: The batches.
        schedule: Learning rate by the number of the step, from 0; None for the optimizer's own.
        checkpoint: Where the state is saved between epochs and resumed from; None for nowhere. Needs `resumable`
            batches.
        finished: Called after every epoch; returns whether the training ends there. None to run all steps.

    Returns:
        The history.

    Raises:
        DivergedError: a loss is NaN or infinite; `Method.fit` adds the hyper-parameters that may be the cause.
    """
    history = History([], [])
    if checkpoint is not None:
        saved = checkpoint.read([*optimizer.state(), "losses", "step_losses"])
        if saved:
            optimizer.restore(saved)
            epochs = [{"epoch": number, "loss": float(loss)} for number, loss in enumerate(saved["losses"], 1)]
            history = History(epochs, saved["step_losses"].tolist())
            logger.info("going on after epoch %d", len(epochs))

    def state() -> dict[str, npt.NDArray[Any]]:
        losses = np.array([row["loss"] for row in history.epochs])
        return {**optimizer.state(), "losses": losses, "step_losses": np.array(history.step_losses)}

    steps, done = batches.steps, len(history.step_losses)
    stream = itertools.islice(batches.stream, done, None)
    with (
        checkpoint.guard() if checkpoint is not None else contextlib.nullcontext(),
        progress(total=steps, initial=done, desc="training", unit="step", delay=2) as bar,
    ):
        for first in range(done, steps, batches.per_epoch):
            taken = []
            for number in range(first, min(first + batches.per_epoch, steps)):
                found = step(next(stream))
                rate = None if schedule is None else schedule(number)
                if found.gradients is None:
                    optimizer.step(found.loss, rate)
                else:
                    optimizer.apply(found.gradients, rate)
                # Executed now: otherwise the graph would grow, and hold the arrays of every step. Reading the loss is
                # left to the end of the epoch, as it would make a GPU wait.
                measured = [x.stop_grad() for x in (found.loss, found.correct) if isinstance(x, jt.Var)]
                jt.sync([*optimizer.variables(), *measured])
                taken.append(found._replace(gradients=None))
                bar.update()
            _record(history, taken)
            bar.set_postfix_str(f"epoch {len(history.epochs)} loss {history.epochs[-1]['loss']:.4f}", refresh=False)
            if checkpoint is not None:
                checkpoint.keep(state)
            if finished is not None and finished():
                break
    if history.epochs:
        logger.info(
            "trained %d steps; %s",
            len(history.step_losses),
            ", ".join(f"{k} {v:.4g}" for k, v in history.epochs[-1].items()),
        )
    return history


def check_loss(loss: float, epoch: int) -> float:
    """The mean loss of an epoch.

    Raises:
        DivergedError: it is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise DivergedError(f"the loss is {loss} in epoch {epoch}")
    return loss


def _record(history: History, taken: list[Step]) -> None:
    """Add an epoch's steps to the history."""
    losses = [float(found.loss.item() if isinstance(found.loss, jt.Var) else found.loss) for found in taken]
    rows = np.array([found.rows for found in taken])
    epoch = len(history.epochs) + 1
    row = {"epoch": epoch, "loss": check_loss(float(np.average(losses, weights=rows)), epoch)}
    if taken[0].correct is not None:
        row["top1"] = 100.0 * sum(int(found.correct.item()) for found in taken) / int(rows.sum())
    history.epochs.append(row)
    history.step_losses.extend(losses)
    logger.debug("epoch %d: loss %.4f", epoch, row["loss"])
