"""Layers that several methods use: PyTorch's initialisation, normalisation, CLIP-Adapter's bottleneck."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jclip_adapter.core.task import Array
from jclip_adapter.runtime import jt


def linear_weight(rng: np.random.Generator, inputs: int, outputs: int) -> Array:
    """(outputs, inputs) weights as PyTorch's Linear initialises them: uniform in ±1/√inputs."""
    bound = 1 / math.sqrt(inputs)
    return rng.uniform(-bound, bound, (outputs, inputs)).astype(np.float32)


def unit_rows(rows: Any) -> Any:
    """L2-normalise the rows of a jt.Var (…, d); rows of zeros stay zeros, and so does their gradient.

    Without the lower bound a row of zeros, which a ReLU may give, would make every gradient NaN.
    """
    return rows / jt.sqrt(jt.maximum((rows * rows).sum(dim=-1, keepdims=True), 1e-12))


def bottleneck(features: Any, down: Any, up: Any, ratio: float) -> Any:
    """CLIP-Adapter's block: R·ReLU(W₂·ReLU(W₁x)) + (1−R)·x.

    Args:
        features: (B, d) jt.Var x.
        down: (r, d) jt.Var W₁.
        up: (d, r) jt.Var W₂.
        ratio: R.

    Returns:
        (B, d) jt.Var.
    """
    hidden = jt.nn.relu(jt.nn.matmul_transpose(features, down))
    return ratio * jt.nn.relu(jt.nn.matmul_transpose(hidden, up)) + (1 - ratio) * features


def bottleneck_numpy(features: Array, down: Array, up: Array, ratio: float) -> Array:
    """`bottleneck` in numpy."""
    adapted = np.maximum(np.maximum(features @ down.T, 0) @ up.T, 0)
    return np.asarray(np.float32(ratio) * adapted + np.float32(1 - ratio) * features, dtype=np.float32)
