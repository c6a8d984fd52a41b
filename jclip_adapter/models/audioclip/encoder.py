"""Encoder of sounds by AudioCLIP, and its CLIP for photos and texts in the same space."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from jclip_adapter import runtime
from jclip_adapter.core.choices import AUDIO_MODES
from jclip_adapter.core.errors import DataError, UsageError, WeightsError, suggest
from jclip_adapter.core.task import Array, Lazy, Weights
from jclip_adapter.data.sets.model import FileKind
from jclip_adapter.data.sounds import SAMPLES, VERSION
from jclip_adapter.models import weights as weight_files
from jclip_adapter.models.clip.encoder import Encoder, loaded_encoder
from jclip_adapter.models.weights.audio_names import has_audio, split_audio

from .shapes import HINT, check_audio

if TYPE_CHECKING:
    from .tower import AudioTower

_ARITHMETIC = 1  # raise it when a change of the tower's code changes features
_PUBLISHED_BATCH = 10
_FULL_SCALE = 32768  # of int16, the range that the weights were trained with


class Scales(NamedTuple):
    """Factors of cosines between two modalities, 1 to 100.

    Attributes:
        image_text: Between photos and texts.
        audio_image: Between sounds and photos.
        audio_text: Between sounds and texts.
    """

    image_text: float
    audio_image: float
    audio_text: float


@dataclass
class AudioEncoder:
    """AudioCLIP's audio tower.

    Attributes:
        state: Its weights by AudioCLIP's names without prefix.
        weights: Path of the weight file.
        sha256: Digest of that file.
        mode: "proper" encodes each sound alone, in the range of int16 and with the statistics of the weights, as the
            network was trained. "published" is what the ImageNet-ESC benchmark's authors did: samples of −1…1 and the
            statistics of each batch, so that a feature depends on the other sounds of its batch.
    """

    state: Weights
    weights: Path
    sha256: str
    mode: str

    def __post_init__(self) -> None:
        self._tower = Lazy(self._make_tower)

    @property
    def batch_size(self) -> int:
        """Sounds of a batch: 1, or in "published" mode 10, in the order of the files."""
        return 1 if self.mode == "proper" else _PUBLISHED_BATCH

    @property
    def width(self) -> int:
        """Width of the features."""
        return len(self.state["fc.bias"])

    def sound_key(self) -> str:
        """A fingerprint of everything that determines a sound's feature, besides its samples and its batch."""
        kind = f"{self.sha256} {_ARITHMETIC} sound {VERSION} {SAMPLES} {self.mode}"
        return hashlib.sha256(kind.encode()).hexdigest()

    def sounds(self, waves: Array) -> Array:
        """Encode sounds.

        Args:
            waves: (B, `data.sounds.SAMPLES`) samples of −1…1, B at most `batch_size`.

        Returns:
            (B, d) float32, not normalised.

        Raises:
            DataError: a sample is not finite.
            UsageError: one sound in "published" mode, whose statistics need at least two.
        """
        if len(waves) > self.batch_size:
            raise ValueError(f"{len(waves)} sounds do not fit a batch of {self.batch_size}")
        if not np.isfinite(waves).all():
            raise DataError("a sound has samples that are NaN or infinite.", "Remove the file, or save it again.")
        if self.mode == "published" and len(waves) < 2:
            raise UsageError(
                "the published mode normalises by the statistics of a batch, which needs at least two sounds.",
                "Give more sounds, or use the proper mode.",
            )
        jt = runtime.start()
        with jt.no_grad():
            return self._tower.get()(waves * np.float32(_FULL_SCALE) if self.mode == "proper" else waves)

    def _make_tower(self) -> AudioTower:
        from .tower import AudioTower

        return AudioTower(self.state, SAMPLES, batch=self.batch_size, batch_statistics=self.mode == "published")


@dataclass(kw_only=True)
class SoundEncoder(Encoder):
    """AudioCLIP as an encoder of sounds and texts, in the place of one of photos and texts.

    Attributes:
        audio: The audio tower, in "proper" mode.
        audio_text: Factor of cosines between sounds and texts.
    """

    audio: AudioEncoder
    audio_text: float
    kind: ClassVar[FileKind] = "sound"

    @property
    def logit_scale(self) -> float:
        """Factor of cosines between sounds and texts."""
        return self.audio_text

    @property
    def files_at_once(self) -> int:
        """Sounds per call of `images`: one, so that a feature does not depend on others."""
        return self.audio.batch_size

    @property
    def parameters(self) -> int:
        """Number of trained parameters, including CLIP's."""
        return super().parameters + sum(value.size for value in self.audio.state.values())

    def image_key(self) -> str:
        """A fingerprint of everything that determines a sound's feature, besides its bytes."""
        return self.audio.sound_key()

    def images(self, pixels: npt.NDArray[Any]) -> Array:
        """(B, `data.sounds.SAMPLES`) samples of −1…1 → (B, d) features, not normalised."""
        return self.audio.sounds(pixels)


class AudioClip(NamedTuple):
    """AudioCLIP: encoders of three modalities in one space.

    Attributes:
        clip: Encoder of photos and texts.
        audio: Encoder of sounds.
        scales: Factors of cosines.
    """

    clip: Encoder
    audio: AudioEncoder
    scales: Scales

    @property
    def sounds(self) -> SoundEncoder:
        """Encoder of sounds and texts; in "proper" mode only, as stored features must not depend on a batch."""
        if self.audio.mode != "proper":
            raise ValueError(f"features of the {self.audio.mode} mode depend on their batch")
        facts = {item.name: getattr(self.clip, item.name) for item in fields(self.clip)}
        return SoundEncoder(**facts, audio=self.audio, audio_text=self.scales.audio_text)


def load_audioclip(
    weights: str,
    device: str = "auto",
    batch_size: int = 0,
    cache: Path | None = None,
    mode: str = "proper",
    *,
    precision: str = "float32",
    model_config: str = "",
) -> AudioClip:
    """Read AudioCLIP; Jittor starts when something is encoded.

    Args:
        weights: AudioCLIP-Partial-Training.pt or -Full-Training.pt, or a conversion of them.
        device: "auto", "cpu" or "cuda".
        batch_size: Photos or texts per forward pass; 0 chooses by device.
        cache: Folder where pickled weights are kept as safetensors; None for none.
        mode: How sounds are encoded, see `AudioEncoder`: "proper" or "published".
        precision: As for `load_encoder`, of photos and texts.
        model_config: As for `load_encoder`.

    Returns:
        The encoders.

    Raises:
        UsageError: an unknown mode.
        WeightsError: the weights are missing, unsafe, damaged, or not AudioCLIP's.
        SetupError: the device is not available, or the cache cannot be written.
    """
    if mode not in AUDIO_MODES:
        raise UsageError(f"unknown mode '{mode}' of the audio encoder.", suggest(mode, AUDIO_MODES))
    loaded = weight_files.load_weights(weights, cache)
    if not has_audio(loaded.state):
        raise WeightsError(f"{loaded.path} has no audio encoder: no name in it begins with 'audio.'.", HINT)
    audio = split_audio(loaded.state).audio
    try:
        check_audio(audio)
    except WeightsError as error:
        raise WeightsError(f"{loaded.path}: {error.message}", error.hint, error.details) from error
    clip = loaded_encoder(loaded, device, batch_size, precision, model_config)
    own, other = len(audio["fc.bias"]), clip.width
    if own != other:
        raise WeightsError(f"{loaded.path}: features of sounds have {own} channels, those of photos {other}.", HINT)
    found = (loaded.state[name].item() for name in ("logit_scale", "logit_scale_ai", "logit_scale_at"))
    scales = Scales(*(float(np.clip(np.exp(value), 1, 100)) for value in found))
    return AudioClip(clip, AudioEncoder(audio, loaded.path, loaded.sha256, mode), scales)
