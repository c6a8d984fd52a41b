"""CLIP's modified ResNet."""

from __future__ import annotations

from typing import Any

from jclip_adapter.runtime import jt

from .config import HEAD_WIDTH
from .transformer import attention


class Bottleneck(jt.nn.Module):
    """Residual bottleneck whose stride is an average pool before the last convolution."""

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = jt.nn.Conv2d(channels, planes, 1, bias=False)
        self.bn1 = jt.nn.BatchNorm2d(planes)
        self.conv2 = jt.nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = jt.nn.BatchNorm2d(planes)
        self.conv3 = jt.nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = jt.nn.BatchNorm2d(4 * planes)
        self.pool = jt.nn.AvgPool2d(stride) if stride > 1 else None
        self.downsample = Downsample(channels, 4 * planes, stride) if stride > 1 or channels != 4 * planes else None

    def execute(self, x: Any) -> Any:
        """(B, channels, h, w) → (B, 4·planes, h/stride, w/stride)."""
        y = jt.nn.relu(self.bn1(self.conv1(x)))
        y = jt.nn.relu(self.bn2(self.conv2(y)))
        if self.pool is not None:
            y = self.pool(y)
        y = self.bn3(self.conv3(y))
        return jt.nn.relu(y + (x if self.downsample is None else self.downsample(x)))


class Downsample(jt.nn.Module):
    """The shortcut's average pool, 1×1 convolution and batch norm; the last two are named "0" and "1"."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.pool = jt.nn.AvgPool2d(stride) if stride > 1 else None
        setattr(self, "0", jt.nn.Conv2d(channels, out_channels, 1, bias=False))
        setattr(self, "1", jt.nn.BatchNorm2d(out_channels))

    def execute(self, x: Any) -> Any:
        """(B, channels, h, w) → (B, out_channels, h/stride, w/stride)."""
        if self.pool is not None:
            x = self.pool(x)
        return getattr(self, "1")(getattr(self, "0")(x))


class AttentionPool(jt.nn.Module):
    """Attention pooling with the mean token as the only query."""

    def __init__(self, side: int, width: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = jt.zeros((side * side + 1, width))
        self.k_proj = jt.nn.Linear(width, width)
        self.q_proj = jt.nn.Linear(width, width)
        self.v_proj = jt.nn.Linear(width, width)
        self.c_proj = jt.nn.Linear(width, embed_dim)

    def execute(self, x: Any) -> Any:
        """(B, width, h, w) → (B, embed_dim)."""
        batch, width = x.shape[:2]
        tokens = x.reshape((batch, width, -1)).transpose(0, 2, 1)
        tokens = jt.concat([tokens.mean(dim=1, keepdims=True), tokens], dim=1) + self.positional_embedding

        def split(y: Any) -> Any:
            return y.reshape((batch, -1, self.heads, width // self.heads)).transpose(2, 0, 1, 3)

        mixed = attention(split(self.q_proj(tokens[:, :1, :])), split(self.k_proj(tokens)), split(self.v_proj(tokens)))
        return self.c_proj(mixed.transpose(1, 2, 0, 3).reshape((batch, width)))


class ModifiedResNet(jt.nn.Module):
    """CLIP's ResNet: three-convolution stem, anti-aliased strides, attention pooling."""

    def __init__(self, resolution: int, width: int, layers: tuple[int, int, int, int], embed_dim: int) -> None:
        super().__init__()
        self.input_resolution = resolution
        self.conv1 = jt.nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = jt.nn.BatchNorm2d(width // 2)
        self.conv2 = jt.nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = jt.nn.BatchNorm2d(width // 2)
        self.conv3 = jt.nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = jt.nn.BatchNorm2d(width)
        self.avgpool = jt.nn.AvgPool2d(2)
        channels = width
        for stage, blocks in enumerate(layers):
            planes = width * 2**stage
            parts = []
            for block in range(blocks):
                parts.append(Bottleneck(channels, planes, 2 if stage > 0 and block == 0 else 1))
                channels = 4 * planes
            setattr(self, f"layer{stage + 1}", jt.nn.Sequential(*parts))
        self.attnpool = AttentionPool(resolution // 32, channels, channels // HEAD_WIDTH, embed_dim)

    def execute(self, images: Any) -> Any:
        """(B, 3, n, n) preprocessed pixels → (B, embed_dim), not normalised."""
        return self.tail(self.body(images))

    def body(self, images: Any) -> Any:
        """(B, 3, n, n) preprocessed pixels → (B, width, n/32, n/32): all but the attention pool."""
        x = jt.nn.relu(self.bn1(self.conv1(images)))
        x = jt.nn.relu(self.bn2(self.conv2(x)))
        x = self.avgpool(jt.nn.relu(self.bn3(self.conv3(x))))
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x = getattr(self, stage)(x)
        return x

    def tail(self, x: Any) -> Any:
        """(B, width, n/32, n/32) from `body` → (B, embed_dim): the attention pool."""
        return self.attnpool(x)

    def in_tail(self, name: str) -> bool:
        """Whether CLIP's weight of this name belongs to `tail`."""
        return name.startswith("visual.attnpool.")
