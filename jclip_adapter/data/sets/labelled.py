"""Labelled photos to score; used only after a method is fitted."""

from __future__ import annotations

from collections.abc import Sequence

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.problems import counted

from . import check_test_links, find_labels, load_labels
from .model import ImageSet, Photo
from .sampling import remaining

HOLDOUT = 20  # photos per class that are taken from the training set


def labelled_photos(
    images: ImageSet, support: Sequence[Photo], seed: int, labels: str = "", holdout: int | None = None
) -> tuple[tuple[Photo, ...], str]:
    """Photos to score: the labelled test photos, else training photos that are not shots.

    Args:
        images: The data set.
        support: The shots.
        seed: Seed of the draw from the training set.
        labels: A file of labels; empty for the data set's own.
        holdout: Use this many training photos per class in any case; 0 for all.

    Returns:
        The photos with their labels, and their description.

    Raises:
        DataError: there are none.
    """
    check_test_links(images)
    answers = {} if holdout is not None else load_labels(labels, images) if labels else find_labels(images)
    if answers:
        photos = tuple(
            Photo(photo.base, photo.relative, answers[photo.relative])
            for photo in images.test
            if photo.relative in answers
        )
        return photos, counted(len(photos), f"labelled test {images.kind}")
    per_class = (HOLDOUT if holdout is None else holdout) or None
    photos = remaining(images, support, per_class, seed)
    if not photos:
        tests = len(images.test)
        kind = images.kind
        no_answers = f"its {tests} test {kind}s have no labels" if tests else f"it has no test {kind}s"
        raise DataError(
            f"{images.source} has no {kind}s to evaluate on: all {len(images.train)} training {kind}s are shots, and "
            f"{no_answers}.",
            "Train with fewer --shots" + (", or give --labels FILE." if tests else f", or add test {kind}s."),
        )
    return photos, f"{counted(len(photos), images.kind)} not used for training"
