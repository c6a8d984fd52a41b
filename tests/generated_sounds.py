"""Generated sounds in ESC-50's layout; numpy alone, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

Wave = npt.NDArray[np.float64]
RATE = 44_100
SECONDS = 0.5
KINDS = (
    "clock_tick",
    "clock_alarm",
    "church_bells",
    "crickets",
    "sea_waves",
    "vacuum_cleaner",
    "chirping_birds",
    "engine",
)
CATEGORIES = {name: number for number, name in enumerate(KINDS)}
_HEADER = "filename,fold,target,category,esc10,src_file,take"


def _band(rng: np.random.Generator, size: int, low: float, high: float) -> Wave:
    """Noise between two frequencies in Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequency = np.fft.rfftfreq(size, 1 / RATE)
    spectrum[(frequency < low) | (frequency > high)] = 0
    noise = np.fft.irfft(spectrum, size)
    return noise / np.abs(noise).max()


def _tick(rng: np.random.Generator, t: Wave) -> Wave:
    period = rng.uniform(0.12, 0.2)
    return _band(rng, len(t), 2_000, 9_000) * np.exp(-(t % period) / 0.004)


def _alarm(rng: np.random.Generator, t: Wave) -> Wave:
    return np.sin(2 * np.pi * rng.uniform(1_500, 3_500) * t) * (t % 0.12 < 0.06)


def _bells(rng: np.random.Generator, t: Wave) -> Wave:
    pitch = rng.uniform(300, 700)
    return sum(np.sin(2 * np.pi * pitch * part * t) * np.exp(-t / 0.6) / 5 for part in (0.5, 1, 1.19, 2.01, 2.74))


def _crickets(rng: np.random.Generator, t: Wave) -> Wave:
    return np.sin(2 * np.pi * rng.uniform(4_000, 5_000) * t) * (np.sin(2 * np.pi * 55 * t) > 0)


def _waves(rng: np.random.Generator, t: Wave) -> Wave:
    return _band(rng, len(t), 80, 2_500) * (0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * t))


def _vacuum(rng: np.random.Generator, t: Wave) -> Wave:
    pitch = rng.uniform(90, 140)
    return 0.3 * _band(rng, len(t), 20, 15_000) + sum(np.sin(2 * np.pi * pitch * part * t) for part in range(1, 9)) / 12


def _birds(rng: np.random.Generator, t: Wave) -> Wave:
    start, within = rng.uniform(2_500, 4_000), t % 0.1
    return np.sin(2 * np.pi * (start * within + 15_000 * within**2)) * (within < 0.07)


def _engine(rng: np.random.Generator, t: Wave) -> Wave:
    pitch = rng.uniform(25, 60)
    return np.clip(sum(np.sin(2 * np.pi * pitch * part * t) / part for part in range(1, 12)), -0.8, 0.8)


_MAKE: tuple[Callable[[np.random.Generator, Wave], Wave], ...] = (
    *(_tick, _alarm, _bells, _crickets, _waves, _vacuum, _birds, _engine),
)


def sound(kind: int, seed: int, seconds: float = SECONDS) -> npt.NDArray[np.int16]:
    """A take of a kind, by its number: pitch, rate, gain and noise floor differ by the seed."""
    rng = np.random.default_rng([kind, seed])
    t = np.arange(round(seconds * RATE)) / RATE
    wave = _MAKE[kind % len(_MAKE)](rng, t) + 0.01 * rng.standard_normal(len(t))
    return (32_000 * rng.uniform(0.3, 0.9) * wave / np.abs(wave).max()).astype(np.int16)


def write_sound(path: Path, kind: int, seed: int) -> None:
    """Write a take as FLAC or WAV, by the path's suffix."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound(kind, seed), RATE, subtype="PCM_16")


def write_esc50(root: Path, takes: int = 8, categories: Mapping[str, int] = CATEGORIES) -> Path:
    """Write audio/ and meta/esc50.csv: five folds with some takes of each category, in short WAV files.

    Args:
        root: The folder.
        takes: Sounds per category and fold.
        categories: Target by category; the n-th category sounds like kind n modulo 8.
    """
    lines = [_HEADER]
    for fold in range(1, 6):
        for take in range(takes):
            for kind, (category, target) in enumerate(categories.items()):
                source = 100 * fold + take
                name = f"{fold}-{source}-A-{target}.wav"
                write_sound(root / "audio" / name, kind, source)
                lines.append(f"{name},{fold},{target},{category},False,{source},A")
    (root / "meta").mkdir()
    (root / "meta/esc50.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root
