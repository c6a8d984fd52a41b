"""Low-rank adaptation of the attention in CLIP's towers (Hu et al., "LoRA", 2022; Kalajdzievski, "rsLoRA", 2023).

Queries, keys and values of every block get x·Aᵀ·Bᵀ·α/√r on top of x·Wᵀ, with trained A (r, w) and B (w, r).
After training the product is merged into W, so that prediction costs no more than before.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jclip_adapter.core.task import Array, Weights
from jclip_adapter.runtime import jt

from .layers import linear_weight

PROJECTIONS = ("q", "k", "v")


def attention_layers(model: Any) -> dict[str, Any]:
    """The attention modules of both towers by name, such as "visual.transformer.resblocks.0.attn"."""
    towers = {"visual.transformer": getattr(model.visual, "transformer", None), "transformer": model.transformer}
    return {
        f"{name}.resblocks.{number}.attn": block.attn
        for name, tower in towers.items()
        if tower is not None
        for number, block in enumerate(tower.resblocks)
    }


def draw(model: Any, rank: int, rng: np.random.Generator) -> dict[str, Array]:
    """Initial A and B of every projection; the low-rank term is zero at first.

    Args:
        model: The CLIP.
        rank: r.
        rng: Draws A, uniform in ±1/√w as PyTorch's Linear; B is zero.

    Returns:
        Arrays by "LAYER.q.A", "LAYER.q.B" and so on.
    """
    arrays: dict[str, Array] = {}
    for name, layer in attention_layers(model).items():
        width = int(layer.in_proj_weight.shape[1])
        for projection in PROJECTIONS:
            arrays[f"{name}.{projection}.A"] = linear_weight(rng, width, rank)
            arrays[f"{name}.{projection}.B"] = np.zeros((width, rank), dtype=np.float32)
    return arrays


class Dropout:
    """Dropout masks of a step, the same each time that the step is computed.

    Args:
        rate: Dropout rate; 0 for none.
        seed: Of the step.
    """

    def __init__(self, rate: float, seed: int) -> None:
        self.rate = rate
        self.seed = seed

    def mask(self, name: str, shape: tuple[int, ...]) -> Any:
        """A jt.Var of this shape with entries 0 and 1/(1 − rate) for the layer of this name; None without dropout."""
        if not self.rate:
            return None
        rng = np.random.default_rng([self.seed, *name.encode()])
        kept = rng.random(shape, dtype=np.float32) >= self.rate
        return jt.array(kept.astype(np.float32) / np.float32(1 - self.rate))


@contextlib.contextmanager
def added(
    model: Any, arrays: Mapping[str, Any], alpha: float, dropout: Dropout | None = None, *, through: bool = True
) -> Iterator[None]:
    """Add the low-rank terms to a model within this block.

    Args:
        model: The CLIP.
        arrays: jt.Vars by the names that `draw` gives.
        alpha: α.
        dropout: Of the terms' input, in training.
        through: Whether gradients pass through the terms to their input. In the authors' code (golden: clip_lora)
            they do with dropout, its default. Without dropout they do not, because the terms are removed from the
            weights before the backward pass.
    """
    layers = attention_layers(model)

    def addition(name: str) -> Any:
        pairs = [(arrays[f"{name}.{projection}.A"], arrays[f"{name}.{projection}.B"]) for projection in PROJECTIONS]
        scaling = alpha / math.sqrt(int(pairs[0][0].shape[0]))

        def add(x: Any) -> Any:
            mask = dropout.mask(name, tuple(x.shape)) if dropout is not None else None
            given = x if through else x.detach()  # stop_grad would stop x itself
            given = given if mask is None else given * mask
            parts = [jt.nn.matmul_transpose(jt.nn.matmul_transpose(given, down), up) for down, up in pairs]
            return scaling * jt.concat(parts, dim=-1)

        return add

    try:
        for name, layer in layers.items():
            layer.addition = addition(name)
        yield
    finally:
        for layer in layers.values():
            layer.addition = None


def merged(base: Weights, arrays: Mapping[str, Array], alpha: float) -> dict[str, Array]:
    """The attention weights with the low-rank terms merged into them.

    Args:
        base: CLIP's original weights.
        arrays: A and B by the names that `draw` gives.
        alpha: α.

    Returns:
        (3w, w) arrays by "LAYER.in_proj_weight".
    """
    weights = {}
    for name in {key.rsplit(".", 2)[0]: None for key in arrays}:
        products = [arrays[f"{name}.{key}.B"] @ arrays[f"{name}.{key}.A"] for key in PROJECTIONS]
        scaling = np.float32(alpha / math.sqrt(len(arrays[f"{name}.q.A"])))
        weights[f"{name}.in_proj_weight"] = base[f"{name}.in_proj_weight"] + scaling * np.concatenate(products)
    return weights
