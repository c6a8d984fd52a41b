"""Shapes of a CLIP's weights, checked before a model is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from jclip_adapter.core.errors import WeightsError

from .config import ClipConfig

Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(config: ClipConfig) -> dict[str, tuple[int, ...]]:
    """Each weight's shape by OpenAI's key name, for a CLIP with a vision transformer.

    Args:
        config: Its sizes.

    Raises:
        ValueError: its image encoder is a ResNet.
    """
    if not isinstance(config.vision_layers, int):
        raise ValueError("a ResNet's shapes are those of its modules")
    wide, patch, text = config.vision_width, config.vision_patch_size, config.transformer_width
    grid = config.image_resolution // patch
    shapes: dict[str, tuple[int, ...]] = {
        "visual.conv1.weight": (wide, 3, patch, patch),
        "visual.class_embedding": (wide,),
        "visual.positional_embedding": (grid * grid + 1, wide),
        "visual.proj": (wide, config.embed_dim),
        "token_embedding.weight": (config.vocab_size, text),
        "positional_embedding": (config.context_length, text),
        "text_projection": (text, config.embed_dim),
        "logit_scale": (1,),
    }
    for name, width in (("visual.ln_pre", wide), ("visual.ln_post", wide), ("ln_final", text)):
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    towers = (
        ("visual.", wide, config.vision_layers, config.vision_mlp),
        ("", text, config.transformer_layers, config.text_mlp),
    )
    for prefix, width, layers, hidden in towers:
        for number in range(layers):
            shapes |= _block(f"{prefix}transformer.resblocks.{number}", width, hidden)
    return shapes


def _block(name: str, width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    parts = {"attn.out_proj": (width, width), "mlp.c_fc": (hidden, width), "mlp.c_proj": (width, hidden)}
    found: dict[str, tuple[int, ...]] = {f"{name}.{part}.weight": shape for part, shape in parts.items()}
    found |= {f"{name}.{part}.bias": shape[:1] for part, shape in parts.items()}
    found |= {f"{name}.attn.in_proj_weight": (3 * width, width), f"{name}.attn.in_proj_bias": (3 * width,)}
    for norm in ("ln_1", "ln_2"):
        found |= {f"{name}.{norm}.weight": (width,), f"{name}.{norm}.bias": (width,)}
    return found


def is_counter(key: str) -> bool:
    """Whether a key is one of BatchNorm's counters, which are unused."""
    return key.endswith("num_batches_tracked")


def check_shapes(state: Mapping[str, npt.NDArray[Any]], shapes: Shapes) -> None:
    """Check weights against expected shapes; a scalar matches the shape (1,).

    Args:
        state: Arrays by OpenAI's key names.
        shapes: Shapes of all keys.

    Raises:
        WeightsError: a key is missing, unknown or of another shape; all of them are listed.
    """
    given = {key: value for key, value in state.items() if not is_counter(key)}
    problems = [f"missing {key}" for key in shapes if key not in given]
    problems += [f"unknown {key}" for key in given if key not in shapes]
    for key in shapes.keys() & given.keys():
        if given[key].shape != shapes[key] and not (given[key].size == 1 and shapes[key] == (1,)):
            problems.append(f"{key} has shape {tuple(given[key].shape)}, expected {shapes[key]}")
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise WeightsError(
            f"the weights do not fit the model: {min(problems)}{more}.",
            "Give a checkpoint of a CLIP model as it was published.",
            sorted(problems),
        )
