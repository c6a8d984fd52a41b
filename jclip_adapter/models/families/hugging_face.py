"""The names and defaults that the families have in transformers; CLIP's own are here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jclip_adapter.models.clip.config import OPENAI_PARTS
from jclip_adapter.models.clip.vocabulary import CLIP, Vocabulary

from .layout import Entry, affine, packed

_BLOCK = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
Tokens = Callable[[Path], tuple[Vocabulary, str]]


def _clip_tokens(folder: Path) -> tuple[Vocabulary, str]:
    return CLIP, "hugging_face"


@dataclass(frozen=True)
class Family:
    """A `model_type` of transformers.

    Attributes:
        text: Defaults of `text_config`.
        vision: Defaults of `vision_config`.
        processors: Names of its image processors.
        crop: Whether photos are cropped if `do_center_crop` is missing.
        settings: `ClipConfig`'s settings that all its models have.
        parts: Those of `config.OPTIONAL` that all its models have.
        tokens: The vocabulary and cleaning of a model's folder.
    """

    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    processors: tuple[str, ...]
    crop: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = OPENAI_PARTS
    tokens: Tokens = _clip_tokens


FAMILY = Family(
    text={
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
        "vocab_size": 49408,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "eos_token_id": 49407,
    },
    vision={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    processors=("CLIPImageProcessor", "CLIPFeatureExtractor"),
    crop=True,
)


def blocks(theirs: str, ours: str, layers: int) -> list[Entry]:
    """The blocks of a tower; `pre_layrnorm`, elsewhere, is their own spelling."""
    found = []
    for number in range(layers):
        layer, block = f"{theirs}.encoder.layers.{number}.", f"{ours}.resblocks.{number}."
        found += affine(_BLOCK, layer, block)
        found += packed([f"{layer}self_attn.{name}_proj" for name in "qkv"], f"{block}attn")
    return found


def entries(vision_layers: int, text_layers: int) -> list[Entry]:
    """Both towers' names in transformers' CLIPModel."""
    image, text = "vision_model.embeddings.", "text_model.embeddings."
    return [
        Entry("logit_scale", ("logit_scale",)),
        Entry("text_projection", ("text_projection.weight",), transposed=True),
        Entry("visual.proj", ("visual_projection.weight",), transposed=True),
        Entry("token_embedding.weight", (f"{text}token_embedding.weight",)),
        Entry("positional_embedding", (f"{text}position_embedding.weight",)),
        Entry("visual.class_embedding", (f"{image}class_embedding",)),
        Entry("visual.conv1.weight", (f"{image}patch_embedding.weight",)),
        Entry("visual.positional_embedding", (f"{image}position_embedding.weight",)),
        *affine({"text_model.final_layer_norm": "ln_final", "vision_model.pre_layrnorm": "visual.ln_pre"}),
        *affine({"vision_model.post_layernorm": "visual.ln_post"}),
        *blocks("vision_model", "visual.transformer", vision_layers),
        *blocks("text_model", "transformer", text_layers),
    ]
