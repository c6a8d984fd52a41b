"""CLIP's forward pass in float64 numpy, from its formulas: no code of the package's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Weights = Mapping[str, np.ndarray]


def activate(x: np.ndarray, kind: str) -> np.ndarray:
    if kind == "quick_gelu":
        return x / (1 + np.exp(-1.702 * x))
    if kind == "gelu":
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Reference:
    """One tower.

    Args:
        weights: By OpenAI's names.
        tower: "visual." or "".
        heads: Attention heads.
        activation: "quick_gelu", "gelu" or "gelu_tanh".
        eps: Of the LayerNorms.
    """

    def __init__(self, weights: Weights, tower: str, heads: int, activation: str, eps: float = 1e-5) -> None:
        self.weights = {name: np.asarray(value, np.float64) for name, value in weights.items()}
        self.tower, self.heads, self.activation, self.eps = tower, heads, activation, eps

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self.eps)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def linear(self, x: np.ndarray, name: str, sign: str = ".") -> np.ndarray:
        return x @ self.weights[f"{name}{sign}weight"].T + self.weights[f"{name}{sign}bias"]

    def blocks(self, x: np.ndarray, mask: np.ndarray | float) -> np.ndarray:
        number = 0
        while f"{self.tower}transformer.resblocks.{number}.ln_1.weight" in self.weights:
            name = f"{self.tower}transformer.resblocks.{number}"
            length, width = x.shape[1:]
            joined = self.linear(self.norm(x, f"{name}.ln_1"), f"{name}.attn", ".in_proj_")
            shape = (len(x), length, 3, self.heads, width // self.heads)
            query, key, value = joined.reshape(shape).transpose(2, 0, 3, 1, 4)
            scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(width / self.heads) + mask
            shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
            mixed = (shares / shares.sum(axis=-1, keepdims=True)) @ value
            x = x + self.linear(mixed.transpose(0, 2, 1, 3).reshape(x.shape), f"{name}.attn.out_proj")
            hidden = activate(self.linear(self.norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc"), self.activation)
            x = x + self.linear(hidden, f"{name}.mlp.c_proj")
            number += 1
        return x

    def images(self, pixels: np.ndarray) -> np.ndarray:
        """(B, 3, n, n) normalised pixels → (B, d) features."""
        kernel = self.weights["visual.conv1.weight"]
        patch, batch = kernel.shape[-1], len(pixels)
        grid = pixels.shape[-1] // patch
        parts = pixels.reshape(batch, 3, grid, patch, grid, patch).transpose(0, 2, 4, 1, 3, 5)
        x = parts.reshape(batch, grid * grid, -1) @ kernel.reshape(len(kernel), -1).T
        token = np.broadcast_to(self.weights["visual.class_embedding"], (batch, 1, x.shape[-1]))
        x = np.concatenate([token, x], axis=1) + self.weights["visual.positional_embedding"]
        x = self.blocks(self.norm(x, "visual.ln_pre"), 0.0)
        return self.norm(x[:, 0], "visual.ln_post") @ self.weights["visual.proj"]

    def texts(self, ids: np.ndarray) -> np.ndarray:
        """(B, context) token ids → (B, d) features."""
        x = self.weights["token_embedding.weight"][ids] + self.weights["positional_embedding"][: ids.shape[1]]
        x = self.blocks(x, np.triu(np.full((ids.shape[1],) * 2, -np.inf), 1))
        x = self.norm(x[np.arange(len(ids)), ids.argmax(axis=1)], "ln_final")
        return x @ self.weights["text_projection"]


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, as a share of the largest number. A cosine would hide a wrong activation."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def open_clip_config(config: Any, **more: Any) -> dict[str, Any]:
    """An open_clip_config.json's content for a ClipConfig; `vision`, `text`, `pixels`, `model` update its tables."""
    return {
        "model_cfg": {
            "embed_dim": config.embed_dim,
            "vision_cfg": {
                "image_size": config.image_resolution,
                "layers": config.vision_layers,
                "width": config.vision_width,
                "patch_size": config.vision_patch_size,
                "mlp_ratio": config.vision_mlp / config.vision_width,
                **more.get("vision", {}),
            },
            "text_cfg": {
                "context_length": config.context_length,
                "vocab_size": config.vocab_size,
                "width": config.transformer_width,
                "layers": config.transformer_layers,
                "heads": config.text_heads,
                **more.get("text", {}),
            },
            **more.get("model", {}),
        },
        "preprocess_cfg": more.get("pixels", {}),
    }
