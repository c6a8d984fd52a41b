"""Data sets whose photos are encoded already: features in parts, with labels."""

from __future__ import annotations

from pathlib import Path

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.problems import Problems
from jclip_adapter.data.parts import MANIFEST, columns

from .model import PARTS, ImageSet
from .names import canonical
from .rows import Row, image_set_of


def load_parts(root: Path, problems: Problems) -> ImageSet:
    """The photos of a finished folder of parts: labelled ones are training photos, the others test photos.

    Args:
        root: The folder.
        problems: Gets the faults; the caller raises them.

    Raises:
        DataError: the folder is not finished, or no photo has a label.
    """
    rows = []
    for number, found in enumerate(columns(root, ("key", "label"))):
        for row, (key, label) in enumerate(zip(found["key"], map(canonical, map(_text, found["label"])), strict=True)):
            rows.append(Row(key, label, label, "train" if label else "test", f"part {number}, row {row}"))
    if not any(row.label for row in rows):
        raise DataError(
            f"no photo in {root} has a label, so there is nothing to learn from.",
            "Extract from a list with the columns path and label, or from labelled tar files.",
        )
    facts = image_set_of(root / MANIFEST, root, rows, problems, exist=False)
    return ImageSet(layout=PARTS, reading="features in parts", **{**facts, "name": root.name, "source": root})


def _text(label: str | None) -> str:
    return label or ""
