"""Accuracy that is told means what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import RUN, Cli
from tests.tiny_contest import TESTS, write_photo

FLAGS = ("--evaluate", "--weights", "tiny.pkl")


def total(kind: str = "scores") -> dict[str, float]:
    """The row "total" of evaluation.json."""
    report = json.loads(Path(RUN, "evaluation.json").read_text())
    assert report["unit"] == "percent"
    return dict(report[kind][-1])


def few_classes(root: Path) -> Path:
    """Three classes, fewer than five ids to choose from."""
    for label, name in enumerate(("cat", "dog", "hen")):
        for number in range(5):
            write_photo(root / "train" / name / f"{number}.jpg", number, label)
        for number in range(2):
            write_photo(root / "test" / name / f"{number}.jpg", 50 + number, label)
    return root


@pytest.mark.parametrize("broken", [1, 4, 9])
def test_unreadable_photos_are_wrong_in_top1_and_top5(broken: int, trained: Path, cli: Cli) -> None:
    """And they stand in no confused pair, as nothing was predicted for them."""
    assert cli(*FLAGS).status == 0
    before = total()
    photos = sorted(Path("Dataset/TestSetA").iterdir())
    for photo in photos[:broken]:
        photo.write_bytes(b"")
    outcome = cli(*FLAGS)
    assert f"{broken} photo{'s'[: broken > 1]} could not be read, counted as wrong" in outcome.out
    for kind in ("scores", "zero_shot"):
        assert total(kind)["top5"] <= 100 * (TESTS - broken) / TESTS
        assert total(kind)["n"] == TESTS
    assert total()["top1"] <= before["top1"]
    report = json.loads(Path(RUN, "evaluation.json").read_text())
    assert sum(pair["count"] for pair in report["worst_pairs"]) <= TESTS - broken


def test_unreadable_photos_are_wrong_where_every_class_is_among_five(workplace: Path, cli: Cli) -> None:
    """With three classes, five ids hold every class: an unreadable photo would be right in top-5."""
    data = few_classes(workplace / "pets")
    flags = ("--weights", "tiny.pkl", "--data", data, "--run", "run", "--method", "linear-probe")
    assert cli("--train", *flags).status == 0
    (data / "test/cat/0.jpg").write_bytes(b"none")
    assert cli("--evaluate", *flags).status == 0
    score = json.loads(Path("run/evaluation.json").read_text())["scores"][-1]
    assert score["top5"] == pytest.approx(100 * 5 / 6)


def test_nothing_readable_is_refused(trained: Path, cli: Cli) -> None:
    for photo in Path("Dataset/TestSetA").iterdir():
        photo.write_bytes(b"")
    outcome = cli(*FLAGS)
    assert outcome.status == 2
    assert "none of the 10 labelled test photos can be read" in outcome.err


def test_every_result_file_is_in_percent(trained: Path, cli: Cli) -> None:
    assert cli(*FLAGS, "--holdout", "2").status == 0
    metrics = json.loads(Path(RUN, "metrics.json").read_text())
    assert metrics["unit"] == "percent"
    assert metrics["support"]["trained_top1"] > 1
    assert 1 < total()["top5"] <= 100
    low, high = total()["top1_interval"]
    assert low <= total()["top1"] <= high
    assert high > 1


def test_a_new_adapter_does_not_keep_the_old_ones_evaluation(trained: Path, cli: Cli) -> None:
    """evaluation.json and confusion.png told of an adapter that was no longer there."""
    assert cli(*FLAGS).status == 0
    assert Path(RUN, "evaluation.json").is_file()
    assert cli("--train", "--weights", "tiny.pkl", "--set", "epochs=1").status == 0
    assert not Path(RUN, "evaluation.json").exists()
    assert not Path(RUN, "confusion.png").exists()


def test_without_texts_and_shots_there_is_no_baseline(workplace: Path, cli: Cli) -> None:
    """An ImageNet network's own classes were compared with prototypes of no photo, which is chance."""
    flags = ("--weights", "efficientnet-lite0", "--method", "zero-shot", "--set", "names=1")
    outcome = cli("--evaluate", *flags)
    assert outcome.status == 0, outcome.err
    assert "prototypes" not in outcome.out
    assert cli("--train", *flags).status == 0
    assert "| prototypes |" in cli("--evaluate", *flags).out


def test_test_photos_are_missed_before_the_training(workplace: Path, cli: Cli) -> None:
    data = few_classes(workplace / "pets")
    for photo in (data / "test").rglob("*.jpg"):
        photo.unlink()
    outcome = cli("--train", "--predict", "r.txt", "--weights", "tiny.pkl", "--data", data, "--run", "run")
    assert outcome.status == 2
    assert "no test photos" in outcome.err
    assert not Path("run").exists()


def test_what_is_finished_is_not_resumed(workplace: Path, cli: Cli) -> None:
    flags = ("--train", "--weights", "tiny.pkl", "--method", "text-tower", "--set", "epochs=1", "--run", "run")
    assert cli(*flags).status == 0
    before = Path("run/adapter.safetensors").stat().st_mtime_ns
    outcome = cli(*flags, "--resume")
    assert outcome.status == 0
    assert "the training in run is finished" in outcome.err
    assert Path("run/adapter.safetensors").stat().st_mtime_ns == before
