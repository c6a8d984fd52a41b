"""A CLIP so small that every method can train through it, and photos that it can tell apart.

Its towers have random weights; its two projections are then solved for, such that texts and photos of a class come to
lie together, as training would bring them. That is a stand-in: nothing that it predicts says anything about CLIP.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jclip_adapter.core.task import Array, EncoderLink, Weights, normalise

WORDS = ("red dog", "blue house", "tall tree", "old car", "small bird")
SIDE = 32
NOISE = 45.0  # of the pixels; so much that zero-shot errs now and then


@dataclass(frozen=True)
class TinyWorld:
    """A tiny CLIP, its classes and their photos."""

    model: object
    state: Weights
    names: tuple[str, ...]
    prototypes: Array

    @property
    def prompts(self) -> tuple[str, ...]:
        """One per class."""
        return tuple(f"a photo of a {name}." for name in self.names)

    def photos(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(N, side, side, 3) uint8 photos of some classes."""
        noise = NOISE * rng.standard_normal((len(labels), SIDE, SIDE, 3))
        return np.clip(self.prototypes[labels] + noise, 0, 255).astype(np.uint8)

    def link(self, photos: np.ndarray) -> EncoderLink:
        """The task's way to them: augmenting is a little more noise."""

        def pixels(rows: np.ndarray, rng: np.random.Generator | None, _: float) -> np.ndarray:
            if rng is None:
                return photos[rows]
            noise = 10 * rng.standard_normal(photos[rows].shape)
            return np.clip(photos[rows] + noise, 0, 255).astype(np.uint8)

        return EncoderLink(self.model, self.names, self.prompts, pixels)

    def encode(self, photos: np.ndarray, change: Callable[[Weights], Weights] | None = None) -> Array:
        """(N, d) features, not normalised, through these weights or changed ones."""
        from jclip_adapter.models.clip.model import build_model

        model = self.model if change is None else build_model({**self.state, **change(self.state)})
        return _images(model, photos)


def _images(model: object, photos: np.ndarray) -> Array:
    from jclip_adapter.data.photos.preprocess import normalise_pixels
    from jclip_adapter.runtime import jt

    with jt.no_grad():
        return np.asarray(model.encode_image(normalise_pixels(photos)).numpy(), dtype=np.float32)


def _texts(model: object, names: tuple[str, ...]) -> Array:
    """What the text tower makes of prompts of all forms: in words, and around vectors near zero."""
    from jclip_adapter.methods.training.prompting import POSITIONS, class_prompts, encode_prompts
    from jclip_adapter.models.clip.tokenizer import token_ids
    from jclip_adapter.runtime import jt

    rng = np.random.default_rng(9)
    forms = []
    with jt.no_grad():
        for template in ("a photo of a {}.", "{}."):
            forms.append(model.encode_text(token_ids([template.format(name) for name in names], 77)).numpy())
        for count in (4, 16):
            for position in POSITIONS:
                vectors = jt.array((0.02 * rng.standard_normal((count, 64))).astype(np.float32))
                forms.append(encode_prompts(model, class_prompts(model, names, count, position), vectors).numpy())
    return np.stack(forms)


@functools.cache
def tiny_world(classes: int, width: int) -> TinyWorld:
    """A CLIP with features of this width for this many classes.

    Its embeddings of words and positions are 100 times as large as training would start them. A norm stands before the
    attention, so vectors of 0.02 beside smaller ones would be blown up, and the published learning rates would throw
    them about.
    """
    from jclip_adapter.models.clip.config import ClipConfig
    from jclip_adapter.models.clip.model import build_model
    from tests.random_weights import random_state

    hidden = 64
    state = random_state(ClipConfig(hidden, SIDE, 1, hidden, 16, 77, 49408, hidden, 1))
    for key in ("token_embedding.weight", "positional_embedding"):
        state[key] = 100 * state[key]
    open_state = {**state, "visual.proj": np.eye(hidden), "text_projection": np.eye(hidden)}
    bare = build_model({key: np.asarray(value, dtype=np.float32) for key, value in open_state.items()})
    rng = np.random.default_rng(classes)
    prototypes = 255 * rng.random((classes, 4, 4, 3)).repeat(SIDE // 4, axis=1).repeat(SIDE // 4, axis=2)
    plain = TinyWorld(bare, open_state, WORDS[:classes], prototypes)
    size = max(classes, width)
    targets = np.linalg.qr(rng.standard_normal((size, size)))[0][:classes, :width]
    labels = np.repeat(np.arange(classes), 8)
    state["visual.proj"] = _projection(_images(bare, plain.photos(labels, rng)), targets[labels])
    forms = _texts(bare, plain.names)
    state["text_projection"] = _projection(forms.reshape((-1, hidden)), np.tile(targets, (len(forms), 1)))
    return TinyWorld(build_model(state), state, plain.names, prototypes)


def _projection(hidden: np.ndarray, wanted: np.ndarray) -> Array:
    """(h, d) of ridge regression."""
    rows = hidden.astype(np.float64)
    gram = rows.T @ rows
    ridge = 1e-3 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram + ridge, rows.T @ wanted).astype(np.float32)


def class_texts(world: TinyWorld) -> Array:
    """(C, d) normalised features of its prompts."""
    from jclip_adapter.models.clip.tokenizer import token_ids
    from jclip_adapter.runtime import jt

    with jt.no_grad():
        return normalise(world.model.encode_text(token_ids(list(world.prompts), 77)).numpy())
