"""Learnt prompts: trained vectors before, around or behind the class name, encoded by CLIP's text tower.

A prompt is tokenised with a placeholder for each vector. The embeddings of all other tokens are looked up once; every
step inserts the vectors. Where the attention mask is causal, nothing is computed behind a prompt's end, and a beginning
that all prompts share, such as the vectors before the class names, is computed once for all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import Array
from jclip_adapter.models.clip.model import normalise
from jclip_adapter.models.clip.positions import needed
from jclip_adapter.models.clip.tokenizer import SHORTEN, around, word_ids
from jclip_adapter.models.clip.transformer import causal_mask
from jclip_adapter.runtime import jt

POSITIONS = ("end", "middle", "front")  # of the class name


@dataclass(frozen=True)
class Prompts:
    """Class prompts with positions for vectors.

    Attributes:
        fixed: (C, L, D) embeddings of the words, zeros at the vectors' positions; L is the longest prompt's length, or
            the context if the padding is attended to.
        place: (C, L) index of the vector at each position, 0…M−1, or −1 for a word.
        end: (C,) position of each prompt's end-of-text token.
        shared: Number of leading positions that are the same in all prompts, if they share their vectors; 0 if they
            attend to what follows.
    """

    fixed: Array
    place: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    shared: int

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Prompts:
        """The prompts of some classes."""
        return Prompts(self.fixed[rows], self.place[rows], self.end[rows], self.shared)

    def __len__(self) -> int:
        return len(self.end)


def class_prompts(model: Any, names: Sequence[str], count: int, position: str = "end") -> Prompts:
    """Prompts of the form "V V V V name." with `count` vectors V (golden: coop_cocoop).

    Args:
        model: The CLIP.
        names: C class names in words.
        count: M.
        position: Position of the name: "end" behind the vectors, "middle" between them, "front" before them.

    Raises:
        UsageError: a prompt is longer than CLIP's context.
    """
    config = model.config
    start, last, padding = around(config.text_vocabulary)
    before = {"end": count, "middle": count // 2, "front": 0}[position]
    vectors = -1 - np.arange(count)  # −1 for the first, so that they differ from tokens
    context = "X " * count
    skipped = len(word_ids(context, config))
    rows = []
    for name in names:
        words = word_ids(f"{context}{name}.", config)[skipped:]  # the name and the full stop
        size = len(word_ids(f"{context}{name}", config)) - skipped
        rows.append([*start, *vectors[:before], *words[:size], *vectors[before:], *words[size:], last])
        if len(rows[-1]) > config.context_length:
            raise UsageError(
                f"the prompt of {name[:60]!r} has {len(rows[-1])} tokens, more than CLIP's {config.context_length}.",
                SHORTEN,
            )
    end = np.array([len(row) - 1 for row in rows])
    length = int(needed(end, config.context_length, config).max())
    tokens = np.array([row + [padding] * (length - len(row)) for row in rows])
    table = model.token_embedding.weight.numpy()
    fixed = np.where(tokens[..., None] < 0, np.float32(0), table[np.maximum(tokens, 0)])
    shared = len(start) + before if config.text_mask == "causal" else 0
    return Prompts(fixed, np.where(tokens < 0, -1 - tokens, -1), end, shared)


def encode_prompts(model: Any, prompts: Prompts, vectors: Any) -> Any:
    """Text features of prompts with vectors inserted.

    Args:
        model: The CLIP.
        prompts: C of them.
        vectors: (M, D), shared by all classes, or (C, M, D), as a jt.Var.

    Returns:
        (C, d) jt.Var, not normalised.
    """
    count, width = int(vectors.shape[-2]), int(vectors.shape[-1])
    place, shared = prompts.place, prompts.shared
    if len(vectors.shape) == 3:
        place = np.where(place < 0, place, place + np.arange(len(place))[:, None] * count)
        shared = min(shared, 1)  # the start of text; each class has vectors of its own behind it
    rows = jt.concat([vectors.reshape((-1, width)), jt.zeros((1, width))], dim=0)

    def embedded(chosen: npt.NDArray[np.int64], first: int, last: int) -> Any:
        """(n, last − first, D) embeddings at these positions of some prompts."""
        fixed, here = prompts.fixed[chosen, first:last], place[chosen, first:last]
        words = jt.array(fixed)
        if (here >= 0).any():
            index = np.where(here < 0, int(rows.shape[0]) - 1, here).reshape(-1)
            words = words + rows[jt.array(index.astype(np.int32))].reshape(fixed.shape)
        return model.embed(words, first)

    cache = None
    if shared:
        cache = model.transformer.cache_prefix(embedded(np.arange(1), 0, shared), causal_mask(shared))
    lengths = needed(prompts.end, prompts.fixed.shape[1], model.config)
    groups = of_like_length(lengths - shared)
    texts = []
    for chosen in groups:
        end = prompts.end[chosen]
        rest = embedded(chosen, shared, int(lengths[chosen].max()))
        texts.append(model.project_text(rest, end - shared, cache))
    if len(texts) == 1:
        return texts[0]
    order = np.argsort(np.concatenate(groups))
    return jt.concat(texts, dim=0)[jt.array(order.astype(np.int32))]


def of_like_length(lengths: npt.NDArray[np.int64], group_cost: int = 64) -> list[npt.NDArray[np.int64]]:
    """Which rows to compute together, so that short ones are padded little and groups are few.

    Args:
        lengths: (C,) positions of each row.
        group_cost: What one more group costs, in positions: measured on 12 layers of width 512.

    Returns:
        Row numbers of each group, ascending, the shortest rows' group first: those whose padded positions and group
        costs are the least in sum.

    >>> [group.tolist() for group in of_like_length(np.array([3, 9, 3, 4]), group_cost=2)]
    [[0, 2, 3], [1]]
    >>> len(of_like_length(np.array([3, 9, 3, 4])))
    1
    """
    sizes, counts = np.unique(lengths, return_counts=True)
    # Of the rows of the `last` smallest sizes: the least cost, and where their last group begins.
    best: list[tuple[int, int]] = [(0, 0)]
    for last in range(1, len(sizes) + 1):
        costs = [best[first][0] + int(sizes[last - 1] * counts[first:last].sum()) + group_cost for first in range(last)]
        best.append((min(costs), int(np.argmin(costs))))
    groups: list[npt.NDArray[np.int64]] = []
    last = len(sizes)
    while last:
        first = best[last][1]
        groups.insert(0, np.flatnonzero((lengths >= sizes[first]) & (lengths <= sizes[last - 1])))
        last = first
    return groups


def shifted_features(
    model: Any, prompts: Prompts, vectors: Any, meta: Sequence[Any], photos: Array
) -> list[Callable[[], Any]]:
    """Text features of all prompts for each photo (Zhou et al., CoCoOp, CVPR 2022; golden: coop_cocoop).

    Args:
        model: The CLIP.
        prompts: C of them.
        vectors: (M, D) or (C, M, D) jt.Var.
        meta: The meta-net's jt.Vars W₁ (d/16, d), b₁ (d/16,), W₂ (D, d/16), b₂ (D,).
        photos: (B, d) L2-normalised features.

    Returns:
        Per photo x a function that computes (C, d), not normalised, from vectors shifted by W₂·ReLU(W₁·x + b₁) + b₂.
    """
    inner, inner_bias, outer, outer_bias = meta

    def of(photo: Array) -> Any:
        hidden = jt.nn.relu(jt.nn.matmul_transpose(jt.array(photo[None]), inner) + inner_bias)
        return encode_prompts(model, prompts, vectors + jt.nn.matmul_transpose(hidden, outer) + outer_bias)

    return [functools.partial(of, photo) for photo in photos]


@dataclass(frozen=True)
class Batch:
    """Photos that are classified by prompts.

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
    """A gradient without the component that conflicts with the general direction (ProGrad; golden: prograd).

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
    """Loss and exact gradients with the memory of one chunk (gradient checkpointing).

    All chunks but the last are computed without a graph. The loss is differentiated with respect to their rows and
    through the last chunk. Then each of the others is computed again, and its part of that gradient is propagated
    through it. With a single chunk nothing is computed twice.

    Args:
        features: Each computes (n, d) rows that depend on the parameters.
        loss: Takes all rows, (C, d), returns a scalar jt.Var.
        params: The parameters, jt.Vars.

    Returns:
        The loss and one gradient per parameter.
    """
    if len(features) == 1:
        value = loss(features[0]())
        return float(value.item()), jt.grad(value, list(params))
    *others, last = features
    with jt.no_grad():
        parts = [np.asarray(part().numpy()) for part in others]
    rows = jt.array(np.concatenate(parts))
    value = loss(jt.concat([rows, last()], dim=0))
    by_rows, *found = jt.grad(value, [rows, *params])
    totals = [gradient.stop_grad() for gradient in found]
    jt.sync([value, by_rows, *totals])
    share = by_rows.numpy()
    first = 0
    for part, known in zip(others, parts, strict=True):
        weighted = (part() * jt.array(share[first : first + len(known)])).sum()
        found = [gradient.stop_grad() for gradient in jt.grad(weighted, list(params))]
        totals = [total + gradient for total, gradient in zip(totals, found, strict=True)]
        jt.sync(totals)
        first += len(known)
    return float(value.item()), totals
