"""The transformer of both towers of CLIP."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
        post_norm: Norms behind attention and MLP, as in BERT, instead of before them.
    """

    width: int
    heads: int
    hidden: int
    activation: str
    eps: float
    post_norm: bool = False


def vision_form(config: ClipConfig) -> Blocks:
    """The blocks of the vision transformer."""
    heads, hidden = config.vision_heads, config.vision_mlp
    return Blocks(config.vision_width, heads, hidden, config.vision_activation, config.vision_eps)


def text_form(config: ClipConfig) -> Blocks:
    """The blocks of the text transformer."""
    width, heads, hidden = config.transformer_width, config.text_heads, config.text_mlp
    return Blocks(width, heads, hidden, config.text_activation, config.text_eps, "ln_embedding" in config.parts)


def attention(query: Any, key: Any, value: Any, mask: Any | None = None, cache: KeyValues | None = None) -> Any:
    """Scaled dot-product attention over the last two axes.

    Args:
        query: (H, B, L, w).
        key: (H, B, S, w).
        value: (H, B, S, w).
        mask: (L, S) or (B, 1, S), added to the scores of these keys; None for none.
        cache: Keys and values (H, M, w) of a prefix common to all B rows; None for none.

    Returns:
        (H, B, L, w).
    """
    heads, batch, length, width = query.shape
    size = key.shape[2]
    query = query * (width**-0.5)
    pairs, own = heads * batch, (heads * batch, size, width)
    scores = bmm_transposed(query.reshape((pairs, length, width)), key.reshape(own))
    if mask is not None and len(mask.shape) == 3:
        scores = (scores.reshape((heads, batch, length, size)) + mask).reshape(scores.shape)
    elif mask is not None:
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


def padding_mask(end: npt.NDArray[np.int64], length: int) -> Any:
    """(B, 1, length): −1e30 behind each row's `end` (B,), 0 elsewhere."""
    behind = np.arange(length) > np.asarray(end)[:, None]
    return jt.array(np.where(behind, np.float32(-1e30), np.float32(0))[:, None, :])


def rotated(x: Any, table: npt.NDArray[np.float32]) -> Any:
    """Rotate (H, B, L, w) by `positions.rotary_table`: neighbours (a, b) become (a·cos − b·sin, b·cos + a·sin)."""
    pairs = x.reshape((*x.shape[:-1], x.shape[-1] // 2, 2))
    turned = jt.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).reshape(x.shape)
    return x * jt.array(table[0]) + turned * jt.array(table[1])


class MultiheadAttention(jt.nn.Module):
    """Self-attention with PyTorch's parameter names (`in_proj_weight`, `in_proj_bias`, `out_proj`)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = jt.zeros((3 * width, width))
        self.in_proj_bias = jt.zeros((3 * width,))
        self.out_proj = jt.nn.Linear(width, width)
        self.rotary: npt.NDArray[np.float32] | None = None  # from `positions.rotary_table`
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
        query, key, value = projected.reshape((batch, length, 3, self.heads, width // self.heads)).transpose(
            2, 3, 0, 1, 4
        )
        if self.rotary is not None:
            query, key = rotated(query, self.rotary), rotated(key, self.rotary)
        return query, key, value


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
    """Transformer block, with its norms before attention and MLP or behind them."""

    def __init__(self, form: Blocks) -> None:
        super().__init__()
        self.post_norm = form.post_norm
        self.attn = MultiheadAttention(form.width, form.heads)
        self.ln_1 = jt.nn.LayerNorm(form.width, eps=form.eps)
        self.mlp = Mlp(form.width, form.hidden, form.activation)
        self.ln_2 = jt.nn.LayerNorm(form.width, eps=form.eps)

    def execute(self, x: Any, mask: Any | None = None, cache: KeyValues | None = None) -> Any:
        """(B, L, width) → (B, L, width)."""
        if self.post_norm:
            x = self.ln_1(x + self.attn(x, mask, cache))
            return self.ln_2(x + self.mlp(x))
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
            mask: (L, L) or (B, 1, L), added to every block's scores.
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


class AttentionPool(jt.nn.Module):
    """Attention with one learnt query over all positions, then an MLP with a residual: y + MLP(LN(y))."""

    def __init__(self, form: Blocks) -> None:
        super().__init__()
        self.probe = jt.zeros((form.width,))
        self.attn = MultiheadAttention(form.width, form.heads)
        self.ln = jt.nn.LayerNorm(form.width, eps=form.eps)
        self.mlp = Mlp(form.width, form.hidden, form.activation)

    def execute(self, x: Any) -> Any:
        """(B, L, width) → (B, width)."""
        batch, _, width = x.shape
        weight, bias, heads = self.attn.in_proj_weight, self.attn.in_proj_bias, self.attn.heads

        def split(y: Any) -> Any:
            return y.reshape((batch, -1, heads, width // heads)).transpose(2, 0, 1, 3)

        query = jt.nn.linear(self.probe.reshape((1, 1, width)).expand((batch, 1, width)), weight[:width], bias[:width])
        key, value = (
            split(jt.nn.linear(x, weight[part * width : (part + 1) * width], bias[part * width : (part + 1) * width]))
            for part in (1, 2)
        )
        y = self.attn.out_proj(attention(split(query), key, value).transpose(1, 2, 0, 3).reshape((batch, width)))
        return y + self.mlp(self.ln(y))
