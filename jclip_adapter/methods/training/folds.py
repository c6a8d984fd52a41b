"""Cross-validation folds of the shots, for selection without a validation set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, EncoderLink, FewShotTask, Labelled, Queries, Weights, chunks

MAX_FOLDS = 4
_BATCH = 64  # photos encoded at once


def folds(task: FewShotTask, most: int = MAX_FOLDS) -> list[tuple[FewShotTask, Labelled]]:
    """Split the shots of a task into training and held-out shots.

    Args:
        task: The task.
        most: Maximum number of folds; with more shots per class, several are held out together.

    Returns:
        Pairs of a smaller task and its held-out shots; empty if no class has two shots. A class with one shot keeps it
        in every fold.
    """
    place = np.zeros(len(task.support_labels), dtype=np.int64)
    for label in task.seen:
        rows = np.flatnonzero(task.support_labels == label)
        place[rows] = np.arange(len(rows)) if len(rows) > 1 else -1
    count = min(most, int(place.max(initial=-1)) + 1)
    if count < 2:
        return []
    pairs = []
    for fold in range(count):
        held = (place >= 0) & (place % count == fold)
        pairs.append((task.keep(~held), Labelled(shots_as_queries(task, held), task.support_labels[held])))
    return pairs


def shots_as_queries(task: FewShotTask, held: npt.NDArray[np.bool_]) -> Queries:
    """The shots in a mask (N,) as queries."""
    queries = Queries(task.support_features, task.support_raw, task.auxiliary)[held]
    link, rows = task.encoder, np.flatnonzero(held)
    if link is not None:
        queries = replace(queries, encode=lambda change: _reencoded(link, rows, change))
    return queries


def _reencoded(link: EncoderLink, rows: npt.NDArray[np.int64], change: Callable[[Weights], Weights]) -> Array:
    """(n, d) features of support photos from a fine-tuned CLIP."""
    from jclip_adapter.models.clip.model import build_model, state_arrays

    from .tuning import encoded, photo_parts

    base = state_arrays(link.model)
    model = build_model({**base, **change(base)}, link.model.config)
    pixels = (link.pixels(group, None, 1.0) for group in chunks(rows, _BATCH))
    return np.concatenate([encoded(photo_parts(model, group, _BATCH)) for group in pixels])
