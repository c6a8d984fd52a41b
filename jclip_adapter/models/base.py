"""Base class of the networks that encode photos."""

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
from jclip_adapter.data.sets.model import FileKind

T = TypeVar("T", bound=np.generic)
BATCH = {"cpu": 32, "cuda": 256}
# oneDNN's matmuls round the rows beyond a multiple of four differently.
_GRAIN = 4


class ImageEncoder(ABC):
    """A network for photos in batches of one shape, with everything that determines its features.

    Attributes:
        weights: Path of its weights.
        sha256: Digest of that file.
        batch_size: Rows per forward pass; every pass has this many, padded to a multiple of four, so that a feature
            does not depend on the other rows or their number.
        precision: Precision of matmuls: "float32", "bfloat16" or "float16"; sums are float32.
        reading: How photo files are read, part of `image_key`.
        kind: What it encodes.
        has_text: Whether it has a text encoder; otherwise prototypes of the shots replace texts.
    """

    weights: Path
    sha256: str
    batch_size: int
    precision: str
    reading: Reading
    kind: ClassVar[FileKind] = "photo"
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
        """Factor of cosines."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Number of trained parameters."""

    @property
    @abstractmethod
    def transform(self) -> PixelTransform:
        """The preprocessing."""

    @property
    def reference(self) -> str:
        """What opens this network again as --weights."""
        return str(self.weights)

    @property
    def description(self) -> dict[str, Any]:
        """Settings that features depend on and the weight file does not contain, for JSON; empty for none."""
        return {}

    @abstractmethod
    def image_key(self) -> str:
        """A fingerprint of everything that determines a photo's feature, besides its bytes."""

    @abstractmethod
    def _make_image_tower(self) -> Callable[[npt.NDArray[np.uint8]], Array]:
        """A function that computes the features of a batch."""

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
    def files_at_once(self) -> int:
        """Photos, or other files, per call of `images`."""
        return self.batch_size

    @property
    def pass_rows(self) -> int:
        """Rows of every forward pass; a single row needs no padding."""
        return self.batch_size if self.batch_size == 1 else -(-self.batch_size // _GRAIN) * _GRAIN

    def key(self, kind: str) -> str:
        """A fingerprint of the weights, the precision and `kind`."""
        return hashlib.sha256(f"{self.sha256} {kind} {self.precision}".encode()).hexdigest()


def check_batch_size(batch_size: int) -> None:
    """Refuse a negative batch size; 0 chooses by device.

    Raises:
        UsageError: it is negative.
    """
    if batch_size < 0:
        raise UsageError(f"expected a batch size of at least 1, got {batch_size}.", "Give --batch-size 1 or more.")


def pad(rows: npt.NDArray[T], count: int) -> npt.NDArray[T]:
    """Repeat the last row until there are `count`."""
    if len(rows) > count:
        raise ValueError(f"{len(rows)} rows do not fit a batch of {count}")
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)]) if len(rows) < count else rows
