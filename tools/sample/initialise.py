"""Random weights for a CLIP that is going to be pretrained."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.models.clip.config import ClipConfig
from jclip_adapter.models.clip.model import CLIP, load_state

LOGIT_SCALE = float(np.log(1 / 0.07))


def initialise(model: CLIP, seed: int) -> None:
    """Draw a vision-transformer CLIP's weights with the deviations of openai/CLIP's `initialize_parameters`.

    Args:
        model: The model; its weights are replaced.
        seed: Same seed, same weights, on every device.

    Raises:
        ValueError: the image encoder is a ResNet, which nothing here pretrains.
    """
    if not model.config.is_vit:
        raise ValueError("only CLIPs with a vision transformer can be initialised")
    rng = np.random.default_rng(seed)
    state: dict[str, npt.NDArray[Any]] = {}
    for key, parameter in model.state_dict().items():
        shape = tuple(parameter.shape)
        if key == "logit_scale":
            state[key] = np.full(shape, LOGIT_SCALE, np.float32)
        elif ".ln_" in f".{key}":
            state[key] = np.full(shape, float(key.endswith("weight")), np.float32)
        elif key.endswith("bias"):
            state[key] = np.zeros(shape, np.float32)
        else:
            state[key] = (rng.standard_normal(shape) * _deviation(key, shape, model.config)).astype(np.float32)
    load_state(model, state)


def _deviation(key: str, shape: tuple[int, ...], config: ClipConfig) -> float:
    layers = config.vision_layers if key.startswith("visual.") else config.transformer_layers
    width = config.vision_width if key.startswith("visual.") else config.transformer_width
    by_name = {
        "token_embedding.weight": 0.02,
        "positional_embedding": 0.01,
        "visual.conv1.weight": float(np.prod(shape[1:])) ** -0.5,
    }
    if key in by_name:
        return by_name[key]
    if key.endswith(("out_proj.weight", "c_proj.weight")):  # what is added to the residual stream
        return float(width**-0.5 * (2 * int(str(layers))) ** -0.5)
    return float((2 * width) ** -0.5 if key.endswith("c_fc.weight") else width**-0.5)
