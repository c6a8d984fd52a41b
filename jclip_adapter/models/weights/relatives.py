"""Refuses unsupported relatives of CLIP, recognised by the names of their weights."""

from __future__ import annotations

import re
from collections.abc import Iterable

from jclip_adapter.core.errors import WeightsError

_MERGE = "Merge it first: model.merge_and_unload() of peft, then save the merged model's state dict."
_CLIPS = "Give a CLIP, SigLIP, Chinese-CLIP or PE-Core by OpenAI, open_clip or Hugging Face."
# Patterns in a name, in order of precedence: what the file is, and what to do.
_RELATIVES = tuple(
    (re.compile(pattern), what, hint)
    for pattern, what, hint in (
        (r"lora_|\.base_layer\.|^base_model\.model\.", "it contains unmerged LoRA matrices", _MERGE),
        (r"visual\.attn_pool\.(?:probe|attn\.)", "PE-Core in its original form is not supported yet", _CLIPS),
        (
            r"(?:^|\.)text\.transformer\.(?:embeddings|encoder)\.|text_model\.roberta\.",
            "a text tower of Hugging Face's transformers (hf_model_name) is not supported yet",
            _CLIPS,
        ),
        (r"text_decoder\.|cls_emb|visual\.attn_pool\.", "CoCa (attentional pooling) is not supported yet", _CLIPS),
        (r"(?:^|\.)visual\.(?:blocks|patch_embed)\.", "EVA-CLIP is not supported yet", _CLIPS),
        (r"(?:^|\.)image_encoder\.model\.", "MobileCLIP is not supported yet", _CLIPS),
        (r"self_attn\.qkv\.|(?:^|\.)visual_encoder\.", "BLIP is not supported yet", _CLIPS),
        (
            r"\.(?:ln_attn|ln_inner|attn\.ln_q|attn\.ln_k|attn\.q_norm|attn\.k_norm|attn\.head_scale|mlp\.ln)(?:\.|$)",
            "normalisation inside the attention (qk_norm, scale_heads, scale_attn, scale_fc) is not supported yet",
            _CLIPS,
        ),
        (
            r"positional_embedding_\w+$|position_embedding_\w+\.",
            "a second table of positions (Long-CLIP) is not supported yet",
            _CLIPS,
        ),
    )
)


def refuse_relatives(names: Iterable[str]) -> None:
    """Refuse the weights of unsupported models.

    Args:
        names: Names of all arrays in a file.

    Raises:
        WeightsError: the names are those of another model, or of LoRA.
    """
    known = list(names)
    trunk = [name for name in known if "visual.trunk." in name]
    if trunk and not any(".attn_pool." in name for name in trunk):
        what = "an image tower of timm (MobileCLIP, ConvNeXt, EVA, ViTamin)"
        raise WeightsError(f"{what} is not supported yet ({trunk[0][:80]}).", _CLIPS)
    for pattern, what, hint in _RELATIVES:
        for name in known:
            if pattern.search(name):
                raise WeightsError(f"{what} ({name[:80]}).", hint)
