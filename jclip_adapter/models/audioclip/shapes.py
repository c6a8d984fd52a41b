"""Names and shapes of the weights of AudioCLIP's audio tower, and the one array whose values are known."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import WeightsError
from jclip_adapter.core.task import Weights
from jclip_adapter.models.clip.shapes import check_shapes

ATTENTION_KERNELS = ((3, 1), (1, 5), (3, 1), (1, 5), (3, 5))
"""Height and width of the depthwise convolution of att1 to att5."""
_SIZES = ("window", "fbsp.fc", "conv1.weight", "fc.weight", *(f"layer{stage}.0.conv3.weight" for stage in (1, 2, 3, 4)))

HINT = "Give AudioCLIP-Partial-Training.pt or AudioCLIP-Full-Training.pt as they were published."
Shapes = dict[str, tuple[int, ...]]


def block_counts(state: Weights) -> tuple[int, ...]:
    """How many bottlenecks each of the four stages has."""
    return tuple(
        1 + max((int(found[1]) for name in state if (found := re.match(rf"layer{stage}\.(\d+)\.", name))), default=-1)
        for stage in (1, 2, 3, 4)
    )


def audio_shapes(state: Weights) -> Shapes:
    """Each weight's shape, from the sizes that some of the weights have.

    Args:
        state: Weights by AudioCLIP's names without prefix.

    Raises:
        WeightsError: a weight is missing that shows a size.
    """
    missing = [name for name in _SIZES if name not in state]
    if missing:
        raise WeightsError(f"AudioCLIP's audio.{missing[0]} is missing.", HINT)
    channels, bins = state["conv1.weight"].shape[0], state["fbsp.fc"].shape
    shapes: Shapes = {"window": state["window"].shape, "conv1.weight": (channels, 3, 7, 7), **_norm("bn1", channels)}
    shapes |= {f"fbsp.{name}": bins for name in ("m", "fb", "fc")}
    for stage, count in enumerate(block_counts(state), 1):
        wide = state[f"layer{stage}.0.conv3.weight"].shape[0]
        shapes |= _attention(f"att{stage}", channels, wide, ATTENTION_KERNELS[stage - 1])
        for number in range(count):
            name = f"layer{stage}.{number}"
            inner, within = state.get(f"{name}.conv2.weight", np.zeros((0, 0, 3, 3))).shape[:2]
            shapes |= {
                f"{name}.conv1.weight": (inner, channels, 1, 1),
                f"{name}.conv2.weight": (inner, within, 3, 3),
                f"{name}.conv3.weight": (wide, inner, 1, 1),
                **_norm(f"{name}.bn1", inner),
                **_norm(f"{name}.bn2", inner),
                **_norm(f"{name}.bn3", wide),
            }
            if number == 0:
                shapes |= {f"{name}.downsample.0.weight": (wide, channels, 1, 1), **_norm(f"{name}.downsample.1", wide)}
            channels = wide
    width = state["fc.weight"].shape[0]
    return (
        shapes
        | _attention("att5", channels, channels, ATTENTION_KERNELS[4])
        | {
            "fc.weight": (width, channels),
            "fc.bias": (width,),
        }
    )


def _norm(name: str, channels: int) -> Shapes:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def _attention(name: str, channels: int, wide: int, kernel: tuple[int, int]) -> Shapes:
    return {
        f"{name}.conv_depth.weight": (channels, 1, *kernel),
        f"{name}.conv_depth.bias": (channels,),
        f"{name}.conv_point.weight": (wide, channels, 1, 1),
        f"{name}.conv_point.bias": (wide,),
        **_norm(f"{name}.bn", wide),
    }


def blackman_harris(length: int) -> npt.NDArray[np.float64]:
    """The periodic Blackman–Harris window, (length,)."""
    angle = 2 * np.pi * np.arange(length) / length
    weights = (0.35875, -0.48829, 0.14128, -0.01168)
    return np.sum([weight * np.cos(order * angle) for order, weight in enumerate(weights)], axis=0)


def check_audio(state: Weights) -> None:
    """Check the weights of the audio half: names, shapes, and that the window is the Blackman–Harris window.

    Args:
        state: `Halves.audio`.

    Raises:
        WeightsError: a name is missing or unknown, a shape or the window is wrong, or a bandwidth is not positive.
    """
    check_shapes(state, audio_shapes(state) | {"logit_scale_ai": (1,), "logit_scale_at": (1,)})
    if np.abs(state["window"] - blackman_harris(len(state["window"]))).max() > 1e-6:
        raise WeightsError("audio.window is not the Blackman–Harris window, which is the only supported one.", HINT)
    if not (state["fbsp.fb"] > 0).all():
        raise WeightsError("audio.fbsp.fb has a bandwidth that is not positive.", HINT)
