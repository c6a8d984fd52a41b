"""The extract command: a data set's photos to a feature file, or any number of photos to features in parts."""

from __future__ import annotations

import functools
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jclip_adapter.cli.app import Invocation
from jclip_adapter.cli.options import EXTRACT_PARTS
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.choices import ALL_SHOTS
from jclip_adapter.core.console import print_note, print_result
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.problems import counted
from jclip_adapter.data.parts import columns, first_error
from jclip_adapter.data.sets.labelled import labelled_photos
from jclip_adapter.data.sets.model import labels_of, paths_of
from jclip_adapter.data.sets.support import Draw, choose_support, draw_unchecked, shots_of
from jclip_adapter.features.parts.engine import extract_parts
from jclip_adapter.features.sharding import encode_part
from jclip_adapter.models import backbones
from jclip_adapter.storage import Kind, check_place, npz_bytes, write_bytes
from jclip_adapter.storage.kinds import unchanged_npz

from .benchmark import labelled_queries
from .setup import Setup, draw_of, log_data, open_network, set_up

FEATURE_FILE = Kind("a feature file", unchanged_npz("classnames", "text", "test_x", "test_y"))


def extract(settings: Settings, target: Path) -> str:
    """Write the features of a data set's shots and labelled photos.

    Args:
        settings: The settings; the seed draws the shots.
        target: The .npz; docs/design.md describes it. Features are not normalised.

    Returns:
        What was written, or the progress of --shard where other parts are missing, in words.

    Raises:
        UsageError: `target` does not end in .npz or is another program's, a shot count is 0, or the settings list the
            shots.
        SetupError: it cannot be written.
    """
    part = settings.shard
    counts = settings.shot_counts or (settings.shots,)
    if target.suffix != ".npz":
        raise UsageError(f"extract: expected a path ending in .npz, got {target}.", "Rename it.")
    if 0 in counts:
        raise UsageError("--shots 0: a feature file needs training rows.", "Use at least 1 shot.")
    check_place(target, FEATURE_FILE)
    setup = set_up(settings, encode_texts=part is None or part.number == 1)
    images, tasks = setup.images, setup.tasks
    if not tasks.encoder.has_text:
        raise UsageError("a feature file needs text features; this network has no text encoder.", "Use a CLIP.")
    if settings.support not in ("random", "first"):
        raise UsageError("--extract draws its shots by --seed.", "Leave --support out, or give 'first'.")
    draws = {count: replace(draw_of(settings), shots=count) for count in counts}
    log_data(images, f"shots: {', '.join('all' if count == ALL_SHOTS else str(count) for count in counts)}")
    if part:
        # Unreadable shots are replaced by the part that finishes last.
        chosen = [photo for draw in draws.values() for photo in draw_unchecked(images, draw)]
        photos = (*chosen, *labelled_photos(images, chosen, settings.seed)[0])
        share = encode_part(tasks.encoders, paths_of(photos), tasks.cache, settings.workers, part)
        if share.missing:
            return share.summary(target)
    drawn = [(count, choose_support(images, draw, tasks.unreadable)) for count, draw in draws.items()]
    supports = {shots_of(support, count): support for count, support in drawn}
    learnt = [photo for support in supports.values() for photo in support]
    arrays: dict[str, Any] = {
        "classnames": np.array(images.class_names),
        "text": tasks.texts.weights,
        "logit_scale": np.float32(tasks.encoder.logit_scale),
        "domains": np.array(images.domains),
    }
    for count, support in supports.items():
        task = tasks.task(paths_of(support), labels_of(support))
        arrays |= {f"train{count}_x": task.raw, f"train{count}_y": task.support_labels}
        if task.auxiliary is not None:
            arrays[f"train{count}_aux"] = task.auxiliary
    arrays |= _further_rows(setup, max(draws.values(), key=lambda draw: draw.shots))
    # A shot of any count is not scored.
    test, _ = labelled_queries(images, tasks, learnt, settings.seed)
    arrays |= {"test_x": test.queries.raw, "test_y": test.labels}
    if test.queries.auxiliary is not None:
        arrays["test_aux"] = test.queries.auxiliary
    write_bytes(target, npz_bytes(arrays), FEATURE_FILE)
    return f"written: {target}"


def _further_rows(setup: Setup, draw: Draw) -> dict[str, Any]:
    """The rows of --audio or --photos, of which a feature file has one set."""
    if setup.beside is None:
        return {}
    task = setup.beside.added_to(setup.tasks.task((), labels_of(())), draw)
    return {
        "extra_x": task.extra_features,
        "extra_y": task.extra_labels,
        "extra_modality": np.array(task.extra_modalities),
        "extra_scale": np.float32(task.extra_scale),
    }


def extract_to_parts(settings: Settings, folder: Path) -> tuple[str, bool]:
    """Encode photos into features in parts; finished parts are kept.

    Args:
        settings: The settings; their photos are the source.
        folder: The folder of the parts; created if it is missing.

    Returns:
        What was written, or what is missing, in words; and whether nothing is missing.

    Raises:
        UsageError: no source is given, or the folder has other files.
        DataError: there is nothing at the source, none of its photos can be read, or the folder has parts of other
            photos or another network.
        SetupError: the folder cannot be written.
    """
    if not settings.photos:
        raise UsageError(
            f"extract {folder}: expected a path ending in .npz, or --photos SOURCE for a folder of features in parts.",
            "Give --photos a folder, a list, or tar files.",
        )
    refuse_other_files(folder)
    load = functools.partial(open_network, settings)
    found = extract_parts(
        settings.engine,
        load,
        folder,
        settings.photos,
        size=settings.part_size,
        dtype=settings.stored,
        share=settings.shard,
    )
    if isinstance(found, str):
        return found, False
    errors = found["errors"]
    text = f"written: {folder} ({counted(found['rows'] - errors, 'photo')} in {counted(found['parts'], 'part')})"
    if errors:
        key, why = first_error(folder)
        text = f"{counted(errors, 'photo')} could not be read, the first: {key} ({why.rstrip('.')})\n{text}"
        if errors == found["rows"]:
            raise DataError(f"no photo could be read, the first: {key} ({why.rstrip('.')}).", "Check --photos.")
    return text, True


def refuse_other_files(folder: Path) -> None:
    """Refuse a folder that has files, but no parts: it is somebody's, such as the photos' own.

    Raises:
        UsageError: so it is.
    """
    if folder.is_file():
        raise UsageError(f"{folder} is a file.", "Give a folder that does not exist yet.")
    if not folder.is_dir() or any(folder.glob("part-*.json")):
        return
    if any(not _unfinished(path) for path in folder.iterdir()):
        raise UsageError(f"{folder} has other files.", "Give a folder that does not exist yet.")


def _unfinished(path: Path) -> bool:
    """Whether a file is what a killed process may leave."""
    return path.name.startswith((".", "part-", "slurm"))


def run(invocation: Invocation) -> None:
    """Write the feature file, or the parts."""
    target, settings = Path(invocation.operands["extract"]), invocation.settings
    if EXTRACT_PARTS not in invocation.commands:
        print_result(extract(settings, target))
        return
    text, whole = extract_to_parts(settings, target)
    print_result(text)
    if whole:
        place, example = shlex.quote(str(target)), '"a red toy car"'
        search, duplicates = invocation.called("search"), invocation.called("duplicates")
        if settings.weights_or_default in backbones.KNOWN:  # without a text encoder
            example = shlex.quote(next(key for found in columns(target, ["key"]) for key in found["key"]))
        print_note(f"next: {search} {example} {place}, or {duplicates} {place}")
