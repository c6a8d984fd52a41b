"""Positions: rotations of patches, and which positions of a text are computed and read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .config import ClipConfig

BASE = 10_000.0


def rotary_table(config: ClipConfig) -> npt.NDArray[np.float32] | None:
    """Cosines and sines by which queries and keys of the image tower are rotated (Su et al., "RoFormer", 2021).

    In two dimensions as in timm's Eva, which runs PE-Core.

    A head of width w has n = w/4 bands f_j = BASE^(−j/n). A patch in column x and row y has the angles x·f_j, then
    y·f_j, each for two neighbouring channels. On another grid than that of training, x and y are scaled to it. The
    class token is not rotated.

    Args:
        config: The architecture.

    Returns:
        (2, positions, w) cosines and sines; None without rotary positions.
    """
    if not config.vision_rotary:
        return None
    bands = config.vision_width // config.vision_heads // 4
    frequencies = BASE ** (-np.arange(bands) / bands)
    steps = (np.arange(config.grid) + config.vision_rotary_offset) * (config.vision_rotary / config.grid)
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    angles = np.concatenate([places.reshape(-1, 1) * frequencies for places in (columns, rows)], axis=1).repeat(2, 1)
    if "visual.class_embedding" in config.parts:
        angles = np.concatenate([np.zeros((1, angles.shape[1])), angles])
    return np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def ends(ids: npt.NDArray[np.integer[Any]], config: ClipConfig) -> npt.NDArray[np.int64]:
    """(B,) position of each text's last token before the padding.

    CLIP's end token has the largest id; BERT's padding is 0.

    Args:
        ids: (B, context) token ids.
        config: The architecture.
    """
    if not config.text_vocabulary.name:
        return ids.argmax(axis=1)
    return (ids != 0).sum(axis=1) - 1


def needed(end: npt.NDArray[np.int64], size: int, config: ClipConfig) -> npt.NDArray[np.int64]:
    """(B,) how many positions of each text its feature depends on.

    Args:
        end: (B,) from `ends`.
        size: Positions of the texts.
        config: The architecture.
    """
    return np.full_like(end, size) if config.text_mask == "none" or config.text_read == "last" else end + 1


def read(end: npt.NDArray[np.int64], size: int, config: ClipConfig) -> npt.NDArray[np.int64]:
    """(B,) position of each text that becomes its feature.

    Args:
        end: (B,) from `ends`.
        size: Positions that are computed.
        config: The architecture.
    """
    return end if config.text_read == "end" else np.full_like(end, 0 if config.text_read == "first" else size - 1)
