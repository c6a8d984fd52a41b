"""The sizes of a CLIP model, read off its state dict."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from jclip_adapter.errors import WeightsError

HEAD_WIDTH = 64  # every OpenAI CLIP has attention heads of this width


@dataclass(frozen=True)
class ClipConfig:
    """The sizes of a CLIP model, named as in openai/CLIP's `build_model`.

    Attributes:
        embed_dim: Width of the shared feature space.
        image_resolution: Side of the square input in pixels.
        vision_layers: Blocks of the vision transformer, or the four stages' blocks of a ResNet.
        vision_width: Channels of the vision transformer, or of the ResNet's stem.
        vision_patch_size: Side of a patch in pixels; 0 for a ResNet.
        context_length: Positions of the text transformer.
        vocab_size: Rows of the token embedding.
        transformer_width: Channels of the text transformer.
        transformer_layers: Blocks of the text transformer.
    """

    embed_dim: int
    image_resolution: int
    vision_layers: int | tuple[int, int, int, int]
    vision_width: int
    vision_patch_size: int
    context_length: int
    vocab_size: int
    transformer_width: int
    transformer_layers: int

    @property
    def is_vit(self) -> bool:
        """Whether the image encoder is a vision transformer."""
        return isinstance(self.vision_layers, int)


VIT_B_32 = ClipConfig(512, 224, 12, 768, 32, 77, 49408, 512, 12)  # OpenAI's and JCLIP's


def _count(keys: Iterable[str], pattern: str) -> int:
    """One more than the largest number that `pattern` captures among the keys; 0 if none matches."""
    found = [int(match[1]) for key in keys if (match := re.match(pattern, key))]
    return max(found, default=-1) + 1


def infer_config(state: Mapping[str, npt.NDArray[Any]]) -> ClipConfig:
    """Read the sizes of a CLIP model off its weights (the rules of openai/CLIP's `build_model`).

    Args:
        state: Weights by OpenAI's key names.

    Returns:
        The sizes.

    Raises:
        WeightsError: the keys are not those of a CLIP, or their shapes contradict each other.
    """
    try:
        text_width = int(state["ln_final.weight"].shape[0])
        is_vit = "visual.proj" in state
        if is_vit:
            width, _, patch, _ = state["visual.conv1.weight"].shape
            side = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
            layers: int | tuple[int, int, int, int] = _count(state, r"visual\.transformer\.resblocks\.(\d+)\.")
            resolution = int(patch * side)
        else:
            width = state["visual.layer1.0.conv1.weight"].shape[0]
            patch = 0
            side = round((state["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
            one, two, three, four = (_count(state, rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
            layers = (one, two, three, four)
            resolution = side * 32
        return ClipConfig(
            embed_dim=int(state["text_projection"].shape[1]),
            image_resolution=resolution,
            vision_layers=layers,
            vision_width=int(width),
            vision_patch_size=int(patch),
            context_length=int(state["positional_embedding"].shape[0]),
            vocab_size=int(state["token_embedding.weight"].shape[0]),
            transformer_width=text_width,
            transformer_layers=_count(state, r"transformer\.resblocks\.(\d+)\."),
        )
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(
            f"these are not the weights of a CLIP model ({error}).",
            "Give JCLIP's ViT-B-32.pkl, or a CLIP checkpoint by OpenAI, open_clip or Hugging Face.",
        ) from error
