"""The transformers of all CLIPs for inference.

Where only one position of the last block is used, such as an image's class token or a text's end, keys and values need
all positions, everything else only that one, which saves a twelfth of ViT-B/32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import runtime
from jclip_adapter.runtime import jt

from .config import ClipConfig
from .positions import ends, needed, read, rotary_table
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
    """One transformer block; see `transformer.ResidualAttentionBlock`."""

    def __init__(self, weights: TowerWeights, name: str, form: Blocks, one: bool = False, rotary: Any = None) -> None:
        width = form.width
        self.ops, self.dtype, self.heads, self.rotary = weights.ops, weights.precision, form.heads, rotary
        self.activation, self.post_norm = form.activation, form.post_norm
        self.ln_1, self.ln_2 = (weights.norm(f"{name}.{norm}", form.eps) for norm in ("ln_1", "ln_2"))
        within = f"{name}.attn"
        self.query = weights.linear(within, slice(None, width), prefix=".in_proj_") if one else None
        self.joined = weights.linear(within, slice(width if one else 0, None), prefix=".in_proj_")
        parts = ("attn.out_proj", "mlp.c_fc", "mlp.c_proj")
        self.out, self.c_fc, self.c_proj = (weights.linear(f"{name}.{part}") for part in parts)

    def __call__(self, x: Any, batch: int, rows: Any = None, **mask: Any) -> Any:
        """(batch·L, width) → the same, or (batch, width) of the positions `rows`; `mask` as for `ops.attention`."""
        normed = self.ops.cast(x, self.dtype) if self.post_norm else self.ln_1(x)
        joined = self.joined(normed, out=self.dtype)
        if self.query is None:
            mixed = self.ops.attention(joined, batch, self.heads, rotary=self.rotary, **mask)
        else:
            x = x[rows]
            query = self.query(normed[rows], out=self.dtype)
            mixed = self.ops.attention(joined, batch, self.heads, one=query, **mask)
        x = self.out(mixed, residual=x)
        if not self.post_norm:
            return self._mlp(self.ln_2(x), x)
        x = self.ln_1(x, out="float32")
        return self.ln_2(self._mlp(self.ops.cast(x, self.dtype), x), out="float32")

    def _mlp(self, normed: Any, residual: Any) -> Any:
        return self.c_proj(self.c_fc(normed, activation=self.activation, out=self.dtype), residual=residual)


class _AttentionPool:
    """Attention with one learnt query, then an MLP; see `transformer.AttentionPool`."""

    def __init__(self, weights: TowerWeights, name: str, form: Blocks) -> None:
        arrays, width, within = weights.arrays, form.width, f"{name}.attn"
        self.ops, self.dtype, self.form = weights.ops, weights.precision, form
        weight, bias = (arrays[f"{within}.in_proj_{kind}"] for kind in ("weight", "bias"))
        self.query = weight[:width] @ arrays[f"{name}.probe"] + bias[:width]
        self.joined = weights.linear(within, slice(width, None), prefix=".in_proj_")
        self.norm = weights.norm(f"{name}.ln", form.eps)
        parts = ("attn.out_proj", "mlp.c_fc", "mlp.c_proj")
        self.out, self.c_fc, self.c_proj = (weights.linear(f"{name}.{part}") for part in parts)

    def __call__(self, x: Any, batch: int) -> Any:
        """(batch·L, width) → (batch, width)."""
        query = self.ops.cast(jt.array(np.tile(self.query, (batch, 1))), self.dtype)
        mixed = self.ops.attention(self.joined(x, out=self.dtype), batch, self.form.heads, one=query)
        y = self.out(mixed)
        return self.c_proj(self.c_fc(self.norm(y), activation=self.form.activation, out=self.dtype), residual=y)


def _blocks(weights: TowerWeights, name: str, form: Blocks, layers: int, one: bool, rotary: Any = None) -> list[_Block]:
    """The blocks of a tower; with `one`, the last computes one position per row."""
    names = [f"{name}transformer.resblocks.{number}" for number in range(layers)]
    return [_Block(weights, block, form, one and block == names[-1], rotary) for block in names]


def _projection(weights: TowerWeights, name: str) -> Callable[..., Any]:
    """The last linear map of a tower, for float32 rows; the identity for a tower without one."""
    if name not in weights.arrays:
        return _same
    apply = weights.map(weights.arrays[name].T, weights.arrays.get(f"{name}_bias"))
    return lambda x: apply(weights.ops.cast(x, weights.precision))


class ImageTower:
    """The vision transformer.

    Args:
        weights: Its weights.
        config: The architecture, with a vision transformer.
    """

    def __init__(self, weights: TowerWeights, config: ClipConfig) -> None:
        layers, arrays = config.vision_layers, weights.arrays
        assert isinstance(layers, int)  # noqa: S101  (for the type checker)
        form, pixels, self.dtype, self.pooling = (
            vision_form(config),
            config.pixels,
            weights.precision,
            config.vision_pool,
        )
        self.patches = partial(
            weights.ops.patches, patch=config.vision_patch_size, mean=pixels.mean, deviation=pixels.std
        )
        kernel = arrays["visual.conv1.weight"].reshape((config.vision_width, -1))
        self.conv1 = weights.map(kernel, arrays.get("visual.conv1.bias"))
        positions = np.array(arrays["visual.positional_embedding"])
        self.token = "visual.class_embedding" in arrays
        if self.token:
            positions[0] += arrays["visual.class_embedding"]
        self.positions = jt.array(positions)
        eps, pre = config.vision_eps, "visual.ln_pre" in config.parts
        self.norm_before = partial(weights.norm("visual.ln_pre", eps), out="float32") if pre else _same
        table = rotary_table(config)
        rotary = None if table is None else jt.array(table)
        self.blocks = _blocks(weights, "visual.", form, layers, self.pooling == "token", rotary)
        self.norm = weights.norm("visual.ln_post", eps)
        attentive = self.pooling == "attention"
        self.pool = (
            _AttentionPool(weights, "visual.pool", replace(form, heads=config.pool_heads)) if attentive else None
        )
        self.projection = _projection(weights, "visual.proj")

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> Array:
        """(B, n, n, 3) uint8 → (B, embed_dim) features, not normalised."""
        batch = len(pixels)
        found = self.conv1(self.patches(jt.array(pixels), out=self.dtype))
        count, width = self.positions.shape
        joined = found.reshape((batch, count - self.token, width))
        if self.token:
            joined = jt.concat([jt.zeros((batch, 1, width)), joined], dim=1)
        x = self.norm_before((joined + self.positions).reshape((batch * count, width)))
        rows = jt.array((np.arange(batch) * count).astype(np.int32))
        for block in self.blocks:
            x = block(x, batch, rows)
        if self.pool is not None:
            x = self.pool(self.norm(x), batch)
        elif self.pooling == "token":
            x = self.norm(x, out="float32")
        elif self.pooling == "mean_norm":
            x = self.norm(x.reshape((batch, count, width))[:, 1:].mean(dim=1), out="float32")
        else:
            x = self.norm(x, out="float32").reshape((batch, count, width))[:, 1:].mean(dim=1)
        return np.array(self.projection(x).numpy())


def _same(x: Any) -> Any:
    return x


class TextTower:
    """The text transformer.

    Args:
        weights: Its weights.
        config: The architecture.
    """

    def __init__(self, weights: TowerWeights, config: ClipConfig) -> None:
        arrays = weights.arrays
        self.config = config
        self.embedding, self.positions = arrays["token_embedding.weight"], arrays["positional_embedding"]
        before, after = (norm in config.parts for norm in ("ln_embedding", "ln_final"))
        self.norm_before = partial(weights.norm("ln_embedding", config.text_eps), out="float32") if before else _same
        self.blocks = _blocks(weights, "", text_form(config), config.transformer_layers, one=True)
        self.norm = partial(weights.norm("ln_final", config.text_eps), out="float32") if after else _same
        self.projection = _projection(weights, "text_projection")

    def __call__(self, tokens: npt.NDArray[np.integer[Any]]) -> Array:
        """(B, context) token ids → (B, embed_dim) features, not normalised."""
        batch, config = len(tokens), self.config
        end = ends(tokens, config)
        length = int(needed(end, tokens.shape[1], config).max())
        place = read(end, length, config)
        x = (self.embedding[tokens[:, :length]] + self.positions[:length]).reshape((batch * length, -1))
        x = self.norm_before(jt.array(x))
        causal = config.text_mask == "causal"
        before = None if config.text_mask == "none" or causal else jt.array((end + 1).astype(np.int32))
        for block in self.blocks[:-1]:
            x = block(x, batch, causal=causal, seen=before)
        rows = jt.array((np.arange(batch) * length + place).astype(np.int32))
        seen = jt.array((place + 1).astype(np.int32)) if causal else before
        x = self.blocks[-1](x, batch, rows, seen=seen)
        return np.array(self.projection(self.norm(x)).numpy())
