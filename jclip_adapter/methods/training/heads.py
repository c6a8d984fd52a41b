"""Small heads on frozen features: which rows they are trained on, in which batches, and the loop over the steps.

The published schedules of these methods count iterations, not epochs, change the learning rate at every one, and
draw each modality's rows from a stream of its own.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, normalise
from jclip_adapter.runtime import jt

from .loop import check_loss, count_hits
from .optimisers import AdamW, Optimiser

logger = logging.getLogger(__name__)
Indices = npt.NDArray[np.int64]
Rows = tuple[Array, Indices]


def text_rows(task: FewShotTask) -> Rows:
    """The texts to train on: each template of each class, where the task has them, else each class's text weight.

    Returns:
        (R, d) L2-normalised features and (R,) class indices.
    """
    if not task.text_views:
        return task.text_features, np.arange(task.num_classes)
    labels = np.repeat(np.arange(task.num_classes), [len(views) for views in task.text_views])
    return np.concatenate(task.text_views), labels


def extra_rows(task: FewShotTask) -> list[Rows]:
    """The rows of further modalities; an empty list where the task has none."""
    if task.extra_features is None or task.extra_labels is None or not len(task.extra_labels):
        return []
    return [(task.extra_features, task.extra_labels)]


def zero_shot_weights(task: FewShotTask) -> Array:
    """(C, d) normalised means of the un-normalised template features (golden: cross_modal), or the text weights."""
    return task.text_features if task.text_raw is None else normalise(task.text_raw)


def shuffled(rows: int, size: int, rng: np.random.Generator, *, drop_last: bool) -> Iterator[Indices]:
    """Row numbers 0…rows−1 in shuffled batches, without end; shuffled anew when they are used up.

    Args:
        rows: How many there are.
        size: Rows per batch; all of them where that is more.
        rng: Shuffles.
        drop_last: Whether a last batch that would be smaller is left out.
    """
    size = min(size, rows)
    while True:
        order = rng.permutation(rows)
        for first in range(0, rows - size + 1 if drop_last else rows, size):
            yield order[first : first + size]


def joint_batches(counts: Sequence[int], size: int, rng: np.random.Generator) -> Iterator[Indices]:
    """Batches with an equal share of each modality, whose rows lie one modality after the other.

    Args:
        counts: Rows of each modality.
        size: Rows per batch; each modality's share is at least one row and at most all of its rows.
        rng: Shuffles each modality's own stream.
    """
    share = max(1, size // len(counts))
    streams = [shuffled(count, share, rng, drop_last=True) for count in counts]
    starts = np.cumsum([0, *counts[:-1]])
    while True:
        yield np.concatenate([start + next(stream) for start, stream in zip(starts, streams, strict=True)])


def train_steps(
    logits: Callable[[Indices], Any],
    labels: Indices,
    optimiser: Optimiser,
    batches: Iterable[Indices],
    *,
    per_epoch: int = 1,
    schedule: Callable[[int], float] | None = None,
) -> list[dict[str, float]]:
    """Minimise the cross-entropy over given batches.

    Args:
        logits: Takes row numbers (B,), returns (B, C) scores as a jt.Var.
        labels: (R,) class indices of all rows.
        optimiser: Over the parameters that `logits` uses.
        batches: Row numbers of each step; as many steps as there are batches.
        per_epoch: Steps per entry of what is returned.
        schedule: Learning rate by the step's number from 0; None for the optimiser's own.

    Returns:
        Per `per_epoch` steps: "epoch" from 1, mean "loss", and "top1" in percent, over those steps.
    """
    history: list[dict[str, float]] = []
    steps = enumerate(batches)
    while chunk := list(itertools.islice(steps, per_epoch)):
        losses, hits, count = [], [], 0
        for number, chosen in chunk:
            target = jt.array(labels[chosen].astype(np.int32))
            scores = logits(chosen)
            loss = jt.nn.cross_entropy_loss(scores, target)
            optimiser.step(loss, None if schedule is None else schedule(number))
            losses.append(loss.stop_grad().reshape((1,)) * len(chosen))
            hits.append(count_hits(scores.stop_grad(), target).reshape((1,)))
            count += len(chosen)
        mean = check_loss(float(jt.concat(losses).numpy().sum()) / count, len(history) + 1)
        top1 = 100.0 * float(jt.concat(hits).numpy().sum()) / count
        history.append({"epoch": len(history) + 1, "loss": mean, "top1": top1})
        logger.debug("epoch %d: loss %.4f, train top-1 %.1f %%", len(history), mean, top1)
    return history


def bottleneck(features: Any, down: Any, up: Any, ratio: float) -> Any:
    """CLIP-Adapter's block: R·ReLU(W₂·ReLU(W₁x)) + (1−R)·x.

    Args:
        features: (B, d) jt.Var x.
        down: (r, d) jt.Var W₁.
        up: (d, r) jt.Var W₂.
        ratio: R.

    Returns:
        (B, d).
    """
    hidden = jt.nn.relu(jt.nn.matmul_transpose(features, down))
    return ratio * jt.nn.relu(jt.nn.matmul_transpose(hidden, up)) + (1 - ratio) * features


def bottleneck_numpy(features: Array, down: Array, up: Array, ratio: float) -> Array:
    """The same as `bottleneck`, in numpy."""
    adapted = np.maximum(np.maximum(features @ down.T, 0) @ up.T, 0)
    return np.asarray(np.float32(ratio) * adapted + np.float32(1 - ratio) * features, dtype=np.float32)


@dataclass
class Head:
    """A linear classifier on features, behind a bottleneck or not.

    Attributes:
        weight: (C, d).
        down: (r, d) the bottleneck's first layer; None for no bottleneck.
        up: (d, r) its second layer.
        ratio: Its share R.
    """

    weight: Array
    down: Array | None = None
    up: Array | None = None
    ratio: float = 0.2


def train_head(
    head: Head,
    rows: Rows,
    batches: Iterable[Indices],
    *,
    scale: float,
    schedule: Callable[[int], float],
    weight_decay: float,
    per_epoch: int = 1,
    barred: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None = None,
) -> tuple[Head, list[dict[str, float]]]:
    """Train a head with AdamW as cross-modal adaptation does (golden: cross_modal).

    The logits are scale·W·x, or scale·W·bottleneck(x), whose result is not normalised again.

    Args:
        head: Where training starts; left as it is.
        rows: (R, d) L2-normalised rows and (R,) labels 0…C−1.
        batches: Row numbers of each step.
        scale: What the scores are multiplied by.
        schedule: Learning rate by the step's number from 0.
        weight_decay: AdamW's.
        per_epoch: Steps per entry of the history.
        barred: (R,) rows and (C,) classes that do not meet: these classes are left out of these rows' softmax.

    Returns:
        The trained head, and the history as `train_steps` returns it.
    """
    features, labels = rows
    arrays = [head.weight] if head.down is None or head.up is None else [head.down, head.up, head.weight]
    params = [jt.array(array) for array in arrays]

    def logits(chosen: Indices) -> Any:
        batch = jt.array(features[chosen])
        if len(params) > 1:
            batch = bottleneck(batch, params[0], params[1], head.ratio)
        scores = scale * jt.nn.matmul_transpose(batch, params[-1])
        return scores if barred is None else scores - 1e6 * jt.array(np.outer(barred[0][chosen], barred[1]))

    optimiser = AdamW(params, schedule(0), weight_decay=weight_decay)
    history = train_steps(logits, labels, optimiser, batches, per_epoch=per_epoch, schedule=schedule)
    *block, weight = (np.asarray(value.numpy(), dtype=np.float32) for value in params)
    down, up = block or (None, None)
    return Head(weight, down, up, head.ratio), history
