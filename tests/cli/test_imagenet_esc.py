"""--protocol imagenet-esc on a feature file, and on generated sounds and photos with a tiny AudioCLIP."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jclip_adapter.core.task import normalise
from jclip_adapter.data.sounds import read_sound
from jclip_adapter.evaluation.imagenet_esc import COLUMNS
from jclip_adapter.features.sounds import encode_in_batches
from jclip_adapter.models.audioclip.encoder import AudioEncoder, load_audioclip
from tests.conftest import Cli
from tests.esc_features import CLASSES, write_esc_features
from tests.generated_sounds import write_esc50
from tests.golden_files import Golden
from tests.models.audioclip.audio_weights import random_audioclip, write_torch
from tests.tiny_contest import write_photo

FLAGS = ("--benchmark", "--protocol", "imagenet-esc", "--shots", 1, "--set", "iterations=101")
DATA = ("--data", "ESC", "--photos", "ImageNet", "--weights", "AudioCLIP.pt")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ESC/ with the 27 categories and one more, ImageNet/ with train and val folders, AudioCLIP.pt, esc.npz."""
    root = tmp_path_factory.mktemp("imagenet-esc")
    write_esc50(root / "ESC", 2, {**{each.category: each.target for each in CLASSES}, "rain": 10})
    for label, each in enumerate(CLASSES):
        for number in range(5):
            part = "train" if number < 3 else "val"
            write_photo(root / "ImageNet" / part / each.wordnet / f"{number}.jpg", number, label)
    write_torch(root / "AudioCLIP.pt", random_audioclip())
    write_esc_features(root / "esc.npz", Golden("imagenet_esc"))
    return root


@pytest.fixture(autouse=True)
def place(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(filled)


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_feature_file(cli: Cli) -> None:
    outcome = cli(*FLAGS, "--features", "esc.npz", "--out", "file.csv")
    assert outcome.status == 0, outcome.err
    rows = rows_of("file.csv")
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 2 * 2 * 8
    published = {(row["classes"], row["task"], row["rows"]): row["published"] for row in rows if row["published"]}
    assert published["27", "audio", "own, other"] == "35.00"
    assert len(published) == 8
    assert Path("file.md").read_text(encoding="utf-8").startswith(outcome.out.split("\n\nwritten")[0].rstrip())
    assert "written: file.csv, file.md, file.html\n" in outcome.out
    assert not Path("file.png").exists()
    assert cli(*FLAGS, "--features", "esc.npz", "--out", "file.csv").status == 0


def test_sounds_and_photos(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of sounds that the texts classify is recounted from the encoders alone."""
    outcome = cli(*FLAGS, *DATA, "--out", "data.csv")
    assert outcome.status == 0, outcome.err
    assert len(rows_of("data.csv")) == 2 * 2 * 8
    found = load_audioclip("AudioCLIP.pt", "cpu")
    texts = normalise(found.clip.texts([each.text for each in CLASSES]))
    targets = [each.target for each in CLASSES]
    right = []
    for line in rows_of("ESC/meta/esc50.csv"):
        if line["fold"] != "1" and int(line["target"]) in targets:
            sound = normalise(found.audio.sounds(read_sound(f"ESC/audio/{line['filename']}")[None]))[0]
            right.append(targets[(texts @ sound).argmax()] == int(line["target"]))
    assert len(right) == 27 * 2 * 4
    assert pytest.approx(np.mean(right)) in [cell["untrained"]["text"][0] for cell in cells("27-audio-1shot-split1")]
    monkeypatch.setattr(AudioEncoder, "sounds", lambda *_: pytest.fail("encoded again"))
    assert cli(*FLAGS, *DATA, "--out", "data.csv").status == 0


def cells(of: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in Path("results/cells").glob(f"imagenet-esc-{of}-*")]


def test_published_mode_encodes_batches_of_a_whole_fold_and_stores_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    encode = AudioEncoder.sounds

    def counted(self: AudioEncoder, waves: np.ndarray) -> np.ndarray:
        batches.append(len(waves))
        return encode(self, waves)

    monkeypatch.setattr(AudioEncoder, "sounds", counted)
    for _ in range(2):
        outcome = cli(*FLAGS, *DATA, "--audio-mode", "published", "--out", "published.csv")
        assert outcome.status == 0, outcome.err
    assert batches == 2 * 5 * [*5 * [10], 6]  # 28 categories, two takes
    audio = [row["top1"] for row in rows_of("published.csv") if (row["task"], row["rows"]) == ("audio", "none")]
    assert cli(*FLAGS, *DATA, "--out", "proper.csv").status == 0
    assert audio != [row["top1"] for row in rows_of("proper.csv") if (row["task"], row["rows"]) == ("audio", "none")]


def test_batches_are_in_the_order_of_the_files() -> None:
    found = load_audioclip("AudioCLIP.pt", "cpu", mode="published")
    paths = [Path(f"ESC/audio/1-10{take}-A-{each.target}.wav") for each in CLASSES[:6] for take in (0, 1)]
    waves = np.stack([read_sound(path) for path in paths])
    wanted = np.concatenate([found.audio.sounds(waves[:10]), found.audio.sounds(waves[10:])])
    np.testing.assert_array_equal(encode_in_batches(found.audio, paths), wanted)
    with pytest.raises(ValueError, match="depend on their batch"):
        _ = found.sounds


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--features", "esc.npz", "--shots", "3"), "no photos of 3 shots"),
        (("--features", "esc.npz", "--shots", "0"), "needs counts of shots"),
        (("--features", "esc.npz", "--seed", "1,2"), "one feature file and one seed"),
        (("--features", "esc.npz", "--method", "gda"), "--method has no effect with --protocol imagenet-esc"),
        (("--features", "esc.npz", "--set", "lr=1"), "--set lr has no effect"),
        (("--features", "esc.npz", "--set", "iterations=many"), "expected a whole number"),
        (("--features", "AudioCLIP.pt"), "AudioCLIP.pt"),
        (("--data", "ESC", "--weights", "AudioCLIP.pt"), "needs photos too"),
        (("--data", "ESC/audio", "--photos", "ImageNet", "--weights", "AudioCLIP.pt"), "ESC/audio"),
        (
            ("--data", "ESC", "--photos", "ImageNet/train", "--weights", "AudioCLIP.pt"),
            "has no labelled test photos of n01514668 (rooster)",
        ),
        (("--data", "ESC", "--photos", "ESC", "--weights", "AudioCLIP.pt"), "no folder of photos"),
        ((*DATA, "--views", "2"), "--views has no effect"),
    ],
)
def test_mistakes(flags: tuple[str, ...], message: str, cli: Cli) -> None:
    outcome = cli("--benchmark", "--protocol", "imagenet-esc", *flags)
    assert outcome.status == 2
    assert message in outcome.err


def test_the_mode_needs_the_protocol(cli: Cli) -> None:
    outcome = cli("--benchmark", "--data", "ESC", "--weights", "AudioCLIP.pt", "--audio-mode", "published")
    assert outcome.status == 2
    assert "--audio-mode has no effect without --protocol imagenet-esc" in outcome.err
