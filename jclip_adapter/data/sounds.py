"""Decodes sound files to the audio encoder's input; all sounds are decoded here, by libsndfile.

Only the first seconds of a file are decoded, so a small file that holds hours takes no more memory than others.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import stat
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import SetupError, SoundError
from jclip_adapter.core.task import Array

SOUND_SUFFIXES = frozenset([".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc"])
"""Suffixes, in lower case, of sounds in a folder."""
READABLE = "WAV, FLAC, OGG (Vorbis, Opus), MP3, AIFF"
RATE = 44_100
"""Samples per second of the result."""
SECONDS = 5
SAMPLES = RATE * SECONDS
VERSION = 1  # raise it when the samples of a file change
_MAX_CHANNELS = 8
_RATES = (1_000, 384_000)
# In libsndfile's log of a file: a chunk shorter than its header says, an OGG file without its last page.
_CUT_OFF = ("should be", "lacks an end-of-stream bit")
_ZERO_CROSSINGS, _PASS_BAND, _KAISER_BETA = 32, 0.95, 12.0
_log = logging.getLogger(__name__)


def is_sound(name: str) -> bool:
    """Whether a file is a sound, by its name.

    >>> is_sound("a.WAV"), is_sound("a.jpg"), is_sound("._a.wav")
    (True, False, False)
    """
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SOUND_SUFFIXES  # noqa: PTH122 (as photos)


def read_sound(path: str | Path) -> Array:
    """The first five seconds of a sound file.

    Longer sounds are cut at the end, shorter ones padded with zeros there. Channels are averaged, other sampling rates
    resampled. A file that holds fewer samples than its header says is read as far as it goes, with a warning.

    Args:
        path: The file.

    Returns:
        (`SAMPLES`,) mono samples at `RATE`, −1…1; files of floats may exceed that.

    Raises:
        SoundError: it is not a regular file, has an unsupported format, more than 8 channels or a sampling rate outside
            1 to 384 kHz, is empty or damaged, or has samples that are NaN or infinite.
        SetupError: soundfile is not installed.
    """
    with _opened(path) as file:
        rate, channels = file.samplerate, file.channels
        if channels > _MAX_CHANNELS:
            raise SoundError(f"{path} has {channels} channels, more than {_MAX_CHANNELS}.")
        if not _RATES[0] <= rate <= _RATES[1]:
            raise SoundError(f"{path} has a sampling rate of {rate} Hz, expected {_RATES[0]} to {_RATES[1]}.")
        wanted, promised = SECONDS * rate, file.frames
        frames = file.read(wanted, dtype="float32", always_2d=True)
        cut_off = len(frames) < promised or any(mark in file.extra_info for mark in _CUT_OFF)
    if not len(frames):
        raise SoundError(f"{path} is empty.")
    if not np.isfinite(frames).all():
        raise SoundError(f"{path} has samples that are NaN or infinite.")
    if len(frames) < wanted and cut_off:
        _log.warning("%s is truncated: only its first %.2f seconds are there", path, len(frames) / rate)
    wave = resampled(frames.mean(axis=1, dtype=np.float64), rate)[:SAMPLES].astype(np.float32)
    return np.pad(wave, (0, SAMPLES - len(wave)))


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """A file opened by soundfile; its errors in this block become ours."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is there, libsndfile is not
        raise SetupError(f"sounds cannot be read ({error}).", "Run `pip install soundfile`.") from error
    try:
        _check_kind(path, Path(path).stat())  # before opening, which may block on a pipe or start a device
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe may have replaced it since
        with os.fdopen(descriptor, "rb") as handle:
            _check_kind(path, os.fstat(descriptor))
            with soundfile.SoundFile(handle.fileno(), closefd=False) as file:
                yield file
    except (soundfile.LibsndfileError, MemoryError) as error:
        why = " ".join(str(getattr(error, "error_string", error)).split()) or "not enough memory"
        raise SoundError(f"{path} is not a readable sound ({why.rstrip('.')}), expected {READABLE}.") from error
    except SoundError:
        raise
    except (OSError, ValueError) as error:
        raise SoundError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def _check_kind(path: str | Path, status: os.stat_result) -> None:
    """Refuse folders, pipes, devices and files without content."""
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device"
        raise SoundError(f"{path} cannot be read (it is {kind}).")
    if not status.st_size:
        raise SoundError(f"{path} is empty.")


def resampled(wave: npt.NDArray[np.float64], rate: int) -> npt.NDArray[np.float64]:
    """Resample to `RATE` by a polyphase filter.

    A Kaiser window (β 12) around 32 zero crossings of a sinc that ends at 0.95 of the lower Nyquist frequency: errors
    are below −100 dB up to 0.8 of it, where scipy's default filter reaches −51.

    Args:
        wave: (n,).
        rate: Samples per second of `wave`.

    Returns:
        (⌈n·44,100/rate⌉,), to within a sample.
    """
    if rate == RATE:
        return wave
    from scipy.signal import resample_poly

    # An odd rate above 44.1 kHz would need a long filter; a ratio that differs by at most 3e-5 does not.
    ratio = Fraction(RATE, rate).limit_denominator(RATE)
    up, down = ratio.numerator, ratio.denominator
    return np.asarray(resample_poly(wave, up, down, window=_filter(max(up, down))))


@functools.lru_cache(maxsize=4)
def _filter(largest: int) -> npt.NDArray[np.float64]:
    from scipy.signal import firwin

    taps = 2 * _ZERO_CROSSINGS * largest + 1
    return np.asarray(firwin(taps, _PASS_BAND / largest, window=("kaiser", _KAISER_BETA)))
