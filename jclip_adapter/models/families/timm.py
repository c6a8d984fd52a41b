"""The names of timm's vision transformers in open_clip's files: SigLIP's and PE-Core's image towers."""

from __future__ import annotations

from .layout import Entry, affine, packed

TRUNK = "visual.trunk."
_ENDS = {"patch_embed.proj": "conv1", "norm_pre": "ln_pre", "norm": "ln_post"}
_BLOCK = {
    "norm1": "ln_1",
    "norm2": "ln_2",
    "attn.proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_POOL = {"proj": "attn.out_proj", "norm": "ln", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}


def entries(layers: int) -> list[Entry]:
    """The image tower's names."""
    pool = f"{TRUNK}attn_pool."
    found = [
        *affine(_ENDS, TRUNK, "visual."),
        Entry("visual.class_embedding", (f"{TRUNK}cls_token",), axes=2),
        Entry("visual.positional_embedding", (f"{TRUNK}pos_embed",), axes=1),
        Entry("visual.pool.probe", (f"{pool}latent",), axes=2),
        *packed([f"{pool}q", f"{pool}kv"], "visual.pool.attn", (1, 2)),
        *affine(_POOL, pool, "visual.pool."),
        Entry("visual.proj", (f"{TRUNK}head.weight",), transposed=True),
        Entry("visual.proj_bias", (f"{TRUNK}head.bias",)),
    ]
    for number in range(layers):
        layer, block = f"{TRUNK}blocks.{number}.", f"visual.transformer.resblocks.{number}."
        found += affine(_BLOCK, layer, block)
        found += packed([f"{layer}attn.qkv"], f"{block}attn", (1,))
    return found
