"""Operations of a transformer by Jittor, for CUDA and without oneDNN; the interface is that of onednn_ops.py.

cuBLAS accumulates float16 in float32 as long as Jittor's flag `use_tensorcore` is 0, the default; tensor cores are used
nevertheless.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jclip_adapter.runtime import jt

from .bmm import bmm, bmm_transposed
from .transformer import ACTIVATION_FUNCTIONS


def pack(weight: Any, precision: str) -> Any:
    """A linear map's weight (k, m) in a precision."""
    return weight.cast(precision)


def cast(x: Any, precision: str) -> Any:
    """Float32 numbers in a precision."""
    return x.cast(precision)


def linear(
    x: Any,
    packed: Any,
    bias: Any,
    precision: str,
    *,
    activation: str = "",
    residual: Any = None,
    out: str = "float32",
) -> Any:
    """x·Wᵀ + b, with an activation or a residual: (n, m), (k, m), (k,) → (n, k)."""
    found = jt.nn.matmul_transpose(x.cast(precision), packed).float32() + bias
    if activation:
        found = ACTIVATION_FUNCTIONS[activation](found)
    return (found if residual is None else found + residual).cast(out)


def layer_norm(x: Any, weight: Any, bias: Any, out: str = "float32", *, eps: float = 1e-5) -> Any:
    """LayerNorm of rows (n, d) float32."""
    mean = x.mean(dim=1, keepdims=True)
    centred = x - mean
    variance = (centred * centred).mean(dim=1, keepdims=True)
    return (centred / jt.sqrt(variance + eps) * weight + bias).cast(out)


def attention(
    joined: Any,
    batch: int,
    heads: int,
    *,
    causal: bool = False,
    one: Any = None,
    seen: Any = None,
    rotary: Any = None,
) -> Any:
    """Softmax attention, with the arguments of `onednn_ops.attention`."""
    kind, length = joined.dtype, joined.shape[0] // batch
    wide = joined.shape[1] // (3 if one is None else 2) // heads
    parts = joined.reshape((batch, length, -1, heads, wide)).transpose(2, 0, 3, 1, 4)
    pairs = batch * heads
    keys, values = (parts[at].reshape((pairs, length, wide)) for at in (-2, -1))
    queries = parts[0].reshape((pairs, length, wide)) if one is None else one.reshape((pairs, 1, wide))
    if rotary is not None:
        queries, keys = (_rotated(x, rotary) for x in (queries, keys))
    scores = bmm_transposed(queries, keys).float32() * wide**-0.5
    if seen is not None:
        hidden = jt.array(np.arange(length, dtype=np.int32)).reshape((1, 1, 1, length)) >= seen.reshape(
            (batch, 1, 1, 1)
        )
        shape = scores.shape
        scores = (scores.reshape((batch, heads, -1, length)) - hidden.float32() * 1e30).reshape(shape)
    elif causal:
        scores = scores - jt.array(np.triu(np.full((length, length), 1e30, np.float32), 1))
    mixed = bmm(jt.nn.softmax(scores, dim=-1).cast(kind), values)
    return mixed.reshape((batch, heads, -1, wide)).transpose(0, 2, 1, 3).reshape((-1, wide * heads))


def _rotated(x: Any, rotary: Any) -> Any:
    pairs = x.float32().reshape((*x.shape[:-1], x.shape[-1] // 2, 2))
    turned = jt.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).reshape(x.shape)
    return (x.float32() * rotary[0] + turned * rotary[1]).cast(x.dtype)


def patches(pixels: Any, patch: int, mean: Any, deviation: Any, out: str) -> Any:
    """Normalised patches of photos: (B, n, n, 3) uint8 → (B·(n/patch)², 3·patch²)."""
    batch, side = pixels.shape[:2]
    grid = side // patch
    values = (pixels.float32() / 255 - jt.array(np.float32(mean))) / jt.array(np.float32(deviation))
    split = (
        values[:, : grid * patch, : grid * patch]
        .reshape((batch, grid, patch, grid, patch, 3))
        .transpose(0, 1, 3, 5, 2, 4)
    )
    return split.reshape((batch * grid * grid, 3 * patch * patch)).cast(out)
