"""CoOp's step as the authors' code computes it, in PyTorch: a process that encoder_cost.py drives.

    python torch_reference.py FOLDER LENGTH ATTENTION

FOLDER holds `tower.npz` (weights, by OpenAI's names, and the prompts' embeddings) and `first.npz` (the first step's
vectors, photos and labels). LENGTH is how many positions of a prompt are computed: the authors' code computes all 77.
ATTENTION is "plain" (products and a softmax, as nn.MultiheadAttention was computed when the code was published) or
"fused" (F.scaled_dot_product_attention). It imports nothing of this repository, as it runs where PyTorch is installed.

As there: the vectors alone are trained; the tower's weights ask for no gradient; SGD with momentum 0.9 and weight
decay 5e-4, float32.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HEAD_WIDTH = 64


def tower(weights: dict[str, Any], x: Any, mask: Any, fused: bool, prefix: str = "") -> Any:
    """(B, L, D) through the blocks of the text tower, or of the vision tower with `prefix` "visual." and no mask."""
    from torch.nn import functional as F

    count, length = x.shape[:2]
    width = weights[f"{prefix}transformer.resblocks.0.ln_1.weight"].shape[0]  # no number of the input's: for ONNX
    heads = max(1, width // HEAD_WIDTH)

    def norm(name: str, y: Any) -> Any:
        return F.layer_norm(y, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def linear(name: str, y: Any) -> Any:
        return F.linear(y, weights[f"{name}weight"], weights[f"{name}bias"])

    number = 0
    while f"{prefix}transformer.resblocks.{number}.ln_1.weight" in weights:
        block = f"{prefix}transformer.resblocks.{number}"
        joined = linear(f"{block}.attn.in_proj_", norm(f"{block}.ln_1", x))
        query, key, value = joined.view(count, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        if fused:
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=mask is not None)
        else:
            scores = (query * (width // heads) ** -0.5) @ key.transpose(-2, -1)
            if mask is not None:
                scores = scores + mask
            mixed = scores.softmax(dim=-1) @ value
        x = x + linear(f"{block}.attn.out_proj.", mixed.transpose(1, 2).reshape(count, length, width))
        inner = linear(f"{block}.mlp.c_fc.", norm(f"{block}.ln_2", x))
        x = x + linear(f"{block}.mlp.c_proj.", inner * (1.702 * inner).sigmoid())
        number += 1
    return x


class Trainer:
    """CoOp's vectors, and what a step needs.

    Args:
        folder: With tower.npz and first.npz.
        length: Positions of a prompt.
        fused: Which attention.
    """

    def __init__(self, folder: Path, length: int, fused: bool) -> None:
        import torch

        with np.load(folder / "tower.npz") as arrays:
            self.weights = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        with np.load(folder / "first.npz") as arrays:
            self.vectors = torch.from_numpy(arrays["vectors"]).requires_grad_(True)
            self.photos, self.labels = torch.from_numpy(arrays["photos"]), torch.from_numpy(arrays["labels"])
            self.scale = float(arrays["scale"])
        fixed = self.weights.pop("fixed")[:, :length]
        count = len(self.vectors)
        self.before, self.behind = fixed[:, :1], fixed[:, 1 + count :]
        self.positions = self.weights["positional_embedding"][:length]
        self.end = self.weights.pop("end")
        self.mask = torch.full((length, length), float("-inf")).triu_(1)
        self.fused = fused
        self.optimiser = torch.optim.SGD([self.vectors], lr=1e-5, momentum=0.9, weight_decay=5e-4)

    def step(self) -> float:
        """One step; its loss."""
        import torch

        shared = self.vectors.unsqueeze(0).expand(len(self.end), -1, -1)
        x = torch.cat([self.before, shared, self.behind], dim=1) + self.positions
        x = tower(self.weights, x, self.mask, self.fused)
        x = torch.nn.functional.layer_norm(
            x, x.shape[-1:], self.weights["ln_final.weight"], self.weights["ln_final.bias"]
        )
        texts = x[torch.arange(len(x)), self.end] @ self.weights["text_projection"]
        logits = self.scale * self.photos @ (texts / texts.norm(dim=-1, keepdim=True)).T
        loss = torch.nn.functional.cross_entropy(logits, self.labels)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return float(loss.item())


def main() -> None:
    """Take a step for each line of standard input, and answer each with a line of JSON."""
    folder, length, attention = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    trainer = Trainer(folder, length, attention == "fused")
    for number, _ in enumerate(sys.stdin):
        started = time.perf_counter()
        loss = trainer.step()
        answer: dict[str, Any] = {"seconds": time.perf_counter() - started, "loss": loss}
        if number == 0:
            answer["gradient"] = str(folder / f"gradient_{os.getpid()}.npy")
            np.save(answer["gradient"], trainer.vectors.grad.numpy())
        answer["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
