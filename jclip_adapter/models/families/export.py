"""Folders of open_clip and Hugging Face for a model: configuration and names of weights, where they can express it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jclip_adapter.models.clip.config import ClipConfig

from . import chinese_clip, hugging_face, pe_core, siglip, timm
from .layout import Entry, Floats, restored

TOKENIZER_FILES = (
    *("vocab.txt", "spiece.model", "tokenizer.json", "vocab.json", "merges.txt"),
    *("tokenizer_config.json", "special_tokens_map.json"),
)
FAMILIES = {"clip": hugging_face.FAMILY, "siglip": siglip.FAMILY, "chinese_clip": chinese_clip.FAMILY}
_ARCHITECTURES = {"clip": "CLIPModel", "siglip": "SiglipModel", "chinese_clip": "ChineseCLIPModel"}
_RESAMPLES = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}
_HIDDEN_ACT = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}
_CLEAN = {"canonical": "canonicalize", "no_punctuation": "canonicalize", "openai": "lower", "lower": "lower"}
_TYPES = "text_model.embeddings.token_type_embeddings.weight"


class Form(NamedTuple):
    """A model as a library's files.

    Attributes:
        library: Which library loads them.
        weights: Name of the weight file.
        state: The arrays by the library's names.
        tables: Content of the JSON files by name.
    """

    library: str
    weights: str
    state: dict[str, Floats]
    tables: dict[str, dict[str, Any]]


def forms(config: ClipConfig, state: Mapping[str, Floats]) -> list[Form]:
    """The libraries' files for a model; none for a model that no library's configuration can express.

    Args:
        config: The architecture.
        state: The weights by OpenAI's names.
    """
    found = (_open_clip(config, state), _hugging_face(config, state))
    return [form for form in found if form is not None]


def _hugging_face(config: ClipConfig, state: Mapping[str, Floats]) -> Form | None:
    kind = next((kind for kind, family in FAMILIES.items() if _is_of(config, kind, family)), None)
    pixels = config.pixels
    cropped = pixels.resize == "shortest"
    if kind is None or not isinstance(config.vision_layers, int) or pixels.resize not in ("shortest", "squash"):
        return None
    if cropped and not FAMILIES[kind].crop:
        return None
    side = config.image_resolution
    edge = pixels.edge or side
    towers = [
        {
            "model_type": f"{kind}_{tower}_model",
            "hidden_size": width,
            "intermediate_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": getattr(config, f"{of}_heads"),
            "hidden_act": _HIDDEN_ACT[getattr(config, f"{of}_activation")],
            "layer_norm_eps": getattr(config, f"{of}_eps"),
        }
        for tower, of, width, hidden, layers in (
            ("vision", "vision", config.vision_width, config.vision_mlp, config.vision_layers),
            ("text", "text", config.transformer_width, config.text_mlp, config.transformer_layers),
        )
    ]
    vision = towers[0] | {"image_size": side, "patch_size": config.vision_patch_size}
    text = towers[1] | {"vocab_size": config.vocab_size, "max_position_embeddings": config.text_rows}
    top: dict[str, Any] = {"architectures": [_ARCHITECTURES[kind]], "model_type": kind}
    if kind == "siglip":
        text["projection_size"] = config.embed_dim
    else:
        top["projection_dim"] = config.embed_dim
    if kind == "clip":
        text |= {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    processor = {
        "image_processor_type": FAMILIES[kind].processors[0],
        "do_resize": True,
        "size": {"shortest_edge": edge} if cropped else {"height": edge, "width": edge},
        "resample": _RESAMPLES[pixels.interpolation],
        "do_center_crop": cropped,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(pixels.mean),
        "image_std": list(pixels.std),
        "do_convert_rgb": True,
    }
    own = {"clip": [], "siglip": siglip.entries()}
    own["chinese_clip"] = chinese_clip.text_entries("text_model", config.transformer_layers)
    entries = own[kind] + hugging_face.entries(config.vision_layers, config.transformer_layers)
    named = restored(entries, state)
    if kind == "chinese_clip":
        named[_TYPES] = np.zeros((2, config.transformer_width), np.float32)  # its row is part of the positions
    if kind == "siglip":
        named |= {name: named[name].reshape(1) for name in ("logit_scale", "logit_bias")}
    tables = {
        "config.json": {**top, "text_config": text, "vision_config": vision},
        "preprocessor_config.json": processor,
    }
    return Form("transformers", "model.safetensors", named, tables)


def _is_of(config: ClipConfig, kind: str, family: hugging_face.Family) -> bool:
    """Whether a family of transformers can express the model."""
    wanted = {"vision_pool": "token", "text_mask": "causal", "text_read": "end", **family.settings}
    parts = {*family.parts, "logit_bias"} if kind == "siglip" else set(family.parts)
    return (
        set(config.parts) == parts
        and all(getattr(config, name) == value for name, value in wanted.items())
        and bool(config.text_vocabulary.name) == (kind != "clip")
        and not config.vision_rotary
        and config.pool_heads == config.vision_heads
    )


def _open_clip(config: ClipConfig, state: Mapping[str, Floats]) -> Form | None:
    vision = _open_clip_vision(config)
    pixels, quick = config.pixels, config.text_activation == "quick_gelu"
    if (
        vision is None
        or not isinstance(config.vision_layers, int)
        or "ln_embedding" in config.parts
        or config.text_mask == "padding"
        or (quick != (config.vision_activation == "quick_gelu"))
        or pixels.resize not in ("shortest", "squash", "longest")
        or pixels.interpolation not in ("bicubic", "bilinear")
        or pixels.edge not in (0, config.image_resolution)
    ):
        return None
    text: dict[str, Any] = {
        "context_length": config.context_length,
        "vocab_size": config.vocab_size,
        "width": config.transformer_width,
        "heads": config.text_heads,
        "layers": config.transformer_layers,
        "mlp_ratio": _ratio(config.text_mlp, config.transformer_width),
        "no_causal_mask": config.text_mask == "none",
        "pool_type": {"end": "argmax", "first": "first", "last": "last"}[config.text_read],
        "proj_bias": "text_projection_bias" in config.parts,
        **_options(config.text_activation, config.text_eps),
    }
    if config.text_vocabulary.name:
        text |= {"hf_tokenizer_name": ".", "tokenizer_kwargs": {"clean": _CLEAN[config.text_cleaning]}}
    custom = "timm_model_name" in vision or text["proj_bias"] or bool(config.text_vocabulary.name)
    model = {"embed_dim": config.embed_dim, "quick_gelu": quick, "vision_cfg": vision, "text_cfg": text}
    if custom:
        model["custom_text"] = True
    if "logit_bias" in config.parts:
        model["init_logit_bias"] = -10
    side = config.image_resolution
    preprocess = {
        "size": [side, side],
        "mode": "RGB",
        "mean": list(pixels.mean),
        "std": list(pixels.std),
        "interpolation": pixels.interpolation,
        "resize_mode": pixels.resize,
        "fill_color": pixels.fill,
    }
    prefix = "text." if custom else ""
    names = [name for name in state if not name.startswith(("visual.", "logit_", "text_projection"))]
    entries = timm.entries(config.vision_layers) if "timm_model_name" in vision else []
    entries += [Entry(name, (f"{prefix}{name}",)) for name in names]
    if text["proj_bias"]:
        entries.append(Entry("text_projection", (f"{prefix}text_projection.weight",), transposed=True))
        entries.append(Entry("text_projection_bias", (f"{prefix}text_projection.bias",)))
    else:
        entries.append(Entry("text_projection", (f"{prefix}text_projection",)))
    known = {entry.ours for entry in entries}
    entries += [Entry(name, (name,)) for name in state if name not in known]
    tables = {"open_clip_config.json": {"model_cfg": model, "preprocess_cfg": preprocess}}
    return Form("open_clip", "open_clip_model.safetensors", restored(entries, state), tables)


def _open_clip_vision(config: ClipConfig) -> dict[str, Any] | None:
    """`vision_cfg` of open_clip's own image tower, or of timm's; None for another one."""
    trunk = siglip.timm_name(config) or pe_core.timm_name(config)
    if trunk:
        projection = None if "visual.proj" in config.parts else "none"  # None: timm's own head
        name = {"timm_model_name": trunk, "timm_model_pretrained": False, "timm_pool": "map", "timm_proj": projection}
        return {"image_size": config.image_resolution, **name}
    of_open_clip = {"visual.class_embedding", "visual.proj"}
    if not config.is_vit or not of_open_clip <= set(config.parts) or config.vision_rotary:
        return None
    if {"visual.conv1.bias", "visual.pool", "visual.proj_bias"} & set(config.parts):
        return None
    return {
        "image_size": config.image_resolution,
        "layers": config.vision_layers,
        "width": config.vision_width,
        "head_width": config.vision_width // config.vision_heads,
        "patch_size": config.vision_patch_size,
        "mlp_ratio": _ratio(config.vision_mlp, config.vision_width),
        "no_ln_pre": "visual.ln_pre" not in config.parts,
        "pool_type": "tok" if config.vision_pool == "token" else "avg",
        "final_ln_after_pool": config.vision_pool == "mean_norm",
        **_options(config.vision_activation, config.vision_eps),
    }


def _ratio(hidden: int, width: int) -> float:
    """The ratio of which open_clip makes this number of hidden channels, rounding down."""
    return hidden / width if int(width * (hidden / width)) == hidden else (hidden + 0.5) / width


def _options(activation: str, eps: float) -> dict[str, Any]:
    found: dict[str, Any] = {} if eps == 1e-5 else {"norm_kwargs": {"eps": eps}}
    return found | ({"act_kwargs": {"approximate": "tanh"}} if activation == "gelu_tanh" else {})
