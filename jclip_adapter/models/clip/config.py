"""The architecture of a CLIP: sizes and parts inferred from its weights, and settings that weights do not contain."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from jclip_adapter.core.errors import WeightsError
from jclip_adapter.data.photos.preprocess import OPENAI, PixelTransform, checked

from .vocabulary import CLIP, Vocabulary

HEAD_WIDTH = 64  # every OpenAI CLIP has attention heads of this width
ACTIVATIONS = ("quick_gelu", "gelu", "gelu_tanh")
CLEANINGS = ("openai", "hugging_face", "canonical", "no_punctuation", "lower", "none")
MASKS = ("causal", "padding", "none")
READS = ("end", "first", "last")
POOLS = ("token", "norm_mean", "mean_norm", "attention")
OPTIONAL = {
    "visual.conv1.bias": "visual.conv1.bias",
    "visual.class_embedding": "visual.class_embedding",
    "visual.ln_pre": "visual.ln_pre.weight",
    "visual.pool": "visual.pool.probe",
    "visual.proj": "visual.proj",
    "visual.proj_bias": "visual.proj_bias",
    "ln_embedding": "ln_embedding.weight",
    "ln_final": "ln_final.weight",
    "text_projection_bias": "text_projection_bias",
    "logit_bias": "logit_bias",
}
"""Parts that not every model of this family has, by the weight that shows them."""
OPENAI_PARTS = ("visual.class_embedding", "visual.ln_pre", "visual.proj", "ln_final")
SETTINGS = (
    "vision_heads",
    "text_heads",
    "vision_activation",
    "text_activation",
    "vision_eps",
    "text_eps",
    "text_cleaning",
    "pixels",
    "image_resolution",
    "vision_pool",
    "vision_pool_heads",
    "vision_rotary",
    "vision_rotary_offset",
    "text_mask",
    "text_read",
    "text_vocabulary",
)
"""The attributes of `ClipConfig` that weights do not contain."""
_ALWAYS = SETTINGS[:7]  # those that `settings` gives also where they are OpenAI's
_NESTED = ("pixels", "text_vocabulary")


def only(*parts: str) -> dict[str, bool]:
    """Which of `OPTIONAL` a model has, if it has `parts` and possibly a bias of its logits."""
    return {part: part in parts for part in OPTIONAL if part != "logit_bias"}


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
        parts: Those of `OPTIONAL` that the model has. With "ln_embedding" the text tower is BERT's: its norms follow
            attention and MLP instead of preceding them.
        text_positions: Rows of the text's table of positions; 0 for `context_length`.
        vision_pool: What becomes the image's feature: the class "token", the mean of the patches after the last norm
            ("norm_mean") or before it ("mean_norm"), or "attention" with one learnt query.
        vision_pool_heads: Heads of attention pooling; 0 for `vision_heads`.
        vision_rotary: Side of the grid of patches that the image tower's rotary positions were trained with; 0 for
            none.
        vision_rotary_offset: Number of the first row and column of patches in rotary positions.
        text_mask: Which positions a text's position attends to: the earlier ones ("causal"), all but "padding", or all
            ("none").
        text_read: Position that becomes the text's feature: the "end" token's, the "first" or the "last".
        text_vocabulary: The tokenizer's file.

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
    parts: tuple[str, ...] = OPENAI_PARTS
    text_positions: int = 0
    vision_pool: str = "token"
    vision_pool_heads: int = 0
    vision_rotary: int = 0
    vision_rotary_offset: int = 1
    text_mask: str = "causal"
    text_read: str = "end"
    text_vocabulary: Vocabulary = CLIP

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
        if not self.is_vit:
            object.__setattr__(self, "parts", tuple(part for part in self.parts if not part.startswith("visual.")))
        for name, kinds in (
            ("vision_activation", ACTIVATIONS),
            ("text_activation", ACTIVATIONS),
            ("text_cleaning", CLEANINGS),
            ("vision_pool", POOLS),
            ("text_mask", MASKS),
            ("text_read", READS),
        ):
            if getattr(self, name) not in kinds:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(kinds)}")
        self._check_parts()
        for name in ("vision_eps", "text_eps"):
            if not 0 < getattr(self, name) <= 0.1:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected more than 0 and at most 0.1")

    @property
    def is_vit(self) -> bool:
        """Whether the image encoder is a vision transformer."""
        return isinstance(self.vision_layers, int)

    @property
    def grid(self) -> int:
        """Patches along a side of the vision transformer's input; pixels beyond the last whole patch are not read."""
        return self.image_resolution // self.vision_patch_size

    @property
    def text_rows(self) -> int:
        """Rows of the text's table of positions."""
        return self.text_positions or self.context_length

    @property
    def pool_heads(self) -> int:
        """Heads of attention pooling."""
        return self.vision_pool_heads or self.vision_heads

    def _check_parts(self) -> None:
        """Refuse a pooling that the parts do not allow, and heads that do not divide the width."""
        if not self.is_vit:
            return
        if (self.vision_pool == "attention") != ("visual.pool" in self.parts):
            raise ValueError(f"vision_pool is {self.vision_pool!r}, and the model's parts are {', '.join(self.parts)}")
        if self.vision_pool != "attention" and "visual.class_embedding" not in self.parts:
            raise ValueError(f"vision_pool is {self.vision_pool!r}, but the model has no class token")
        if "visual.proj" not in self.parts and self.vision_width != self.embed_dim:
            raise ValueError(f"without visual.proj, the width {self.vision_width} is not that of texts")
        if self.vision_width % self.pool_heads:
            raise ValueError(f"vision_pool_heads is {self.vision_pool_heads}, which does not divide the width")
        if self.vision_rotary and self.vision_width // self.vision_heads % 4:
            raise ValueError("heads with rotary positions have a width that four divides")

    def settings(self) -> dict[str, Any]:
        """The attributes in `SETTINGS`, for JSON; of the rarer ones those that are not OpenAI's."""
        plain = self.as_openai()
        given = {name: getattr(self, name) for name in SETTINGS}
        found = {name: value for name, value in given.items() if name in _ALWAYS or value != getattr(plain, name)}
        for name in _NESTED:
            if name in found:
                found[name] = found[name].as_dict()
        return found | {"pixels": self.pixels.as_dict()}

    def as_openai(self) -> ClipConfig:
        """A model of these sizes and parts with OpenAI's settings: QuickGELU, heads of 64 channels, OpenAI's pixels."""
        wide, text = self.vision_width, self.transformer_width
        sizes = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in SETTINGS}
        # Heads of 64 channels do not fill every width.
        heads = 0 if not self.is_vit or wide % HEAD_WIDTH == 0 else 1
        return ClipConfig(
            **sizes,
            image_resolution=self.grid * self.vision_patch_size if self.is_vit else self.image_resolution,
            vision_heads=heads,
            text_heads=0 if text % HEAD_WIDTH == 0 else 1,
            vision_pool="attention" if "visual.pool" in self.parts else "token",
        )


BERT_CONTEXT = 52  # tokens of a text in Chinese-CLIP, whose BERT has 512 positions
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
    found = checked(VIT_B_32, {name: value for name, value in values.items() if name not in _NESTED})
    for name in _NESTED:
        table = values.get(name, {})
        if not isinstance(table, Mapping):
            raise TypeError(f"{name} is {table!r}, expected a table")
        default = getattr(VIT_B_32, name)
        found[name] = dataclasses.replace(default, **checked(default, table))
    return found


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
        is_vit = "visual.positional_embedding" in state
        parts = tuple(part for part, witness in OPTIONAL.items() if witness in state)
        if is_vit:
            width, _, patch, _ = state["visual.conv1.weight"].shape
            token = "visual.class_embedding" in state
            side = round((state["visual.positional_embedding"].shape[0] - token) ** 0.5)
            layers: int | tuple[int, int, int, int] = _count(state, r"visual\.transformer\.resblocks\.(\d+)\.")
            resolution = int(patch * side)
        else:
            width = state["visual.layer1.0.conv1.weight"].shape[0]
            patch = 0
            side = round((state["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
            one, two, three, four = (_count(state, rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
            layers = (one, two, three, four)
            resolution = side * 32
        positions = int(state["positional_embedding"].shape[0])
        bert = "ln_embedding" in parts
        return ClipConfig(
            embed_dim=int(state["text_projection"].shape[1]),
            image_resolution=resolution,
            vision_layers=layers,
            vision_width=int(width),
            vision_patch_size=int(patch),
            context_length=min(positions, BERT_CONTEXT) if bert else positions,
            vocab_size=int(state["token_embedding.weight"].shape[0]),
            transformer_width=int(state["ln_embedding.weight" if bert else "ln_final.weight"].shape[0]),
            transformer_layers=_count(state, r"transformer\.resblocks\.(\d+)\."),
            vision_mlp=_mlp_width(state, "visual.") if is_vit else 0,
            text_mlp=_mlp_width(state, ""),
            vision_heads=1,
            text_heads=1,
            vision_pool="attention" if "visual.pool" in parts else "token",
            parts=parts,
            text_positions=positions if bert else 0,
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
