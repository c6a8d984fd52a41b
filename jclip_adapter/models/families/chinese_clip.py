"""Chinese-CLIP (Yang et al., 2022): CLIP's image tower, and BERT with WordPiece as the text tower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jclip_adapter.core.errors import WeightsError
from jclip_adapter.data.photos.preprocess import PixelTransform
from jclip_adapter.models.clip.config import ClipConfig
from jclip_adapter.models.clip.vocabulary import WORDPIECE, Vocabulary, found_in
from jclip_adapter.models.description import Description
from jclip_adapter.models.description.json_fields import read_table

from . import hugging_face
from .layout import Entry, Floats, affine, packed

_BLOCK = {
    "attention.output.dense": "attn.out_proj",
    "attention.output.LayerNorm": "ln_1",
    "intermediate.dense": "mlp.c_fc",
    "output.dense": "mlp.c_proj",
    "output.LayerNorm": "ln_2",
}
_SETTINGS = {"text_mask": "padding", "text_read": "first"}
# Image towers of the published files, and the width of their heads. Source: OFA-Sys/Chinese-CLIP's model_configs.
_HEAD_WIDTH = {768: 64, 1024: 64, 1280: 80}


def tokens(folder: Path) -> tuple[Vocabulary, str]:
    """The vocabulary and cleaning of a model's folder.

    Raises:
        WeightsError: vocab.txt is missing, or the tokenizer is not the published one.
    """
    options = folder / "tokenizer_config.json"
    given = read_table(options) if options.is_file() else {}
    for name, wanted in (("do_lower_case", True), ("tokenize_chinese_chars", True)):
        if given.get(name, wanted) is not wanted:
            raise WeightsError(f"{options}: {name} = {given[name]!r} is not supported yet.", "Give another model.")
    vocabulary = found_in(folder, WORDPIECE, end="[SEP]", pad="[PAD]", start="[CLS]")
    with vocabulary.path.open("rb") as lines:
        if lines.readline().strip() != b"[PAD]":
            raise WeightsError(f"{vocabulary.path} does not begin with [PAD].", "Download the model's own file.")
    return vocabulary, "none"


FAMILY = hugging_face.Family(
    text={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 512,
        "vocab_size": 30522,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    },
    vision=hugging_face.FAMILY.vision,
    processors=("ChineseCLIPImageProcessor", "ChineseCLIPFeatureExtractor"),
    settings=_SETTINGS,
    parts=("visual.class_embedding", "visual.ln_pre", "visual.proj", "ln_embedding"),
    tokens=tokens,
)


def text_entries(prefix: str, layers: int) -> list[Entry]:
    """BERT's names below "text_model" (transformers) or "bert" (the original)."""
    below = f"{prefix}.embeddings."
    found = [
        Entry("token_embedding.weight", (f"{below}word_embeddings.weight",)),
        Entry("positional_embedding", (f"{below}position_embeddings.weight",)),
        *affine({f"{below}LayerNorm": "ln_embedding"}),
    ]
    for number in range(layers):
        layer, block = f"{prefix}.encoder.layer.{number}.", f"transformer.resblocks.{number}."
        found += affine(_BLOCK, layer, block)
        found += packed([f"{layer}attention.self.{name}" for name in ("query", "key", "value")], f"{block}attn")
    return found


def without_types(weights: Mapping[str, Floats], prefix: str) -> dict[str, Floats]:
    """The weights with the type of all tokens, BERT's first, added to the positions; without the unused pooler.

    Raises:
        WeightsError: the two tables do not fit together.
    """
    below = f"{prefix}.embeddings."
    types, positions = f"{below}token_type_embeddings.weight", f"{below}position_embeddings.weight"
    kept = {name: value for name, value in weights.items() if not name.startswith(f"{prefix}.pooler.")}
    if types in kept and positions in kept:
        first, table = kept.pop(types), kept[positions]
        if first.ndim != 2 or table.ndim != 2 or first.shape[1] != table.shape[1]:
            raise WeightsError(f"{types} has shape {first.shape}, and {positions} {table.shape}.")
        kept[positions] = np.asarray(table + first[0], dtype=np.float32)
    return kept


def original(inferred: ClipConfig, folder: Path) -> Description:
    """The settings of an original file (`clip_cn_….pt`), which holds no configuration.

    Photos are squashed, and converted to RGB after that. Heads are 64 wide, except for the image tower of ViT-H.

    Args:
        inferred: The sizes.
        folder: The file's folder.

    Raises:
        WeightsError: the sizes are not those of a published model, or vocab.txt is missing.
    """
    width = inferred.vision_width
    if not inferred.is_vit or (width > 512 and width not in _HEAD_WIDTH):
        raise WeightsError(
            "this is no published ViT of Chinese-CLIP, so the number of heads is unknown.",
            "Give the model's folder by Hugging Face.",
        )
    vocabulary, cleaning = tokens(folder)
    settings: dict[str, Any] = {
        **_SETTINGS,
        "vision_heads": width // _HEAD_WIDTH.get(width, 64),
        "text_heads": inferred.transformer_width // 64,
        "vision_activation": "quick_gelu",
        "text_activation": "gelu",
        "text_eps": 1e-12,
        "text_cleaning": cleaning,
        "text_vocabulary": vocabulary,
        "pixels": PixelTransform(resize="squash"),
    }
    return Description("Chinese-CLIP's published models", settings)
