"""What every network that turns photos into features has in common."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from jclip_adapter import runtime
from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import Array, Lazy
from jclip_adapter.data.photos.preprocess import PixelTransform
from jclip_adapter.data.photos.reading import Reading

T = TypeVar("T", bound=np.generic)
BATCH = {"cpu": 32, "cuda": 256}
# What is left over beyond a multiple of four rows comes out of oneDNN's matrix products rounded otherwise.
_GRAIN = 4


class ImageEncoder(ABC):
    """A network for photos in batches of one shape, with everything that determines its features.

    Attributes:
        weights: Path of its file.
        sha256: Of that file.
        batch_size: Rows per forward pass; every pass has this many, padded to a multiple of four, so that a row's
            feature depends neither on how many others a run still had to encode, nor on its place among them.
        precision: Of matrix products: "float32", "bfloat16" or "float16"; sums are float32 in any case.
        reading: How a photo's file becomes a picture, part of `image_key`.
        has_text: Whether classes are told by prompts; otherwise the shots' prototypes stand in for them.
    """

    weights: Path
    sha256: str
    batch_size: int
    precision: str
    reading: Reading
    has_text: ClassVar[bool]

    def __post_init__(self) -> None:
        self._image_tower = Lazy(self._make_image_tower)

    @property
    @abstractmethod
    def image_size(self) -> int:
        """Side of the square input in pixels."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Width of the features."""

    @property
    @abstractmethod
    def logit_scale(self) -> float:
        """What cosines are multiplied by."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """How many numbers were learnt."""

    @property
    @abstractmethod
    def transform(self) -> PixelTransform:
        """How a photo becomes the square that is read."""

    @property
    def description(self) -> dict[str, Any]:
        """What the weights do not hold and the features depend on, for JSON; empty where the name says all."""
        return {}

    @abstractmethod
    def image_key(self) -> str:
        """A fingerprint of all that turns a photo's bytes into its feature."""

    @abstractmethod
    def _make_image_tower(self) -> Callable[[npt.NDArray[np.uint8]], Array]:
        """What computes the features of a batch."""

    def images(self, pixels: npt.NDArray[np.uint8]) -> Array:
        """Encode photos.

        Args:
            pixels: (B, n, n, 3) uint8, B at most `batch_size`.

        Returns:
            (B, d) float32, not normalised.
        """
        jt = runtime.start()
        padded = pad(pixels, self.pass_rows)
        with jt.no_grad():
            return self._image_tower.get()(padded)[: len(pixels)]

    @property
    def pass_rows(self) -> int:
        """Rows of every forward pass; a single one needs no padding, as it has but one place."""
        return self.batch_size if self.batch_size == 1 else -(-self.batch_size // _GRAIN) * _GRAIN

    def key(self, kind: str) -> str:
        """A fingerprint of the weights, the precision and what else `kind` says."""
        return hashlib.sha256(f"{self.sha256} {kind} {self.precision}".encode()).hexdigest()


def check_batch_size(batch_size: int) -> None:
    """Refuse a number of rows that cannot be; 0 leaves it to the device.

    Raises:
        UsageError: it is negative.
    """
    if batch_size < 0:
        raise UsageError(f"a batch of {batch_size} photos cannot be.", "Give --batch-size 1 or more.")


def pad(rows: npt.NDArray[T], count: int) -> npt.NDArray[T]:
    """Repeat the last row until there are `count`."""
    if len(rows) > count:
        raise ValueError(f"{len(rows)} rows do not fit a batch of {count}")
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)]) if len(rows) < count else rows
