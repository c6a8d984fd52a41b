"""CLIP's text tower in float64 numpy, from its equations, for references that methods are compared with.

A prompt is put together from words' and vectors' embeddings as a person would: start, words and vectors in their order,
full stop, end. All positions up to the end are computed, one prompt at a time.
"""

from __future__ import annotations

import numpy as np

from jclip_adapter.models.clip.config import ClipConfig
from jclip_adapter.models.clip.tokenizer import encode

START, END = 49406, 49407
WIDTH = 64


def healthy_state(embed_dim: int = 16, layers: int = 2) -> dict[str, np.ndarray]:
    """Random weights of a tiny CLIP in which every part of the tower matters: no bias 0, no factor 1."""
    from tests.random_weights import random_state

    state = random_state(ClipConfig(embed_dim, 32, 1, 64, 16, 77, 49408, WIDTH, layers))
    rng = np.random.default_rng(4)
    for key, value in state.items():
        if key.endswith("bias") or ".ln_" in f".{key}":
            state[key] = (value + 0.2 * rng.standard_normal(value.shape)).astype(np.float32)
        elif key in ("token_embedding.weight", "positional_embedding"):
            state[key] = 20 * value
    return state


class TextTower:
    """The tower.

    Args:
        state: Weights by OpenAI's key names.
    """

    causal = True  # a position sees none behind it

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        self.state = {key: np.asarray(value, dtype=np.float64) for key, value in state.items() if "visual" not in key}
        self.layers = 1 + max(int(key.split(".")[2]) for key in self.state if key.startswith("transformer.resblocks."))

    def prompt(self, name: str, vectors: np.ndarray, position: str = "end") -> np.ndarray:
        """(d,) feature, normalised, of a class name with (M, D) vectors before, around or behind it."""
        table = self.state["token_embedding.weight"]
        before = {"end": len(vectors), "middle": len(vectors) // 2, "front": 0}[position]
        words = [table[[START]], vectors[:before], table[encode(name)], vectors[before:], table[[*encode("."), END]]]
        x = np.concatenate(words)
        x = x + self.state["positional_embedding"][: len(x)]
        for layer in range(self.layers):
            x = self._block(x, f"transformer.resblocks.{layer}")
        feature = self._norm(x[-1], "ln_final") @ self.state["text_projection"]
        return feature / np.sqrt((feature**2).sum())

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return centred / deviation * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def _linear(self, x: np.ndarray, weight: str, bias: str) -> np.ndarray:
        return x @ self.state[weight].T + self.state[bias]

    def _block(self, x: np.ndarray, name: str) -> np.ndarray:
        projected = self._linear(
            self._norm(x, f"{name}.ln_1"), f"{name}.attn.in_proj_weight", f"{name}.attn.in_proj_bias"
        )
        query, key, value = np.split(projected, 3, axis=1)
        scores = query @ key.T / np.sqrt(WIDTH)  # one head of 64
        if self.causal:
            scores[np.triu_indices(len(x), 1)] = -np.inf
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        mixed = weights / weights.sum(axis=1, keepdims=True) @ value
        x = x + self._linear(mixed, f"{name}.attn.out_proj.weight", f"{name}.attn.out_proj.bias")
        hidden = self._linear(self._norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc.weight", f"{name}.mlp.c_fc.bias")
        hidden = hidden / (1 + np.exp(-1.702 * hidden))
        return x + self._linear(hidden, f"{name}.mlp.c_proj.weight", f"{name}.mlp.c_proj.bias")


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over rows of −log softmax at the label."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]).mean())


def assert_gradient(loss, at: np.ndarray, gradient: np.ndarray, rtol: float = 1e-3) -> None:
    """Compare a gradient with central differences of a float64 loss.

    Along the gradient itself, along a few random directions, and at the largest and some random coordinates.

    Args:
        loss: From an array of `at`'s shape to a number.
        at: Where.
        gradient: What is to be checked, of that shape.
        rtol: Allowed difference, of the largest slope of its kind.
    """
    rng = np.random.default_rng(8)
    flat = gradient.astype(np.float64).reshape(-1)
    directions = [flat, *rng.standard_normal((3, flat.size))]
    places = [*np.abs(flat).argsort()[-3:], *rng.choice(flat.size, 5, replace=False)]
    for group in (directions, list(np.eye(flat.size)[places])):
        units = [direction / np.linalg.norm(direction) for direction in group]
        slopes = [
            (loss(at + 1e-4 * unit.reshape(at.shape)) - loss(at - 1e-4 * unit.reshape(at.shape))) / 2e-4
            for unit in units
        ]
        ours = [flat @ unit for unit in units]
        assert max(np.abs(slopes)) > 1e-3
        np.testing.assert_allclose(ours, slopes, rtol=0, atol=rtol * max(np.abs(slopes)))
