"""Encodes the photos of a unit into a part."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import PhotoError
from jclip_adapter.data.photos.decode import pixels_of
from jclip_adapter.data.photos.decoders import in_threads
from jclip_adapter.models.base import ImageEncoder

from .files import Plan, write_part
from .source import Unit
from .tars import Entry


class _Decoded(NamedTuple):
    key: str
    label: str
    digest: bytes | None
    pixels: npt.NDArray[np.uint8] | None
    error: str | None


def encode_unit(encoder: ImageEncoder, plan: Plan, unit: Unit) -> int:
    """`encoding` a unit, to its end; returns its number of photos."""
    return sum(encoding(encoder, plan, unit))


def encoding(encoder: ImageEncoder, plan: Plan, unit: Unit) -> Generator[int, None, None]:
    """Decode and encode a unit's photos, and write its part; each photo has exactly one row.

    Args:
        encoder: The network.
        plan: The plan.
        unit: The unit.

    Yields:
        Numbers of photos as they are done, their sum at the end that of the unit.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("key", "sha256", "label", "error")}
    rows: list[npt.NDArray[np.float32]] = []
    batch: list[tuple[int, npt.NDArray[np.uint8]]] = []

    def encode() -> None:
        for (place, _), row in zip(batch, encoder.images(np.stack([pixels for _, pixels in batch])), strict=True):
            rows[place] = row
        batch.clear()

    told = 0
    nothing = np.zeros(plan.width, dtype=np.float32)
    for found in _decoded(encoder, unit):
        for name, value in zip(columns, (found.key, found.digest, found.label or None, found.error), strict=True):
            columns[name].append(value)
        if found.pixels is not None:
            batch.append((len(rows), found.pixels))
        rows.append(nothing)
        if len(batch) == encoder.files_at_once:
            encode()
            yield len(rows) - told
            told = len(rows)
    if batch:
        encode()
    features = np.stack(rows) if rows else np.zeros((0, plan.width), dtype=np.float32)
    _refuse_infinite(plan, features, columns["error"])
    write_part(plan, unit.number, unit.digest, columns, features)
    yield len(rows) - told


def _refuse_infinite(plan: Plan, features: npt.NDArray[np.float32], errors: list[Any]) -> None:
    """Replace features that are not finite, or whose square or stored form is not, by zeros and an error."""
    with np.errstate(over="ignore"):
        fine = np.isfinite(np.square(features).sum(axis=1)) & np.isfinite(features.astype(plan.dtype)).all(axis=1)
    for row in np.flatnonzero(~fine):
        features[row] = 0
        errors[row] = f"its feature is not finite in {plan.dtype}"


def _decoded(encoder: ImageEncoder, unit: Unit) -> Iterator[_Decoded]:
    def read(entry: Entry) -> _Decoded:
        if entry.error:
            return _Decoded(entry.key, entry.label, None, None, entry.error)
        digest = hashlib.sha256(entry.data).digest()
        try:
            pixels = pixels_of(entry.data, entry.key, encoder.image_size, encoder.transform, encoder.reading)
        except PhotoError as error:
            return _Decoded(entry.key, entry.label, digest, None, error.message)
        return _Decoded(entry.key, entry.label, digest, pixels, None)

    return in_threads(read, unit.entries())
