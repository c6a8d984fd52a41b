"""Numbers computed by the authors' own code, and the weights that they were computed with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

OWN = Path(__file__).parent / "golden"
FOLDER = Path(os.environ.get("JCLIP_GOLDEN_DIR") or OWN)


def golden_path(name: str) -> Path:
    """A golden file: JCLIP_GOLDEN_DIR's where it has one of that name, else this repository's."""
    return FOLDER / name if (FOLDER / name).is_file() else OWN / name


class Golden:
    """One case: what its JSON says and what its arrays hold.

    Args:
        name: File name without ending.
    """

    def __init__(self, name: str) -> None:
        self.facts: dict[str, Any] = json.loads(golden_path(f"{name}.json").read_text(encoding="utf-8"))
        with np.load(golden_path(f"{name}.npz"), allow_pickle=False) as arrays:
            self.arrays = {key: arrays[key] for key in arrays.files}

    def __getitem__(self, key: str) -> np.ndarray[Any, Any]:
        return self.arrays[key]

    def tolerance(self, key: str) -> float:
        """A stated tolerance."""
        return float(self.facts["tolerance"][key])

    def state_dict(self, part: str = "params") -> dict[str, np.ndarray[Any, Any]]:
        """The weights that the case's recipe, or a part of it, draws."""
        recipe = self.facts["recipe"]
        state: dict[str, np.ndarray[Any, Any]] = {}
        for entry in recipe[part]:
            name, shape = entry["name"], entry["shape"]
            if "value" in entry:
                state[name] = np.full(shape, entry["value"], np.float32)
                continue
            rng = np.random.default_rng([recipe["seed"], entry["index"]])
            noise = rng.standard_normal(shape, dtype=np.float32)
            value = np.float32(entry["mean"]) + np.float32(entry["std"]) * noise
            if entry.get("arange"):
                value = value + np.arange(*shape, dtype=np.float32)
            state[name] = np.abs(value) + np.float32(0.1) if name.endswith("running_var") else value
        return state
