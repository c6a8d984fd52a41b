"""Random weights of CLIP's shapes in JCLIP's file format, to try the main job without pretrained ones.

`python -m tests.random_weights OUT.pkl` writes them for ViT-B/32. They know nothing: accuracy is chance.
"""

from __future__ import annotations

import hashlib
import pickle  # noqa: TID251  (writes the format that the package reads without it)
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jclip_adapter.models.clip.config import VIT_B_32, ClipConfig
from jclip_adapter.storage import write_safetensors

TINY = ClipConfig(64, 32, 1, 64, 16, 77, 49408, 64, 1)


def random_state(config: ClipConfig, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Weights by OpenAI's key names, drawn with the deviations that training starts from."""
    from jclip_adapter.models.clip.model import CLIP, state_arrays
    from tools.sample.initialise import initialise

    model = CLIP(config)
    initialise(model, seed)
    return state_arrays(model)


def write_safe(path: Path, seed: int = 0, config: ClipConfig = TINY) -> Path:
    """Write a CLIP's as safetensors, as `--convert` does; a tiny one's by default."""
    write_safetensors(path, random_state(config, seed), {})
    return path


def write_jclip(path: Path, state: dict[str, npt.NDArray[np.float32]]) -> None:
    """Write as `jt.save` does: a protocol-4 pickle, its SHA-1 and Jittor's mark."""
    data = pickle.dumps(state, protocol=4)
    path.write_bytes(data + hashlib.sha1(data, usedforsecurity=False).digest() + b"HCAJSLHD")


if __name__ == "__main__":
    write_jclip(Path(sys.argv[1]), random_state(VIT_B_32))
