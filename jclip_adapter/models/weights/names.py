"""Renames CLIP's weights from other projects' names to OpenAI's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from jclip_adapter.core.errors import WeightsError

from .relatives import refuse_relatives
from .tensors import Floats

# Hugging Face's CLIPModel, whole names; `pre_layrnorm` is their own spelling.
_WHOLE = {
    "logit_scale": "logit_scale",
    "text_projection.weight": "text_projection",
    "visual_projection.weight": "visual.proj",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
_TOWERS = {"text_model": "transformer", "vision_model": "visual.transformer"}
_PARTS = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_LAYER = re.compile(r"(text_model|vision_model)\.encoder\.layers\.(\d{1,4})\.(.+)\.(weight|bias)")
_QUERY_KEY_VALUE = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_OPEN_CLIP_TEXT = "text."
# Prefixes of a model's names: DataParallel, torch.compile, and the usual attributes.
_PREFIX = re.compile(r"(?:(?:module|model|clip|clip_model)\.)*")
_COMPILED = "_orig_mod"
# The first weight of the image tower shows the models in a file and their prefixes.
_ANCHOR = re.compile(r"(.*?)(?:visual\.conv1|vision_model\.embeddings\.patch_embedding)\.weight")
_HEADS = re.compile(r"(?:fc|head|heads|classifier|classification_head)\.(?:\d+\.)?(?:weight|bias)")
HUGGING_FACE, OPEN_CLIP = "hugging_face", "open_clip"


class Named(NamedTuple):
    """Weights by OpenAI's names.

    Attributes:
        state: The arrays.
        layout: The file's names: "hugging_face", or "open_clip" for OpenAI's and open_clip's.
        notes: A sentence per ignored or removed part.
    """

    state: dict[str, Floats]
    layout: str
    notes: tuple[str, ...]


def to_openai(weights: Mapping[str, Floats]) -> Named:
    """Rename weights to OpenAI's names.

    Hugging Face has separate query, key and value and transposed projections; open_clip's newer models have the text
    tower under `text.`; Jittor saves `logit_scale` with shape (1,). Prefixes such as `module._orig_mod.` are removed.

    Args:
        weights: Name → array, by OpenAI's, open_clip's or Hugging Face's names.

    Returns:
        The weights by OpenAI's names.

    Raises:
        WeightsError: missing, misshapen or unknown weights of Hugging Face; several models in one file; unmerged LoRA;
            another family of models.
    """
    refuse_relatives(weights)
    bare, notes = _without_prefix(weights)
    kept: dict[str, Floats] = {}
    is_clip = bool(prefixes(bare))
    for name, value in bare.items():
        if name == "logit_bias":
            notes.append("logit_bias is ignored: features and cosines do not depend on it.")
        elif is_clip and _HEADS.fullmatch(name):
            notes.append(f"{name} is ignored: it is a classification head, not a part of CLIP.")
        else:
            kept[name] = value
    layout = HUGGING_FACE if any(name.startswith(tuple(_TOWERS)) for name in kept) else OPEN_CLIP
    if layout == HUGGING_FACE:
        renamed = _from_hugging_face(kept)
    elif "text.token_embedding.weight" in kept:
        renamed = {name.removeprefix(_OPEN_CLIP_TEXT): value for name, value in kept.items()}
    else:
        renamed = kept
    if "logit_scale" in renamed and renamed["logit_scale"].size == 1:
        renamed["logit_scale"] = renamed["logit_scale"].reshape(())
    return Named(renamed, layout, tuple(notes))


def _without_prefix(weights: Mapping[str, Floats]) -> tuple[dict[str, Floats], list[str]]:
    """The weights without the prefix common to CLIP's names, and a note on it."""
    pairs = [(".".join(part for part in name.split(".") if part != _COMPILED), name) for name in weights]
    found = sorted(prefixes(name for name, _ in pairs))
    if len(found) > 1:
        shown = " and ".join(repr(prefix) for prefix in found[:4])
        raise WeightsError(
            f"it contains {len(found)} models: names begin with {shown}.",
            "Save the state dict of one of them as a separate file.",
        )
    prefix = found[0] if found else ""
    if not _PREFIX.fullmatch(prefix):
        raise WeightsError(
            f"its names begin with {prefix[:80]!r}, which is not a known prefix.",
            "Save the state dict of the CLIP model itself.",
        )
    bare = {short.removeprefix(prefix): weights[name] for short, name in pairs}
    if len(bare) < len(weights):
        raise WeightsError("two of its names differ only by a prefix.", "Save the state dict of one model.")
    compiled = f"{_COMPILED}." if any(short != name for short, name in pairs) else ""
    removed = " and ".join(repr(part) for part in (prefix, compiled) if part)
    return bare, [f"the prefix {removed} of its names is removed."] if removed else []


def prefixes(names: Iterable[str]) -> set[str]:
    """The prefix of each model among the names.

    >>> prefixes(["student.visual.conv1.weight", "teacher.visual.conv1.weight"]) == {"student.", "teacher."}
    True
    """
    found = {match[1] for name in names if (match := _ANCHOR.fullmatch(name))}
    return {prefix for prefix in found if not prefix or prefix.endswith(".")}


def _from_hugging_face(weights: Mapping[str, Floats]) -> dict[str, Floats]:
    renamed: dict[str, Floats] = {}
    for name, value in weights.items():
        layer = _LAYER.fullmatch(name)
        if name in _WHOLE:
            renamed[_WHOLE[name]] = _transposed(name, value) if name.endswith("_projection.weight") else value
        elif layer and layer[3] in _PARTS:
            renamed[f"{_TOWERS[layer[1]]}.resblocks.{int(layer[2])}.{_PARTS[layer[3]]}.{layer[4]}"] = value
        elif layer and layer[3] in _QUERY_KEY_VALUE:
            joined = f"{_TOWERS[layer[1]]}.resblocks.{int(layer[2])}.attn.in_proj_{layer[4]}"
            if joined not in renamed:
                renamed[joined] = _joined(weights, f"{layer[1]}.encoder.layers.{layer[2]}.", layer[4])
        else:
            raise WeightsError(
                f"{name[:120]!r} is not a name in Hugging Face's CLIPModel.",
                "Other models of theirs, such as SigLIP or CLIP with LoRA, cannot be read.",
            )
    return renamed


def _transposed(name: str, value: Floats) -> Floats:
    if value.ndim != 2:
        raise WeightsError(f"{name} has shape {value.shape}, expected a matrix.")
    return np.ascontiguousarray(value.T)


def _joined(weights: Mapping[str, Floats], layer: str, kind: str) -> Floats:
    """Query, key and value stacked along the first axis, (3d, d) or (3d,)."""
    names = [f"{layer}{part}.{kind}" for part in _QUERY_KEY_VALUE]
    parts = [weights[name] for name in names if name in weights]
    if len(parts) < 3 or parts[0].ndim == 0 or len({part.shape for part in parts}) > 1:
        raise WeightsError(f"expected {', '.join(names)} of one shape.")
    return np.concatenate(parts)
