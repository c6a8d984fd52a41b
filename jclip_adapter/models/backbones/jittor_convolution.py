"""Convolutions by Jittor's operators, for CUDA and without oneDNN; the interface is that of onednn_convolution.py.

Jittor's convolution is slow without cuDNN 8, so pointwise convolutions and the first one are matmuls (cuBLAS), and
depthwise ones sums of shifted inputs.
"""

from __future__ import annotations

from typing import Any

from jclip_adapter.runtime import jt

from .layers import Convolution


def pack(weight: Any, layer: Convolution) -> Any:
    """Weights (k, c/groups, s, s) float32 as `convolve` reads them: (s, s, 1, k) by channel, (s·s·c, k) for all."""
    taps = weight.transpose(2, 3, 1, 0)
    return taps if layer.groups > 1 else taps.reshape((-1, layer.filters))


def convolve(x: Any, packed: Any, bias: Any, layer: Convolution, *, relu6: bool, residual: Any = None) -> Any:
    """A convolution with bias, and ReLU6 or a residual, with the arguments of `onednn_convolution.convolve`."""
    before, after = layer.padding
    photos, side, made, stride = x.shape[0], layer.side, layer.made, layer.stride
    if before or after:
        wide = jt.zeros((photos, side + before + after, side + before + after, layer.channels))
        wide[:, before : before + side, before : before + side] = x
        x = wide
    end = (made - 1) * stride + 1
    span = range(layer.kernel)
    taps = [[x[:, i : i + end : stride, j : j + end : stride] for j in span] for i in span]
    if layer.groups > 1:
        z = sum(taps[i][j] * packed[i, j] for i in span for j in span) + bias
    else:
        joined = taps[0][0] if layer.kernel == 1 else jt.concat([tap for row in taps for tap in row], dim=3)
        rows = jt.nn.matmul(joined.reshape((photos * made * made, -1)), packed)
        z = rows.reshape((photos, made, made, layer.filters)) + bias
    if residual is not None:
        z = z + residual
    return jt.minimum(jt.maximum(z, 0.0), 6.0) if relu6 else z
