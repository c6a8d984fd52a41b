"""A run folder is found again by what the run depends on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jclip_adapter.cli.settings import Settings
from tests.conftest import Cli
from tests.tiny_contest import write_photo

NAMES = ("cat", "dog", "hen")


def photos_of(root: Path, shift: int) -> Path:
    """Three classes of a colour each; `shift` says which class has which colour."""
    for label, name in enumerate(NAMES):
        for number in range(8):
            write_photo(root / "train" / name / f"{number}.jpg", number, (label + shift) % 3)
        for number in range(4):
            write_photo(root / "test" / name / f"{number}.jpg", 50 + number, (label + shift) % 3)
    return root


def accuracy(text: str) -> str:
    """The method's top-1 in total, from the table of --evaluate."""
    row = next(line for line in text.splitlines() if line.startswith("| total"))
    return row.split("|")[4].strip()


def test_two_data_sets_of_one_name_do_not_share_a_run(workplace: Path, cli: Cli) -> None:
    """E3: equal base names and equal class names, other photos: 0 % by the other's adapter, exit 0."""
    for version, shift in (("v1", 0), ("v2", 1)):
        photos_of(workplace / version / "my_photos", shift)
    flags = ("--weights", "tiny.pkl", "--method", "linear-probe")
    assert cli("--train", "--data", "v1/my_photos", *flags).status == 0
    refused = cli("--evaluate", "--data", "v2/my_photos", *flags)
    assert refused.status == 2
    assert "there is no trained run" in refused.err
    assert cli("--train", "--data", "v2/my_photos", *flags).status == 0
    for version in ("v1", "v2"):
        outcome = cli("--evaluate", "--data", f"{version}/my_photos", *flags)
        assert accuracy(outcome.out) == "100.0 %", outcome.out
    assert len(list(Path("results/runs").iterdir())) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"data": "v1/photos"}, {"data": "v2/photos"}),
        ({"data": "photos.csv"}, {"data": "photos"}),
        ({"data": "a/photos.csv"}, {"data": "b/photos.csv"}),
        ({"data": "my photos"}, {"data": "my-photos"}),
        ({"data": "photos"}, {"data": "../photos"}),
        ({"weights": "a/w.pkl"}, {"weights": "b/w.pkl"}),
        ({"weights": "w.pkl"}, {"weights": "w.safetensors"}),
        ({"prompts": "a/p.yaml"}, {"prompts": "b/p.yaml"}),
        ({"support": "a/list.txt"}, {"support": "b/list.txt"}),
        ({"encoder": "a/run"}, {"encoder": "b/run"}),
        ({"data": "sample"}, {"data": "./sample"}),
    ],
    ids=str,
)
def test_what_a_run_depends_on_tells_it(
    first: dict[str, str], second: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for number, value in enumerate((*first.values(), *second.values())):
        path = Path(value)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.write_text(str(number))
        else:
            path.mkdir(exist_ok=True)
    assert Settings(**first).run_folder != Settings(**second).run_folder


def test_the_same_place_is_found_however_it_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_photos").mkdir()
    spellings = ("my_photos", "./my_photos", "my_photos/", str(tmp_path / "my_photos"), "x/../my_photos")
    assert len({Settings(data=spelling).run_folder for spelling in spellings}) == 1
    assert "my_photos-ViT-B-32-auto-4shot-seed0" in str(Settings(data="my_photos").run_folder)


def test_a_changed_support_list_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("a.jpg 0\n")
    before = Settings(support="list.txt").run_folder
    shutil.copy("list.txt", "copy")
    Path("list.txt").write_text("b.jpg 0\n")
    assert Settings(support="list.txt").run_folder != before
