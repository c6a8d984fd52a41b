"""docs/seeds.md: every row has figures, something to see or a reason, and every command runs in a short form."""

from __future__ import annotations

import importlib
import json
import shlex
import shutil
from pathlib import Path

import pytest

from benchmarks import ROOT, cross_modal_gain, seeds
from jclip_adapter.core.errors import DataError
from jclip_adapter.methods import available
from tests.conftest import Cli
from tests.esc_features import write_esc_features
from tests.generated_sounds import write_sound
from tests.golden_files import Golden
from tests.models.audioclip.audio_weights import random_audioclip, write_torch
from tests.tiny_contest import write_photo
from tests.tiny_features import write_features

KEYS = {"what", "theirs", "command", "short", "ours", "see", "note"}
METHODS = (  # of the sources
    *("jclip-adapter", "linear-probe", "em-dirichlet", "hard-em-dirichlet", "multimodal-adapter", "coop", "prograd"),
    *("uni-modal-linear", "wise-ft", "tip-adapter", "cross-modal-linear", "cross-modal-wise-ft"),
    *("cross-modal-adapter", "cross-modal-partial", "cross-modal-prompting", "coop-linear-probe"),
)


def commands() -> list[str]:
    """The short forms, each once."""
    found = [f"{row['command']} {row.get('short', '')}" for row in seeds.entries().values() if "command" in row]
    return list(dict.fromkeys(found))


def publish(workplace: Path, folder: str, name: str) -> None:
    """Lay the tiny contest's photos out as a published split."""
    shutil.copytree(workplace / "Dataset", workplace / folder)
    rows = [line.split() for line in (workplace / "Dataset" / "train.txt").read_text().splitlines()]
    listed = [[path, int(label), Path(path).parent.name] for path, label in rows]
    split = {"train": listed[0::3] + listed[1::3], "val": [], "test": listed[2::3]}
    (workplace / folder / f"split_zhou_{name}.json").write_text(json.dumps(split))


def write_sounds_and_photos(folder: Path) -> None:
    """Sounds/ and Photos/ of two classes, and AudioCLIP.pt."""
    for kind, name in enumerate(("bell", "engine")):
        for number in range(2):
            write_sound(folder / "Sounds" / name / f"{number}.wav", kind, number)
            write_photo(folder / "Photos" / name / f"{number}.jpg", number, kind)
    write_torch(folder / "AudioCLIP.pt", random_audioclip())


@pytest.fixture
def short_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors' 12,800 iterations, and CoOp's epochs, are fewer here."""
    monkeypatch.setitem(cross_modal_gain.AUTHORS, "iterations", 20)
    monkeypatch.setitem(cross_modal_gain.PAIRS["prompting"].given, "epochs", 1)


@pytest.mark.parametrize("command", commands())
@pytest.mark.usefixtures("short_trainings")
def test_the_command_runs(command: str, workplace: Path, cli: Cli) -> None:
    for name, classes in (("caltech62", 14), ("open_domain374", 15)):
        write_features(workplace / f"{name}.npz", shots=(1, 4, 16), classes=classes)
    for folder, title in (("caltech-101", "Caltech101"), ("food-101", "Food101"), ("oxford_pets", "OxfordPets")):
        publish(workplace, folder, title)
    if "imagenet-esc.npz" in command:
        write_esc_features(workplace / "imagenet-esc.npz", Golden("imagenet_esc"))
    if "--audio" in command:
        write_sounds_and_photos(workplace)
    program, *words = shlex.split(command.removeprefix("python "))
    if program == "runner.py":
        outcome = cli(*words)
        assert outcome.status == 0, outcome.err
    elif words[0] == "pytest":
        assert (ROOT / words[1]).is_file()
    else:
        assert importlib.import_module(words[0]).main(words[1:]) == 0
        assert list(workplace.glob("out.*"))


@pytest.mark.parametrize("name", seeds.entries())
def test_a_row_has_figures_something_to_see_or_a_reason(name: str) -> None:
    row = seeds.entries()[name]
    assert {"what"} <= set(row) <= KEYS
    assert {"ours", "see", "note"} & set(row)
    assert "command" in row or "note" in row
    for source in row.get("ours", []):
        assert all(float(figure) > -100 for figure in seeds.ours(source))


def test_every_method_of_the_sources_has_a_row() -> None:
    assert set(METHODS) <= set(available())
    named = " ".join(row["what"] for row in seeds.entries().values())
    assert [name for name in METHODS if f"`{name}`" not in named] == []


def test_names_of_rows_are_unique() -> None:
    assert len(seeds.entries()) == sum(len(section["rows"]) for section in seeds.sections().values())


def test_our_figures_are_means_in_the_order_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results").mkdir()
    rows = "method,shots,seed,top1\na,2,1,50\na,2,2,60\nb,2,1,10\na,16,1,90\n"
    (tmp_path / "results" / "x.csv").write_text(rows)
    monkeypatch.setattr(seeds, "ROOT", tmp_path)
    source = {"file": "x.csv", "where": {"method": "a"}, "value": "top1", "over": "shots"}
    assert seeds.ours(source) == ["55.0", "90.0"]
    assert seeds.ours({**source, "over": None, "digits": 0, "value": ["top1", "seed"]}) == ["67", "1"]
    with pytest.raises(DataError, match="no row"):
        seeds.ours({**source, "where": {"method": "c"}})
