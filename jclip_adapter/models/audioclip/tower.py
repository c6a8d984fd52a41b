"""AudioCLIP's audio tower: ESResNeXt, a ResNeXt-50 with attention on the spectrogram of a sound.

Guzhov et al., "AudioCLIP: Extending CLIP to Image, Text and Audio", 2021 (arXiv:2106.13043), on "ESResNe(X)t-fbsp",
2021 (arXiv:2104.11587). Maps are channels last; their height is frequency, their width time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jclip_adapter import runtime
from jclip_adapter.core.task import Array, Weights
from jclip_adapter.models.backbones.efficientnet_lite import operations
from jclip_adapter.models.backbones.layers import Convolution, Pair, padded

from .shapes import ATTENTION_KERNELS, block_counts
from .spectrogram import HOP, Spectrogram

_EPSILON = 1e-5  # of batch normalisation
_LEAST = 16  # channels of a group with which oneDNN's grouped convolutions are fast


Map = Callable[[Any], Any]
Indices = npt.NDArray[np.int64]


class Stage(NamedTuple):
    """One of the four stages.

    Attributes:
        blocks: The bottlenecks, (B, h, w, c) → (B, m, n, k).
        attention: Factors of the blocks' output, from the blocks' input, (B, h, w, c) → (B, m, n, k).
    """

    blocks: Map
    attention: Map


class AudioTower:
    """The network from samples to features.

    Args:
        state: Weights by AudioCLIP's names without prefix, as `check_audio` accepts them.
        samples: Samples of a sound; all have this many.
        batch: The usual number of sounds in a batch; others are slower.
        batch_statistics: Normalise by each batch's mean and variance, as PyTorch's `train()` does, instead of the
            weights' statistics.
        hop: Samples from one frame to the next.
    """

    def __init__(
        self, state: Weights, samples: int, *, batch: int = 1, batch_statistics: bool = False, hop: int = HOP
    ) -> None:
        self._state = state
        self._batch_statistics = batch_statistics
        self._batch = batch
        self._ops = operations(runtime.has_fast_matmul())
        self.spectrogram = Spectrogram(state, hop)
        stem = padded(self.spectrogram.size(samples), 3, len(state["conv1.weight"]), (7, 7), 2)
        self._stem = self._convolution("conv1", "bn1", stem, "relu")
        size = _halved(stem.made)
        self.stages: list[Stage] = []
        channels = stem.filters
        for number, count in enumerate(block_counts(state), 1):
            blocks = []
            before = size, channels
            for block in range(count):
                step, size, channels = self._bottleneck(f"layer{number}.{block}", size, channels, number > 1 > block)
                blocks.append(step)
            self.stages.append(Stage(partial(_chain, blocks), self._attention(number, *before, size)))
        self.last_attention = self._attention(5, size, channels, (1, 1))
        jt = runtime.start()
        self._head = jt.array(np.ascontiguousarray(state["fc.weight"].T)), jt.array(state["fc.bias"])

    def stem(self, waves: Array) -> Any:
        """(B, n) samples → (B, h, w, c), the input of the first stage."""
        x = self._stem(self.spectrogram(waves))
        for axis in (1, 2):
            made = np.arange(_halved((x.shape[axis], 1))[0])
            x = _maximum(x, axis, np.maximum(2 * made - 1, 0), np.minimum(2 * made + 2, x.shape[axis]))
        return x

    def reduced(self, waves: Array) -> Any:
        """(B, n) samples → (B, k), the features before the last layer."""
        x = self.stem(waves)
        for stage in self.stages:
            x = stage.blocks(x) * stage.attention(x)
        return x.mean(dims=(1, 2)) * self.last_attention(x).reshape((len(waves), -1))

    def __call__(self, waves: Array) -> Array:
        """Features of sounds.

        Args:
            waves: (B, `samples`) float32 samples, or (B, channels, `samples`), whose channels are summed.

        Returns:
            (B, d) float32, not normalised.
        """
        jt = runtime.start()
        channels = waves.reshape((len(waves), -1, waves.shape[-1]))
        reduced = sum(self.reduced(channels[:, number]) for number in range(channels.shape[1]))
        weight, bias = self._head
        return np.array((jt.nn.matmul(reduced, weight) + bias).numpy())

    def _bottleneck(self, name: str, size: Pair, channels: int, strided: bool) -> tuple[Map, Pair, int]:
        """A block with its output's size and channels."""
        inner, within = self._state[f"{name}.conv2.weight"].shape[:2]
        wide, stride = len(self._state[f"{name}.conv3.weight"]), 2 if strided else 1
        one = Convolution(size, channels, inner)
        two = padded(size, inner, inner, (3, 3), stride, inner // within)
        three = Convolution(two.made, inner, wide)
        first = self._convolution(f"{name}.conv1", f"{name}.bn1", one, "relu")
        second = self._convolution(f"{name}.conv2", f"{name}.bn2", two, "relu")
        third = self._convolution(f"{name}.conv3", f"{name}.bn3", three, "relu")
        shortcut: Map | None = None
        if f"{name}.downsample.0.weight" in self._state:
            layer = Convolution(size, channels, wide, stride=stride)
            shortcut = self._convolution(f"{name}.downsample.0", f"{name}.downsample.1", layer)

        def block(x: Any) -> Any:
            return third(second(first(x)), residual=x if shortcut is None else shortcut(x))

        return block, two.made, wide

    def _attention(self, number: int, size: Pair, channels: int, made: Pair) -> Map:
        """Factors of a stage's output, from its input of `size`: σ(BN(pointwise(depthwise(pooled))))."""
        name, kernel = f"att{number}", ATTENTION_KERNELS[number - 1]
        depth = self._plain(f"{name}.conv_depth", padded(made, channels, channels, kernel, groups=channels))
        wide = len(self._state[f"{name}.conv_point.weight"])
        point = self._convolution(f"{name}.conv_point", f"{name}.bn", Convolution(made, channels, wide))
        jt = runtime.start()
        return lambda x: jt.sigmoid(point(depth(adaptive_max_pool(x, made))))

    def _plain(self, name: str, layer: Convolution) -> Callable[..., Any]:
        """A convolution without normalisation."""
        weight = self._state[f"{name}.weight"]
        return self._packed(weight, self._state.get(f"{name}.bias", np.zeros(len(weight), np.float32)), layer)

    def _convolution(self, name: str, norm: str, layer: Convolution, activation: str = "") -> Callable[..., Any]:
        """A convolution, its batch normalisation, a residual and an activation."""
        scale, shift = self._state[f"{norm}.weight"], self._state[f"{norm}.bias"]
        if not self._batch_statistics:
            weight = self._state[f"{name}.weight"].astype(np.float64)
            factor = scale / np.sqrt(self._state[f"{norm}.running_var"].astype(np.float64) + _EPSILON)
            bias = (self._state.get(f"{name}.bias", 0.0) - self._state[f"{norm}.running_mean"]) * factor + shift
            return partial(self._packed(weight * factor[:, None, None, None], bias, layer), activation=activation)
        jt = runtime.start()
        convolve, gain, offset = self._plain(name, layer), jt.array(scale), jt.array(shift)

        def normalised(x: Any, residual: Any = None) -> Any:
            x = convolve(x)
            centred = x - x.mean(dims=(0, 1, 2), keepdims=True)
            variance = (centred * centred).mean(dims=(0, 1, 2), keepdims=True)
            x = centred * (gain / jt.sqrt(variance + _EPSILON)) + offset
            x = x if residual is None else x + residual
            return jt.maximum(x, 0.0) if activation else x

        return normalised

    def _packed(self, weight: Any, bias: Any, layer: Convolution) -> Callable[..., Any]:
        jt = runtime.start()
        weight, layer = _merged(np.asarray(weight, np.float32), replace(layer, batch=self._batch))
        packed, shift = self._ops.pack(jt.array(weight), layer), jt.array(np.asarray(bias, np.float32))
        packed.sync()  # or all weights would be in memory twice until the first pass
        return lambda x, **more: self._ops.convolve(x, packed, shift, layer, **more)


def _chain(steps: list[Map], x: Any) -> Any:
    for step in steps:
        x = step(x)
    return x


def _halved(size: Pair) -> Pair:
    """The size after a pooling of three positions with stride 2."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def _merged(weight: Array, layer: Convolution) -> tuple[Array, Convolution]:
    """A grouped convolution as one of fewer groups of at least 16 channels, with zeros between the merged ones."""
    filters, within, *kernel = weight.shape
    if layer.groups in (1, layer.channels):
        return weight, layer
    divisors = [count for count in range(1, layer.groups) if layer.groups % count == 0]
    count = next((count for count in divisors if count * within >= _LEAST), layer.groups)
    wide = np.zeros((layer.groups, filters // layer.groups, count, within, *kernel), np.float32)
    split = weight.reshape((layer.groups, -1, within, *kernel))
    for group in range(layer.groups):
        wide[group, :, group % count] = split[group]
    return wide.reshape((filters, count * within, *kernel)), replace(layer, groups=layer.groups // count)


def adaptive_max_pool(x: Any, size: Pair) -> Any:
    """Maxima of bins that overlap where the sizes do not divide, as PyTorch's AdaptiveMaxPool2d; Jittor's differ.

    Output i of m sees inputs ⌊i·h/m⌋ to ⌈(i+1)·h/m⌉ − 1 of h.

    Args:
        x: (B, h, w, c).
        size: Height and width of the output.

    Returns:
        (B, m, n, c).
    """
    for axis, made in enumerate(size, 1):
        given, bins = x.shape[axis], np.arange(made)
        x = _maximum(x, axis, bins * given // made, -(-(bins + 1) * given // made))
    return x


def _maximum(x: Any, axis: int, first: Indices, end: Indices) -> Any:
    """Maxima of the bins first[i] … end[i] − 1 along an axis."""
    jt = runtime.start()
    if len(first) == x.shape[axis]:  # every bin is one position
        return x
    shape = [len(first) if at == axis else size for at, size in enumerate(x.shape)]
    index = [f"@e0(i{axis})" if at == axis else f"i{at}" for at in range(4)]
    found = None
    for step in range((end - first).max()):
        taken = x.reindex(shape, index, extras=[jt.array(np.minimum(first + step, end - 1).astype(np.int32))])
        found = taken if found is None else jt.maximum(found, taken)
    return found
