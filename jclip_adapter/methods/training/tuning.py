"""Fine-tuning of CLIP's weights: selecting them, encoding photos and texts in chunks, the loss and its gradients."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, chunks
from jclip_adapter.data.photos.preprocess import normalise_pixels
from jclip_adapter.models.clip.model import normalise
from jclip_adapter.runtime import jt

from .prompting import gradients

Part = Callable[[], Any]


@contextlib.contextmanager
def trainable(model: Any, wanted: Callable[[str], bool]) -> Iterator[tuple[dict[str, Any], dict[str, Array]]]:
    """Make some of a model's weights trainable in place, and restore them afterwards.

    Args:
        model: The CLIP.
        wanted: Whether the weight of this name is trained.

    Yields:
        The jt.Vars by OpenAI's key names, and their original values.
    """
    params = {key: value for key, value in model.named_parameters() if wanted(key)}
    before = {key: np.array(value.numpy(), dtype=np.float32) for key, value in params.items()}
    try:
        for value in params.values():
            value.start_grad()
        yield params, before
    finally:
        for key, value in params.items():
            value.update(jt.array(before[key]))
            value.stop_grad()
        jt.sync(list(params.values()))


def text_parts(model: Any, tokens: npt.NDArray[Any], size: int) -> list[Part]:
    """Functions that each compute the (n, d) features of up to `size` texts, from tokens (C, L)."""
    return [functools.partial(model.encode_text, piece) for piece in chunks(tokens, size)]


def photo_parts(model: Any, pixels: npt.NDArray[np.uint8], size: int) -> list[Part]:
    """Functions that each compute the (n, d) features of up to `size` photos, from pixels (B, n, n, 3)."""
    values = normalise_pixels(pixels, model.config.pixels)
    return [functools.partial(model.encode_image, piece) for piece in chunks(values, size)]


def cross_entropy(photos: Any, texts: Any, labels: npt.NDArray[np.int64], scale: float) -> Any:
    """CLIP's classification loss: the mean cross-entropy of scale·cosine.

    Args:
        photos: (B, d) jt.Var, normalised or not.
        texts: (C, d) jt.Var, normalised or not.
        labels: (B,) class indices.
        scale: Logit scale.
    """
    logits = scale * jt.nn.matmul_transpose(normalise(photos), normalise(texts))
    return jt.nn.cross_entropy_loss(logits, jt.array(labels.astype(np.int32)))


def both_towers(
    texts: Sequence[Part], photos: Sequence[Part], labels: npt.NDArray[np.int64], scale: float, params: Sequence[Any]
) -> tuple[float, list[Any]]:
    """Loss and gradients where photo and text features both depend on the parameters, chunk by chunk.

    Args:
        texts: Compute the (C, d) text features.
        photos: Compute the (B, d) photo features.
        labels: (B,) class indices.
        scale: Logit scale.
        params: The parameters.

    Returns:
        The loss and one gradient per parameter.
    """

    def loss(rows: Any) -> Any:
        first = int(rows.shape[0]) - len(labels)
        return cross_entropy(rows[first:], rows[:first], labels, scale)

    return gradients([*texts, *photos], loss, params)


def encoded(parts: Sequence[Part]) -> Array:
    """(R, d) features of all chunks, without gradients."""
    with jt.no_grad():
        return np.concatenate([np.asarray(part().numpy(), dtype=np.float32) for part in parts])
