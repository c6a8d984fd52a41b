"""The supervised contrastive loss, and batches of whole classes for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.runtime import jt

from .layers import unit_rows
from .loop import Batches


def contrastive_loss(rows: Any, labels: npt.NDArray[np.int64], temperature: float) -> Any:
    """Supervised contrastive loss (Khosla et al., 2020, "out"): −mean_i mean_j ln softmax_{k≠i}(f_i·f_k/τ)_j.

    Args:
        rows: (R, d) jt.Var; normalised inside.
        labels: (R,) classes; rows without another row of their class are left out.
        temperature: τ.

    Returns:
        A scalar jt.Var.
    """
    itself = np.eye(len(labels), dtype=np.float32)
    pairs = (labels[:, None] == labels[None]).astype(np.float32) - itself
    counts = pairs.sum(axis=1, keepdims=True)
    weights = pairs / np.maximum(counts, 1) / max(1, int((counts > 0).sum()))
    unit = unit_rows(rows)
    similar = jt.nn.matmul_transpose(unit, unit) / temperature - jt.array(1e4 * itself)
    shifted = similar - similar.max(dim=1, keepdims=True).stop_grad()
    log_share = shifted - jt.log(jt.exp(shifted).sum(dim=1, keepdims=True))
    return -(jt.array(weights) * log_share).sum()


def class_batches(labels: npt.NDArray[np.int64], size: int, epochs: int, rng: np.random.Generator) -> Batches:
    """Batches of whole classes, if possible at least two per batch, as ascending row numbers.

    Args:
        labels: (R,) classes.
        size: Approximate number of rows per batch.
        epochs: Number of epochs.
        rng: Shuffles the classes.
    """
    classes = np.unique(labels)
    count = max(1, min(-(-len(labels) // size), len(classes) // 2))

    def stream() -> Iterator[npt.NDArray[np.int64]]:
        while True:
            for part in np.array_split(rng.permutation(classes), count):
                yield np.flatnonzero(np.isin(labels, part))

    return Batches(stream(), epochs * count, count)
