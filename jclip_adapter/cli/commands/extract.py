"""Extraction: a data set's photos to a feature file, for the benchmark, for other programs and other machines."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jclip_adapter.cli.app import Invocation
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.console import tell
from jclip_adapter.core.errors import UsageError
from jclip_adapter.data.sets.labelled import labelled_photos
from jclip_adapter.data.sets.model import labels_of, paths_of
from jclip_adapter.data.sets.support import choose_support, draw_unchecked, shots_of
from jclip_adapter.features.sharding import Part, Share, encode_part
from jclip_adapter.storage import Kind, check_place, npz_bytes, write_bytes
from jclip_adapter.storage.kinds import unchanged_npz

from .benchmark import labelled_queries
from .setup import draw_of, set_up, unreadable

logger = logging.getLogger(__name__)
FEATURE_FILE = Kind("a feature file", unchanged_npz("classnames", "text", "test_x", "test_y"))


def extract(settings: Settings, target: Path, shots: Sequence[int], part: Part | None = None) -> Path | Share:
    """Write the features of a data set's shots and labelled photos.

    Args:
        settings: The settings; their seed draws the shots.
        target: The .npz; docs/design.md describes it. Features are not normalised, so that nothing is lost.
        shots: Shot counts; empty for the settings' one.
        part: Of the photos, the one to encode; the file is written if all others are encoded then. None for all.

    Returns:
        `target`, or what the part came to where others are missing.

    Raises:
        UsageError: `target` is no .npz, a file that this program did not write, or the settings name a list of shots.
        SetupError: it cannot be written.
    """
    if target.suffix != ".npz":
        raise UsageError(f"{target} is no .npz.", "Let --extract end in .npz.")
    check_place(target, FEATURE_FILE)
    setup = set_up(settings, encode_texts=part is None or part.number == 1)
    images, tasks = setup.images, setup.tasks
    if not tasks.encoder.has_text:
        raise UsageError("a feature file has texts, and this network has no text encoder.", "Give --weights a CLIP.")
    if settings.support not in ("random", "first"):
        raise UsageError("--extract draws its shots by --seed.", "Leave --support out, or give 'first'.")
    counts = list(shots) or [settings.shots]
    draws = {count: replace(draw_of(settings), shots=count) for count in counts}
    if part:
        # Shots that turn out unreadable are replaced by whoever finishes.
        chosen = [photo for draw in draws.values() for photo in draw_unchecked(images, draw)]
        photos = (*chosen, *labelled_photos(images, chosen, settings.seed)[0])
        share = encode_part(tasks.encoders, paths_of(photos), tasks.cache, settings.workers, part)
        if share.missing:
            return share
    check = functools.partial(unreadable, tasks)
    drawn = [(count, choose_support(images, draw, check)) for count, draw in draws.items()]
    supports = {shots_of(support, count): support for count, support in drawn}
    learnt = [photo for support in supports.values() for photo in support]
    arrays: dict[str, Any] = {
        "classnames": np.array(images.class_names),
        "text": tasks.texts.weights,
        "logit_scale": np.float32(tasks.encoder.logit_scale),
    }
    if images.domains:
        arrays["domains"] = np.array(images.domains)
    for count, support in supports.items():
        task = tasks.task(paths_of(support), labels_of(support))
        arrays |= {f"train{count}_x": task.raw, f"train{count}_y": task.support_labels}
        if task.auxiliary is not None:
            arrays[f"train{count}_aux"] = task.auxiliary
    # A photo that any of the counts learns from is not scored on.
    test, _ = labelled_queries(images, tasks, learnt, settings.seed)
    arrays |= {"test_x": test.queries.raw, "test_y": test.labels}
    if test.queries.auxiliary is not None:
        arrays["test_aux"] = test.queries.auxiliary
    logger.info("%d photos to score, shots: %s", len(test.labels), ", ".join(map(str, supports)))
    write_bytes(target, npz_bytes(arrays), FEATURE_FILE)
    return target


def run(invocation: Invocation) -> None:
    """The command: write the feature file."""
    settings, target = invocation.settings, invocation.operands["extract"]
    done = extract(settings, Path(target), settings.shot_counts, settings.shard)
    tell(done.told(target) if isinstance(done, Share) else f"written: {done}")
