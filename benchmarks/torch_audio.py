"""AudioCLIP's audio tower in PyTorch: a process that sound_speed.py drives.

    python torch_audio.py MODE FOLDER

MODE is "proper" (one sound at a time, the weights' statistics) or "published" (batches of ten and their statistics), as
in jclip_adapter/models/audioclip; FOLDER holds audio.npz, the weights by AudioCLIP's names without prefix. It imports
nothing of the package, as it runs where PyTorch is installed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = 220_500
WINDOW, HOP, LENGTH = 1654, 561, 2048
PADDINGS = {1: (1, 0), 2: (0, 2), 3: (1, 0), 4: (0, 2), 5: (1, 2)}  # of the attentions' depthwise convolutions


class Tower:
    """The network.

    Args:
        arrays: Weights by name.
        published: Whether batches are normalised by their own statistics, and samples are not scaled.
    """

    def __init__(self, arrays: Any, published: bool) -> None:
        import torch

        self.torch, self.published = torch, published
        self.w = {key: torch.from_numpy(arrays[key]) for key in arrays}
        t = np.pi * np.linspace(-1, 1, LENGTH) + 1e-8
        m, fb, fc = (arrays[f"fbsp.{name}"].astype(np.float64)[:, None] for name in ("m", "fb", "fc"))
        sinc = np.sinc(fb * t / (m + 1e-8) / np.pi)
        envelope = np.abs(sinc) ** m * np.exp(1j * np.pi * m * (sinc < 0))
        kernels = (np.sqrt(fb) * envelope * np.exp(-1j * fc * t) / np.sqrt(LENGTH)).T
        self.real, self.imaginary = (
            torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)) for part in (kernels.real, kernels.imag)
        )

    def picture(self, waves: Any) -> Any:
        """(B, n) samples → (B, 3, 341, T) decibel."""
        torch = self.torch
        x = (waves + 32768) * 2 / 65535 - 1
        count = 1 + -(-(x.shape[1] - WINDOW) // HOP)
        missing = (count - 1) * HOP + WINDOW - x.shape[1]
        x = torch.nn.functional.pad(x, (missing // 2, missing - missing // 2)).unfold(1, WINDOW, HOP) * self.w["window"]
        edge = (LENGTH - WINDOW) // 2
        x = torch.nn.functional.pad(x, (edge, edge))
        power = (x @ self.real) ** 2 + (x @ self.imaginary) ** 2
        power = power[..., :1023].reshape(len(x), count, 3, 341).permute(0, 2, 3, 1)
        return 10 * torch.log10(torch.where(power > 0, power, 1e-18))

    def norm(self, x: Any, name: str) -> Any:
        """Batch normalisation."""
        mean, variance = (self.w[f"{name}.running_{part}"].clone() for part in ("mean", "var"))
        weight, bias = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        return self.torch.nn.functional.batch_norm(x, mean, variance, weight, bias, training=self.published)

    def block(self, x: Any, name: str, stride: int) -> Any:
        """A bottleneck of 32 groups, or of fewer in a small network."""
        f = self.torch.nn.functional
        inner, within = self.w[f"{name}.conv2.weight"].shape[:2]
        y = f.relu(self.norm(f.conv2d(x, self.w[f"{name}.conv1.weight"]), f"{name}.bn1"))
        y = f.conv2d(y, self.w[f"{name}.conv2.weight"], None, stride, 1, 1, inner // within)
        y = f.relu(self.norm(y, f"{name}.bn2"))
        y = self.norm(f.conv2d(y, self.w[f"{name}.conv3.weight"]), f"{name}.bn3")
        if f"{name}.downsample.0.weight" in self.w:
            x = self.norm(f.conv2d(x, self.w[f"{name}.downsample.0.weight"], None, stride), f"{name}.downsample.1")
        return f.relu(y + x)

    def attention(self, x: Any, number: int, size: Any) -> Any:
        """Factors of a map of a size."""
        f, name = self.torch.nn.functional, f"att{number}"
        x = f.adaptive_max_pool2d(x, size)
        weight, bias = self.w[f"{name}.conv_depth.weight"], self.w[f"{name}.conv_depth.bias"]
        x = f.conv2d(x, weight, bias, 1, PADDINGS[number], 1, len(weight))
        x = f.conv2d(x, self.w[f"{name}.conv_point.weight"], self.w[f"{name}.conv_point.bias"])
        return self.torch.sigmoid(self.norm(x, f"{name}.bn"))

    def __call__(self, waves: Any) -> Any:
        """(B, n) samples of −1…1 → (B, d) features."""
        torch, f = self.torch, self.torch.nn.functional
        with torch.inference_mode():
            x = self.picture(torch.from_numpy(waves) * (1 if self.published else 32768))
            x = f.relu(self.norm(f.conv2d(x, self.w["conv1.weight"], None, 2, 3), "bn1"))
            x = f.max_pool2d(x, 3, 2, 1)
            for stage in range(1, 5):
                start, number = x, 0
                while f"layer{stage}.{number}.conv1.weight" in self.w:
                    x = self.block(x, f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1)
                    number += 1
                x = x * self.attention(start, stage, x.shape[2:])
            x = x.mean((2, 3)) * self.attention(x, 5, (1, 1))[:, :, 0, 0]
            return f.linear(x, self.w["fc.weight"], self.w["fc.bias"]).numpy()


def noise(count: int) -> Any:
    """(count, n) samples."""
    return np.random.default_rng(0).uniform(-0.5, 0.5, (count, SAMPLES)).astype(np.float32)


def main() -> None:
    """Answer questions."""
    published = sys.argv[1] == "published"
    with np.load(Path(sys.argv[2]) / "audio.npz") as arrays:
        tower = Tower(dict(arrays), published)
    step = 10 if published else 1
    for line in sys.stdin:
        question = json.loads(line)
        waves = noise(question["count"])
        started = time.perf_counter()
        rows = [tower(waves[first : first + step]) for first in range(0, len(waves), step)]
        answer: dict[str, Any] = {"seconds": time.perf_counter() - started, "count": len(waves)}
        answer["peak_mb"] = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
        if question["task"] == "check":
            answer["features"] = np.concatenate(rows).tolist()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as for ours
    main()
