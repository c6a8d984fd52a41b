"""The Multi-Modal Adapter's module: masked attention over all class texts and one image, in Jittor.

For each image the original runs a sequence of C+1 rows through the module: C texts, then the image. The attention
between the texts is the same for every image, and what follows it is linear up to a narrow layer, so none of the
(C+1)×B rows of width d is ever built here. The algebra, exact but for rounding, for text i, image b, one head:

    p_ib = Σ_j e^{s_ij} v_j + e^{s_ib} v_b, divided by Σ_j e^{s_ij} + e^{s_ib}
         = (1 − w_ib)·ā_i + w_ib·v_b,   w_ib = σ(s_ib − log Σ_j e^{s_ij}),

where ā_i, the texts' own attention, knows no image. The output projection and the first layer of the up-sampler are
one linear map to r numbers, applied to ā and v before the mixing; the last layer m = U·g + u enters the logits only by
m·t, m·x and ‖m‖² = gᵀ(UᵀU)g + 2gᵀ(Uᵀu) + u·u, all computed from the r numbers g. The transformer's block is not linear
after the attention: there C×B rows pass through its feed-forward layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jclip_adapter.core.task import Array
from jclip_adapter.runtime import jt

from .layers import linear_weight, unit_rows

FEED_FORWARD = 2048  # hidden units of PyTorch's encoder layer


def draw(
    rng: np.random.Generator,
    width: int,
    attention: int,
    inner: int,
    *,
    block: str = "attention",
    down: str = "bottleneck",
    up: str = "bottleneck",
) -> dict[str, Array]:
    """Weights as PyTorch initialises them by default.

    Args:
        rng: Draws.
        width: Feature width d.
        attention: Width a of the block.
        inner: Width r of the bottlenecks on both sides of it.
        block: "attention", or "transformer" for a post-norm encoder layer with `FEED_FORWARD` hidden units.
        down: "bottleneck" for two linear layers d→r→a, "linear" for d→a, "mlp" for d→a, GELU, a→a.
        up: "bottleneck" for a→r, GELU, r→d, "linear" for a→d, "mlp" for a→a, GELU, a→d.

    Returns:
        Weights, and a bias to each: "down" (r or a, d), "widen" (a, r) or for the MLP "mix" (a, a), "inward" (3a, a)
        for queries, keys and values, "outward" (a, a), "narrow" (r or a, a) unless `up` is linear, "up" (d, r or a).
        With the transformer's block also "expand" (f, a), "contract" (a, f), "norm_1" and "norm_2" (a,). The defaults
        have 107,712 numbers at d = 512, a = 128, r = 32.
    """

    def linear(inputs: int, outputs: int) -> tuple[Array, Array]:
        weight, bound = linear_weight(rng, inputs, outputs), 1 / math.sqrt(inputs)
        return weight, rng.uniform(-bound, bound, outputs).astype(np.float32)

    middle = {"bottleneck": inner, "linear": attention, "mlp": attention}
    layers = {"down": linear(width, middle[down])}
    if down != "linear":
        layers["widen" if down == "bottleneck" else "mix"] = linear(middle[down], attention)
    bound = math.sqrt(6 / (4 * attention))  # Xavier's for (3a, a)
    inward = rng.uniform(-bound, bound, (3 * attention, attention)).astype(np.float32)
    layers["inward"] = (inward, np.zeros(3 * attention, np.float32))
    layers["outward"] = (linear(attention, attention)[0], np.zeros(attention, np.float32))
    if up != "linear":
        layers["narrow"] = linear(attention, middle[up])
    layers["up"] = linear(middle[up], width)
    if block == "transformer":
        layers |= {"expand": linear(attention, FEED_FORWARD), "contract": linear(FEED_FORWARD, attention)}
        for name in ("norm_1", "norm_2"):
            layers[name] = (np.ones(attention, np.float32), np.zeros(attention, np.float32))
    return {key: value for name, pair in layers.items() for key, value in ((name, pair[0]), (f"{name}_bias", pair[1]))}


def linear(rows: Any, weight: Any, bias: Any) -> Any:
    """(…, inputs) → (…, outputs)."""
    flat = jt.nn.matmul_transpose(rows.reshape((-1, rows.shape[-1])), weight) + bias
    return flat.reshape((*rows.shape[:-1], weight.shape[0]))


def narrow_rows(images: Any, texts: Any, weights: Mapping[str, Any], *, heads: int, mask: str) -> tuple[Any, Any]:
    """The input g of the module's last layer.

    Args:
        images: (B, d) L2-normalised image features, a jt.Var as all arrays here.
        texts: (C, d) L2-normalised text features.
        weights: As `draw` returns them; their names tell the block and the layers around it.
        heads: Attention heads.
        mask: "add" adds 1 to the scores between a text and the image, as the code does; "block" lets a text see
            only the image and the image only the texts, as the paper says.

    Returns:
        g of the text rows, (B, C, r), or (B, 1, r) if it is the same for every text; and of the image row,
        (B, r), where r is the width of the last layer's input.
    """
    hidden = [_hidden(rows, weights) for rows in (texts, images)]
    if "expand" in weights:
        onward, constant = weights["outward"], weights["outward_bias"].unsqueeze(0)
    else:
        onward, constant = _narrowed(weights)
    text_heads, image_heads = (_heads(rows, weights, heads, onward) for rows in hidden)
    text_rows, image_rows = _attended(text_heads, image_heads, constant, mask)
    if "expand" in weights:
        text_rows, image_rows = (
            _feed_forward(rows + attended, weights)
            for rows, attended in ((hidden[0].unsqueeze(0), text_rows), (hidden[1], image_rows))
        )
        if "narrow" in weights:
            text_rows, image_rows = (
                linear(rows, weights["narrow"], weights["narrow_bias"]) for rows in (text_rows, image_rows)
            )
    if "narrow" not in weights:
        return text_rows, image_rows
    # Fused with the sum before it, erf would prevent the compiler from vectorising both.
    return gelu(text_rows.stop_fuse()), gelu(image_rows)


class _Head(NamedTuple):
    """One attention head's rows: query and key (rows, size), value (rows, r) mapped on to the next layer."""

    query: Any
    key: Any
    value: Any


def _hidden(rows: Any, weights: Mapping[str, Any]) -> Any:
    """(rows, d) → (rows, a), the input of the block."""
    hidden = linear(rows, weights["down"], weights["down_bias"])
    if "mix" in weights:
        return linear(gelu(hidden), weights["mix"], weights["mix_bias"])
    return linear(hidden, weights["widen"], weights["widen_bias"]) if "widen" in weights else hidden


def _narrowed(weights: Mapping[str, Any]) -> tuple[Any, Any]:
    """The attention's output projection and the up-sampler's first layer as one map: (r, a) and its bias (1, r)."""
    bias = weights["outward_bias"].unsqueeze(0)
    if "narrow" not in weights:
        return weights["outward"], bias
    return jt.matmul(weights["narrow"], weights["outward"]), linear(bias, weights["narrow"], weights["narrow_bias"])


def _heads(hidden: Any, weights: Mapping[str, Any], heads: int, onward: Any) -> list[_Head]:
    """The rows of every head, queries already divided by the root of their width."""
    width = int(weights["outward"].shape[0])
    size = width // heads
    mixed = linear(hidden, weights["inward"], weights["inward_bias"])

    def head(first: int) -> _Head:
        query, key, value = (mixed[:, part + first : part + first + size] for part in (0, width, 2 * width))
        mapped = jt.nn.matmul_transpose(value, onward[:, first : first + size])
        return _Head(query / math.sqrt(size), key, mapped)

    return [head(first) for first in range(0, width, size)]


def _attended(text_heads: list[_Head], image_heads: list[_Head], constant: Any, mask: str) -> tuple[Any, Any]:
    """The attention's output, mapped on to the next layer: (B, C, r) or (B, 1, r), and (B, r)."""
    added = 1.0 if mask == "add" else 0.0
    text_rows, image_rows = constant.unsqueeze(0), constant
    for text, image in zip(text_heads, image_heads, strict=True):
        shares, log_sum = _softmax(jt.nn.matmul_transpose(image.query, text.key) + added)  # (B, C), (B,)
        seen = jt.matmul(shares, text.value)  # (B, r)
        if mask == "block":
            text_rows = text_rows + image.value.unsqueeze(1)
            image_rows = image_rows + seen
            continue
        towards_itself = (image.query * image.key).sum(dim=1)
        own = jt.sigmoid(towards_itself - log_sum).unsqueeze(1)
        image_rows = image_rows + seen + own * (image.value - seen)
        shares, log_sum = _softmax(jt.nn.matmul_transpose(text.query, text.key))  # (C, C), (C,)
        alone = jt.matmul(shares, text.value)  # (C, r)
        towards_image = jt.nn.matmul_transpose(image.key, text.query) + added  # (B, C)
        share = jt.sigmoid(towards_image - log_sum.unsqueeze(0)).unsqueeze(2)
        # Jittor fuses these sums of products, so there is no (B, C, r) array per head.
        text_rows = text_rows + alone.unsqueeze(0) + share * (image.value.unsqueeze(1) - alone.unsqueeze(0))
    return text_rows, image_rows


def _feed_forward(rows: Any, weights: Mapping[str, Any]) -> Any:
    """The rest of a post-norm encoder layer after the attention's residual sum: (…, a) → (…, a)."""
    rows = _layer_norm(rows, weights["norm_1"], weights["norm_1_bias"])
    hidden = jt.nn.relu(linear(rows, weights["expand"], weights["expand_bias"]))
    rows = rows + linear(hidden, weights["contract"], weights["contract_bias"])
    return _layer_norm(rows, weights["norm_2"], weights["norm_2_bias"])


def _layer_norm(rows: Any, weight: Any, bias: Any) -> Any:
    """Layer normalisation over the last axis, with PyTorch's ε of 1e-5."""
    centred = rows - rows.mean(dim=-1, keepdims=True)
    variance = (centred * centred).mean(dim=-1, keepdims=True)
    return centred / jt.sqrt(variance + 1e-5) * weight + bias


def gelu(rows: Any) -> Any:
    """x·Φ(x) with the exact normal distribution function."""
    return rows * 0.5 * (1 + jt.erf(rows * math.sqrt(0.5)))


def _softmax(scores: Any) -> tuple[Any, Any]:
    """(rows, n) → their softmax, (rows, n), and log Σ exp, (rows,): both need the same exponentials."""
    top = scores.max(dim=1, keepdims=True).stop_grad()
    parts = jt.exp(scores - top)
    total = parts.sum(dim=1, keepdims=True)
    return parts / total, (jt.log(total) + top).squeeze(1)


def adapted_logits(
    images: Any,
    texts: Any,
    weights: Mapping[str, Any],
    *,
    heads: int,
    mask: str,
    adapt: str,
    ratio: float,
    scale: float,
) -> Any:
    """Logits of images against texts that are adapted to each image (golden: clip_mma).

    logits_bi = s·x'_b·t'_bi with x' = normalise(R·m̂ + (1−R)·x) and t' likewise, m̂ the module's normalised row.

    Args:
        images: As in `narrow_rows`.
        texts: As there.
        weights: As there.
        heads: As there.
        mask: As there.
        adapt: "both", or "image" to leave the texts as they are.
        ratio: Residual ratio R.
        scale: s.

    Returns:
        (B, C).
    """
    text_rows, image_row = narrow_rows(images, texts, weights, heads=heads, mask=mask)
    up, bias = weights["up"], weights["up_bias"]
    image_mixed = ratio * unit_rows(linear(image_row, up, bias)) + (1 - ratio) * images
    image_mixed = unit_rows(image_mixed)
    plain = jt.nn.matmul_transpose(image_mixed, texts)  # (B, C)
    if adapt == "image":
        return scale * plain
    gram = jt.matmul(up.transpose(1, 0), up)
    towards_bias = jt.matmul(bias.unsqueeze(0), up).unsqueeze(0)  # Uᵀu, (1, 1, r)
    flat = jt.matmul(text_rows.reshape((-1, text_rows.shape[2])), gram).reshape(text_rows.shape)
    square = ((flat + 2 * towards_bias) * text_rows).sum(dim=2) + (bias * bias).sum()
    inverse = 1 / jt.sqrt(jt.maximum(square, 1e-12))  # 1/‖m‖
    to_text = (text_rows * jt.matmul(texts, up).unsqueeze(0)).sum(dim=2) + _row(texts, bias)
    to_image = (text_rows * jt.matmul(image_mixed, up).unsqueeze(1)).sum(dim=2) + _row(image_mixed, bias).transpose(
        1, 0
    )
    length = ratio**2 + (1 - ratio) ** 2 + 2 * ratio * (1 - ratio) * inverse * to_text
    return scale * (ratio * inverse * to_image + (1 - ratio) * plain) / jt.sqrt(length)


def _row(rows: Any, vector: Any) -> Any:
    """(1, rows) products of each row with one vector."""
    return (rows * vector.unsqueeze(0)).sum(dim=1).unsqueeze(0)


def score_in_chunks(images: Array, logits: Callable[[Any], Any], size: int = 256) -> Array:
    """Apply a function of jt.Var rows to chunks of a numpy array, without gradients: (M, d) → (M, C)."""
    with jt.no_grad():
        parts = [logits(jt.array(images[first : first + size])).numpy() for first in range(0, len(images), size)]
    return np.concatenate(parts).astype(np.float32)
