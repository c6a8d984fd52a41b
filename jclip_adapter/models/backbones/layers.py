"""Sizes of a convolution."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Convolution:
    """A square convolution with TensorFlow's "same" padding.

    Attributes:
        side: Side of the input, n.
        channels: Channels of the input, c.
        filters: Channels of the output, k.
        kernel: Side of the filters.
        stride: Step of the filters.
        groups: 1, or `channels` for a depthwise convolution.
    """

    side: int
    channels: int
    filters: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1

    @property
    def made(self) -> int:
        """Side of the output, m."""
        return -(-self.side // self.stride)

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after each row and column; the odd one comes after."""
        total = max(0, (self.made - 1) * self.stride + self.kernel - self.side)
        return total // 2, total - total // 2
