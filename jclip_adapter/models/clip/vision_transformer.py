"""The vision transformer of all CLIPs."""

from __future__ import annotations

import dataclasses
from typing import Any

from jclip_adapter.runtime import jt

from .config import ClipConfig
from .positions import rotary_table
from .transformer import AttentionPool, Transformer, vision_form


class PatchEmbedding(jt.nn.Module):
    """Non-overlapping patches through one linear map.

    A convolution whose stride equals its kernel is a reshape and a matmul, which needs no cuDNN. The weight keeps the
    convolution's shape (width, 3, patch, patch). Pixels beyond the last whole patch are not read.
    """

    def __init__(self, width: int, patch: int, bias: bool) -> None:
        super().__init__()
        self.patch = patch
        self.weight = jt.zeros((width, 3, patch, patch))
        if bias:
            self.bias = jt.zeros((width,))
        self.biased = bias

    def execute(self, images: Any) -> Any:
        """(B, 3, n, n) → (B, (n/patch)², width)."""
        batch, _, height, width = images.shape
        size = self.patch
        rows, columns = height // size, width // size
        if (height, width) != (rows * size, columns * size):
            images = images[:, :, : rows * size, : columns * size]
        patches = images.reshape((batch, 3, rows, size, columns, size)).transpose(0, 2, 4, 1, 3, 5)
        flat = self.weight.reshape((self.weight.shape[0], -1))
        found = jt.nn.matmul_transpose(patches.reshape((batch, rows * columns, 3 * size * size)), flat)
        return found + self.bias if self.biased else found


class VisionTransformer(jt.nn.Module):
    """A ViT: patches, class token, positions, transformer, pooling, projection; see `ClipConfig.parts`.

    Args:
        config: The architecture.
        layers: Blocks.
    """

    def __init__(self, config: ClipConfig, layers: int) -> None:
        super().__init__()
        width, parts = config.vision_width, set(config.parts)
        form = vision_form(config)
        self.input_resolution = config.image_resolution
        self.pooling = config.vision_pool
        self.parts = parts
        self.conv1 = PatchEmbedding(width, config.vision_patch_size, "visual.conv1.bias" in parts)
        if "visual.class_embedding" in parts:
            self.class_embedding = jt.zeros((width,))
        self.positional_embedding = jt.zeros((config.grid**2 + ("visual.class_embedding" in parts), width))
        if "visual.ln_pre" in parts:
            self.ln_pre = jt.nn.LayerNorm(width, eps=config.vision_eps)
        self.transformer = Transformer(form, layers)
        for block in self.transformer.resblocks:
            block.attn.rotary = rotary_table(config)
        self.ln_post = jt.nn.LayerNorm(width, eps=config.vision_eps)
        if "visual.pool" in parts:
            self.pool = AttentionPool(dataclasses.replace(form, heads=config.pool_heads))
        if "visual.proj" in parts:
            self.proj = jt.zeros((width, config.embed_dim))
        if "visual.proj_bias" in parts:
            self.proj_bias = jt.zeros((config.embed_dim,))

    def execute(self, images: Any) -> Any:
        """(B, 3, n, n) preprocessed pixels → (B, embed_dim), not normalised."""
        return self.tail(self.body(images))

    def body(self, images: Any) -> Any:
        """(B, 3, n, n) preprocessed pixels → (B, positions, width): all but the last block."""
        x = self.conv1(images)
        if "visual.class_embedding" in self.parts:
            batch, _, width = x.shape
            x = jt.concat([self.class_embedding.reshape((1, 1, width)).expand((batch, 1, width)), x], dim=1)
        x = x + self.positional_embedding
        if "visual.ln_pre" in self.parts:
            x = self.ln_pre(x)
        for block in self.transformer.resblocks[:-1]:
            x = block(x)
        return x

    def tail(self, x: Any) -> Any:
        """(B, positions, width) from `body` → (B, embed_dim): the last block, the last norm, pooling and projection."""
        x = self.transformer.resblocks[-1](x)
        if self.pooling == "token":
            x = self.ln_post(x[:, 0, :])
        elif self.pooling == "mean_norm":
            x = self.ln_post(x[:, 1:, :].mean(dim=1))
        elif self.pooling == "norm_mean":
            x = self.ln_post(x)[:, 1:, :].mean(dim=1)
        else:
            x = self.pool(self.ln_post(x))
        if "visual.proj" in self.parts:
            x = jt.matmul(x, self.proj)
        return x + self.proj_bias if "visual.proj_bias" in self.parts else x

    def in_tail(self, name: str) -> bool:
        """Whether CLIP's weight of this name belongs to `tail`."""
        last = f"visual.transformer.resblocks.{len(self.transformer.resblocks) - 1}."
        return name.startswith((last, "visual.ln_post.", "visual.pool.", "visual.proj"))
