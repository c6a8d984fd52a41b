"""The inspect command: training photos that do not fit their label, duplicates, unreadable and odd photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jclip_adapter.cli.app import Invocation
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.console import print_note, print_result
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.problems import counted
from jclip_adapter.data.sets.model import labels_of, paths_of
from jclip_adapter.evaluation.inspection import fit_to_labels, neighbours, odd_ones
from jclip_adapter.evaluation.report import csv_text, markdown_table
from jclip_adapter.features.overlap import near_threshold
from jclip_adapter.storage import MANIFEST, Kind, check_folder, write_text, write_together
from jclip_adapter.storage.folders import is_listed
from jclip_adapter.storage.kinds import unchanged_json

from .setup import Setup, log_data, set_up

TABLE = "photos.csv"
COLUMNS = (
    "rank",
    "photo",
    "split",
    "class",
    "margin",
    "fits_better",
    "duplicate_of",
    "same_bytes",
    "odd",
    "unreadable",
)
_NAME = "an inspection's folder"
_KINDS = {
    TABLE: Kind("an inspection's table", is_listed),
    MANIFEST: Kind("the manifest of an inspection", unchanged_json("files", damaged=True)),
}
_SHOWN = 10
Ints = npt.NDArray[np.int64]


class Inspection(NamedTuple):
    """What was found.

    Attributes:
        rows: Values of COLUMNS: training photos, those that fit their label least first, then test photos with a
            finding.
        text: The findings in words.
    """

    rows: list[dict[str, Any]]
    text: str


def inspect(settings: Settings) -> Inspection:
    """Look for training photos that do not fit, duplicates within the data set, unreadable and odd photos.

    Raises:
        DataError: no training photo can be read.
        UsageError: the data are sounds.
    """
    setup = set_up(settings)
    images, tasks = setup.images, setup.tasks
    if images.kind != "photo":
        raise UsageError("inspect compares photos, and the data are sounds.", "Give --data photos.")
    log_data(images, "all photos are compared")
    photos = [*images.train, *images.test]
    features = tasks.photos(paths_of(photos))
    rows = np.flatnonzero(features.readable)
    train = rows[rows < len(images.train)]
    if not len(train):
        raise DataError("no training photo can be read.", "Check --data.", list(features.bad.values()))
    labels = labels_of([images.train[row] for row in train])
    texts = tasks.texts.weights if tasks.encoder.has_text else None
    fit = fit_to_labels(features.normalised[train], labels, texts, tasks.encoder.logit_scale, len(images.classes))
    near = neighbours(features.normalised[rows], near_threshold(tasks.encoder, labels, features.normalised[train]))
    odd = odd_ones(near.similarity)
    place = {int(row): number for number, row in enumerate(rows)}
    names = images.class_names
    order = np.argsort(np.where(np.isnan(fit.margin), np.inf, fit.margin), kind="stable")
    ranked = train[order].tolist()
    unread = [row for row in range(len(images.train)) if row not in place]
    found: list[dict[str, Any]] = []
    for row in [*ranked, *unread, *range(len(images.train), len(photos))]:
        photo, number = photos[row], place.get(row)
        one: dict[str, Any] = {
            "photo": photo.relative,
            "split": "train" if row < len(images.train) else "test",
            "class": "" if photo.label is None else names[photo.label],
        }
        if number is None:
            one["unreadable"] = features.bad[row]
        else:
            twin = int(near.duplicate_of[number])
            if twin >= 0:
                other = int(rows[twin])
                one["duplicate_of"] = photos[other].relative
                one["same_bytes"] = "yes" if features.keys[row] == features.keys[other] else ""
            one["odd"] = "yes" if odd[number] else ""
        found.append(one)
    for rank, (one, at) in enumerate(zip(found, order.tolist(), strict=False), 1):
        one["rank"] = rank
        if not np.isnan(fit.margin[at]):
            one["margin"] = f"{fit.margin[at]:.3f}"
            one["fits_better"] = names[fit.other[at]] if fit.margin[at] < 0 else ""
    findings = ("duplicate_of", "odd", "unreadable")
    kept = [one for one in found if one["split"] == "train" or any(one.get(name) for name in findings)]
    return Inspection(kept, _in_words(setup, kept))


def _in_words(setup: Setup, rows: Sequence[dict[str, Any]]) -> str:
    """Counts of all findings, and the photos that fit least."""
    classes = {one["photo"]: one["class"] for one in rows}
    splits = {photo.relative: "train" for photo in setup.images.train}
    twins = [one for one in rows if one.get("duplicate_of")]
    across = [one for one in twins if one["class"] != classes.get(one["duplicate_of"], "") and one["split"] == "train"]
    tests = [one for one in twins if one["split"] == "test" and one["duplicate_of"] in splits]
    doubtful = [one for one in rows if one.get("fits_better")]
    lines = [
        f"{len(doubtful)} of {counted(len(setup.images.train), 'training photo')} fit another class better",
        f"near duplicates: {counted(len(twins), 'photo')}, of which {len(across)} across classes, and "
        f"{counted(len(tests), 'test photo')} of training photos",
        f"odd, far from all others: {counted(sum(bool(one.get('odd')) for one in rows), 'photo')}",
        f"unreadable: {counted(sum(bool(one.get('unreadable')) for one in rows), 'photo')}",
    ]
    shown = [[one["photo"], one["class"], one["fits_better"], one["margin"]] for one in doubtful[:_SHOWN]]
    table = markdown_table(["training photo", "class", "fits better", "margin"], shown) if shown else ""
    return "\n".join(filter(None, [table, *lines]))


def run(invocation: Invocation) -> None:
    """Inspect, write the table, and print the findings."""
    folder = invocation.settings.inspection_folder
    check_folder(folder, _NAME, _KINDS)
    found = inspect(invocation.settings)
    with write_together(folder, _NAME, _KINDS) as fresh:
        write_text(fresh / TABLE, csv_text(found.rows, COLUMNS))
    print_result(f"{found.text}\nwritten: {folder / TABLE}")
    print_note("nothing was moved or deleted: look at the photos before you do")
