"""The serve command: what it needs, what data it takes, and how it ends."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from jclip_adapter.web import server
from tests.conftest import Cli
from tests.tiny_contest import WEIGHTS, write_photo

SERVE = ("--serve", *WEIGHTS)


@pytest.fixture(autouse=True)
def nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "compute", lambda _: None)  # which would wait for Ctrl-C


def test_it_prints_its_address(workplace: Path, cli: Cli) -> None:
    outcome = cli(*SERVE)
    assert outcome.status == 0, outcome.err
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", outcome.out)
    assert "results/projects/Dataset/labels.csv" in outcome.err
    assert Path("results/projects/Dataset/data").resolve() == workplace / "Dataset"


def test_another_address_comes_with_a_token(workplace: Path, cli: Cli) -> None:
    first, second = (cli(*SERVE, "--host", "0.0.0.0").out for _ in range(2))  # noqa: S104
    assert re.fullmatch(r"http://0\.0\.0\.0:\d+/\?token=[\w-]{20,}\n", first)
    assert first.partition("token=")[2] != second.partition("token=")[2]


def test_without_the_extra_it_says_how_to_install_it(
    workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name == "starlette" else find(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    outcome = cli(*SERVE)
    assert outcome.status == 2
    assert outcome.err == "error: serve needs starlette. Run `pip install 'jclip-adapter[web]'`.\n"
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), "0 classes, 0 photos, read as photos without classes"),
        (("1.jpg", "2.jpg", "notes.txt"), "0 classes, 2 photos, read as photos without classes"),
        (("1.jpg", "empty/notes.txt"), "0 classes, 1 photo, read as photos without classes"),
        (("cat/1.jpg", "dog/2.jpg"), "2 classes, 2 photos, a folder per class"),
    ],
)
def test_folders(workplace: Path, cli: Cli, names: tuple[str, ...], expected: str) -> None:
    Path("mine").mkdir()
    for number, name in enumerate(names):
        Path("mine", name).parent.mkdir(exist_ok=True)
        if name.endswith(".jpg"):
            write_photo(Path("mine", name), number)
        else:
            Path("mine", name).write_text("notes")
    outcome = cli(*SERVE, "--data", "mine")
    assert outcome.status == 0, outcome.err
    assert expected in outcome.err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--data", "nowhere"), "there is no nowhere"),
        (("--data", "sounds"), "the data are sounds"),
        (("--method", "tip-adaptor"), "Did you mean 'tip-adapter'"),
        (("--port", "0"), "at least 1"),
        (("--host", "192.0.2.1"), "cannot listen on 192.0.2.1"),
        (("--project", "tiny.pkl"), "tiny.pkl"),
        (("--data", "mine", "--split", "B"), "--split has no effect on mine"),
    ],
)
def test_mistakes(workplace: Path, cli: Cli, flags: tuple[str, ...], told: str) -> None:
    write_photo(Path("mine") / "1.jpg", 1)
    (Path("sounds") / "dog").mkdir(parents=True)
    (Path("sounds") / "dog" / "1.wav").write_bytes(b"RIFF")
    outcome = cli(*SERVE, *flags)
    assert outcome.status == 2
    assert told in outcome.err.splitlines()[-1]
    assert cli(*SERVE).status == 0  # nothing is left locked
