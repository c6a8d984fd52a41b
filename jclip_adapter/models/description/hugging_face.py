"""Configurations of Hugging Face: `config.json` and `preprocessor_config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jclip_adapter.core.errors import WeightsError
from jclip_adapter.data.photos.preprocess import PixelTransform
from jclip_adapter.models.clip.config import only
from jclip_adapter.models.families import hugging_face
from jclip_adapter.models.families.export import FAMILIES

from . import Description
from .json_fields import Fields, read_table

_PREPROCESSOR, _PROCESSOR = "preprocessor_config.json", "processor_config.json"
# transformers' names and defaults.
_ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
}
_ENDS = (2, 49407)  # 2, in old files, means a text's largest id, which is 49407 for CLIP's tokens
_RESAMPLES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_SCALE = 1 / 255


def is_hugging_face(table: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is a model's of transformers."""
    return any(name in table for name in ("model_type", "architectures", "text_config", "vision_config"))


def read_hugging_face(path: Path) -> Description:
    """The settings and sizes of a `config.json` and the `preprocessor_config.json` beside it.

    Args:
        path: The `config.json`.

    Raises:
        WeightsError: it is not a CLIP's, a value has the wrong type, an option is not supported, or the second file is
            missing.
    """
    top = Fields(read_table(path), str(path))
    kind = top.table.get("model_type", "clip")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise WeightsError(
            f"{path} is of a model of type {str(kind)[:40]!r}, which is not supported yet.",
            f"Give a model of type {', '.join(map(repr, FAMILIES))}.",
        )
    text, vision = _tower(top, "text_config", family.text), _tower(top, "vision_config", family.vision)
    if vision.whole("num_channels", 3) != 3:
        raise vision.unsupported("num_channels")
    if kind == "clip" and text.table["eos_token_id"] not in _ENDS:
        raise text.unsupported("eos_token_id")
    side, width = vision.whole("image_size", 0), text.whole("hidden_size", 0)
    embed_dim = text.whole("projection_size", width) if kind == "siglip" else top.whole("projection_dim", 512)
    sizes = {
        "image_resolution": side,
        "vision_layers": vision.whole("num_hidden_layers", 0),
        "vision_width": vision.whole("hidden_size", 0),
        "vision_patch_size": vision.whole("patch_size", 0),
        "vision_mlp": vision.whole("intermediate_size", 0),
        "text_rows": text.whole("max_position_embeddings", 0),
        "vocab_size": text.whole("vocab_size", 0),
        "transformer_width": width,
        "transformer_layers": text.whole("num_hidden_layers", 0),
        "text_mlp": text.whole("intermediate_size", 0),
        "embed_dim": embed_dim,
        **only(*family.parts),
    }
    vocabulary, cleaning = family.tokens(path.parent)
    settings = {
        **family.settings,
        "vision_heads": vision.whole("num_attention_heads", 0),
        "text_heads": text.whole("num_attention_heads", 0),
        "vision_activation": vision.one_of("hidden_act", "", _ACTIVATIONS),
        "text_activation": text.one_of("hidden_act", "", _ACTIVATIONS),
        "vision_eps": vision.number("layer_norm_eps", 0),
        "text_eps": text.number("layer_norm_eps", 0),
        "text_cleaning": cleaning,
        "text_vocabulary": vocabulary,
        "pixels": _pixels(_preprocessor(path), side, family),
    }
    return Description(str(path), settings, sizes)


def _tower(top: Fields, name: str, defaults: Mapping[str, Any]) -> Fields:
    """A tower's options; `…_dict`, if present, replaces the other table, as in transformers."""
    given = top.table_of(f"{name}_dict" if f"{name}_dict" in top else name)
    return Fields({**defaults, **given.table}, given.where)


def _preprocessor(path: Path) -> Fields:
    """The image processor's options, from their own file or from transformers 5's common one."""
    own, whole = path.parent / _PREPROCESSOR, path.parent / _PROCESSOR
    if own.is_file():
        return Fields(read_table(own), str(own))
    if whole.is_file():
        inner = Fields(read_table(whole), str(whole)).table_of("image_processor")
        if inner.table:
            return inner
    raise WeightsError(
        f"there is no {_PREPROCESSOR} beside {path}, so resize, mean and deviation are unknown.",
        "Download it from the model's page, or give --model-config.",
    )


def _refuse_other_steps(given: Fields, family: hugging_face.Family) -> None:
    """Refuse unsupported steps of an image processor."""
    for name in ("image_processor_type", "feature_extractor_type"):
        if name in given and str(given.table[name]).removesuffix("Fast").removesuffix("Pil") not in family.processors:
            raise given.unsupported(name)
    for name in ("do_resize", "do_rescale"):
        if not given.flag(name, True):
            raise given.unsupported(name)
    if given.flag("do_pad", False):
        raise given.unsupported("do_pad")
    if abs(given.number("rescale_factor", _SCALE) - _SCALE) > 1e-9:
        raise given.unsupported("rescale_factor")


def _pixels(given: Fields, side: int, family: hugging_face.Family) -> PixelTransform:
    _refuse_other_steps(given, family)
    resample = given.table.get("resample", 3)
    if isinstance(resample, bool) or resample not in _RESAMPLES:
        raise given.unsupported("resample")
    resize, edge = _resize(given)
    if given.flag("do_center_crop", family.crop):
        crop = _square(given, "crop_size", 224)
    else:
        crop = edge
        if resize == "shortest":
            raise given.unsupported("do_center_crop")  # photos would not be square
    if crop != side or edge < side:
        raise WeightsError(
            f"{given.where}: size {edge} and crop_size {crop} do not give the model's {side} pixels.",
            "Correct the configuration, or give another one with --model-config.",
        )
    default, normalise = PixelTransform(), given.flag("do_normalize", True)
    try:
        return PixelTransform(
            mean=given.three("image_mean", default.mean) if normalise else (0.0, 0.0, 0.0),
            std=given.three("image_std", default.std) if normalise else (1.0, 1.0, 1.0),
            interpolation=_RESAMPLES[resample],
            resize=resize,
            edge=0 if edge == side else edge,
            rgb_first=True,
            crop_rounding="floor",
        )
    except WeightsError:
        raise
    except ValueError as error:
        raise WeightsError(f"{given.where}: {error}.", "Correct the configuration.") from error


def _resize(given: Fields) -> tuple[str, int]:
    """The kind of resize and its length."""
    size = given.table.get("size", {"shortest_edge": 224})
    if isinstance(size, dict) and set(size) == {"height", "width"}:
        return "squash", _square(given, "size", 224)
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        return "shortest", Fields(size, f"{given.where}, size").whole("shortest_edge", 224)
    if isinstance(size, dict):
        raise given.unsupported("size")
    return "shortest", given.whole("size", 224)


def _square(given: Fields, name: str, default: int) -> int:
    """A side given as a number, or as equal height and width."""
    value = given.table.get(name)
    if not isinstance(value, dict):
        return given.whole(name, default)
    inner = Fields(value, f"{given.where}, {name}")
    height, width = inner.whole("height", default), inner.whole("width", default)
    if height != width:
        raise given.unsupported(name)
    return height
