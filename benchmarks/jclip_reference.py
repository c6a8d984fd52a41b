"""CLIP's forward pass with the operations of JCLIP's model, written anew in Jittor, to be measured beside ours.

As there: float32; positions before rows, (L, B, D); a convolution for the patches; Jittor's own LayerNorm, batched
products and softmax; all positions of every layer, and texts padded to 77 tokens. `baseline.py` encodes photos one by
one, each opened, resized and normalised by Pillow and numpy beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from jclip_adapter.data.photos.preprocess import MEAN, STD
from jclip_adapter.runtime import jt

HEAD_WIDTH = 64


class Reference:
    """The model.

    Args:
        arrays: Weights by OpenAI's key names.
        side: Of a photo in pixels.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[np.float32]], side: int) -> None:
        self.weights = {key: jt.array(np.asarray(value, np.float32)) for key, value in arrays.items()}
        self.side = side

    def images(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(B, 3, n, n) normalised pixels → (B, d) features."""
        w = self.weights
        patch = w["visual.conv1.weight"].shape[-1]
        with jt.no_grad():
            x = jt.nn.conv2d(jt.array(pixels), w["visual.conv1.weight"], stride=patch)
            batch, width = x.shape[:2]
            x = x.reshape((batch, width, -1)).permute(0, 2, 1)
            token = w["visual.class_embedding"] + jt.zeros((batch, 1, width))
            x = jt.concat([token, x], dim=1) + w["visual.positional_embedding"]
            x = self._blocks("visual.", self._norm("visual.ln_pre", x).permute(1, 0, 2), None).permute(1, 0, 2)
            return np.array((self._norm("visual.ln_post", x[:, 0, :]) @ w["visual.proj"]).numpy())

    def texts(self, tokens: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """(B, 77) token ids → (B, d) features."""
        w, ids = self.weights, np.asarray(tokens).astype(np.int32)
        mask = jt.array(np.triu(np.full((ids.shape[1],) * 2, -np.inf, np.float32), 1))
        with jt.no_grad():
            x = jt.nn.embedding(jt.array(ids), w["token_embedding.weight"]) + w["positional_embedding"]
            x = self._norm("ln_final", self._blocks("", x.permute(1, 0, 2), mask).permute(1, 0, 2))
            last = x[jt.array(np.arange(len(ids), dtype=np.int32)), jt.array(ids.argmax(axis=1).astype(np.int32))]
            return np.array((last @ w["text_projection"]).numpy())

    def photo(self, path: str) -> npt.NDArray[np.float32]:
        """A photo file → (1, 3, n, n): short side to n, centre crop, normalised."""
        with Image.open(path) as image:
            width, height = image.size
            scale = self.side / min(width, height)
            sizes = [max(self.side, int(scale * width)), max(self.side, int(scale * height))]
            small = image.resize((sizes[0], sizes[1]), Image.Resampling.BICUBIC)
        left, top = (round((size - self.side) / 2) for size in small.size)
        square = small.crop((left, top, left + self.side, top + self.side)).convert("RGB")
        values = (np.asarray(square, np.float32) / 255 - MEAN) / STD
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None])

    def _blocks(self, prefix: str, x: Any, mask: Any) -> Any:
        number = 0
        while f"{prefix}transformer.resblocks.{number}.ln_1.weight" in self.weights:
            name = f"{prefix}transformer.resblocks.{number}"
            x = x + self._attend(f"{name}.attn", self._norm(f"{name}.ln_1", x), mask)
            inner = self._linear(f"{name}.mlp.c_fc.", self._norm(f"{name}.ln_2", x))
            x = x + self._linear(f"{name}.mlp.c_proj.", inner * jt.sigmoid(1.702 * inner))
            number += 1
        return x

    def _attend(self, name: str, x: Any, mask: Any) -> Any:
        length, batch, width = x.shape
        heads = max(1, width // HEAD_WIDTH)
        parts = self._linear(f"{name}.in_proj_", x).chunk(3, dim=-1)
        query, key, value = (part.reshape((length, batch * heads, width // heads)).permute(1, 0, 2) for part in parts)
        scores = jt.nn.bmm(query * (width // heads) ** -0.5, key.permute(0, 2, 1))
        if mask is not None:
            scores = scores + mask
        mixed = jt.nn.bmm(jt.nn.softmax(scores, dim=-1), value)
        return self._linear(f"{name}.out_proj.", mixed.permute(1, 0, 2).reshape((length, batch, width)))

    def _linear(self, name: str, x: Any) -> Any:
        return jt.nn.linear(x, self.weights[f"{name}weight"], self.weights[f"{name}bias"])

    def _norm(self, name: str, x: Any) -> Any:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        mean = x.mean(dim=-1, keepdims=True)
        variance = (x * x).mean(dim=-1, keepdims=True) - mean * mean
        return (x - mean) / jt.sqrt(jt.maximum(variance, 0) + 1e-5) * weight + bias
