"""Sizes of a convolution."""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Convolution:
    """A convolution of channels-last maps.

    Attributes:
        size: Height and width of the input, (h, w).
        channels: Channels of the input, c.
        filters: Channels of the output, k.
        kernel: Height and width of the filters.
        stride: Step of the filters in both directions.
        groups: Groups of channels; `channels` for a depthwise convolution.
        before: Rows and columns of zeros before the input.
        after: Rows and columns of zeros after it.
        batch: The usual number of maps, for which oneDNN chooses the weights' packing.
    """

    size: Pair
    channels: int
    filters: int
    kernel: Pair = (1, 1)
    stride: int = 1
    groups: int = 1
    before: Pair = (0, 0)
    after: Pair = (0, 0)
    batch: int = 32

    @property
    def made(self) -> Pair:
        """Height and width of the output, (m, n)."""
        height, width = (
            (size + before + after - kernel) // self.stride + 1
            for size, before, after, kernel in zip(self.size, self.before, self.after, self.kernel, strict=True)
        )
        return height, width


def same(side: int, channels: int, filters: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> Convolution:
    """A square convolution with TensorFlow's "same" padding, in which the odd row of zeros comes after.

    >>> same(8, 3, 8, kernel=3, stride=2).made
    (4, 4)
    """
    total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
    before, after = total // 2, total - total // 2
    square = ((side, side), channels, filters, (kernel, kernel), stride, groups)
    return Convolution(*square, before=(before, before), after=(after, after))


def padded(size: Pair, channels: int, filters: int, kernel: Pair, stride: int = 1, groups: int = 1) -> Convolution:
    """A convolution with half a kernel of zeros on all sides, as PyTorch's networks have it.

    >>> padded((341, 392), 3, 64, (7, 7), stride=2).made
    (171, 196)
    """
    half = (kernel[0] // 2, kernel[1] // 2)
    return Convolution(size, channels, filters, kernel, stride, groups, before=half, after=half)
