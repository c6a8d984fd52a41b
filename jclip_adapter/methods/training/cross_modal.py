"""Cross-modal adaptation on frozen features: the training rows of each modality, their batches, and linear heads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, normalise
from jclip_adapter.runtime import jt

from .layers import bottleneck
from .loop import Batches, History, Indices, Step, classification, permutations, train
from .optimizers import AdamW

Rows = tuple[Array, Indices]


def text_rows(task: FewShotTask) -> Rows:
    """The texts as training rows: every template of every class, or each class's text weight if there are no templates.

    Returns:
        (R, d) L2-normalised features and (R,) class indices.
    """
    if not task.text_views:
        return task.text_features, np.arange(task.num_classes)
    labels = np.repeat(np.arange(task.num_classes), [len(views) for views in task.text_views])
    return np.concatenate(task.text_views), labels


def classes_left_out(task: FewShotTask) -> npt.NDArray[np.bool_]:
    """(3, C) the classes that the softmax of the shots, of the texts and of the further rows leaves out.

    Shots would teach the classifier never to predict a class without shots. Further rows, which may be of few classes,
    are also compared with the classes that have only shots.

    >>> sound = {"extra_features": np.eye(1, 2), "extra_labels": [2]}
    >>> task = FewShotTask(np.eye(2), [0, 1], np.eye(4, 2), tuple("abcd"), **sound)
    >>> classes_left_out(task).astype(int).tolist()
    [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]]
    """
    known = np.isin(np.arange(task.num_classes), task.support_labels)
    further = np.isin(np.arange(task.num_classes), [] if task.extra_labels is None else task.extra_labels)
    return np.stack([~known, np.zeros_like(known), ~(known | further)])


def zero_shot_weights(task: FewShotTask) -> Array:
    """(C, d) normalised means of the un-normalised template features (golden: cross_modal), or the text weights."""
    return task.text_features if task.text_raw is None else normalise(task.text_raw)


def joint_batches(counts: Sequence[int], size: int, steps: int, rng: np.random.Generator) -> Batches:
    """Batches with an equal share of each modality, whose rows lie one modality after the other.

    Args:
        counts: Rows of each modality.
        size: Rows per batch; each modality's share is at least one row and at most all of its rows.
        steps: Number of batches.
        rng: Shuffles each modality on its own.
    """
    share = max(1, size // len(counts))
    starts = np.cumsum([0, *counts[:-1]])

    def stream() -> Iterator[Indices]:
        rows = [permutations(count, share, rng, drop_last=True) for count in counts]
        while True:
            yield np.concatenate([start + next(part) for start, part in zip(starts, rows, strict=True)])

    return Batches(itertools.islice(stream(), steps), steps, max(1, sum(counts) // size))


@dataclass
class Head:
    """A linear classifier on features, optionally after a bottleneck.

    Attributes:
        weight: (C, d).
        down: (r, d) the bottleneck's first layer; None for no bottleneck.
        up: (d, r) its second layer.
        ratio: Its residual ratio R.
    """

    weight: Array
    down: Array | None = None
    up: Array | None = None
    ratio: float = 0.2


def train_head(
    head: Head,
    rows: Rows,
    batches: Batches,
    *,
    scale: float,
    schedule: Callable[[int], float],
    weight_decay: float,
    left_out: tuple[Indices, npt.NDArray[np.bool_]] | None = None,
) -> tuple[Head, History]:
    """Train a head with AdamW as cross-modal adaptation does (golden: cross_modal).

    The logits are scale·W·x, or scale·W·bottleneck(x), whose result is not normalised again.

    Args:
        head: Initial values; left unchanged.
        rows: (R, d) L2-normalised rows and (R,) labels 0…C−1.
        batches: Row numbers of each step.
        scale: Logit scale.
        schedule: Learning rate by the number of the step, from 0.
        weight_decay: AdamW's.
        left_out: (R,) the kind of each row, and (S, C) the classes that the softmax of each kind of row leaves out;
            None for none.

    Returns:
        The trained head and the history.
    """
    features, labels = rows
    arrays = [head.weight] if head.down is None or head.up is None else [head.down, head.up, head.weight]
    params = [jt.array(array) for array in arrays]

    def step(chosen: Indices) -> Step:
        batch = jt.array(features[chosen])
        if len(params) > 1:
            batch = bottleneck(batch, params[0], params[1], head.ratio)
        scores = scale * jt.nn.matmul_transpose(batch, params[-1])
        if left_out is not None:
            scores = scores - 1e6 * jt.array(left_out[1][left_out[0][chosen]])
        return classification(scores, labels[chosen])

    optimizer = AdamW(params, schedule(0), weight_decay=weight_decay)
    history = train(step, optimizer, batches, schedule=schedule)
    *block, weight = (np.asarray(value.numpy(), dtype=np.float32) for value in params)
    down, up = block or (None, None)
    return Head(weight, down, up, head.ratio), history
