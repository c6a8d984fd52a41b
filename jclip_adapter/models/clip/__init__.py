"""CLIP in Jittor, with the calls of uyzhang/JCLIP: `load`, `tokenize`, `encode_image`, `encode_text`.

    from jclip_adapter.models import clip

    model, preprocess = clip.load("ViT-B-32.pkl")
    image = preprocess(Image.open("dog.jpg")).unsqueeze(0)
    per_image, per_text = model(image, clip.tokenize(["a dog", "a cat"], model=model))

Jittor is imported on first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jclip_adapter.data.photos.preprocess import Preprocess

    from .model import CLIP

__all__ = ["available_models", "load", "tokenize"]


def load(name: str | Path, model_config: str = "") -> tuple[CLIP, Preprocess]:
    """Load a CLIP, as `jclip.load` does.

    Args:
        name: A weight file that `weights.read_weight_file` supports, a folder of open_clip or Hugging Face, or one of
            `available_models()`, which is downloaded if it is not in data/weights/.
        model_config: Configuration of weights that come without one, as for `description.find.configure`.

    Returns:
        The model in evaluation mode, and the preprocessing of a Pillow image.

    Raises:
        WeightsError: the weights are missing, unsafe, damaged, not a CLIP's, or their configuration is unknown.
    """
    from jclip_adapter.models.description.find import configure
    from jclip_adapter.models.weights import load_weights

    loaded = load_weights(name)  # before Jittor starts, so that an error comes early
    config = configure(loaded, model_config)
    from jclip_adapter.data.photos.preprocess import Preprocess

    from .model import build_model

    return build_model(loaded.state, config), Preprocess(config.image_resolution, config.pixels)


def available_models() -> list[str]:
    """The names that `load` knows.

    >>> "ViT-B/32" in available_models()
    True
    """
    from jclip_adapter.models.weights import KNOWN

    return list(KNOWN)


def tokenize(
    texts: str | Sequence[str], context_length: int = 77, truncate: bool = False, model: CLIP | None = None
) -> Any:
    """Tokenise texts into a (len(texts), context_length) jt.Var of int32; see `tokenizer.token_ids`.

    With `model`, its own context, cleaning and vocabulary are used; those of OpenAI's CLIPs are the default.
    """
    from jclip_adapter.runtime import jt

    from .tokenizer import token_ids

    if model is None:
        return jt.array(token_ids(texts, context_length, truncate))
    config = model.config
    return jt.array(token_ids(texts, config.context_length, truncate, config.text_cleaning, config.text_vocabulary))
