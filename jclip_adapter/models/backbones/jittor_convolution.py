"""Convolutions by Jittor's operators, for CUDA and without oneDNN; the interface is that of onednn_convolution.py.

Jittor's convolution is slow without cuDNN 8, so depthwise convolutions are sums of shifted inputs, and all others are
matmuls (cuBLAS).
"""

from __future__ import annotations

from typing import Any

from jclip_adapter.models.clip.bmm import bmm
from jclip_adapter.runtime import jt

from .layers import Convolution


def pack(weight: Any, layer: Convolution) -> Any:
    """Weights (k, c/groups, s, t) float32 as `convolve` reads them: (s, t, 1, k) by channel, else (g, s·t·c/g, k/g)."""
    if layer.groups == layer.channels:
        return weight.transpose(2, 3, 1, 0)
    split = weight.reshape((layer.groups, layer.filters // layer.groups, *weight.shape[1:]))
    return split.transpose(0, 3, 4, 2, 1).reshape((layer.groups, -1, layer.filters // layer.groups))


def convolve(x: Any, packed: Any, bias: Any, layer: Convolution, *, activation: str = "", residual: Any = None) -> Any:
    """A convolution with bias, a residual and an activation, with the arguments of `onednn_convolution.convolve`."""
    photos, (height, width), (rows, columns) = x.shape[0], layer.size, layer.made
    (top, left), (bottom, right) = layer.before, layer.after
    if top or left or bottom or right:
        wide = jt.zeros((photos, height + top + bottom, width + left + right, layer.channels))
        wide[:, top : top + height, left : left + width] = x
        x = wide
    down, across = ((made - 1) * layer.stride + 1 for made in layer.made)
    taps = [
        [x[:, i : i + down : layer.stride, j : j + across : layer.stride] for j in range(layer.kernel[1])]
        for i in range(layer.kernel[0])
    ]
    if layer.groups == layer.channels:
        z = sum(tap * packed[i, j] for i, row in enumerate(taps) for j, tap in enumerate(row)) + bias
    else:
        positions, groups = photos * rows * columns, layer.groups
        parts = [tap.reshape((positions, groups, -1)) for row in taps for tap in row]
        joined = parts[0] if len(parts) == 1 else jt.concat(parts, dim=2)
        if groups == 1:
            z = jt.nn.matmul(joined.reshape((positions, -1)), packed[0])
        else:
            z = bmm(joined.transpose(1, 0, 2), packed).transpose(1, 0, 2)
        z = z.reshape((photos, rows, columns, layer.filters)) + bias
    if residual is not None:
        z = z + residual
    if activation == "relu6":
        return jt.minimum(jt.maximum(z, 0.0), 6.0)
    return jt.maximum(z, 0.0) if activation == "relu" else z
