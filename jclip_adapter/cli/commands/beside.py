"""Data of a second modality that help training: the sounds of --audio, or the photos of --photos."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.console import doing
from jclip_adapter.core.errors import DataError, suggest
from jclip_adapter.core.problems import first_of
from jclip_adapter.core.task import FewShotTask
from jclip_adapter.data.sets import ImageSet, Photo, load_dataset
from jclip_adapter.data.sets.model import FileKind, labels_of, paths_of
from jclip_adapter.data.sets.names import loose
from jclip_adapter.data.sets.support import Draw, choose_support
from jclip_adapter.features.task_encoder import TaskEncoder

logger = logging.getLogger(__name__)
_SHOWN = 5


@dataclass(frozen=True)
class Beside:
    """A data set of another modality with the same classes.

    Attributes:
        modality: "audio" or "image".
        images: Its files, with the labels of the data set that is classified.
        tasks: Encodes them.
        scale: Factor of cosines between the two modalities.
    """

    modality: str
    images: ImageSet
    tasks: TaskEncoder
    scale: float
    _drawn: dict[Draw, tuple[Photo, ...]] = field(default_factory=dict, repr=False)

    def chosen(self, draw: Draw) -> tuple[Photo, ...]:
        """The files of a draw; a list of shots is of the other modality and leaves this draw random."""
        own = dataclasses.replace(draw, order="first" if draw.order == "first" else "random", strict=False)
        if own not in self._drawn:
            self._drawn[own] = choose_support(self.images, own, self.tasks.unreadable)
        return self._drawn[own]

    def files(self, draw: Draw) -> dict[str, str]:
        """SHA-256 of the files of a draw, by relative path."""
        chosen = self.chosen(draw)
        keys = self.tasks.photos(paths_of(chosen)).keys
        return {photo.relative: key.hex() for photo, key in zip(chosen, keys, strict=True)}

    def added_to(self, task: FewShotTask, draw: Draw) -> FewShotTask:
        """The task with the features of a draw as further rows."""
        chosen = self.chosen(draw)
        found = self.tasks.photos(paths_of(chosen))
        rows = np.flatnonzero(found.readable)
        return dataclasses.replace(
            task,
            extra_features=found.normalised[rows],
            extra_labels=labels_of(chosen)[rows],
            extra_modalities=(self.modality,) * len(rows),
            extra_scale=self.scale,
        )


def open_beside(place: str, kind: FileKind, images: ImageSet, settings: Settings) -> ImageSet:
    """Read the data set of --audio or --photos.

    Args:
        place: Its folder or CSV file.
        kind: What it holds.
        images: The data set that is classified; only its classes are used. Names are compared without case and with
            spaces for underscores and hyphens.
        settings: The settings.

    Returns:
        Its training files, labelled by the classes of `images`.

    Raises:
        DataError: it cannot be read, or has none of the classes.
    """
    with doing(f"reading {place}"):
        found = load_dataset(Path(place), follow_links=settings.follow_links, kind=kind)
    own = {loose(name): label for label, name in enumerate(images.class_names)}
    label_of = {number: own[loose(name)] for number, name in enumerate(found.class_names) if loose(name) in own}
    if not label_of:
        name = images.class_names[0]
        raise DataError(f"{place} has none of the classes of {images.source}.", suggest(name, found.class_names))
    lacking = [name for label, name in enumerate(images.class_names) if label not in label_of.values()]
    if lacking:
        logger.warning("%s has no %ss of %d classes: %s", place, kind, len(lacking), first_of(lacking, _SHOWN))
    train = tuple(
        dataclasses.replace(photo, label=label_of[photo.label]) for photo in found.train if photo.label in label_of
    )
    return dataclasses.replace(found, classes=images.classes, train=train, test=(), folds=())
