"""The transformer of both towers of CLIP."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jclip_adapter.runtime import jt

from .bmm import bmm, bmm_transposed
from .config import ClipConfig

KeyValues = tuple[Any, Any]
"""Keys and values (H, M, w) of a prefix common to all rows."""


def quick_gelu(x: Any) -> Any:
    """x·σ(1.702·x): CLIP's approximation of GELU, any shape."""
    return x * jt.sigmoid(1.702 * x)


def gelu(x: Any) -> Any:
    """½x(1 + erf(x/√2)): GELU itself, any shape."""
    return 0.5 * x * (1 + jt.erf(x * math.sqrt(0.5)))


def gelu_tanh(x: Any) -> Any:
    """½x(1 + tanh(√(2/π)(x + 0.044715x³))): GELU's approximation by tanh, any shape."""
    return 0.5 * x * (1 + jt.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


ACTIVATION_FUNCTIONS = {"quick_gelu": quick_gelu, "gelu": gelu, "gelu_tanh": gelu_tanh}


@dataclass(frozen=True)
class Blocks:
    """The form of a tower's residual attention blocks.

    Attributes:
        width: Channels.
        heads: Attention heads.
        hidden: Hidden channels of the MLP.
        activation: Of the MLP, one of `config.ACTIVATIONS`.
        eps: Epsilon of the LayerNorms.
    """

    width: int
    heads: int
    hidden: int
    activation: str
    eps: float


def vision_form(config: ClipConfig) -> Blocks:
    """The blocks of the vision transformer."""
    heads, hidden = config.vision_heads, config.vision_mlp
    return Blocks(config.vision_width, heads, hidden, config.vision_activation, config.vision_eps)


def text_form(config: ClipConfig) -> Blocks:
    """The blocks of the text transformer."""
    return Blocks(config.transformer_width, config.text_heads, config.text_mlp, config.text_activation, config.text_eps)


def attention(query: Any, key: Any, value: Any, mask: Any | None = None, cache: KeyValues | None = None) -> Any:
    """Scaled dot-product attention over the last two axes.

    Args:
        query: (H, B, L, w).
        key: (H, B, S, w).
        value: (H, B, S, w).
        mask: (L, S), added to the scores of these keys; None for none.
        cache: Keys and values (H, M, w) of a prefix common to all B rows; None for none.

    Returns:
        (H, B, L, w).
    """
    heads, batch, length, width = query.shape
    size = key.shape[2]
    query = query * (width**-0.5)
    pairs, own = heads * batch, (heads * batch, size, width)
    scores = bmm_transposed(query.reshape((pairs, length, width)), key.reshape(own))
    if mask is not None:
        scores = scores + mask
    if cache is None:
        mixed = bmm(jt.nn.softmax(scores, dim=-1), value.reshape(own))
        return mixed.reshape(query.shape)
    # The prefix is multiplied once per head with the queries of all rows, instead of being copied to each row.
    keys, values = cache
    earlier = bmm_transposed(query.reshape((heads, batch * length, width)), keys).reshape((pairs, length, -1))
    count = keys.shape[1]
    weights = jt.nn.softmax(jt.concat([earlier, scores], dim=2), dim=-1)
    mixed = bmm(weights[:, :, count:], value.reshape(own)).reshape(query.shape)
    recalled = bmm(weights[:, :, :count].reshape((heads, batch * length, count)), values)
    return mixed + recalled.reshape(query.shape)


def causal_mask(length: int) -> Any:
    """(length, length): −inf above the diagonal, 0 elsewhere.

    Not an attribute of a module, where Jittor would treat it as a parameter.
    """
    return jt.array(np.triu(np.full((length, length), -np.inf, dtype=np.float32), 1))


class MultiheadAttention(jt.nn.Module):
    """Self-attention with PyTorch's parameter names (`in_proj_weight`, `in_proj_bias`, `out_proj`)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = jt.zeros((3 * width, width))
        self.in_proj_bias = jt.zeros((3 * width,))
        self.out_proj = jt.nn.Linear(width, width)
        # Added to queries, keys and values by fine-tuning: takes (B, L, width), returns (B, L, 3·width).
        self.addition: Callable[[Any], Any] | None = None

    def execute(self, x: Any, mask: Any | None = None, cache: KeyValues | None = None) -> Any:
        """(B, L, width) → (B, L, width)."""
        query, key, value = self._split(x)
        mixed = attention(query, key, value, mask, cache)
        return self.out_proj(mixed.transpose(1, 2, 0, 3).reshape(x.shape))

    def cache(self, x: Any) -> KeyValues:
        """Keys and values of one row (1, L, width), for other rows to attend to."""
        _, key, value = self._split(x)
        return key[:, 0], value[:, 0]

    def _split(self, x: Any) -> Any:
        """(B, L, width) → queries, keys and values, (H, B, L, w) each."""
        batch, length, width = x.shape
        projected = jt.nn.linear(x, self.in_proj_weight, self.in_proj_bias)
        if self.addition is not None:
            projected = projected + self.addition(x)
        return projected.reshape((batch, length, 3, self.heads, width // self.heads)).transpose(2, 3, 0, 1, 4)


class Mlp(jt.nn.Module):
    """Linear(w, h) – activation – Linear(h, w)."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.c_fc = jt.nn.Linear(width, hidden)
        self.c_proj = jt.nn.Linear(hidden, width)

    def execute(self, x: Any) -> Any:
        """(…, width) → (…, width)."""
        return self.c_proj(ACTIVATION_FUNCTIONS[self.activation](self.c_fc(x)))


class ResidualAttentionBlock(jt.nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, form: Blocks) -> None:
        super().__init__()
        self.attn = MultiheadAttention(form.width, form.heads)
        self.ln_1 = jt.nn.LayerNorm(form.width, eps=form.eps)
        self.mlp = Mlp(form.width, form.hidden, form.activation)
        self.ln_2 = jt.nn.LayerNorm(form.width, eps=form.eps)

    def execute(self, x: Any, mask: Any | None = None, cache: KeyValues | None = None) -> Any:
        """(B, L, width) → (B, L, width)."""
        x = x + self.attn(self.ln_1(x), mask, cache)
        return x + self.mlp(self.ln_2(x))


class Transformer(jt.nn.Module):
    """A stack of residual attention blocks."""

    def __init__(self, form: Blocks, layers: int) -> None:
        super().__init__()
        self.resblocks = jt.nn.ModuleList([ResidualAttentionBlock(form) for _ in range(layers)])

    def execute(self, x: Any, mask: Any | None = None, caches: Sequence[KeyValues] | None = None) -> Any:
        """(B, L, width) → (B, L, width).

        Args:
            x: The positions.
            mask: (L, L), added to every block's scores.
            caches: From `cache_prefix`, for a prefix of these positions; None for none.
        """
        for number, block in enumerate(self.resblocks):
            x = block(x, mask, caches[number] if caches else None)
        return x

    def cache_prefix(self, x: Any, mask: Any) -> list[KeyValues]:
        """Each block's keys and values of a prefix common to all rows.

        Args:
            x: (1, M, width) the prefix.
            mask: (M, M).
        """
        caches = []
        for block in self.resblocks:
            caches.append(block.attn.cache(block.ln_1(x)))
            x = block(x, mask)
        return caches
