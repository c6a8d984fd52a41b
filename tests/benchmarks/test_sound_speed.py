"""The program that measures encoding of sounds times what it says, and refuses what computes something else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import sound_speed
from benchmarks.torch_audio import noise
from benchmarks.turns import Runner, stopped
from jclip_adapter.core.errors import DataError
from jclip_adapter.models.audioclip.encoder import load_audioclip
from tests.models.audioclip.audio_weights import random_audioclip, write_torch

FEATURES = [[1.0, 2.0]] * sound_speed.CHECKED


def answering(what: str, seconds: float, features: list[list[float]]) -> Runner:
    answer = json.dumps({"seconds": seconds, "count": 2, "peak_mb": 5.4, "features": features})
    return Runner(what, [sys.executable, "-c", f"import sys\nfor _ in sys.stdin: print({answer!r}, flush=True)"])


def test_ours_computes_the_encoders_features(tmp_path: Path) -> None:
    weights = write_torch(tmp_path / "AudioCLIP.pt", random_audioclip())
    runner = Runner("ours", [sys.executable, "-m", "benchmarks.sound_ours", "published", str(weights)])
    with stopped([runner]):
        answer = runner.ask({"task": "check", "count": 3})
    assert answer["count"] == 3
    assert answer["seconds"] > 0
    wanted = load_audioclip(str(weights), "cpu", mode="published").audio.sounds(noise(3))
    np.testing.assert_allclose(answer["features"], wanted, rtol=1e-5)


def test_rates_and_ratios() -> None:
    own = [answering("ours", 0.5, FEATURES), answering("PyTorch", 1.0, FEATURES)]
    with stopped(own):
        rows = sound_speed.measure({"proper": own}, 2, 2)
    assert [(row["way"], row["sounds_per_second"], row["ratio"], row["batch"]) for row in rows] == [
        ("ours", "4.00", "2.00", 1),
        ("PyTorch", "2.00", "1.00", 1),
    ]
    text = sound_speed.report(rows)
    assert "| proper | ours    |     1 |" in text
    assert "a cosine of at least 1.000000" in text


def test_another_computation_is_refused() -> None:
    own = [answering("ours", 1.0, FEATURES), answering("PyTorch", 1.0, [[1.0, -2.0]] * sound_speed.CHECKED)]
    with stopped(own), pytest.raises(DataError, match=r"features differ, a cosine of -0\.6"):
        sound_speed.measure({"proper": own}, 1, 2)
