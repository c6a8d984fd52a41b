"""CLIP's transformers for inference.

Only one position of the last block is used: an image's class token, a text's end. Keys and values need all positions,
everything else only that one, which saves a twelfth of ViT-B/32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import runtime
from jclip_adapter.runtime import jt

from .config import ClipConfig
from .transformer import Blocks, text_form, vision_form

Array = npt.NDArray[np.float32]
Arrays = Mapping[str, Array]


def operations() -> Any:
    """The module with the operations: oneDNN's on the CPU if available, else Jittor's."""
    from . import jittor_ops, onednn_ops

    return onednn_ops if runtime.has_fast_matmul() else jittor_ops


@dataclass(frozen=True)
class TowerWeights:
    """Weights of a tower, with the operations that use them.

    Attributes:
        arrays: Arrays by OpenAI's key names.
        ops: The module onednn_ops or jittor_ops.
        precision: Precision of matmuls: "float32", "bfloat16", or on CUDA "float16".
    """

    arrays: Arrays
    ops: Any
    precision: str

    def linear(self, name: str, rows: slice = slice(None), *, prefix: str = ".") -> Callable[..., Any]:
        """The linear map of a weight and a bias, or of some of its rows."""
        return self.map(self.arrays[f"{name}{prefix}weight"][rows], self.arrays[f"{name}{prefix}bias"][rows])

    def map(self, weight: Array, bias: Array | None = None) -> Callable[..., Any]:
        """The linear map of (k, m) and (k,)."""
        packed = self.ops.pack(jt.array(np.ascontiguousarray(weight)), self.precision)
        packed.sync()  # or all weights would be in memory twice until the first pass
        added = jt.array(np.zeros(len(weight), np.float32) if bias is None else np.ascontiguousarray(bias))
        return lambda x, **more: self.ops.linear(x, packed, added, self.precision, **more)

    def norm(self, name: str, eps: float) -> Callable[..., Any]:
        """A LayerNorm; its result has the matmuls' precision unless `out` is given."""
        weight, bias = jt.array(self.arrays[f"{name}.weight"]), jt.array(self.arrays[f"{name}.bias"])
        return lambda x, out=self.precision: self.ops.layer_norm(x, weight, bias, out, eps=eps)


class _Block:
    def __init__(self, weights: TowerWeights, name: str, form: Blocks, last: bool) -> None:
        width = form.width
        self.ops, self.dtype, self.heads = weights.ops, weights.precision, form.heads
        self.activation = form.activation
        self.ln_1, self.ln_2 = (weights.norm(f"{name}.{norm}", form.eps) for norm in ("ln_1", "ln_2"))
        within = f"{name}.attn"
        self.query = weights.linear(within, slice(None, width), prefix=".in_proj_") if last else None
        self.joined = weights.linear(within, slice(width if last else 0, None), prefix=".in_proj_")
        parts = ("attn.out_proj", "mlp.c_fc", "mlp.c_proj")
        self.out, self.c_fc, self.c_proj = (weights.linear(f"{name}.{part}") for part in parts)

    def __call__(self, x: Any, batch: int, *, causal: bool = False, read: Any = None, seen: Any = None) -> Any:
        """(batch·L, width) → the same; the last block → (batch, width) of the positions `read`, which see `seen`."""
        normed = self.ln_1(x)
        joined = self.joined(normed, out=self.dtype)
        if self.query is None:
            mixed = self.ops.attention(joined, batch, self.heads, causal=causal)
        else:
            x = x[read]
            one = (self.query(normed[read], out=self.dtype), seen)
            mixed = self.ops.attention(joined, batch, self.heads, one=one)
        x = self.out(mixed, residual=x)
        return self.c_proj(self.c_fc(self.ln_2(x), activation=self.activation, out=self.dtype), residual=x)


class _Tower:
    """Blocks, a norm and a projection."""

    def __init__(self, weights: TowerWeights, name: str, form: Blocks, layers: int, ends: tuple[str, str]) -> None:
        blocks = [f"{name}transformer.resblocks.{number}" for number in range(layers)]
        self.blocks = [_Block(weights, block, form, block == blocks[-1]) for block in blocks]
        norm, projection = ends
        self.norm = weights.norm(norm, form.eps)
        self.projection = weights.map(weights.arrays[projection].T)

    def features(self, x: Any, batch: int, read: npt.NDArray[np.int64], causal: bool) -> Array:
        """(batch·L, width) embedded positions → (batch, embed_dim) features of the positions `read` (batch,)."""
        length = x.shape[0] // batch
        seen = jt.array((read + 1 if causal else np.full(batch, length)).astype(np.int32))
        rows = jt.array((np.arange(batch) * length + read).astype(np.int32))
        for block in self.blocks[:-1]:
            x = block(x, batch, causal=causal)
        x = self.blocks[-1](x, batch, read=rows, seen=seen)
        return np.array(self.projection(self.norm(x)).numpy())


class ImageTower(_Tower):
    """CLIP's vision transformer.

    Args:
        weights: Its weights.
        config: CLIP's architecture, with a vision transformer.
    """

    def __init__(self, weights: TowerWeights, config: ClipConfig) -> None:
        layers, arrays = config.vision_layers, weights.arrays
        assert isinstance(layers, int)  # noqa: S101  (for the type checker)
        super().__init__(weights, "visual.", vision_form(config), layers, ("visual.ln_post", "visual.proj"))
        pixels = config.pixels
        self.patches = partial(
            weights.ops.patches, patch=config.vision_patch_size, mean=pixels.mean, deviation=pixels.std
        )
        self.dtype = weights.precision
        self.conv1 = weights.map(arrays["visual.conv1.weight"].reshape((config.vision_width, -1)))
        positions = np.array(arrays["visual.positional_embedding"])
        positions[0] += arrays["visual.class_embedding"]
        self.positions = jt.array(positions)
        self.norm_before = weights.norm("visual.ln_pre", config.vision_eps)

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> Array:
        """(B, n, n, 3) uint8 → (B, embed_dim) features, not normalised."""
        batch = len(pixels)
        found = self.conv1(self.patches(jt.array(pixels), out=self.dtype))
        count, width = self.positions.shape
        joined = jt.concat([jt.zeros((batch, 1, width)), found.reshape((batch, count - 1, width))], dim=1)
        x = self.norm_before((joined + self.positions).reshape((batch * count, width)), out="float32")
        return self.features(x, batch, np.zeros(batch, np.int64), causal=False)


class TextTower(_Tower):
    """CLIP's text transformer.

    Args:
        weights: Its weights.
        config: CLIP's architecture.
    """

    def __init__(self, weights: TowerWeights, config: ClipConfig) -> None:
        layers = config.transformer_layers
        super().__init__(weights, "", text_form(config), layers, ("ln_final", "text_projection"))
        self.embedding = weights.arrays["token_embedding.weight"]
        self.positions = weights.arrays["positional_embedding"]

    def __call__(self, tokens: npt.NDArray[np.integer[Any]]) -> Array:
        """(B, context) token ids, the largest of a row ending its text → (B, embed_dim) features, not normalised."""
        end = tokens.argmax(axis=1)
        length = int(end.max()) + 1  # the mask is causal, so later positions have no effect
        x = (self.embedding[tokens[:, :length]] + self.positions[:length]).reshape((len(tokens) * length, -1))
        return self.features(jt.array(x), len(tokens), end, causal=True)
