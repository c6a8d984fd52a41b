"""The loss of prompt distribution learning (ProDA)."""

from __future__ import annotations

from typing import Any

import numpy as np

from jclip_adapter.models.clip.model import normalise
from jclip_adapter.runtime import jt

from .layers import unit_rows
from .prompting import Batch

# Position of the class name, prompt by prompt: half at the end, a quarter at the beginning, a quarter inside.
SPREAD = ("end", "front", "end", "middle")


def upper_bound(batch: Batch, texts: Any) -> Any:
    """Logits whose cross-entropy bounds the expected one from above, if class weights are normally distributed.

    For a photo x of class y the logit of class c is s·x·μ̂_c + ½s²·Σ_d x_d²·(Cov_yy + Cov_cc − 2·Cov_yc)_d, where μ̂ is
    the normalised mean over prompts and the covariances, with divisor P + 1, are taken coordinate by coordinate. With
    δ_pc = T_pc − mean_p T_pc the bracket is Σ_p (δ_py − δ_pc)²/(P + 1): its three parts are matrix products, and no
    covariance of two classes, C×C×d numbers in all, is ever stored.

    Args:
        batch: Photos, labels and scale.
        texts: (P, C, d) jt.Var, normalised features of P prompts for C classes.

    Returns:
        (B, C) jt.Var.
    """
    prompts, classes, width = texts.shape
    mean = texts.mean(dim=0)
    samples = (texts - mean).transpose(1, 0, 2).reshape((classes, prompts * width))
    # As a product: the gradient of one is much cheaper than that of picking rows.
    own = jt.matmul(jt.array(np.eye(classes, dtype=np.float32)[batch.labels]), samples)
    square = np.tile(batch.features**2, (1, prompts))
    weighted = jt.array(square) * own
    spread = (weighted * own).sum(dim=1, keepdims=True) + jt.nn.matmul_transpose(jt.array(square), samples * samples)
    spread = spread - 2 * jt.nn.matmul_transpose(weighted, samples)
    return batch.logits(mean) + (batch.scale**2 / (2 * (prompts + 1))) * spread


def semantic_orthogonality(rows: Any) -> Any:
    """Similarity of prompts: the mean |cosine| of all pairs.

    Args:
        rows: (P, d) jt.Var, one row per prompt, of any norm.

    Returns:
        A scalar jt.Var from 0 (orthogonal) to 1; 0 for a single prompt.
    """
    count = int(rows.shape[0])
    unit = unit_rows(rows)
    others = jt.array(1 - np.eye(count, dtype=np.float32))
    return (jt.nn.matmul_transpose(unit, unit).abs() * others).sum() / max(1, count * (count - 1))


def distribution_loss(batch: Batch, features: Any, prompts: int, weight: float) -> Any:
    """ProDA's loss (Lu et al., CVPR 2022): cross-entropy of `upper_bound` + λ · `semantic_orthogonality`.

    A prompt's direction is what it adds to its classes: the mean over classes of T_pc − mean_p T_pc.

    Args:
        batch: Photos, labels and scale.
        features: (P·C, d) jt.Var, text features, prompt by prompt, not normalised.
        prompts: P.
        weight: λ.

    Returns:
        A scalar jt.Var.
    """
    texts = normalise(features).reshape((prompts, -1, int(features.shape[1])))
    entropy = jt.nn.cross_entropy_loss(upper_bound(batch, texts), jt.array(batch.labels.astype(np.int32)))
    per_prompt = texts.mean(dim=1)
    return entropy + weight * semantic_orthogonality(per_prompt - per_prompt.mean(dim=0))
