"""The card of the sample's weights: what the program measured about them, so that no number is typed by hand.

    python -m tools.sample.card

measures the committed weights again, on the sample's test photos and on new pages of their own picture book.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import storage
from jclip_adapter.core.task import normalise
from jclip_adapter.data.photos.decode import read_square
from jclip_adapter.data.photos.preprocess import normalise_pixels, square_pixels
from jclip_adapter.data.sample import SAMPLE_WEIGHTS, ensure_sample, read_sample_weights
from jclip_adapter.data.sets import find_labels, load_dataset
from jclip_adapter.data.texts.prompts import load_prompts
from jclip_adapter.evaluation.metrics import Score, by_domain
from jclip_adapter.models.clip.model import CLIP, build_model
from jclip_adapter.models.clip.tokenizer import token_ids
from jclip_adapter.runtime import jt
from jclip_adapter.storage.kinds import unchanged_json

from .classes import CLASSES
from .painter import BOOK_STYLE, PHOTO_STYLE, paint, picture_rng

logger = logging.getLogger(__name__)
CARD = "card.json"
_WHAT = "a toy: a small CLIP, pretrained on drawn pictures for drawn pictures; its figures say nothing about CLIP"
_OWN_SEED = 1_000_003  # of pages that no pretraining has seen
_OWN_PER_CLASS = 5
_BATCH = 48
_KIND = storage.Kind("a card of a sample's weights", unchanged_json("what", "photo_style", "book_style"))


def write_card(weights: Path = SAMPLE_WEIGHTS) -> None:
    """Measure weights and write card.json beside them.

    Args:
        weights: What `write_sample_weights` wrote; its header says how they were made.

    Raises:
        WeightsError: they are not the sample's weights.
        SetupError: the card cannot be written.
    """
    state = read_sample_weights(weights)
    arrays, facts = storage.read_safetensors(weights)
    model = build_model(state)
    card: dict[str, Any] = {
        "what": _WHAT,
        "file": weights.name,
        "bytes": weights.stat().st_size,
        "sha256": storage.sha256_file(weights),
        "numbers_stored": sum(int(value.size) for value in arrays.values()),
        "tokens_stored": len(arrays["token_embedding.ids"]),
        "classes": len(CLASSES),
        "config": asdict(model.config),
        "made": {name: json.loads(value) for name, value in facts.items()},
        "zero_shot_on": "the sample's test photos, prompt set 'seed'",
        "zero_shot": [_row(score) for score in zero_shot_scores(model)],
        "own_style_top1": own_style_accuracy(model),
        "photo_style": asdict(PHOTO_STYLE),
        "book_style": asdict(BOOK_STYLE),
    }
    storage.write_checked_json(weights.with_name(CARD), card, _KIND)
    logger.info("%s: zero-shot top-1 %.1f %%", weights.with_name(CARD), 100 * card["zero_shot"][-1]["top1"])


def zero_shot_scores(model: CLIP) -> list[Score]:
    """Zero-shot accuracy on the sample's test photos, per domain and in total, with the default prompts."""
    images = load_dataset(ensure_sample())
    labels = find_labels(images)
    size = model.config.image_resolution
    pixels = [read_square(photo.path, size)[1] for photo in images.test]
    logits = encode(model, np.stack(pixels)) @ class_texts(model).T
    return by_domain(logits, np.array([labels[name] for name in images.test_names]), images.domains)


def own_style_accuracy(model: CLIP) -> float:
    """Zero-shot accuracy on new pictures in the picture book's own style, 0 to 1."""
    size = model.config.image_resolution
    drawn = [
        square_pixels(paint(kind, BOOK_STYLE, picture_rng(_OWN_SEED, "pretrain", class_id, index)), size)
        for class_id, kind in enumerate(CLASSES)
        for index in range(_OWN_PER_CLASS)
    ]
    logits = encode(model, np.stack(drawn)) @ class_texts(model).T
    return float((logits.argmax(axis=1) == np.repeat(np.arange(len(CLASSES)), _OWN_PER_CLASS)).mean())


def encode(model: CLIP, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(B, n, n, 3) uint8 → (B, d) normalised image features."""
    with jt.no_grad():
        parts = [
            model.encode_image(normalise_pixels(pixels[first : first + _BATCH])).numpy()
            for first in range(0, len(pixels), _BATCH)
        ]
    return normalise(np.concatenate(parts))


def class_texts(model: CLIP) -> npt.NDArray[np.float32]:
    """(C, d) normalised text features of the classes, with the default prompt set's one template per domain."""
    prompts = load_prompts("seed")
    texts = token_ids([prompts.texts(kind.name, domain=kind.domain)[0] for kind in CLASSES])
    with jt.no_grad():
        return normalise(model.encode_text(texts).numpy())


def _row(score: Score) -> dict[str, Any]:
    return {"domain": score.domain, "photos": score.n, "top1": round(score.top1, 4), "top5": round(score.top5, 4)}


def main() -> None:
    """Measure weights and write their card."""
    parser = argparse.ArgumentParser(description="Measure the sample's weights and write their card.json.")
    parser.add_argument("--weights", type=Path, default=SAMPLE_WEIGHTS, help="the weights to measure")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_card(arguments.weights)


if __name__ == "__main__":
    main()
