"""Pretrain the sample's small CLIP: `python -m tools.sample.pretrain`.

Contrastive, as Radford et al. (2021) did it, on captioned pictures in the style of a picture book. The sample's
photos are painted in another style, so what is learnt here fits them only in part, as CLIP's training fits a
contest's photos: that is what few-shot adaptation is for. It is a toy; its accuracy says nothing about CLIP's.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL

from jclip_adapter.core.console import progress
from jclip_adapter.data.photos.preprocess import normalise_pixels, square_pixels
from jclip_adapter.data.sample import SAMPLE_WEIGHTS, VOCABULARY
from jclip_adapter.data.texts.prompts import PromptSet, available_prompts, load_prompts
from jclip_adapter.models.clip.config import ClipConfig
from jclip_adapter.models.clip.model import CLIP, state_arrays
from jclip_adapter.models.clip.tokenizer import token_ids
from jclip_adapter.runtime import jt

from .card import write_card
from .classes import CLASSES, PictureClass
from .initialise import initialise
from .painter import BOOK_STYLE, PHOTO_STYLE, VERSION, paint, picture_rng
from .weights import write_sample_weights

logger = logging.getLogger(__name__)
CONFIG = ClipConfig(
    embed_dim=512,
    image_resolution=48,
    vision_layers=3,
    vision_width=128,
    vision_patch_size=8,
    context_length=77,
    vocab_size=VOCABULARY,
    transformer_width=64,
    transformer_layers=2,
)
_LOGIT_SCALE_LIMIT = float(np.log(100))


@dataclass(frozen=True)
class Recipe:
    """How the small CLIP is pretrained.

    Attributes:
        seed: Of the pictures, the weights, the order and the captions.
        pictures: Pictures per class in the picture book's style.
        glimpses: Pictures per class in the photos' style: a little of the real world in the training data.
        steps: Batches, each of one picture per class.
        lr: Highest learning rate of AdamW; warm-up over a tenth of the steps, then a cosine to zero.
        weight_decay: Of AdamW.
        scale: Exp of the temperature at the start; it is learnt, up to CLIP's limit of 100.
        described: Share of captions that describe a picture without naming its class.
    """

    seed: int = 7
    pictures: int = 128
    glimpses: int = 0
    steps: int = 3000
    lr: float = 1e-3
    weight_decay: float = 0.1
    scale: float = 50.0
    described: float = 0.15


def captions(kind: PictureClass, sets: Sequence[PromptSet]) -> tuple[list[str], list[str]]:
    """What a picture of a class may be called: captions with its name, and captions without it."""
    named = {text for prompts in sets for text in prompts.texts(kind.name, domain=kind.domain)}
    named |= {f"a picture of a {kind.spoken}.", f"a drawing of a {kind.spoken}.", kind.spoken}
    described = {f"a picture of {words}." for words in kind.words} | {f"a photo of {words}" for words in kind.words}
    return sorted(named), sorted(described)


def draw_pictures(recipe: Recipe) -> npt.NDArray[np.uint8]:
    """(C, pictures + glimpses, n, n, 3) pixels; a class's picture-book pictures come first."""
    size = CONFIG.image_resolution
    count = recipe.pictures + recipe.glimpses
    pictures = np.zeros((len(CLASSES), count, size, size, 3), dtype=np.uint8)
    for index in progress(range(count), desc="drawing the picture book", unit="page"):
        style = BOOK_STYLE if index < recipe.pictures else PHOTO_STYLE
        for class_id, kind in enumerate(CLASSES):
            rng = picture_rng(recipe.seed, "pretrain", class_id, index)
            pictures[class_id, index] = square_pixels(paint(kind, style, rng), size)
    return pictures


def pretrain(recipe: Recipe) -> tuple[dict[str, npt.NDArray[np.float32]], npt.NDArray[np.int32]]:
    """Pretrain the small CLIP.

    Args:
        recipe: How.

    Returns:
        The weights, and the tokens that the token embedding's rows stand for.
    """
    sets = [load_prompts(name) for name in available_prompts()]
    texts = [captions(kind, sets) for kind in CLASSES]
    tokens = [[token_ids(group) for group in pair] for pair in texts]
    pictures = draw_pictures(recipe)
    rng = np.random.default_rng(recipe.seed)
    # Tokens are numbered anew without gaps: the rows that no caption uses would cost most of a step's time. Their
    # order stays, so the end of text still has the largest number.
    kept = np.unique(np.concatenate([group for pair in tokens for group in pair]))
    tokens = [[np.searchsorted(kept, group).astype(np.int32) for group in pair] for pair in tokens]
    model = CLIP(replace(CONFIG, vocab_size=len(kept)))
    initialise(model, recipe.seed)
    model.logit_scale.assign(jt.array(np.log([recipe.scale]).astype(np.float32)))
    model.train()
    optimiser = jt.nn.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    target = jt.array(np.arange(len(CLASSES), dtype=np.int32))
    bar = progress(range(recipe.steps), desc="pretraining", unit="step")
    for step in bar:
        chosen = rng.integers(0, pictures.shape[1], len(CLASSES))
        batch = pictures[np.arange(len(CLASSES)), chosen]
        said = np.stack([_draw_caption(pair, recipe.described, rng) for pair in tokens])
        per_image, per_text = model(jt.array(normalise_pixels(batch)), said)
        loss = (jt.nn.cross_entropy_loss(per_image, target) + jt.nn.cross_entropy_loss(per_text, target)) / 2
        warm_up = recipe.steps // 10
        cosine = 0.5 * (1 + np.cos(np.pi * (step - warm_up) / (recipe.steps - warm_up)))
        optimiser.lr = recipe.lr * (step + 1) / warm_up if step < warm_up else recipe.lr * cosine
        optimiser.step(loss)
        model.logit_scale.assign(model.logit_scale.clamp(max_v=_LOGIT_SCALE_LIMIT))
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", scale=f"{np.exp(model.logit_scale.item()):.1f}")
    return state_arrays(model), kept


def _draw_caption(
    pair: list[npt.NDArray[np.int32]], described: float, rng: np.random.Generator
) -> npt.NDArray[np.int32]:
    group = pair[int(rng.random() < described)]
    return group[rng.integers(len(group))]


def main() -> None:
    """Pretrain, write the weights, and measure them for their card."""
    defaults = Recipe()
    parser = argparse.ArgumentParser(description="Pretrain the built-in sample's small CLIP.")
    parser.add_argument("--out", type=Path, default=SAMPLE_WEIGHTS, help="where to write the weights")
    for name, value in asdict(defaults).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"({value})")
    arguments = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    out: Path = arguments.pop("out")
    recipe = Recipe(**arguments)
    started = time.monotonic()
    state, tokens = pretrain(recipe)
    facts = {
        "command": "python -m tools.sample.pretrain",
        "recipe": asdict(recipe),
        "painter": VERSION,
        "seconds": round(time.monotonic() - started),
        "versions": {"jittor": jt.__version__, "numpy": np.__version__, "pillow": PIL.__version__},
    }
    write_sample_weights(out, state, tokens, {name: json.dumps(value) for name, value in facts.items()})
    logger.info("%s: %d bytes", out, out.stat().st_size)
    write_card(out)


if __name__ == "__main__":
    main()
