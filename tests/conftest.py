"""A tiny data set in the contest's layout, tiny weights, and a way to call the command line."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from jclip_adapter import storage
from jclip_adapter.cli.app import main
from jclip_adapter.models.weights import confined

from .tiny_contest import WEIGHTS, write_contest

TRAIN = ("--train", *WEIGHTS, "--set", "epochs=2")
PREDICT = ("--predict", "result.txt", *WEIGHTS)
RUN = "results/runs/Dataset-A-tiny.pkl-seed-jclip-adapter-4shot-seed0"
TINY_WEIGHTS = "tiny-weights"  # the folder of the session's tiny.pkl


class Outcome(NamedTuple):
    """What a command left behind: exit status, stdout and stderr."""

    status: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def loud() -> Iterator[None]:
    """Logging as it was: --quiet silences the whole process, and so the tests behind."""
    yield
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def contest_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set, drawn once; for copying."""
    return write_contest(tmp_path_factory.mktemp("contest") / "Dataset")


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a tiny CLIP in JCLIP's file format; not to be changed."""
    from .random_weights import TINY, random_state, write_jclip

    path = tmp_path_factory.mktemp(TINY_WEIGHTS) / "tiny.pkl"
    write_jclip(path, random_state(TINY))
    return path


@pytest.fixture(scope="session", autouse=True)
def converted_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The child process that reads `tiny_weights` runs once per session: it takes longer than most commands do.

    Every other file is read as ever; tests/models/clip/weights tests the reading.
    """
    genuine = confined._write_in_child
    copies: dict[str, Path] = {}

    def write(source: Path, digest: str, target: Path) -> None:
        known = source.resolve().parent.name.startswith(TINY_WEIGHTS)
        if known and digest in copies:
            storage.write_bytes(target, copies[digest].read_bytes(), storage.KEPT)
            return
        genuine(source, digest, target)
        if known:
            copies[digest] = tmp_path_factory.mktemp("converted") / target.name
            shutil.copy(target, copies[digest])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confined, "_write_in_child", write)
        yield


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
