"""The inspect command on the sample's photos, of which some got wrong labels."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jclip_adapter.data.sample import ensure_sample
from jclip_adapter.data.sets import load_dataset
from tests.conftest import Cli


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """photos.csv, a list of the sample's training photos with faults; returns those with wrong labels."""
    monkeypatch.chdir(tmp_path)
    images = load_dataset(ensure_sample())
    rng, names = np.random.default_rng(0), images.class_names
    photos = [photo for photo in images.train if int(Path(photo.relative).stem) <= 6]
    wrong = set(rng.choice(len(photos), len(photos) // 10, replace=False).tolist())
    lines = ["path,label"]
    for number, photo in enumerate(photos):
        shutil.copy(photo.path, f"{number}.jpg")
        off = int(rng.integers(1, len(names))) if number in wrong else 0
        lines.append(f"{number}.jpg,{names[(int(photo.label or 0) + off) % len(names)]}")
    shutil.copy("0.jpg", "copy.jpg")
    Path("broken.jpg").write_bytes(Path("1.jpg").read_bytes()[:200])
    lines += [f"copy.jpg,{names[-1]}", f"broken.jpg,{names[0]}"]
    Path("photos.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {f"{number}.jpg" for number in wrong}


def table() -> list[dict[str, str]]:
    """The rows that the command wrote."""
    with Path("results/inspections/photos.csv/photos.csv").open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_wrong_labels_duplicates_and_unreadable_photos(listed: set[str], cli: Cli) -> None:
    done = cli("--inspect", "--data", "photos.csv", "--weights", "sample")
    assert done.status == 0, done.err
    rows = table()
    ranked = [row for row in rows if row["rank"]]
    assert [int(row["rank"]) for row in ranked] == list(range(1, len(ranked) + 1))
    margins = [float(row["margin"]) for row in ranked]
    assert margins == sorted(margins)
    wrong = [row["photo"] in listed or row["photo"] == "copy.jpg" for row in ranked]
    assert sum(wrong) == len(listed) + 1
    assert roc_auc_score(wrong, -np.array(margins)) > 0.85
    (copy,) = (row for row in rows if row["photo"] == "copy.jpg")
    assert copy["duplicate_of"]
    assert copy["same_bytes"] == "yes"
    (broken,) = (row for row in rows if row["unreadable"])
    assert broken["photo"] == "broken.jpg"
    assert "unreadable: 1 photo" in done.out
    assert "across classes" in done.out
    again = cli("--inspect", "--data", "photos.csv", "--weights", "sample")
    assert again.status == 0
    assert table() == rows


@pytest.mark.usefixtures("listed")
def test_a_foreign_folder_is_kept(cli: Cli) -> None:
    folder = Path("results/inspections/photos.csv")
    folder.mkdir(parents=True)
    (folder / "photos.csv").write_text("mine\n", encoding="utf-8")
    done = cli("--inspect", "--data", "photos.csv", "--weights", "sample")
    assert done.status == 2
    assert "is not an inspection's folder" in done.err
    assert (folder / "photos.csv").read_text(encoding="utf-8") == "mine\n"


@pytest.mark.parametrize("idle", [("--method", "tip-adapter"), ("--shots", "2"), ("--auxiliary", "efficientnet-lite0")])
def test_options_without_effect_are_refused(idle: tuple[str, str], workplace: Path, cli: Cli) -> None:
    done = cli("--inspect", *idle)
    assert done.status == 2
    assert f"{idle[0]} has no effect" in done.err
