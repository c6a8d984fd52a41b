"""The training loop that methods with a gradient share."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import DivergedError
from jclip_adapter.core.task import Array
from jclip_adapter.runtime import jt

from .optimisers import Optimiser

logger = logging.getLogger(__name__)


def linear_weight(rng: np.random.Generator, inputs: int, outputs: int) -> Array:
    """(outputs, inputs) weights drawn as PyTorch's Linear does: uniform in ±1/√inputs."""
    bound = 1 / math.sqrt(inputs)
    return rng.uniform(-bound, bound, (outputs, inputs)).astype(np.float32)


def unit_rows(rows: Any) -> Any:
    """Divide the rows (…, d) of a jt.Var by their norm; rows of zeros stay zeros, and so does their gradient.

    Without the lower bound a row of zeros, which a ReLU may leave, would make every gradient NaN.
    """
    return rows / jt.sqrt(jt.maximum((rows * rows).sum(dim=-1, keepdims=True), 1e-12))


def check_loss(loss: float, epoch: int) -> float:
    """The loss, if it is a finite number.

    Args:
        loss: Mean over an epoch.
        epoch: Its number, from 1.

    Raises:
        DivergedError: it is none; `Method.fit` adds the hyper-parameters that may be to blame.
    """
    if not math.isfinite(loss):
        raise DivergedError(f"the loss is {loss} in epoch {epoch}")
    return loss


def count_hits(scores: Any, target: Any) -> Any:
    """How many rows score highest where they should, as a jt.Var.

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


class Scheduled:
    """An optimiser of `learning.optimisers` whose learning rate is a function of the step's number.

    Args:
        optimiser: The optimiser.
        schedule: Takes the number of the step, from 0, returns its learning rate.
    """

    def __init__(self, optimiser: Optimiser, schedule: Callable[[int], float]) -> None:
        self.optimiser = optimiser
        self.schedule = schedule

    def step(self, loss: Any) -> None:
        """Move the parameters down the gradient of a loss, a scalar jt.Var."""
        self.optimiser.step(loss, self.schedule(self.optimiser.steps))


def train_epochs(
    logits: Callable[[Any, npt.NDArray[np.int64]], Any],
    loss: Callable[[Any, Any], Any],
    optimiser: Any,
    features: Array,
    labels: npt.NDArray[np.int64],
    *,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
) -> list[dict[str, float]]:
    """Minimise a loss over shuffled mini-batches, reporting each epoch.

    Args:
        logits: Takes a batch (B, d) jt.Var and its row numbers (B,), returns (B, C).
        loss: Takes logits (B, C) and labels (B,), returns a scalar.
        optimiser: A Jittor optimiser, or `Scheduled`, over the parameters that `logits` uses.
        features: (N, d) training rows.
        labels: (N,) class indices.
        epochs: Passes over the rows.
        batch_size: Rows per step; the last batch may be smaller.
        rng: Shuffles the rows.

    Returns:
        Per epoch: "epoch" from 1, mean "loss", and "top1" in percent, both over the epoch's own steps.
    """
    history: list[dict[str, float]] = []
    rows = len(features)
    for epoch in range(1, epochs + 1):
        order = rng.permutation(rows)
        losses: list[Any] = []
        hits: list[Any] = []
        for first in range(0, rows, batch_size):
            chosen = order[first : first + batch_size]
            target = jt.array(labels[chosen].astype(np.int32))
            scores = logits(jt.array(features[chosen]), chosen)
            value = loss(scores, target)
            optimiser.step(value)
            # Only remembered here: reading a value would make Jittor stop and compute at every step.
            losses.append(value.stop_grad() * len(chosen))
            hits.append(count_hits(scores, target))
        total = check_loss(float(jt.concat([x.reshape((1,)) for x in losses]).sum().item()), epoch)
        correct = int(jt.concat([x.reshape((1,)) for x in hits]).sum().item())
        history.append({"epoch": epoch, "loss": total / rows, "top1": 100.0 * correct / rows})
        logger.info("epoch %2d/%d  loss %.4f  train top-1 %.1f %%", epoch, epochs, total / rows, history[-1]["top1"])
    return history
