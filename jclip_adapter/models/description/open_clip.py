"""Configurations of open_clip: `open_clip_config.json`, and model names."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jclip_adapter.core.errors import UsageError, WeightsError, suggest
from jclip_adapter.data.photos.preprocess import PixelTransform
from jclip_adapter.models.clip.config import OPENAI_PARTS, only
from jclip_adapter.models.clip.vocabulary import CLIP
from jclip_adapter.models.families import pe_core, siglip

from . import Description
from .json_fields import Fields

# Options of a tower with their only supported value; `...` for any value.
_BOTH: Mapping[str, Any] = {
    "ls_init_value": ...,  # the weights have the scales
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn": False,
    "scale_attn_inner": False,
    "scale_fc": False,
    "block_type": None,
    "output_tokens": ...,
}
_VISION: Mapping[str, Any] = {
    **_BOTH,
    "global_average_pool": False,
    "attentional_pool": False,
    "attn_pooler_queries": ...,
    "attn_pooler_heads": ...,
    "n_queries": ...,
    "input_patchnorm": False,
    "patch_dropout": ...,  # of training
    "drop_path": ...,
    "pos_embed_type": ...,  # the weights have the table
    "timm_model_pretrained": ...,
    "timm_proj": ...,  # the weights have the projection
    "timm_proj_bias": ...,
    "timm_drop": ...,
    "timm_drop_path": ...,
    "in_chans": 3,
}
_TEXT: Mapping[str, Any] = {
    **_BOTH,
    "final_ln_after_pool": ...,
    "embed_cls": False,
    "pad_id": ...,
    "proj_bias": ...,  # the weights have it
    "proj_type": "linear",
    "hf_model_name": None,
    "hf_model_pretrained": ...,
    "hf_proj_type": ...,
    "hf_pooler_type": ...,
}
_OWN_VISION = (
    "image_size",
    "layers",
    "width",
    "head_width",
    "mlp_ratio",
    "patch_size",
    "act_kwargs",
    "norm_kwargs",
    "no_ln_pre",
    "pool_type",
    "final_ln_after_pool",
    "timm_model_name",
    "timm_pool",
)
_OWN_TEXT = (
    "context_length",
    "vocab_size",
    "width",
    "heads",
    "layers",
    "mlp_ratio",
    "act_kwargs",
    "norm_kwargs",
    "pool_type",
    "eos_id",
    "no_causal_mask",
    "hf_tokenizer_name",
    "tokenizer_kwargs",
)
_MODEL: Mapping[str, Any] = {
    "multimodal_cfg": None,
    "custom_text": ...,
    "init_logit_bias": ...,
    "init_logit_scale": ...,
    "nonscalar_logit_scale": ...,
    "output_dict": ...,
    "cast_dtype": ...,
}
_OWN_MODEL = ("embed_dim", "quick_gelu", "vision_cfg", "text_cfg")
_PREPROCESS: Mapping[str, Any] = {"size": ..., "mode": "RGB"}  # the model's image_size is used for the size
_OWN_PREPROCESS = ("mean", "std", "interpolation", "resize_mode", "fill_color")
_END = 49407
# Published folders whose file omits `quick_gelu`, which open_clip's table of weights has.
_QUICK_FILES = ("DFN2B-CLIP-ViT-B-16",)
_log = logging.getLogger(__name__)


def is_open_clip(table: Mapping[str, Any]) -> bool:
    """Whether a configuration is open_clip's; some have `embed_dim` at the top level instead of in `model_cfg`."""
    return "model_cfg" in table or ("embed_dim" in table and "vision_cfg" in table)


def read_open_clip(table: Mapping[str, Any], where: str) -> Description:
    """The settings and sizes of an `open_clip_config.json`, with open_clip's defaults.

    Args:
        table: The file's content.
        where: The file, for errors.

    Raises:
        WeightsError: a value has the wrong type, or an option is not supported.
    """
    top = Fields(table, where)
    model = top.table_of("model_cfg") if "model_cfg" in table else Fields({**table, "preprocess_cfg": None}, where)
    vision, text = model.table_of("vision_cfg"), model.table_of("text_cfg")
    _check(model, _MODEL, (*_OWN_MODEL, "preprocess_cfg"))
    if isinstance(vision.table.get("layers"), list):
        raise vision.unsupported("layers")  # a ResNet
    _check(vision, _VISION, _OWN_VISION)
    _check(text, _TEXT, _OWN_TEXT)
    quick = model.flag("quick_gelu", False)
    if "quick_gelu" not in model and any(name in where for name in _QUICK_FILES):
        _log.warning("%s omits it, but open_clip uses QuickGELU for these weights, as is done here", where)
        quick = True
    trunk = _trunk(vision) if "timm_model_name" in vision else _vision(vision, quick)
    vocabulary, cleaning = CLIP, "openai"
    if "hf_tokenizer_name" in text:
        vocabulary, cleaning = siglip.open_clip_tokens(Path(where).parent, text)
    elif text.table.get("tokenizer_kwargs"):
        raise text.unsupported("tokenizer_kwargs")
    settings = {
        **trunk.settings,
        "text_heads": text.whole("heads", 8),
        "text_activation": _activation(text, quick),
        "text_eps": _eps(text),
        "text_mask": "none" if text.flag("no_causal_mask", False) else "causal",
        "text_read": _read(text),
        "text_cleaning": cleaning,
        "text_vocabulary": vocabulary,
        "pixels": _pixels(top.table_of("preprocess_cfg")),
    }
    text_width = text.whole("width", 512)
    sizes = {
        **trunk.sizes,
        "image_resolution": _side(vision),
        "context_length": text.whole("context_length", 77),
        "vocab_size": text.whole("vocab_size", 49408),
        "transformer_width": text_width,
        "transformer_layers": text.whole("layers", 12),
        "text_mlp": int(text_width * text.number("mlp_ratio", 4.0)),
        "embed_dim": model.whole("embed_dim", 512),
        "text_projection_bias": text.flag("proj_bias", False),
        "ln_embedding": False,
    }
    return Description(where, settings, sizes, trunk.by_sizes)


def _vision(vision: Fields, quick: bool) -> Description:
    """Settings and sizes of open_clip's own image tower."""
    width, head = vision.whole("width", 768), vision.whole("head_width", 64)
    pools = {"tok": "token", "avg": "mean_norm" if vision.flag("final_ln_after_pool", False) else "norm_mean"}
    settings = {
        "vision_heads": max(1, width // head),
        "vision_activation": _activation(vision, quick),
        "vision_eps": _eps(vision),
        "vision_pool": vision.one_of("pool_type", "tok", pools),
    }
    sizes = {
        "vision_layers": vision.whole("layers", 12),
        "vision_width": width,
        "vision_patch_size": vision.whole("patch_size", 16),
        "vision_mlp": int(width * vision.number("mlp_ratio", 4.0)),
    }
    parts = {"visual.class_embedding": True, "visual.proj": True, "visual.pool": False, "visual.conv1.bias": False}
    parts["visual.ln_pre"] = not vision.flag("no_ln_pre", False)
    return Description(vision.where, settings, {**sizes, **parts})


def _trunk(vision: Fields) -> Description:
    """Settings and sizes of an image tower of timm, by its name."""
    name = str(vision.table["timm_model_name"])
    found = siglip.timm_tower(name) or pe_core.timm_tower(name)
    if found is None:
        raise vision.unsupported("timm_model_name")
    if vision.table.get("timm_pool") != "map":
        raise vision.unsupported("timm_pool")
    patch, by_sizes = found
    return Description(vision.where, {"vision_pool": "attention"}, {"vision_patch_size": patch}, by_sizes)


def _check(fields: Fields, neutral: Mapping[str, Any], own: tuple[str, ...]) -> None:
    """Refuse unknown options and unsupported values."""
    for name, value in fields.table.items():
        if name in own:
            continue
        if name not in neutral:
            raise fields.unsupported(name)
        only = neutral[name]
        if only is not ... and value != only and (value or only):
            raise fields.unsupported(name)


def _read(text: Fields) -> str:
    """Which position is the text's feature; "eos" with CLIP's end token, its largest id, is "argmax"."""
    if text.table.get("pool_type") == "eos" and text.whole("eos_id", 2) == _END:
        return "end"
    if text.table.get("pool_type") == "eos":
        raise text.unsupported("pool_type")
    return text.one_of("pool_type", "argmax", {"argmax": "end", "first": "first", "last": "last"})


def _side(vision: Fields) -> int:
    """The side of the square input."""
    value = vision.table.get("image_size", 224)
    if not isinstance(value, list):
        return vision.whole("image_size", 224)
    if value != value[:1] * 2:
        raise vision.unsupported("image_size")
    return Fields({"image_size": value[0]}, vision.where).whole("image_size", 224)


def _activation(tower: Fields, quick: bool) -> str:
    given = tower.table_of("act_kwargs")
    if not given.table:
        return "quick_gelu" if quick else "gelu"
    if quick or set(given.table) != {"approximate"}:
        raise tower.unsupported("act_kwargs")
    return given.one_of("approximate", "none", {"none": "gelu", "tanh": "gelu_tanh"})


def _eps(tower: Fields) -> float:
    given = tower.table_of("norm_kwargs")
    if set(given.table) - {"eps"}:
        raise tower.unsupported("norm_kwargs")
    return given.number("eps", 1e-5)


def _pixels(given: Fields) -> PixelTransform:
    _check(given, _PREPROCESS, _OWN_PREPROCESS)
    default = PixelTransform()
    fill = given.table.get("fill_color", 0)
    if isinstance(fill, bool) or not isinstance(fill, int):
        raise given.unsupported("fill_color")
    try:
        return PixelTransform(
            mean=given.three("mean", default.mean),
            std=given.three("std", default.std),
            interpolation=given.one_of(
                "interpolation", "bicubic", {"bicubic": "bicubic", "bilinear": "bilinear", "random": "bicubic"}
            ),
            resize=given.one_of("resize_mode", "shortest", {name: name for name in ("shortest", "squash", "longest")}),
            fill=fill,
        )
    except WeightsError:
        raise
    except ValueError as error:
        raise WeightsError(f"{given.where}: {error}.", "Correct the configuration.") from error


# Width, layers and patch of the image tower, width and layers of the text tower, width of the features, and the image
# tower's heads where they are not width / 64. Source: open_clip's model_configs.
_ARCHITECTURES: Mapping[str, tuple[int, int, int, int, int, int, int]] = {
    "ViT-B-32": (768, 12, 32, 512, 12, 512, 12),
    "ViT-B-32-256": (768, 12, 32, 512, 12, 512, 12),
    "ViT-B-16": (768, 12, 16, 512, 12, 512, 12),
    "ViT-B-16-plus-240": (896, 12, 16, 640, 12, 640, 14),
    "ViT-L-14": (1024, 24, 14, 768, 12, 768, 16),
    "ViT-L-14-336": (1024, 24, 14, 768, 12, 768, 16),
    "ViT-H-14": (1280, 32, 14, 1024, 24, 1024, 16),
    "ViT-H-14-378": (1280, 32, 14, 1024, 24, 1024, 16),
    "ViT-g-14": (1408, 40, 14, 1024, 24, 1024, 16),
    "ViT-bigG-14": (1664, 48, 14, 1280, 32, 1280, 16),
}
_NAME = re.compile(r"open_clip:(?P<architecture>[\w-]+?)(?P<quick>-quickgelu)?(?:/(?P<tag>\w+))?")
# Published weights that open_clip runs with QuickGELU for any name of the architecture.
_QUICK_TAGS = re.compile(r"openai|metaclip_400m|metaclip_fullcc|dfn2b|dfn5b")
_QUICK_PAIRS = {("ViT-B-32", "laion400m_e31"), ("ViT-B-32", "laion400m_e32")}


def named_open_clip(name: str) -> Description:
    """The settings of a model by open_clip's name.

    Args:
        name: `open_clip:ViT-B-32`, `open_clip:ViT-B-32-quickgelu`, or with the tag of published weights,
            `open_clip:ViT-L-14/laion2b_s32b_b82k`.

    Raises:
        UsageError: the name is not known.
    """
    match = _NAME.fullmatch(name)
    if match is None or match["architecture"] not in _ARCHITECTURES:
        known = [f"open_clip:{architecture}" for architecture in _ARCHITECTURES]
        raise UsageError(f"--model-config: unknown value {name!r}.", suggest(name, ["openai", *known]))
    architecture, tag = match["architecture"], match["tag"] or ""
    width, layers, patch, text_width, text_layers, embed_dim, heads = _ARCHITECTURES[architecture]
    quick = bool(match["quick"] or _QUICK_TAGS.fullmatch(tag) or (architecture, tag) in _QUICK_PAIRS)
    activation = "quick_gelu" if quick else "gelu"
    return Description(
        name,
        {
            "vision_heads": heads,
            "text_heads": text_width // 64,
            "vision_activation": activation,
            "text_activation": activation,
            "pixels": _published_pixels(architecture, tag),
        },
        {
            "vision_width": width,
            "vision_layers": layers,
            "vision_patch_size": patch,
            "transformer_width": text_width,
            "transformer_layers": text_layers,
            "embed_dim": embed_dim,
            **only(*OPENAI_PARTS),
        },
    )


def _published_pixels(architecture: str, tag: str) -> PixelTransform:
    """OpenAI's, with two exceptions among the published weights."""
    if (architecture, tag) == ("ViT-L-14", "laion2b_s32b_b82k"):
        return PixelTransform(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return PixelTransform(resize="squash") if tag == "dfn5b" else PixelTransform()
