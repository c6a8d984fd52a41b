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
    places = config.grid**2 + ("visual.class_embedding" in config.parts)
    pooled = wide if "visual.proj" not in config.parts else config.embed_dim
    optional: dict[str, dict[str, tuple[int, ...]]] = {
        "visual.conv1.bias": {"visual.conv1.bias": (wide,)},
        "visual.class_embedding": {"visual.class_embedding": (wide,)},
        "visual.ln_pre": _norm("visual.ln_pre", wide),
        "visual.pool": _pool(wide, config.vision_mlp),
        "visual.proj": {"visual.proj": (wide, config.embed_dim)},
        "visual.proj_bias": {"visual.proj_bias": (pooled,)},
        "ln_embedding": _norm("ln_embedding", text),
        "ln_final": _norm("ln_final", text),
        "text_projection_bias": {"text_projection_bias": (config.embed_dim,)},
        "logit_bias": {"logit_bias": (1,)},
    }
    shapes: dict[str, tuple[int, ...]] = {
        "visual.conv1.weight": (wide, 3, patch, patch),
        "visual.positional_embedding": (places, wide),
        **_norm("visual.ln_post", wide),
        "token_embedding.weight": (config.vocab_size, text),
        "positional_embedding": (config.text_rows, text),
        "text_projection": (text, config.embed_dim),
        "logit_scale": (1,),
    }
    for part in config.parts:
        shapes |= optional[part]
    towers = (
        ("visual.", wide, config.vision_layers, config.vision_mlp),
        ("", text, config.transformer_layers, config.text_mlp),
    )
    for prefix, width, layers, hidden in towers:
        for number in range(layers):
            shapes |= _block(f"{prefix}transformer.resblocks.{number}", width, hidden)
    return shapes


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _attention_and_mlp(name: str, width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    parts = {"attn.out_proj": (width, width), "mlp.c_fc": (hidden, width), "mlp.c_proj": (width, hidden)}
    found: dict[str, tuple[int, ...]] = {f"{name}.{part}.weight": shape for part, shape in parts.items()}
    found |= {f"{name}.{part}.bias": shape[:1] for part, shape in parts.items()}
    return found | {f"{name}.attn.in_proj_weight": (3 * width, width), f"{name}.attn.in_proj_bias": (3 * width,)}


def _block(name: str, width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    norms = _norm(f"{name}.ln_1", width) | _norm(f"{name}.ln_2", width)
    return _attention_and_mlp(name, width, hidden) | norms


def _pool(width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    name = "visual.pool"
    return {f"{name}.probe": (width,), **_norm(f"{name}.ln", width), **_attention_and_mlp(name, width, hidden)}


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
