"""PE-Core (Bolya et al., "Perception Encoder", 2025), by open_clip and timm.

The image tower has learnt and rotary positions, a norm before the blocks, attention pooling with eight heads, and a
linear head with bias. The text tower is CLIP's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from jclip_adapter.models.clip.config import ClipConfig

# Width of the tower and of its heads, and the grid of patches that it was trained on. Source: timm's eva.py.
_SIZES = {"tiny": (192, 64, 24), "small": (384, 64, 24), "base": (768, 64, 14), "large": (1024, 64, 24)}
_SIZES["gigantic"] = (1536, 96, 32)
_NAME = re.compile(r"vit_pe_core_(?P<size>tiny|small|base|large|gigantic)_patch(?P<patch>14|16)_(?P<side>\d{3})")
_POOL_HEADS = 8


def timm_tower(name: str) -> tuple[int, Callable[[ClipConfig], dict[str, Any]]] | None:
    """An image tower by timm's name.

    Args:
        name: Such as "vit_pe_core_base_patch16_224".

    Returns:
        The side of a patch, and the settings of weights of these sizes; None for another model's name. A model of
        another width than the published one was trained on its own grid of patches.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    width, head, grid = _SIZES[match["size"]]
    offset = 0 if match["size"] == "gigantic" else 1

    def settings(sizes: ClipConfig) -> dict[str, Any]:
        return {
            "vision_heads": sizes.vision_width // head,
            "vision_pool_heads": _POOL_HEADS,
            "vision_activation": "gelu",
            "vision_rotary": grid if sizes.vision_width == width else sizes.grid,
            "vision_rotary_offset": offset,
        }

    return int(match["patch"]), settings


def timm_name(config: ClipConfig) -> str:
    """Timm's name for a PE-Core's image tower of this size; else empty."""
    sizes = {width: size for size, (width, _, _) in _SIZES.items()}
    if not config.vision_rotary or config.vision_width not in sizes:
        return ""
    name = f"vit_pe_core_{sizes[config.vision_width]}_patch{config.vision_patch_size}_{config.image_resolution}"
    found = timm_tower(name)
    settings = {} if found is None else found[1](config)
    return name if settings and all(getattr(config, key) == value for key, value in settings.items()) else ""
