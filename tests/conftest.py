"""A tiny data set in the contest's layout, tiny weights, and a way to call the command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from jclip_adapter.cli import main

CLASSES = ("Animal_Bear", "Animal_Sea_lion", "Caltech-101_chair", "Caltech-101_lamp", "Thu-dog_beagle", "Thu-dog_pug")
FOLDERS = ("Animal/Bear", "Animal/Sea_lion", "Caltech-101/chair", "Caltech-101/lamp", "Thu-dog/beagle", "Thu-dog/pug")
PER_CLASS = 6
TESTS = 10
TRAIN = ("--train", "--weights", "tiny.pkl", "--set", "epochs=2")
PREDICT = ("--predict", "result.txt", "--weights", "tiny.pkl")
RUN = "results/runs/Dataset-A-tiny-seed-jclip-adapter-4shot-seed0"
SIDE = 40  # of a photo in pixels; the tiny model reads 32


class Outcome(NamedTuple):
    """What a command left behind: exit status, stdout and stderr."""

    status: int
    out: str
    err: str


Cli = Callable[..., Outcome]


def write_photo(path: Path, seed: int, label: int = 0) -> None:
    """A JPEG of random blocks in a colour that goes with its class."""
    rng = np.random.default_rng([label, seed])
    colour = np.random.default_rng(label).integers(0, 200, 3)
    blocks = np.clip(colour + rng.integers(0, 56, (5, 5, 3)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks).resize((SIDE, SIDE), Image.Resampling.NEAREST).save(path, "JPEG", quality=90)


def write_contest(root: Path, tests: int = TESTS) -> Path:
    """Classes in three domains, PER_CLASS training photos each, test photos and their labels."""
    train = []
    for label, folder in enumerate(FOLDERS):
        for number in range(1, PER_CLASS + 1):
            write_photo(root / "TrainSet" / folder / f"{number}.jpg", number, label)
            train.append(f"TrainSet/{folder}/{number}.jpg {label}\n")
    labels = []
    for number in range(1, tests + 1):
        label = number % len(CLASSES)
        write_photo(root / "TestSetA" / f"image_{number}.jpg", 100 + number, label)
        labels.append(f"image_{number}.jpg {label}\n")
    (root / "classes.txt").write_text("".join(f"{name} {label}\n" for label, name in enumerate(CLASSES)))
    (root / "train.txt").write_text("".join(train))
    (root / "TestSetA_labels.txt").write_text("".join(labels))
    return root


@pytest.fixture(scope="session")
def contest_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set, drawn once; for copying."""
    return write_contest(tmp_path_factory.mktemp("contest") / "Dataset")


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a tiny CLIP in JCLIP's file format; not to be changed."""
    from tests.random_weights import TINY, random_state, write_jclip

    path = tmp_path_factory.mktemp("weights") / "tiny.pkl"
    write_jclip(path, random_state(TINY))
    return path


@pytest.fixture
def workplace(tmp_path: Path, contest_template: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds Dataset/, a copy of the tiny data set, and tiny.pkl."""
    shutil.copytree(contest_template, tmp_path / "Dataset")
    (tmp_path / "tiny.pkl").symlink_to(tiny_weights)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Call the command line within this process."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Outcome(status, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def trained_template(tmp_path_factory: pytest.TempPathFactory, contest_template: Path, tiny_weights: Path) -> Path:
    """A working directory in which TRAIN has been run; for copying."""
    root = tmp_path_factory.mktemp("trained")
    shutil.copytree(contest_template, root / "Dataset")
    (root / "tiny.pkl").symlink_to(tiny_weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(TRAIN) == 0
    return root


@pytest.fixture
def trained(tmp_path: Path, trained_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, as TRAIN leaves it."""
    shutil.copytree(trained_template, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
