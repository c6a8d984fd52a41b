"""Encoder of photos and texts by a CLIP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from jclip_adapter import runtime
from jclip_adapter.core.choices import SAMPLE
from jclip_adapter.core.errors import UsageError, WeightsError
from jclip_adapter.core.task import Array, Lazy, Weights
from jclip_adapter.data.photos.preprocess import VERSION, PixelTransform, normalise_pixels
from jclip_adapter.data.photos.reading import AS_SEEN, Reading
from jclip_adapter.models import weights as clip_weights
from jclip_adapter.models.base import BATCH, ImageEncoder, check_batch_size, pad
from jclip_adapter.models.description.find import configure
from jclip_adapter.models.weights.audio_names import split_audio
from jclip_adapter.models.weights.origin import Loaded, Origin
from jclip_adapter.runtime import onednn
from jclip_adapter.storage import sha256_file

from .config import ClipConfig
from .shapes import check_shapes, shapes_of
from .tokenizer import model_tokens

if TYPE_CHECKING:
    from .inference import TowerWeights
    from .model import CLIP

R = TypeVar("R")
_ARITHMETIC = 3  # raise it when a change of the model's code changes features


class _Unbuilt(Lazy["CLIP"]):
    """A CLIP whose model is built on first use, so that stored features need no Jittor.

    Args:
        state: Arrays by OpenAI's key names.
        name: Its name for errors.
        config: Its architecture.

    Raises:
        WeightsError: the weights are not a CLIP's.
    """

    def __init__(self, state: Weights, name: object, config: ClipConfig) -> None:
        self.config = config
        if config.is_vit:
            _named(name, lambda: check_shapes(state, shapes_of(config)))
        self.state: Weights | None = state
        super().__init__(lambda: self._build(state, name))

    def _build(self, state: Weights, name: object) -> CLIP:
        from .model import build_model

        model = _named(name, lambda: build_model(state, self.config))
        self.state = None
        return model


def _named(name: object, make: Callable[[], R]) -> R:
    """The result of `make`; its errors get the name of the weights."""
    try:
        return make()
    except WeightsError as error:
        raise WeightsError(f"{name}: {error.message}", error.hint, error.details) from error


@dataclass
class Encoder(ImageEncoder):
    """CLIP's two towers, in batches of one shape.

    Attributes:
        source: The CLIP, or one that is built on first use.
        weights: As in `ImageEncoder`.
        sha256: As in `ImageEncoder`.
        batch_size: As in `ImageEncoder`.
        precision: As in `ImageEncoder`.
        tuning: SHA-256 of the changed weights by tower, "image" or "text"; without unchanged towers.
        reading: As in `ImageEncoder`.
    """

    source: CLIP | _Unbuilt
    weights: Path
    sha256: str
    batch_size: int
    precision: str = "float32"
    tuning: dict[str, str] = field(default_factory=dict)
    reading: Reading = AS_SEEN
    has_text: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._text_tower = Lazy(self._make_text_tower)

    @property
    def model(self) -> CLIP:
        """The CLIP, built on first use.

        Raises:
            WeightsError: the weights do not fit together.
            SetupError: Jittor does not start.
        """
        return self.source.get() if isinstance(self.source, _Unbuilt) else self.source

    @property
    def reference(self) -> str:
        """The weights' path, or the sample's name, which is the same on every machine."""
        from jclip_adapter.data.sample import SAMPLE_WEIGHTS

        return SAMPLE if self.weights == SAMPLE_WEIGHTS else super().reference

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return self.source.config.image_resolution

    @property
    def transform(self) -> PixelTransform:
        """The preprocessing."""
        return self.source.config.pixels

    @property
    def description(self) -> dict[str, Any]:
        """`ClipConfig.settings`: activation, heads, epsilon, text cleaning, pixels."""
        return self.source.config.settings()

    @property
    def openai_description(self) -> dict[str, Any]:
        """The `description` of these weights with OpenAI's settings."""
        return self.source.config.as_openai().settings()

    @property
    def width(self) -> int:
        """Width of the features."""
        return self.source.config.embed_dim

    @property
    def logit_scale(self) -> float:
        """Exp of the learnt temperature; at most 100 as in training, except for SigLIP's."""
        scale = float(np.exp(self._scalar("logit_scale")))
        return scale if "logit_bias" in self.source.config.parts else min(100.0, scale)

    @property
    def logit_bias(self) -> float:
        """SigLIP's bias of logits, whose logistic function is a probability; 0 for other models.

        It is the same for all classes, so neither a ranking nor a softmax depends on it, and methods do not add it.
        """
        return self._scalar("logit_bias") if "logit_bias" in self.source.config.parts else 0.0

    def _scalar(self, name: str) -> float:
        learnt = self._unbuilt.get(name)
        return float((getattr(self.model, name).numpy() if learnt is None else learnt).item())

    @property
    def _unbuilt(self) -> Weights:
        """The weights if the model was not built yet; else empty."""
        return (self.source.state or {}) if isinstance(self.source, _Unbuilt) else {}

    def _arrays(self) -> Weights:
        """All weights, by OpenAI's key names."""
        if not self._unbuilt:
            from .model import state_arrays

            return state_arrays(self.model)
        return {key: value.reshape(()) if key.startswith("logit_") else value for key, value in self._unbuilt.items()}

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        if not self._unbuilt:
            return sum(int(np.prod(parameter.shape)) for parameter in self.model.parameters())
        return sum(value.size for value in self._unbuilt.values())

    def image_key(self) -> str:
        """A fingerprint of everything that determines a photo's feature, besides its bytes."""
        settings = self._settings(lambda name: name.startswith("vision_") or name == "pixels")
        pixels = f"{VERSION} {self.image_size} {self.reading.key}"
        return self.key(f"{_ARITHMETIC} image {pixels}{self.tuning.get('image', '')} {settings}")

    def text_key(self) -> str:
        """A fingerprint of everything that determines a text's feature, besides the text."""
        settings = self._settings(lambda name: name.startswith("text_"))
        return self.key(f"{_ARITHMETIC} text{self.tuning.get('text', '')} {settings}")

    def _settings(self, wanted: Callable[[str], bool]) -> str:
        """Some of `description` as canonical JSON."""
        return json.dumps({name: value for name, value in self.description.items() if wanted(name)}, sort_keys=True)

    def tuned(self, change: Callable[[Weights], Weights]) -> Encoder:
        """A new encoder with changed weights.

        Args:
            change: Takes all weights, returns the changed ones, of the same shapes.

        Returns:
            The encoder; this one if nothing changes.
        """
        base = self._arrays()
        changed = change(base)
        if not changed:
            return self
        tuning = dict(self.tuning)
        for tower in ("image", "text"):
            own = sorted(key for key in changed if key.startswith("visual.") == (tower == "image"))
            digest = hashlib.sha256(tuning.get(tower, "").encode())
            for key in own:
                digest.update(key.encode() + np.ascontiguousarray(changed[key]).tobytes())
            if own:
                tuning[tower] = digest.hexdigest()
        return replace(self, source=_Unbuilt({**base, **changed}, self.weights, self.source.config), tuning=tuning)

    def texts(self, texts: Sequence[str]) -> Array:
        """Encode texts.

        Args:
            texts: B texts, at most `batch_size`.

        Returns:
            (B, d) float32, not normalised.

        Raises:
            UsageError: a text is longer than CLIP's context.
        """
        jt = runtime.start()
        tokens = model_tokens(texts, self.source.config)
        with jt.no_grad():
            return self._text_tower.get()(pad(tokens, self.pass_rows))[: len(tokens)]

    def _make_image_tower(self) -> Callable[[npt.NDArray[np.uint8]], Array]:
        from .inference import ImageTower

        if isinstance(self.source.config.vision_layers, int):
            return ImageTower(self._tower_weights(), self.source.config)
        return lambda pixels: np.array(self.model.encode_image(normalise_pixels(pixels, self.transform)).numpy())

    def _make_text_tower(self) -> Callable[[npt.NDArray[np.integer[Any]]], Array]:
        from .inference import TextTower

        return TextTower(self._tower_weights(), self.source.config)

    def _tower_weights(self) -> TowerWeights:
        from .inference import TowerWeights, operations

        return TowerWeights(self._arrays(), operations(), self.precision)


def load_encoder(
    weights: str,
    device: str = "auto",
    batch_size: int = 0,
    cache: Path | None = None,
    precision: str = "float32",
    model_config: str = "",
) -> Encoder:
    """Read a CLIP by name or path; Jittor starts and the model is built when the first photo or text is encoded.

    Args:
        weights: A file or folder, a name such as "ViT-B/32", or "sample" for the built-in toy model.
        device: "auto", "cpu" or "cuda".
        batch_size: Rows per forward pass; 0 chooses by device.
        cache: Folder where pickled weights are kept as safetensors; None for none.
        precision: Precision of matmuls.
        model_config: Configuration of weights that come without one, as for `description.find.configure`.

    Returns:
        The encoder.

    Raises:
        UsageError: the precision is not supported by the device or the weights.
        WeightsError: the weights are missing, unsafe, damaged, not a CLIP's, or their configuration is unknown.
        SetupError: the device is not available, or the cache cannot be written.
    """
    check_batch_size(batch_size)
    from jclip_adapter.data.sample import SAMPLE_WEIGHTS, read_sample_weights

    if weights == SAMPLE or Path(weights).absolute() == SAMPLE_WEIGHTS:
        state = read_sample_weights(SAMPLE_WEIGHTS)
        loaded = Loaded(SAMPLE_WEIGHTS, sha256_file(SAMPLE_WEIGHTS), state, Origin("own"))
    else:
        loaded = clip_weights.load_weights(weights, cache)
    return loaded_encoder(loaded, device, batch_size, precision, model_config)


def loaded_encoder(
    loaded: Loaded, device: str = "auto", batch_size: int = 0, precision: str = "float32", model_config: str = ""
) -> Encoder:
    """The encoder of weights in memory, as `load_encoder`; AudioCLIP's audio tower is left out."""
    config = configure(loaded, model_config)
    path, sha256 = loaded.path, loaded.sha256
    source, device = _Unbuilt(split_audio(loaded.state).clip, path, config), runtime.choose(device)
    if precision != "float32":
        _check_precision(precision, device, source.config)
    return Encoder(source, path, sha256, batch_size or BATCH[device], precision)


def _check_precision(precision: str, device: str, config: ClipConfig) -> None:
    if not isinstance(config.vision_layers, int):
        raise UsageError(f"--precision {precision} is for vision transformers, not for ResNets.", "Leave it out.")
    if device == "cpu" and precision == "float16":
        raise UsageError("--precision float16 is for CUDA.", "On the CPU give bfloat16, or leave it out.")
    if device == "cpu" and not (onednn.has_bfloat16() and onednn.folders()):
        raise UsageError("this processor has no bfloat16 instructions.", "Leave --precision out.")
