"""The architecture of a CLIP: sizes inferred from its state dict, and settings that weights do not contain."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from jclip_adapter.core.errors import WeightsError
from jclip_adapter.data.photos.preprocess import OPENAI, PixelTransform, checked

HEAD_WIDTH = 64  # every OpenAI CLIP has attention heads of this width
ACTIVATIONS = ("quick_gelu", "gelu", "gelu_tanh")
CLEANINGS = ("openai", "hugging_face")
SETTINGS = (
    "vision_heads",
    "text_heads",
    "vision_activation",
    "text_activation",
    "vision_eps",
    "text_eps",
    "text_cleaning",
    "pixels",
)
"""The attributes of `ClipConfig` that weights do not contain."""


@dataclass(frozen=True)
class ClipConfig:
    """The architecture of a CLIP model; the sizes are named as in openai/CLIP's `build_model`.

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
        vision_mlp: Hidden channels of the vision transformer's MLPs; 0 becomes four times the width.
        text_mlp: Hidden channels of the text transformer's MLPs; 0 becomes four times the width.
        vision_heads: Attention heads of the vision transformer; 0 becomes width / 64.
        text_heads: Attention heads of the text transformer; 0 becomes width / 64, at least 1.
        vision_activation: Of the vision transformer's MLPs: "quick_gelu" x·σ(1.702x), "gelu" ½x(1 + erf(x/√2)), or
            "gelu_tanh" ½x(1 + tanh(√(2/π)(x + 0.044715x³))).
        text_activation: Of the text transformer's MLPs.
        vision_eps: Epsilon of the vision transformer's LayerNorms.
        text_eps: Epsilon of the text transformer's LayerNorms.
        text_cleaning: Cleaning of texts, for `tokenizer.clean`.
        pixels: The preprocessing of photos.

    Raises:
        ValueError: a head count does not divide its width, or a value is out of range.
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
    vision_mlp: int = 0
    text_mlp: int = 0
    vision_heads: int = 0
    text_heads: int = 0
    vision_activation: str = "quick_gelu"
    text_activation: str = "quick_gelu"
    vision_eps: float = 1e-5
    text_eps: float = 1e-5
    text_cleaning: str = "openai"
    pixels: PixelTransform = OPENAI

    def __post_init__(self) -> None:
        vision, text = self.vision_width, self.transformer_width
        defaults = {
            "vision_mlp": 4 * vision if self.is_vit else 0,
            "text_mlp": 4 * text,
            # A ResNet's heads are those of its attention pool, which is 32 times as wide as the stem.
            "vision_heads": max(1, (vision if self.is_vit else 32 * vision) // HEAD_WIDTH),
            "text_heads": max(1, text // HEAD_WIDTH),
        }
        for name, value in defaults.items():
            if not getattr(self, name):
                object.__setattr__(self, name, value)
        for tower, width, heads in (("vision", vision, self.vision_heads), ("text", text, self.text_heads)):
            if heads < 1 or ((self.is_vit or tower == "text") and width % heads):
                raise ValueError(f"{tower}_heads is {heads}, which does not divide the width {width}")
        for name, kinds in (
            ("vision_activation", ACTIVATIONS),
            ("text_activation", ACTIVATIONS),
            ("text_cleaning", CLEANINGS),
        ):
            if getattr(self, name) not in kinds:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(kinds)}")
        for name in ("vision_eps", "text_eps"):
            if not 0 < getattr(self, name) <= 0.1:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected more than 0 and at most 0.1")

    @property
    def is_vit(self) -> bool:
        """Whether the image encoder is a vision transformer."""
        return isinstance(self.vision_layers, int)

    def settings(self) -> dict[str, Any]:
        """The attributes in `SETTINGS`, for JSON."""
        return {name: getattr(self, name) for name in SETTINGS if name != "pixels"} | {"pixels": self.pixels.as_dict()}

    def as_openai(self) -> ClipConfig:
        """A model of these sizes with OpenAI's settings: QuickGELU, heads of 64 channels, OpenAI's pixels."""
        wide, text = self.vision_width, self.transformer_width
        sizes = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in SETTINGS}
        # Heads of 64 channels do not fill every width.
        heads = 0 if not self.is_vit or wide % HEAD_WIDTH == 0 else 1
        return ClipConfig(**sizes, vision_heads=heads, text_heads=0 if text % HEAD_WIDTH == 0 else 1)


VIT_B_32 = ClipConfig(512, 224, 12, 768, 32, 77, 49408, 512, 12)  # OpenAI's and JCLIP's


def checked_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Validate `ClipConfig.settings` from JSON.

    Raises:
        TypeError: an attribute is unknown or of another kind.
        ValueError: a value of the pixel transform is out of range.
    """
    unknown = set(values) - set(SETTINGS)
    if unknown:
        raise TypeError(f"unknown attribute {min(unknown)!r}")
    rest = {name: value for name, value in values.items() if name != "pixels"}
    pixels = values.get("pixels", {})
    if not isinstance(pixels, Mapping):
        raise TypeError(f"pixels is {pixels!r}, expected a table")
    return {**checked(VIT_B_32, rest), "pixels": PixelTransform.from_dict(pixels)}


def _count(keys: Iterable[str], pattern: str) -> int:
    """One more than the largest number that `pattern` captures among the keys; 0 if none matches."""
    found = [int(match[1]) for key in keys if (match := re.match(pattern, key))]
    return max(found, default=-1) + 1


def infer_config(state: Mapping[str, npt.NDArray[Any]]) -> ClipConfig:
    """Infer the sizes of a CLIP from its weights, as in openai/CLIP's `build_model`.

    The other settings are OpenAI's: QuickGELU, heads of 64 channels, OpenAI's preprocessing.

    Args:
        state: Weights by OpenAI's key names.

    Returns:
        The architecture.

    Raises:
        WeightsError: the keys are not those of a CLIP, or their shapes are inconsistent.
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
            vision_mlp=_mlp_width(state, "visual.") if is_vit else 0,
            text_mlp=_mlp_width(state, ""),
            vision_heads=1,
            text_heads=1,
        ).as_openai()
    except WeightsError:
        raise
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(
            f"these are not the weights of a CLIP model ({error}).",
            "Give JCLIP's ViT-B-32.pkl, or a CLIP checkpoint by OpenAI, open_clip or Hugging Face.",
        ) from error


def _mlp_width(state: Mapping[str, npt.NDArray[Any]], tower: str) -> int:
    """Hidden channels of a tower's first MLP; 0 where it is missing."""
    weight = state.get(f"{tower}transformer.resblocks.0.mlp.c_fc.weight")
    return 0 if weight is None or weight.ndim != 2 else int(weight.shape[0])
