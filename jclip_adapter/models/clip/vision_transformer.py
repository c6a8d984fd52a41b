"""CLIP's vision transformer."""

from __future__ import annotations

from typing import Any

from jclip_adapter.runtime import jt

from .config import ClipConfig
from .transformer import Transformer, vision_form


class PatchEmbedding(jt.nn.Module):
    """Non-overlapping patches through one linear map.

    A convolution whose stride equals its kernel is a reshape and a matmul, which needs no cuDNN. The weight keeps the
    convolution's shape (width, 3, patch, patch).
    """

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.weight = jt.zeros((width, 3, patch, patch))

    def execute(self, images: Any) -> Any:
        """(B, 3, n, n) → (B, (n/patch)², width)."""
        batch, _, height, width = images.shape
        size = self.patch
        rows, columns = height // size, width // size
        patches = images.reshape((batch, 3, rows, size, columns, size)).transpose(0, 2, 4, 1, 3, 5)
        flat = self.weight.reshape((self.weight.shape[0], -1))
        return jt.nn.matmul_transpose(patches.reshape((batch, rows * columns, 3 * size * size)), flat)


class VisionTransformer(jt.nn.Module):
    """CLIP's ViT: patches, class token, positions, transformer, projection of the class token.

    Args:
        config: The architecture.
        layers: Blocks.
    """

    def __init__(self, config: ClipConfig, layers: int) -> None:
        super().__init__()
        resolution, patch, width = config.image_resolution, config.vision_patch_size, config.vision_width
        self.input_resolution = resolution
        self.conv1 = PatchEmbedding(width, patch)
        self.class_embedding = jt.zeros((width,))
        self.positional_embedding = jt.zeros(((resolution // patch) ** 2 + 1, width))
        self.ln_pre = jt.nn.LayerNorm(width, eps=config.vision_eps)
        self.transformer = Transformer(vision_form(config), layers)
        self.ln_post = jt.nn.LayerNorm(width, eps=config.vision_eps)
        self.proj = jt.zeros((width, config.embed_dim))

    def execute(self, images: Any) -> Any:
        """(B, 3, n, n) preprocessed pixels → (B, embed_dim), not normalised."""
        return self.tail(self.body(images))

    def body(self, images: Any) -> Any:
        """(B, 3, n, n) preprocessed pixels → (B, 1 + patches, width): all but the last block."""
        patches = self.conv1(images)
        batch, _, width = patches.shape
        token = self.class_embedding.reshape((1, 1, width)).expand((batch, 1, width))
        x = self.ln_pre(jt.concat([token, patches], dim=1) + self.positional_embedding)
        for block in self.transformer.resblocks[:-1]:
            x = block(x)
        return x

    def tail(self, x: Any) -> Any:
        """(B, 1 + patches, width) from `body` → (B, embed_dim): the last block, its norm and the projection."""
        x = self.transformer.resblocks[-1](x)
        return jt.matmul(self.ln_post(x[:, 0, :]), self.proj)

    def in_tail(self, name: str) -> bool:
        """Whether CLIP's weight of this name belongs to `tail`."""
        last = f"visual.transformer.resblocks.{len(self.transformer.resblocks) - 1}."
        return name.startswith((last, "visual.ln_post.", "visual.proj"))
