"""Learnt prompts: vectors in place of words, before, around or behind the class names, through CLIP's text tower.

A prompt is tokenised with a placeholder word for each vector. The embeddings of all other tokens are looked up once;
every step then only puts the vectors into their places. Only as many positions are computed as the longest prompt has:
the mask is causal, so what follows cannot change anything before it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.clip.model import normalise
from jclip_adapter.clip.tokenizer import encode, token_ids
from jclip_adapter.runtime import jt
from jclip_adapter.task import Array

POSITIONS = ("end", "middle", "front")  # of the class name


@dataclass(frozen=True)
class Prompts:
    """Class prompts with places for vectors.

    Attributes:
        fixed: (C, L, D) embeddings of the words, in their places, zeros where vectors go; L is the longest prompt's.
        place: (C, L) which vector stands there, 0…M−1, or −1 for a word.
        end: (C,) position of each prompt's end-of-text token.
    """

    fixed: Array
    place: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Prompts:
        """The prompts of some classes."""
        return Prompts(self.fixed[rows], self.place[rows], self.end[rows])

    def __len__(self) -> int:
        return len(self.end)


def class_prompts(model: Any, names: Sequence[str], count: int, position: str = "end") -> Prompts:
    """Prompts of the form "V V V V name." with `count` vectors V (golden: coop_cocoop).

    Args:
        model: The CLIP.
        names: C class names, spelled as they should be read.
        count: M.
        position: Where the name stands: "end" behind the vectors, "middle" between their halves, "front" before them.

    Raises:
        UsageError: a prompt is longer than CLIP reads.
    """
    tokens = token_ids([f"{'X ' * count}{name}." for name in names], model.config.context_length).astype(np.int64)
    end = tokens.argmax(axis=1)
    length = int(end.max()) + 1
    table = model.token_embedding.weight.numpy()
    vectors = np.arange(count)
    place = np.full((len(names), length), -1, dtype=np.int64)
    fixed = np.zeros((len(names), length, table.shape[1]), dtype=np.float32)
    for row, name in enumerate(names):
        words = tokens[row, 1 + count : length]  # the name, the full stop, the end and what follows
        size = len(encode(name))
        before = {"end": count, "middle": count // 2, "front": 0}[position]
        # Numbers of vectors are negative here, −1 for the first, so that they differ from tokens.
        order = [tokens[row, :1], -1 - vectors[:before], words[:size], -1 - vectors[before:], words[size:]]
        sequence = np.concatenate(order)
        place[row] = np.where(sequence < 0, -1 - sequence, -1)
        fixed[row] = np.where(sequence[:, None] < 0, 0, table[np.maximum(sequence, 0)])
    return Prompts(fixed, place, end)


def encode_prompts(model: Any, prompts: Prompts, vectors: Any) -> Any:
    """Text features of prompts with vectors in their places.

    Args:
        model: The CLIP.
        prompts: C of them.
        vectors: (M, D), shared by all classes, or (C, M, D), as a jt.Var.

    Returns:
        (C, d) jt.Var, not normalised.
    """
    count, width = int(vectors.shape[-2]), int(vectors.shape[-1])
    place = prompts.place.copy()
    if len(vectors.shape) == 3:
        place += np.arange(len(place))[:, None] * count * (place >= 0)
    rows = vectors.reshape((-1, width))
    nothing = jt.zeros((1, width))
    index = np.where(place < 0, int(rows.shape[0]), place)
    put = jt.concat([rows, nothing], dim=0)[jt.array(index.reshape(-1).astype(np.int32))]
    embedded = jt.array(prompts.fixed) + put.reshape(prompts.fixed.shape)
    return model.project_text(embedded + model.positional_embedding[: place.shape[1]], prompts.end)


def shifted_features(
    model: Any, prompts: Prompts, vectors: Any, meta: Sequence[Any], photos: Array
) -> list[Callable[[], Any]]:
    """Text features of all prompts as each photo sees them (Zhou et al., CoCoOp, CVPR 2022; golden: coop_cocoop).

    Args:
        model: The CLIP.
        prompts: C of them.
        vectors: (M, D) jt.Var.
        meta: The meta-net's jt.Vars W₁ (d/16, d), b₁ (d/16,), W₂ (D, d/16), b₂ (D,).
        photos: (B, d) L2-normalised features.

    Returns:
        Per photo x a function that gives (C, d), not normalised: the vectors are moved by W₂·ReLU(W₁·x + b₁) + b₂.
    """
    inner, inner_bias, outer, outer_bias = meta

    def of(photo: Array) -> Any:
        hidden = jt.nn.relu(jt.nn.matmul_transpose(jt.array(photo[None]), inner) + inner_bias)
        return encode_prompts(model, prompts, vectors + jt.nn.matmul_transpose(hidden, outer) + outer_bias)

    return [functools.partial(of, photo) for photo in photos]


@dataclass(frozen=True)
class Batch:
    """Photos to be classified by prompts.

    Attributes:
        features: (B, d) L2-normalised.
        labels: (B,) class indices.
        scale: Logit scale.
    """

    features: Array
    labels: npt.NDArray[np.int64]
    scale: float

    def logits(self, texts: Any) -> Any:
        """(B, C) logits against (C, d) text features, a jt.Var, not normalised."""
        return self.scale * jt.nn.matmul_transpose(jt.array(self.features), normalise(texts))

    def cross_entropy(self, texts: Any) -> Any:
        """Mean cross-entropy of these logits, a scalar jt.Var."""
        return jt.nn.cross_entropy_loss(self.logits(texts), jt.array(self.labels.astype(np.int32)))

    def agreement(self, texts: Any, teacher: Array, temperature: float) -> Any:
        """ProGrad's general direction (Zhu et al., ICCV 2023): T²·mean(−p·log q) with the teacher's p and our q.

        Args:
            texts: (C, d) text features.
            teacher: (C, d) the teacher's, zero-shot's.
            temperature: T, of both softmaxes.
        """
        p = jt.nn.softmax(self.logits(jt.array(teacher)) / temperature, dim=1).detach()
        log_q = jt.nn.log_softmax(self.logits(texts) / temperature, dim=1)
        return -(p * log_q).sum() * (temperature**2 / len(self.labels))


def projected(wanted: Any, general: Any, strength: float) -> Any:
    """A gradient without what runs against the direction of general knowledge (ProGrad; golden: prograd).

    With g the first and k the second: g − λ·(g·k̂)·k̂ where g·k < 0, else g.

    Args:
        wanted: g, a jt.Var.
        general: k, of the same shape.
        strength: λ.

    Returns:
        A jt.Var of that shape.
    """
    unit = general / jt.maximum(jt.sqrt((general * general).sum()), 1e-30)
    return wanted - strength * jt.minimum((wanted * unit).sum(), 0.0) * unit


def gradients(
    features: Sequence[Callable[[], Any]], loss: Callable[[Any], Any], params: Sequence[Any]
) -> tuple[float, list[Any]]:
    """Loss and exact gradients with the memory of one part at a time.

    All parts are computed without a graph; the loss is differentiated by their result; then each part is computed
    again and its share of that gradient is sent back through it. With a single part nothing is computed twice.

    Args:
        features: Each returns (n, d) rows that depend on the parameters.
        loss: Takes all rows, (C, d), returns a scalar jt.Var.
        params: The parameters, jt.Vars.

    Returns:
        The loss and one gradient per parameter.
    """
    if len(features) == 1:
        value = loss(features[0]())
        return float(value.item()), jt.grad(value, list(params))
    with jt.no_grad():
        parts = [np.asarray(part().numpy()) for part in features]
    rows = jt.array(np.concatenate(parts))
    value = loss(rows)
    share = jt.grad(value, rows).numpy()
    totals: list[Any] = []
    first = 0
    for part, known in zip(features, parts, strict=True):
        weighted = (part() * jt.array(share[first : first + len(known)])).sum()
        found = [gradient.stop_grad() for gradient in jt.grad(weighted, list(params))]
        totals = [total + gradient for total, gradient in zip(totals, found, strict=True)] if totals else found
        jt.sync(totals)
        first += len(known)
    return float(value.item()), totals
