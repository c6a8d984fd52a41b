"""A tiny data set in the contest's layout, tiny weights, and a way to call the command line."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

from jclip_adapter.cli.app import main
from jclip_adapter.features.encoding import PhotoFeatures, encode_photos
from jclip_adapter.features.task_encoder import TaskEncoder
from jclip_adapter.models.weights import confined

from .tiny_contest import WEIGHTS, write_contest

settings.register_profile("tests", deadline=None)  # a busy machine is no fault of what is tested
settings.load_profile("tests")

TRAIN = ("--train", *WEIGHTS, "--set", "epochs=2")
PREDICT = ("--predict", "result.txt", *WEIGHTS)
RUN = "results/runs/Dataset-tiny.pkl-jclip-adapter-4shot-seed0"


class Outcome(NamedTuple):
    """What a command left behind: exit status, stdout and stderr."""

    status: int
    out: str
    err: str


Cli = Callable[..., Outcome]


def no_photos(tasks: TaskEncoder, paths: Sequence[Path]) -> PhotoFeatures:
    """In place of `TaskEncoder.photos`: the features of no photo; fails if there is one."""
    assert not paths, "photos are encoded"
    return encode_photos(tasks.encoder, paths, tasks.cache, 0)


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

    path = tmp_path_factory.mktemp("weights") / "tiny.pkl"
    write_jclip(path, random_state(TINY))
    return path


@pytest.fixture(autouse=True)
def weights_are_read_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickled weights are read by the same code without a process around it, which takes longer than most commands do.

    Tests of that process are marked `confined`.
    """
    if request.node.get_closest_marker("confined") is None:
        monkeypatch.setattr(confined, "_write_in_child", confined._write)


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
