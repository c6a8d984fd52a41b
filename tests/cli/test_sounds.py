"""The whole way on sounds: generated ones in ESC-50's layout, a tiny AudioCLIP, and photos of the same classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jclip_adapter.core.task import normalise
from jclip_adapter.data.sounds import read_sound
from jclip_adapter.features.file import read_feature_file
from jclip_adapter.models.audioclip.encoder import AudioEncoder, load_audioclip
from tests.conftest import Cli
from tests.generated_sounds import KINDS, write_esc50, write_sound
from tests.models.audioclip.audio_weights import random_audioclip, write_torch
from tests.tiny_contest import write_photo

PHOTOS = 5
SOUNDS = ("--data", "ESC", "--weights", "AudioCLIP.pt")
LINEAR = ("--method", "cross-modal-linear", "--set", "iterations=20")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ESC/ with sounds, Photos/ with photos of the same classes, and AudioCLIP.pt; tests share its features."""
    root = tmp_path_factory.mktemp("sounds")
    write_esc50(root / "ESC", 2)
    for label, name in enumerate(KINDS):
        for number in range(PHOTOS):
            write_photo(root / "Photos" / name.replace("_", " ") / f"{number}.jpg", number, label)
    write_torch(root / "AudioCLIP.pt", random_audioclip())
    return root


@pytest.fixture(autouse=True)
def place(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(filled)
    shutil.rmtree("results/runs", ignore_errors=True)
    return filled


def run_of(folder: str = "results/runs") -> Path:
    (found,) = Path(folder).glob("*/run.json")
    return found.parent


def test_train_evaluate_and_predict(cli: Cli) -> None:
    outcome = cli("--train", *SOUNDS, *LINEAR, "--shots", 2)
    assert outcome.status == 0, outcome.err
    assert "ESC: 8 classes, 80 sounds, read as ESC-50's audio/ and meta/esc50.csv; 2 shots each" in outcome.err
    assert "predict --images SOUND --data ESC" in outcome.err
    facts = json.loads((run_of() / "run.json").read_text())
    assert (facts["settings"]["prompts"], facts["classes"]) == ("sound", list(KINDS))
    outcome = cli("--evaluate", "--data", "ESC", "--holdout", 1)
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith("cross-modal-linear on 8 sounds not used for training\n")
    write_sound(Path("elsewhere/bark.flac"), 3, 99)
    Path("elsewhere/broken.wav").write_bytes(b"RIFF")
    Path("elsewhere/photo.jpg").touch()
    outcome = cli("--predict", "--data", "ESC", "--images", "elsewhere", "--top", 2)
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("elsewhere/bark.flac: ")
    assert lines[0].count(" %") == 2
    assert "\nelsewhere/broken.wav is not a readable sound" in outcome.err


def test_zero_shot_is_the_cosine_by_the_scale_of_sounds_and_texts(cli: Cli) -> None:
    """The probabilities of `predict --images` are those of the encoders' features, without a template."""
    found = load_audioclip("AudioCLIP.pt", "cpu")
    file = "ESC/audio/1-100-A-3.wav"
    sound = normalise(found.audio.sounds(read_sound(file)[None]))[0].astype(np.float64)
    texts = normalise(found.clip.texts([name.replace("_", " ") for name in KINDS])).astype(np.float64)
    logits = found.scales.audio_text * texts @ sound
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    outcome = cli("--predict", *SOUNDS, "--method", "zero-shot", "--images", file, "--top", 8)
    assert outcome.status == 0, outcome.err
    printed = dict(part.rsplit(" ", 2)[:2] for part in outcome.out.strip().partition(": ")[2].split(", "))
    assert {name: float(share) for name, share in printed.items()} == {
        name: pytest.approx(100 * share, abs=0.06) for name, share in zip(KINDS, shares, strict=True)
    }


def test_a_result_file_of_sounds(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled: Path) -> None:
    """Class folders below train/ and test/; an unreadable sound follows the policies of photos."""
    for kind in range(2):
        for take in range(3):
            write_sound(
                tmp_path / "data" / ("test" if take == 2 else "train") / KINDS[kind] / f"{take}.wav", kind, take
            )
    (tmp_path / "data/test" / KINDS[0] / "9.wav").write_bytes(b"RIFF")
    (tmp_path / "data/train" / KINDS[0] / "9.wav").write_bytes(b"RIFF")
    monkeypatch.chdir(tmp_path)
    weights = ("--data", "data", "--weights", filled / "AudioCLIP.pt")
    outcome = cli("--train", *weights, *LINEAR, "--shots", 3)
    assert outcome.status == 0, outcome.err
    assert "1 training sound cannot be read; others of the same classes take their places" in outcome.err
    assert cli("--train", *weights, *LINEAR, "--shots", 3, "--strict").status == 2
    assert "2 labelled test sounds" not in cli("--evaluate", *weights, *LINEAR, "--shots", 3).out
    outcome = cli("--predict", "result.txt", *weights, *LINEAR, "--shots", 3)
    assert outcome.status == 0, outcome.err
    assert "(3 sounds, 2 ids each)" in outcome.out
    assert "1 sound could not be read" in outcome.out
    assert cli("--check", "result.txt", "--data", "data").status == 0
    outcome = cli("--predict", "other.txt", *weights, *LINEAR, "--shots", 3, "--on-bad-image", "stop")
    assert outcome.status == 2
    assert "1 test sound cannot be read" in outcome.err


def test_sounds_help_photos(cli: Cli) -> None:
    photos = ("--data", "Photos", "--weights", "AudioCLIP.pt", "--shots", 1)
    outcome = cli("--train", *photos, *LINEAR, "--audio", "ESC")
    assert outcome.status == 0, outcome.err
    run = run_of()
    assert run.name.endswith("-hearing-ESC")
    heard = json.loads((run / "run.json").read_text())["beside"]
    assert len(heard) == 8
    assert cli("--train", *photos, *LINEAR, "--run", "alone").status == 0
    assert (run / "adapter.safetensors").read_bytes() != Path("alone/adapter.safetensors").read_bytes()
    evaluation = cli("--evaluate", "--data", "Photos", "--run", run)
    assert evaluation.status == 0, evaluation.err
    assert "32 photos not used for training" in evaluation.out
    outcome = cli("--evaluate", "--data", "Photos", "--run", run, *LINEAR, "--audio", "Photos")
    assert outcome.status == 2
    assert "was trained with audio 'ESC', not 'Photos'" in outcome.err


def test_photos_help_sounds(cli: Cli) -> None:
    outcome = cli("--train", *SOUNDS, *LINEAR, "--photos", "Photos", "--exif", "keep")
    assert outcome.status == 0, outcome.err
    assert json.loads((run_of() / "run.json").read_text())["settings"]["photos"] == "Photos"
    outcome = cli("--predict", "--data", "ESC", "--images", "ESC/audio/1-100-A-3.wav")
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith("ESC/audio/1-100-A-3.wav: ")


def test_classes_of_photos_and_sounds_in_one_folder(cli: Cli, tmp_path: Path, filled: Path) -> None:
    for kind in range(2):
        for number in range(3):
            write_photo(tmp_path / "both" / KINDS[kind] / f"{number}.jpg", number, kind)
            write_sound(tmp_path / "both" / KINDS[kind] / f"{number}.wav", kind, number)
    both, photos, sounds = tmp_path / "both", "6 photos, a folder per class", "6 sounds, a folder per class"
    flags = ("--data", both, "--weights", "AudioCLIP.pt", "--shots", 1, *LINEAR)
    for more, read in (((), photos), (("--audio", both), photos), (("--photos", both), sounds)):
        outcome = cli("--train", *flags, *more)
        assert outcome.status == 0, outcome.err
        assert f"2 classes, {read}" in outcome.err
        kind = read.split()[1].strip(",")
        assert f"4 {kind} not used" in cli("--evaluate", "--data", both, "--run", run_of()).out
        shutil.rmtree("results/runs")


@pytest.mark.parametrize(
    ("by", "data"), [("audio", ("Photos", "--audio", "ESC")), ("image", ("ESC", "--photos", "Photos"))]
)
def test_zero_shot_by_the_other_modality(by: str, data: tuple[str, ...], cli: Cli) -> None:
    flags = ("--data", *data, "--weights", "AudioCLIP.pt", "--method", "zero-shot")
    outcome = cli("--evaluate", *flags, "--set", f"by={by}", "--holdout", 1)
    assert outcome.status == 0, outcome.err
    outcome = cli("--evaluate", *flags)
    assert outcome.status == 2
    assert f"--{'audio' if by == 'audio' else 'photos'} has no effect on zero-shot" in outcome.err


def test_a_feature_file_has_the_rows_of_both(cli: Cli) -> None:
    photos = ("--data", "Photos", "--weights", "AudioCLIP.pt")
    outcome = cli("--extract", "features.npz", *photos, "--shots", "1,2", "--audio", "ESC")
    assert outcome.status == 0, outcome.err
    task = read_feature_file("features.npz").tasks[1]
    features, labels = task.extra_rows()["audio"]
    assert labels.tolist() == [label for label in range(8) for _ in range(2)]
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    assert (task.logit_scale, task.extra_scale) == (pytest.approx(100), pytest.approx(50))
    outcome = cli("--benchmark", "--features", "features.npz", *LINEAR, "--select", "none")
    assert outcome.status == 0, outcome.err
    outcome = cli("--extract", "sounds.npz", *SOUNDS, "--shots", 1)
    assert outcome.status == 0, outcome.err
    task = read_feature_file("sounds.npz").tasks[1]
    assert (task.logit_scale, task.extra_rows()) == (1, {})


def test_a_benchmark_of_sounds(cli: Cli) -> None:
    flags = ("--method", "zero-shot,linear-probe", "--shots", 1, "--select", "none", "--out", "sounds.csv")
    outcome = cli("--benchmark", *SOUNDS, *flags)
    assert outcome.status == 0, outcome.err
    assert len(Path("sounds.csv").read_text().splitlines()) == 3


def test_stored_features_are_not_computed_again(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("--train", *SOUNDS, *LINEAR, "--shots", 2).status == 0
    monkeypatch.setattr(AudioEncoder, "sounds", lambda *_: pytest.fail("encoded again"))
    assert cli("--train", *SOUNDS, *LINEAR, "--shots", 2).status == 0


def test_parts_of_the_sounds(cli: Cli, filled: Path) -> None:
    for number in (1, 2):
        outcome = cli("--extract", "parts.npz", *SOUNDS, "--shots", 1, "--shard", f"{number}/2", "--cache", "shared")
        assert outcome.status == 0, outcome.err
    assert Path("parts.npz").is_file()


@pytest.mark.parametrize(
    "flags",
    [
        ("--views", 2),
        ("--exif", "keep"),
        ("--transparent", "drop"),
        ("--white-level", 1023),
        ("--workers", 0),
        ("--batch-size", 4),
        ("--precision", "float32"),
        ("--auxiliary", "efficientnet-lite0"),
        ("--encoder", "somewhere"),
    ],
)
def test_photo_options_have_no_effect_on_sounds(flags: tuple[object, ...], cli: Cli) -> None:
    method = ("--method", "amu-tuning") if "--auxiliary" in flags else ("--method", "cross-modal-linear")
    outcome = cli("--train", *SOUNDS, *method, *flags)
    assert outcome.status == 2
    assert f"{flags[0]} has no effect on sounds" in outcome.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--data", "ESC"), "sounds need AudioCLIP's weights, not ViT-B/32"),
        (("--data", "Photos", "--audio", "ESC"), "sounds need AudioCLIP's weights, not ViT-B/32"),
        (("--data", "ESC", "--weights", "efficientnet-lite0"), "sounds need AudioCLIP's weights"),
        (("--data", "ESC", "--audio", "ESC", "--photos", "ESC"), "--audio is for photos and --photos for sounds"),
        (("--data", "Photos", "--weights", "AudioCLIP.pt", "--audio", "Photos"), "no folder of sounds"),
        ((*SOUNDS, "--photos", "Photos", "--shots", 0, "--method", "zero-shot", "--set", "by=image"), "--shots 0"),
        ((*SOUNDS, "--method", "clip-lora"), "trains CLIP on the pixels of photos"),
        ((*SOUNDS, "--method", "tip-adapter", "--photos", "Photos"), "--photos has no effect on tip-adapter"),
    ],
)
def test_mistakes(flags: tuple[object, ...], message: str, cli: Cli) -> None:
    method = () if "--method" in flags else LINEAR
    outcome = cli("--train", *flags, *method)
    assert outcome.status == 2
    assert message in outcome.err


def test_other_classes_beside_are_refused_and_missing_ones_reported(cli: Cli, tmp_path: Path) -> None:
    write_sound(tmp_path / "one" / "Sea-Waves" / "a.wav", 4, 0)
    write_sound(tmp_path / "none" / "trumpet" / "a.wav", 4, 0)
    photos = ("--train", "--data", "Photos", "--weights", "AudioCLIP.pt", "--shots", 1, *LINEAR, "--audio")
    outcome = cli(*photos, tmp_path / "one")
    assert outcome.status == 0, outcome.err
    assert "has no sounds of 7 classes" in outcome.err
    outcome = cli(*photos, tmp_path / "none")
    assert outcome.status == 2
    assert "none has none of the classes of Photos" in outcome.err


def test_a_dry_run_counts_sounds(cli: Cli) -> None:
    outcome = cli("--train", *SOUNDS, "--dry-run")
    assert outcome.status == 0, outcome.err
    assert "training sounds: 80\n" in outcome.out
    assert "prompt of clock_tick: clock tick\n" in outcome.out
