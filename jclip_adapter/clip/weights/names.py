"""Other projects' names for CLIP's weights, turned into OpenAI's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from jclip_adapter.errors import WeightsError

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


def to_openai(weights: Mapping[str, Floats]) -> dict[str, Floats]:
    """Give weights OpenAI's names, whatever project's names they have.

    Hugging Face keeps query, key and value apart and its projections transposed; open_clip's newer models keep
    the text tower under `text.`; Jittor has no scalars, so that it saves `logit_scale` with shape (1,).

    Args:
        weights: Name → array, by OpenAI's, open_clip's or Hugging Face's names.

    Returns:
        The same numbers by OpenAI's names.

    Raises:
        WeightsError: Hugging Face's names with one missing, misshapen or unknown among them.
    """
    if any(name.startswith(tuple(_TOWERS)) for name in weights):
        renamed = _from_hugging_face(weights)
    elif "text.token_embedding.weight" in weights:
        renamed = {name.removeprefix(_OPEN_CLIP_TEXT): value for name, value in weights.items()}
    else:
        renamed = dict(weights)
    if "logit_scale" in renamed and renamed["logit_scale"].size == 1:
        renamed["logit_scale"] = renamed["logit_scale"].reshape(())
    return renamed


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
                f"{name[:120]!r} is no name of Hugging Face's CLIPModel.",
                "Other models of theirs, such as SigLIP or CLIP with LoRA, cannot be read.",
            )
    return renamed


def _transposed(name: str, value: Floats) -> Floats:
    if value.ndim != 2:
        raise WeightsError(f"{name} has shape {value.shape}, not that of a matrix.")
    return np.ascontiguousarray(value.T)


def _joined(weights: Mapping[str, Floats], layer: str, kind: str) -> Floats:
    """Query, key and value stacked along the first axis, (3d, d) or (3d,)."""
    names = [f"{layer}{part}.{kind}" for part in _QUERY_KEY_VALUE]
    parts = [weights[name] for name in names if name in weights]
    if len(parts) < 3 or parts[0].ndim == 0 or len({part.shape for part in parts}) > 1:
        raise WeightsError(f"{', '.join(names)} are not all there in one shape.")
    return np.concatenate(parts)
