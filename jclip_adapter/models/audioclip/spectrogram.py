"""Sounds to pictures: framing, a learnt complex spectrogram (fbsp), power in decibel.

Guzhov et al., "ESResNe(X)t-fbsp: Learning Robust Time-Frequency Transformation of Audio", 2021 (arXiv:2104.11587).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import runtime
from jclip_adapter.core.task import Array, Weights
from jclip_adapter.models.clip.inference import operations

from .shapes import blackman_harris

Array64 = npt.NDArray[np.float64]
HOP = 561  # samples from one frame to the next
_BANDS = 3  # of frequencies; they are the channels of the picture
_SILENCE = 1e-18  # replaces a power of exactly 0


def fbsp_kernels(m: npt.ArrayLike, fb: npt.ArrayLike, fc: npt.ArrayLike, length: int) -> npt.NDArray[np.complex128]:
    """Frequency B-spline wavelets: √f_b · sinc(f_b·t/m)^m · exp(−i·f_c·t) / √length.

    In float64: f_c·t exceeds 3,000, where float32 errs by 0.2 % of the largest value.

    Args:
        m: (F,) orders; 0 for a rectangular window.
        fb: (F,) bandwidths, positive.
        fc: (F,) centre frequencies.
        length: Samples of a frame, L.

    Returns:
        (F, L).
    """
    m, fb, fc = (np.asarray(values, dtype=np.float64)[:, None] for values in (m, fb, fc))
    time = np.pi * np.linspace(-1, 1, length) + 1e-8
    angle = fb * time / (m + 1e-8)
    sinc = np.where(angle == 0, 1.0, np.sin(angle) / np.where(angle == 0, 1.0, angle))
    # The principal power of a real number, which is complex where it is negative.
    envelope = np.abs(sinc) ** m * np.exp(1j * np.pi * m * (sinc < 0))
    return np.sqrt(fb) * envelope * np.exp(-1j * fc * time) / np.sqrt(length)


def scaled(waves: Array) -> Array:
    """Map samples of the int16 range to −1…1, in float32, as AudioCLIP does: 0 becomes 2⁻¹⁶."""
    one = np.float32(1)
    return np.asarray((waves.astype(np.float32) + 32768 * one) * (2 * one) / (65535 * one) - one)


def frame_count(samples: int, window: int, hop: int) -> int:
    """How many frames cover a sound.

    >>> frame_count(220500, 1654, 561)
    392
    """
    return 1 if samples <= window else 1 + -(-(samples - window) // hop)


def frames(waves: Array, window: int, hop: int) -> Array:
    """Overlapping frames of sounds, with zeros for missing samples, the odd one behind.

    Args:
        waves: (B, n).
        window: Samples of a frame.
        hop: Samples from one frame to the next.

    Returns:
        (B, T, window).
    """
    missing = (frame_count(waves.shape[1], window, hop) - 1) * hop + window - waves.shape[1]
    wide = np.pad(waves, ((0, 0), (missing // 2, missing - missing // 2)))
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(wide, window, axis=1)[:, ::hop])


class Spectrogram:
    """The spectrogram as a matmul: window, zeros around the frame and kernels are one matrix.

    Args:
        state: Weights of the audio tower, by AudioCLIP's names without prefix.
        hop: Samples from one frame to the next.
    """

    def __init__(self, state: Weights, hop: int) -> None:
        jt = runtime.start()
        self.hop = hop
        window = blackman_harris(len(state["window"]))
        bins = len(state["fbsp.fc"])
        self.height = bins // _BANDS
        used, length = self.height * _BANDS, 2 * (bins - 1)
        left = (length - len(window)) // 2
        kernels = fbsp_kernels(state["fbsp.m"][:used], state["fbsp.fb"][:used], state["fbsp.fc"][:used], length)
        matrix = kernels[:, left : left + len(window)] * window
        self.window = len(window)
        self._ops = operations()
        joined = np.concatenate([matrix.real, matrix.imag]).astype(np.float32)
        self._packed = self._ops.pack(jt.array(joined), "float32")
        self._packed.sync()
        self._zeros = jt.zeros((2 * used,))

    def size(self, samples: int) -> tuple[int, int]:
        """Height (frequencies) and width (frames) of the picture of a sound."""
        return self.height, frame_count(samples, self.window, self.hop)

    def spectrum(self, waves: Array) -> Any:
        """The complex spectrogram.

        Args:
            waves: (B, n) samples, mapped by `scaled`.

        Returns:
            (B, T, 2, F) real and imaginary parts of F = 3·`height` frequencies.
        """
        jt = runtime.start()
        cut = frames(waves, self.window, self.hop)
        found = self._ops.linear(jt.array(cut.reshape((-1, self.window))), self._packed, self._zeros, "float32")
        return found.reshape((*cut.shape[:2], 2, _BANDS * self.height))

    def __call__(self, waves: Array) -> Any:
        """Pictures of sounds.

        Args:
            waves: (B, n) samples, in the range of int16 for weights as published.

        Returns:
            (B, `height`, T, 3) decibel: low frequencies first in each band, the lowest band first.
        """
        jt = runtime.start()
        spectrum = self.spectrum(scaled(waves))
        power = spectrum[:, :, 0] * spectrum[:, :, 0] + spectrum[:, :, 1] * spectrum[:, :, 1]
        decibel = jt.log(jt.ternary(power > 0, power, jt.full_like(power, _SILENCE))) * (10 / np.log(10))
        return decibel.reshape((*power.shape[:2], _BANDS, self.height)).transpose(0, 3, 1, 2)
