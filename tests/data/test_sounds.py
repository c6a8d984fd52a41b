"""Sound files of every kind give the same samples, and hostile ones are refused without taking memory."""

from __future__ import annotations

import builtins
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from jclip_adapter.core.errors import SetupError, SoundError
from jclip_adapter.data.sounds import RATE, SAMPLES, is_sound, read_sound, resampled

Samples = npt.NDArray[np.float64]


def tone(frequency: float = 440.0, seconds: float = 1.0, rate: int = RATE) -> Samples:
    return np.asarray(0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate))


def wav(frames: bytes, *, channels: int = 1, rate: int = RATE, bits: int = 16, kind: int = 1, size: int = -1) -> bytes:
    """A WAV file as bytes; `size` is the promised size of its data."""
    width = channels * bits // 8
    size = len(frames) if size < 0 else size
    form = struct.pack("<HHIIHH", kind, channels, rate, min(rate * width, 2**32 - 1), width, bits)
    head = struct.pack("<4sI8sI", b"RIFF", 36 + len(frames), b"WAVEfmt ", 16)
    return head + form + struct.pack("<4sI", b"data", size) + frames


@pytest.mark.parametrize(
    ("suffix", "subtype", "error"),
    [
        ("wav", "PCM_U8", 0.01),
        ("wav", "PCM_16", 1e-4),
        ("wav", "PCM_24", 1e-6),
        ("wav", "FLOAT", 1e-7),
        ("flac", "PCM_16", 1e-4),
        ("aiff", "PCM_16", 1e-4),
        ("ogg", "VORBIS", 0.02),
        ("mp3", "MPEG_LAYER_III", 0.02),
    ],
)
def test_formats(suffix: str, subtype: str, error: float, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(), RATE, subtype=subtype)
    found = read_sound(path)
    assert found.shape == (SAMPLES,)
    assert found.dtype == np.float32
    inner = slice(2000, 40_000)  # coding of the ends is lossy
    assert np.abs(found[inner] - tone()[inner]).max() < error
    assert not found[RATE + 2000 :].any()
    assert is_sound(path.name)


def test_opus_is_resampled_from_48_khz(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.opus", tone(rate=48_000), 48_000, format="OGG", subtype="OPUS")
    assert np.abs(read_sound(tmp_path / "a.opus")[2000:40_000] - tone()[2000:40_000]).max() < 0.02


def test_longer_sounds_are_cut_and_shorter_ones_padded(tmp_path: Path) -> None:
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 6 * RATE)
    soundfile.write(tmp_path / "long.wav", wave, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_sound(tmp_path / "long.wav"), wave[:SAMPLES].astype(np.float32))
    soundfile.write(tmp_path / "short.wav", wave[:100], RATE, subtype="FLOAT")
    found = read_sound(tmp_path / "short.wav")
    np.testing.assert_array_equal(found[:100], wave[:100].astype(np.float32))
    assert not found[100:].any()


def test_channels_are_averaged(tmp_path: Path) -> None:
    both = np.stack([tone(440), tone(1000)], axis=1)
    soundfile.write(tmp_path / "a.wav", both, RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav")[:RATE], both.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("rate", [1000, 8000, 11_025, 22_050, 48_000, 96_000, 384_000])
def test_resampling(rate: int) -> None:
    """A tone at 0.8 of the lower Nyquist frequency stays that tone; at the ends the filter sees silence."""
    frequency = 0.4 * min(rate, RATE)
    wave = tone(frequency, seconds=1.0, rate=rate)
    found = resampled(wave, rate)
    assert abs(len(found) - RATE) <= 1
    edge = RATE // 10
    wanted = tone(frequency, seconds=1.0)
    error = np.abs(found[edge:-edge] - wanted[: len(found)][edge:-edge]).max()
    assert 20 * np.log10(error / 0.5) < -100


@pytest.mark.parametrize("rate", [44_099, 12_347, 383_999])
def test_odd_rates_need_no_large_filter(rate: int) -> None:
    tracemalloc.start()
    try:
        found = resampled(tone(440, seconds=0.2, rate=rate), rate)
        assert tracemalloc.get_traced_memory()[1] < 400_000_000
    finally:
        tracemalloc.stop()
    assert np.abs(found[2000:6000] - tone(440, seconds=0.2)[2000:6000]).max() < 1e-4


def test_what_resampling_removes_is_gone() -> None:
    assert np.abs(resampled(tone(30_000, rate=96_000), 96_000)[4000:-4000]).max() < 1e-5


def refused(path: Path, words: str) -> None:
    """The file is refused in these words, and without much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(SoundError, match=words) as caught:
            read_sound(path)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_an_hour_in_half_a_megabyte_takes_five_seconds_of_it(tmp_path: Path) -> None:
    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(60 * RATE, np.int16))
    assert path.stat().st_size < 600_000
    tracemalloc.start()
    try:
        found = read_sound(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert found.shape == (SAMPLES,)
    assert not found.any()


def promising(path: Path, samples: int) -> Path:
    """A FLAC file of one second whose header promises another number of samples."""
    soundfile.write(path, tone(), RATE, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    # STREAMINFO follows "fLaC" and a header of 4 bytes; the 36 bits of the number end at its byte 18.
    place = slice(8 + 10, 8 + 18)
    packed = int.from_bytes(data[place], "big") >> 36 << 36 | samples
    data[place] = packed.to_bytes(8, "big")
    path.write_bytes(data)
    return path


def test_a_header_that_promises_68_billion_samples(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = promising(tmp_path / "a.flac", 2**36 - 1)
    tracemalloc.start()
    try:
        try:
            found = read_sound(path)
        except SoundError as error:
            assert "is not a readable sound" in error.message
        else:
            np.testing.assert_allclose(found[:RATE], tone(), atol=1e-4)
            assert "is truncated" in caplog.text
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_many_channels(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(bytes(2048 * 8), channels=1024))
    refused(tmp_path / "a.wav", "has 1024 channels, more than 8")


@pytest.mark.parametrize("rate", [999, 384_001, 2**31 - 1])
def test_odd_sampling_rates(rate: int, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(bytes(2000), rate=rate))
    refused(tmp_path / "a.wav", f"sampling rate of {rate} Hz")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(value: float, tmp_path: Path) -> None:
    wave = tone()
    wave[77] = value
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    refused(tmp_path / "a.wav", "NaN or infinite")


@pytest.mark.parametrize("suffix", ["wav", "aiff", "ogg", "mp3"])
def test_a_truncated_file_is_read_as_far_as_it_goes(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE), RATE)
    whole = read_sound(path)
    assert "truncated" not in caplog.text
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    part = read_sound(path)
    np.testing.assert_allclose(part[:RATE], whole[:RATE], atol=1e-5)
    assert not part[3 * RATE :].any()
    assert "is truncated: only its first" in caplog.text


def test_a_truncated_flac_file(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, RATE), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, "is not a readable sound")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (wav(b""), "is empty"),
        (b"<!DOCTYPE html><html></html>", "is not a readable sound"),
        (b"RIFF", "is not a readable sound"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is not a readable sound"),
        (bytes(5000), "is not a readable sound"),
    ],
)
def test_no_sound(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(data)
    refused(tmp_path / "a.wav", words)


def test_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "a.wav", "No such file")
    refused(tmp_path, "it is a folder")
    os.mkfifo(tmp_path / "pipe.wav")
    refused(tmp_path / "pipe.wav", "it is a pipe")


def test_soundfile_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = builtins.__import__

    def without(name: str, *more: Any, **options: Any) -> Any:
        if name == "soundfile":
            raise ImportError("No module named 'soundfile'")
        return genuine(name, *more, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SetupError, match="pip install soundfile"):
        read_sound(tmp_path / "a.wav")
