"""CLIP: two towers and a temperature (openai/CLIP's arithmetic, in float32)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.runtime import jt

from .config import ClipConfig, infer_config
from .positions import ends, needed, read
from .resnet import ModifiedResNet
from .shapes import check_shapes, is_counter
from .transformer import KeyValues, Transformer, causal_mask, padding_mask, text_form
from .vision_transformer import VisionTransformer


class CLIP(jt.nn.Module):
    """Contrastive language–image pretraining (Radford et al., 2021), with JCLIP's calls.

    Its parameters start as zeros: `build_model` loads them.

    Args:
        config: The architecture.
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        layers = config.vision_layers
        if isinstance(layers, int):
            self.visual = VisionTransformer(config, layers)
        else:
            self.visual = ModifiedResNet(config.image_resolution, config.vision_width, layers, config.embed_dim)
        self.token_embedding = jt.nn.Embedding(config.vocab_size, config.transformer_width)
        self.positional_embedding = jt.zeros((config.text_rows, config.transformer_width))
        if "ln_embedding" in config.parts:
            self.ln_embedding = jt.nn.LayerNorm(config.transformer_width, eps=config.text_eps)
        self.transformer = Transformer(text_form(config), config.transformer_layers)
        if "ln_final" in config.parts:
            self.ln_final = jt.nn.LayerNorm(config.transformer_width, eps=config.text_eps)
        self.text_projection = jt.zeros((config.transformer_width, config.embed_dim))
        if "text_projection_bias" in config.parts:
            self.text_projection_bias = jt.zeros((config.embed_dim,))
        self.logit_scale = jt.zeros((1,))
        if "logit_bias" in config.parts:
            self.logit_bias = jt.zeros((1,))

    @property
    def dtype(self) -> Any:
        """Data type of the weights, which code for JCLIP's models asks for: float32."""
        return self.text_projection.dtype

    def encode_image(self, images: Any) -> Any:
        """Image features.

        Args:
            images: (B, 3, n, n) preprocessed pixels, jt.Var or numpy.

        Returns:
            (B, embed_dim) float32, not normalised.
        """
        return self.visual(images if isinstance(images, jt.Var) else jt.array(images))

    def encode_text(self, tokens: Any) -> Any:
        """Text features.

        Positions after the longest text's end are not computed if the mask hides them.

        Args:
            tokens: (B, context_length) token ids, jt.Var or numpy.

        Returns:
            (B, embed_dim) float32, not normalised.

        Raises:
            ValueError: a row is longer than the model's context, or has a token that the model does not know.
        """
        ids = np.asarray(tokens.numpy() if isinstance(tokens, jt.Var) else tokens)
        if ids.shape[1] > self.config.context_length:
            raise ValueError(
                f"{ids.shape[1]} tokens do not fit a context of {self.config.context_length}: tokenize(…, model=model)"
            )
        if ids.max(initial=0) >= self.config.vocab_size:
            raise ValueError(f"token {ids.max()} is not of this model's vocabulary: tokenize(…, model=model)")
        end = ends(ids, self.config)
        length = int(needed(end, ids.shape[1], self.config).max())
        return self.project_text(self.embed(self.token_embedding(jt.array(ids[:, :length].astype(np.int32)))), end)

    def embed(self, words: Any, first: int = 0) -> Any:
        """Add positions to token embeddings (B, L, width), of which the first is at position `first`; BERT's norm."""
        x = words + self.positional_embedding[first : first + words.shape[1]]
        return self.ln_embedding(x) if "ln_embedding" in self.config.parts else x

    def project_text(self, embedded: Any, end: npt.NDArray[np.int64], caches: Sequence[KeyValues] | None = None) -> Any:
        """The text tower after the embedding, for learnt prompts.

        Args:
            embedded: (B, L, width) from `embed`.
            end: (B,) position of each row's last token before the padding.
            caches: Keys and values of a common prefix that `embedded` omits, from `transformer.cache_prefix`.

        Returns:
            (B, embed_dim) float32, not normalised.
        """
        batch, length, width = embedded.shape
        masks = {"causal": lambda: causal_mask(length), "padding": lambda: padding_mask(end, length)}
        mask = masks[self.config.text_mask]() if self.config.text_mask in masks else None
        x = self.transformer(embedded, mask, caches).reshape((batch * length, width))
        x = x[jt.array((np.arange(batch) * length + read(end, length, self.config)).astype(np.int32))]
        if "ln_final" in self.config.parts:
            x = self.ln_final(x)  # row by row, so it is computed for these rows only
        x = jt.matmul(x, self.text_projection)
        return x + self.text_projection_bias if "text_projection_bias" in self.config.parts else x

    def execute(self, images: Any, tokens: Any) -> tuple[Any, Any]:
        """Both logits: exp(logit_scale) · cosine + logit_bias, (B, T) per image and (T, B) per text."""
        image = normalise(self.encode_image(images))
        text = normalise(self.encode_text(tokens))
        per_image = self.logit_scale.exp() * jt.nn.matmul_transpose(image, text)
        if "logit_bias" in self.config.parts:
            per_image = per_image + self.logit_bias
        return per_image, per_image.transpose(1, 0)


def normalise(rows: Any) -> Any:
    """Divide each row of a jt.Var (…, d) by its Euclidean norm."""
    return rows / jt.sqrt((rows * rows).sum(dim=-1, keepdims=True))


def build_model(state: Mapping[str, npt.NDArray[Any]], config: ClipConfig | None = None) -> CLIP:
    """A CLIP with the given weights, in evaluation mode.

    Args:
        state: Arrays by OpenAI's key names.
        config: The architecture; None for the sizes of the arrays and, for the rest, OpenAI's settings.

    Returns:
        The model.

    Raises:
        WeightsError: a key is missing, unknown or of another shape; all of them are listed.
    """
    model = CLIP(config or infer_config(state))
    load_state(model, state)
    model.eval()
    return model


def load_state(model: Any, state: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copy weights into a model, all of them or none.

    Args:
        model: A Jittor module.
        state: Arrays by parameter name. BatchNorm's `num_batches_tracked` counters are ignored, and a scalar
            fits a parameter of one element.

    Raises:
        WeightsError: a key is missing, unknown or of another shape; all of them are listed.
    """
    own = {key: value for key, value in model.state_dict().items() if not is_counter(key)}
    check_shapes(state, {key: tuple(value.shape) for key, value in own.items()})
    for key, parameter in own.items():
        parameter.assign(jt.array(np.asarray(state[key], dtype=np.float32).reshape(tuple(parameter.shape))))


def state_arrays(model: Any) -> dict[str, npt.NDArray[np.float32]]:
    """A model's weights as float32 arrays by OpenAI's key names; `logit_scale` and `logit_bias` are scalars there."""
    arrays = {key: np.asarray(value.numpy(), dtype=np.float32) for key, value in model.state_dict().items()}
    return {key: value.reshape(()) if key.startswith("logit_") else value for key, value in arrays.items()}
