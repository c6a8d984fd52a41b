"""Names of AudioCLIP's weights: CLIP's, an audio tower's with a prefix, and two more logit scales."""

from __future__ import annotations

from typing import NamedTuple

from jclip_adapter.core.task import Array, Weights

_PREFIX = "audio."
_SCALES = ("logit_scale_ai", "logit_scale_at")  # audio–image, audio–text


class Halves(NamedTuple):
    """AudioCLIP's weights in two parts.

    Attributes:
        clip: CLIP's weights.
        audio: The audio tower's weights without their prefix, and the two logit scales.
    """

    clip: dict[str, Array]
    audio: dict[str, Array]


def has_audio(state: Weights) -> bool:
    """Whether weights are AudioCLIP's, by their names.

    >>> has_audio({"audio.conv1.weight": None}), has_audio({"visual.conv1.weight": None})
    (True, False)
    """
    return any(name.startswith(_PREFIX) for name in state)


def split_audio(state: Weights) -> Halves:
    """Separate AudioCLIP's audio tower from CLIP's weights."""
    halves = Halves({}, {})
    for name, value in state.items():
        if name.startswith(_PREFIX) or name in _SCALES:
            halves.audio[name.removeprefix(_PREFIX)] = value
        else:
            halves.clip[name] = value
    return halves
