"""SigLIP and SigLIP 2 (Zhai et al., 2023; Tschannen et al., 2025), fixed resolution, by transformers and open_clip.

Both towers lack a causal mask. The image tower has no class token: attention with a learnt query pools all patches. A
text is padded to the whole context, and its last position is read. Logits are exp(scale)·cosine + bias; each is a
probability by the logistic function.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jclip_adapter.core.errors import WeightsError
from jclip_adapter.models.clip.config import ClipConfig
from jclip_adapter.models.clip.vocabulary import SENTENCEPIECE, TOKENIZER, Vocabulary, found_in
from jclip_adapter.models.description.json_fields import Fields, read_table

from . import hugging_face
from .layout import Entry, affine

_TOWER = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
_SIZES = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_SETTINGS = {"vision_pool": "attention", "text_mask": "none", "text_read": "last"}


def tokens(folder: Path) -> tuple[Vocabulary, str]:
    """The vocabulary and cleaning of a folder by Hugging Face: SentencePiece for SigLIP, Gemma's for SigLIP 2.

    SigLIP 2's texts are lower-cased, as in its training; the published tokenizer files do not say so.

    Raises:
        WeightsError: a file of the tokenizer is missing.
    """
    end, pad = _special(folder)
    options = folder / "tokenizer_config.json"
    kind = str(read_table(options).get("tokenizer_class", "")) if options.is_file() else ""
    if (kind.startswith("Siglip") and not kind.startswith("Siglip2")) or not (folder / TOKENIZER).is_file():
        return found_in(folder, SENTENCEPIECE, end, pad), "no_punctuation"
    return found_in(folder, TOKENIZER, end, pad), "lower"


def open_clip_tokens(folder: Path, text: Fields) -> tuple[Vocabulary, str]:
    """The vocabulary and cleaning of open_clip's `hf_tokenizer_name`, whose files lie in the folder.

    Raises:
        WeightsError: a file is missing, or an option is not supported.
    """
    options = text.table_of("tokenizer_kwargs")
    if set(options.table) - {"clean"}:
        raise text.unsupported("tokenizer_kwargs")
    end, pad = _special(folder)
    cleaning = options.one_of("clean", "", {"canonicalize": "canonical", "lower": "openai"})
    return found_in(folder, TOKENIZER, end, pad), cleaning


def _special(folder: Path) -> tuple[str, str]:
    """The end's and the padding's token."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            table = read_table(folder / name)
            found = [_content(table.get(key)) for key in ("eos_token", "pad_token")]
            if all(found):
                return found[0], found[1]
    raise WeightsError(
        f"the model's tokenizer is missing: {folder / 'tokenizer_config.json'}.",
        f"Put its tokenizer_config.json and {TOKENIZER} or {SENTENCEPIECE} beside the weights.",
    )


def _content(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


FAMILY = hugging_face.Family(
    text={**_SIZES, **_TOWER, "max_position_embeddings": 64, "vocab_size": 32000},
    vision={**_SIZES, **_TOWER, "num_channels": 3, "image_size": 224, "patch_size": 16},
    processors=("SiglipImageProcessor",),
    settings=_SETTINGS,
    parts=("visual.conv1.bias", "visual.pool", "ln_final", "text_projection_bias"),
    tokens=tokens,
)


def entries() -> list[Entry]:
    """Names in transformers' SiglipModel that CLIPModel does not have."""
    head = "vision_model.head."
    parts = {"attention.out_proj": "attn.out_proj", "layernorm": "ln", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    return [
        Entry("logit_bias", ("logit_bias",)),
        Entry("visual.conv1.bias", ("vision_model.embeddings.patch_embedding.bias",)),
        Entry("visual.pool.probe", (f"{head}probe",), axes=2),
        *(
            Entry(f"visual.pool.attn.in_proj_{kind}", (f"{head}attention.in_proj_{kind}",))
            for kind in ("weight", "bias")
        ),
        *affine(parts, head, "visual.pool."),
        Entry("text_projection", ("text_model.head.weight",), transposed=True),
        Entry("text_projection_bias", ("text_model.head.bias",)),
    ]


# timm's image towers: width of a head by size, and those whose MLPs have tanh's GELU; the others have erf's.
_NAME = re.compile(r"vit_(?P<size>base|large|so400m|giantopt)_patch(?P<patch>14|16|32)_siglip_(?P<side>\d{3})")
_HEAD_WIDTH = {"base": 64, "large": 64, "so400m": 72, "giantopt": 96}
_WIDTHS = {768: "base", 1024: "large", 1152: "so400m", 1536: "giantopt"}
_TANH = (
    "vit_base_patch32_siglip_256",
    "vit_large_patch16_siglip_512",
    "vit_so400m_patch16_siglip_256",
    "vit_so400m_patch16_siglip_384",
    "vit_so400m_patch16_siglip_512",
    "vit_giantopt_patch16_siglip_256",
    "vit_giantopt_patch16_siglip_384",
)


def timm_tower(name: str) -> tuple[int, Callable[[ClipConfig], dict[str, Any]]] | None:
    """An image tower by timm's name.

    Args:
        name: Such as "vit_base_patch16_siglip_224".

    Returns:
        The side of a patch, and the settings of weights of these sizes; None for another model's name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    head = _HEAD_WIDTH[match["size"]]
    activation = "gelu_tanh" if name in _TANH else "gelu"

    def settings(sizes: ClipConfig) -> dict[str, Any]:
        return {"vision_heads": sizes.vision_width // head, "vision_activation": activation, "vision_eps": 1e-6}

    return int(match["patch"]), settings


def timm_name(config: ClipConfig) -> str:
    """Timm's name for a SigLIP's image tower that it has in this size and with this activation; else empty."""
    if config.vision_rotary or "visual.pool" not in config.parts or config.vision_width not in _WIDTHS:
        return ""
    name = f"vit_{_WIDTHS[config.vision_width]}_patch{config.vision_patch_size}_siglip_{config.image_resolution}"
    found = timm_tower(name)
    settings = {} if found is None else found[1](config)
    return name if settings and all(getattr(config, key) == value for key, value in settings.items()) else ""
