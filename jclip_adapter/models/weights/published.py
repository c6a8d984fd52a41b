"""A choice of published CLIPs, with figures and licences as published."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jclip_adapter.core.errors import UsageError, suggest

OPEN_CLIP = "open_clip:"
_TABLE = Path(__file__).with_name("published.csv")


class PublishedModel(NamedTuple):
    """A row of published.csv.

    Attributes:
        weights: Its name for `--weights`.
        open_clip: open_clip's name, ARCHITECTURE/TAG; empty for none.
        parameters_millions: Parameters of both towers.
        image_size: Side of the photos in pixels.
        imagenet: Published top-1 on ImageNet without training, in percent; empty where none is published.
        licence: Of the weights.
        good_for: What it is good for.
        figures: Address of the source of parameters, size and figure.
        licence_source: Address of the source of the licence.
    """

    weights: str
    open_clip: str
    parameters_millions: str
    image_size: str
    imagenet: str
    licence: str
    good_for: str
    figures: str
    licence_source: str


@cache
def published_models() -> tuple[PublishedModel, ...]:
    """The rows of published.csv, in the file's order.

    >>> "ViT-B/32" in [model.weights for model in published_models()]
    True
    """
    with _TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(PublishedModel(**row) for row in csv.DictReader(file))


@cache
def _by_open_clip() -> Mapping[str, str]:
    return {OPEN_CLIP + model.open_clip: model.weights for model in published_models() if model.open_clip}


def canonical(weights: str) -> str:
    """The name of weights given by open_clip's name; others unchanged.

    >>> canonical("open_clip:ViT-B-32/laion2b_s34b_b79k")
    'hf:laion/CLIP-ViT-B-32-laion2B-s34B-b79K'
    >>> canonical("open_clip:ViT-B-32/openai"), canonical("my.pkl")
    ('ViT-B/32', 'my.pkl')

    Raises:
        UsageError: an unknown name of open_clip.
    """
    if not weights.startswith(OPEN_CLIP):
        return weights
    if weights not in _by_open_clip():
        raise UsageError(
            f"--weights {weights}: unknown name.",
            f"{suggest(weights, _by_open_clip())} Others: --weights hf:ORG/NAME.",
        )
    return _by_open_clip()[weights]
