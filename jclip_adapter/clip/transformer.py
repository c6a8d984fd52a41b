"""The transformer that both of CLIP's towers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jclip_adapter.runtime import jt

from .config import HEAD_WIDTH


def quick_gelu(x: Any) -> Any:
    """x·σ(1.702·x): CLIP's approximation of GELU, any shape."""
    return x * jt.sigmoid(1.702 * x)


def attention(query: Any, key: Any, value: Any, mask: Any | None = None) -> Any:
    """Scaled dot-product attention over the last two axes.

    Args:
        query: (B, H, L, w).
        key: (B, H, S, w).
        value: (B, H, S, w).
        mask: (L, S), added to the scores; None for none.

    Returns:
        (B, H, L, w).
    """
    scores = jt.matmul(query * (query.shape[-1] ** -0.5), key.transpose(0, 1, 3, 2))
    if mask is not None:
        scores = scores + mask
    return jt.matmul(jt.nn.softmax(scores, dim=-1), value)


def causal_mask(length: int) -> Any:
    """(length, length): −inf above the diagonal, 0 elsewhere.

    Made anew where it is needed: kept as an attribute, Jittor would take it for a parameter.
    """
    return jt.array(np.triu(np.full((length, length), -np.inf, dtype=np.float32), 1))


class MultiheadAttention(jt.nn.Module):
    """Self-attention with PyTorch's parameter names (`in_proj_weight`, `in_proj_bias`, `out_proj`)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD_WIDTH)
        self.in_proj_weight = jt.zeros((3 * width, width))
        self.in_proj_bias = jt.zeros((3 * width,))
        self.out_proj = jt.nn.Linear(width, width)
        # What fine-tuning adds to queries, keys and values: takes (B, L, width), returns (B, L, 3·width).
        self.addition: Callable[[Any], Any] | None = None

    def execute(self, x: Any, mask: Any | None = None) -> Any:
        """(B, L, width) → (B, L, width)."""
        batch, length, width = x.shape
        projected = jt.nn.linear(x, self.in_proj_weight, self.in_proj_bias)
        if self.addition is not None:
            projected = projected + self.addition(x)
        # (B, L, 3·width) → three times (B, H, L, w)
        split = projected.reshape((batch, length, 3, self.heads, width // self.heads)).transpose(2, 0, 3, 1, 4)
        mixed = attention(split[0], split[1], split[2], mask)
        return self.out_proj(mixed.transpose(0, 2, 1, 3).reshape((batch, length, width)))


class Mlp(jt.nn.Module):
    """Linear(w, 4w) – QuickGELU – Linear(4w, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = jt.nn.Linear(width, 4 * width)
        self.c_proj = jt.nn.Linear(4 * width, width)

    def execute(self, x: Any) -> Any:
        """(…, width) → (…, width)."""
        return self.c_proj(quick_gelu(self.c_fc(x)))


class ResidualAttentionBlock(jt.nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = MultiheadAttention(width)
        self.ln_1 = jt.nn.LayerNorm(width)
        self.mlp = Mlp(width)
        self.ln_2 = jt.nn.LayerNorm(width)

    def execute(self, x: Any, mask: Any | None = None) -> Any:
        """(B, L, width) → (B, L, width)."""
        x = x + self.attn(self.ln_1(x), mask)
        return x + self.mlp(self.ln_2(x))


class Transformer(jt.nn.Module):
    """A stack of residual attention blocks."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.resblocks = jt.nn.ModuleList([ResidualAttentionBlock(width) for _ in range(layers)])

    def execute(self, x: Any, mask: Any | None = None) -> Any:
        """(B, L, width) → (B, L, width); `mask` (L, L) is added to every block's scores."""
        for block in self.resblocks:
            x = block(x, mask)
        return x
