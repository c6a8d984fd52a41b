"""What is asked for is done, or refused: no option is passed over in silence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jclip_adapter.cli import options
from jclip_adapter.cli.options import EVERY
from jclip_adapter.cli.settings import OPTIONS, Settings
from jclip_adapter.web import server
from tests.conftest import PREDICT, TRAIN, Cli
from tests.tiny_contest import WEIGHTS, write_photo


@pytest.mark.parametrize(
    ("command", "culprit", "hint"),
    [
        ((*TRAIN, "--views", "2"), "--views has no effect on jclip-adapter", "tip-adapter"),
        ((*TRAIN, "--auxiliary", "efficientnet-lite0"), "--auxiliary has no effect on jclip-adapter", "two-views"),
        (
            ("--benchmark", *WEIGHTS, "--method", "gda,zero-shot", "--auxiliary", "efficientnet-lite0"),
            "gda",
            "two-views",
        ),
        (("--benchmark", *WEIGHTS, "--method", "zero-shot,linear-probe", "--views", "2"), "--views", "tip-adapter"),
        ((*PREDICT, "--method", "zero-shot", "--shots", "2"), "--shots has no effect on zero-shot", "linear-probe"),
        ((*PREDICT, "--method", "zero-shot", "--support", "first"), "--support has no effect", "linear-probe"),
        (("--train", *WEIGHTS, "--method", "zero-shot", "--select", "support"), "--select has no effect", "gda"),
        ((*PREDICT, "--method", "zero-shot", "--top", "7"), "--top 7: Dataset has 6 classes", "Give 6 or less"),
        ((*PREDICT, "--method", "zero-shot", "--top", "1000000"), "--top 1000000", "Give 6 or less"),
        (("--check", "r.txt", "--top", "7"), "--top 7: Dataset has 6 classes", "Give 6 or less"),
        (("--train", *WEIGHTS, "--data", "pets", "--split", "B"), "--split has no effect on pets", "Leave --split out"),
        (("--train", *WEIGHTS, "--data", "pets", "--split", "A"), "--split has no effect on pets", "Leave --split out"),
        (("--train", *WEIGHTS, "--select", "validation"), "--select validation", "--select support"),
        (("--benchmark", *WEIGHTS, "--select", "validation"), "--select validation", "--select support"),
        (("--train", "--weights", "efficientnet-lite0", "--prompts", "jclip"), "--prompts has no effect", "Leave"),
        (
            ("--predict", "--images", "Dataset/TestSetA/image_1.jpg", *WEIGHTS, "--language", "zh"),
            "--language has no effect where predictions are printed",
            "Leave --language out",
        ),
        (("--predict", "r.txt", "--images", "a.jpg", *WEIGHTS), "or written as a table", "--predict --images"),
        (
            ("--benchmark", *WEIGHTS, "--support", "first"),
            "--support has no effect with --benchmark",
            "leave --support out",
        ),
        (("--benchmark", *WEIGHTS, "--run", "r"), "--run has no effect with --benchmark", "--train"),
        (("--extract", "f.npz", *WEIGHTS, "--method", "gda"), "--method has no effect with --extract", "--train"),
        ((*TRAIN, "--top", "3"), "--top has no effect with --train", "--predict"),
        ((*TRAIN, "--on-bad-image", "stop"), "--on-bad-image has no effect with --train", "Add --predict"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_option_without_effect_is_refused(
    command: tuple[str, ...], culprit: str, hint: str, workplace: Path, cli: Cli
) -> None:
    for name in ("cat", "dog"):
        for number in range(4):
            write_photo(workplace / "pets" / name / f"{number}.jpg", number)
    outcome = cli(*command)
    assert outcome.status == 2
    line = outcome.err.splitlines()[-1]
    assert line.startswith("error: ")
    assert culprit in line
    assert hint in line
    assert not Path("results/runs").exists()


def test_a_default_that_is_more_than_the_classes_is_no_mistake(workplace: Path, cli: Cli) -> None:
    for name in ("cat", "dog"):
        for number in range(4):
            write_photo(workplace / "pets" / "train" / name / f"{number}.jpg", number)
        write_photo(workplace / "pets" / "test" / f"{name}.jpg", 9)
    assert cli("--predict", "r.txt", *WEIGHTS, "--data", "pets", "--method", "zero-shot").status == 0
    assert {len(line.split()) for line in Path("r.txt").read_text().splitlines()} == {3}


def test_a_transductive_methods_trained_run_is_used(workplace: Path, cli: Cli) -> None:
    """It needs no run, so that one that was trained was passed over without a word."""
    flags = (*WEIGHTS, "--method", "transclip")
    without = cli("--predict", "without.txt", *flags)
    assert "transclip without shots: there is no trained run in results/runs/" in without.err
    refused = cli("--predict", "r.txt", *flags, "--shots", "4")
    assert refused.status == 2
    assert "there is no trained run" in refused.err
    assert cli("--train", *flags).status == 0
    assert cli("--predict", "with.txt", *flags).status == 0
    assert Path("with.txt").read_text() != Path("without.txt").read_text()
    (run,) = Path("results/runs").iterdir()
    assert cli("--predict", "named.txt", *flags, "--run", run).status == 0
    assert Path("named.txt").read_text() == Path("with.txt").read_text()


def test_a_resumed_training_without_a_state_says_so(workplace: Path, cli: Cli) -> None:
    flags = ("--train", *WEIGHTS, "--method", "text-tower", "--set", "epochs=1")
    assert "there is no saved state in results/runs/" in cli(*flags, "--resume").err
    assert "no saved state" not in cli(*flags).err


ZERO_SHOT = (*WEIGHTS, "--method", "zero-shot")  # without a run, whose own settings would be taken
RUN_ON = {
    options.TRAIN: [("--train", *WEIGHTS, "--method", "tip-adapter", "--views", "1"), ("--train", *WEIGHTS)],
    options.EVALUATE: [("--evaluate", *WEIGHTS), ("--evaluate", *ZERO_SHOT, "--holdout", "1")],
    options.PREDICT: [("--predict", "r.txt", *WEIGHTS), ("--predict", "r.txt", *ZERO_SHOT)],
    options.CLASSIFY: [
        ("--predict", *table, "--images", "Dataset/TestSetA/image_1.jpg", *kind)
        for table, kind in ((["t.csv"], WEIGHTS), ([], ZERO_SHOT))
    ],
    options.BENCHMARK: [("--benchmark", *WEIGHTS, "--method", "zero-shot", "--out", "o.csv")],
    options.EXTRACT: [("--extract", "f.npz", *WEIGHTS)],
    options.BENCHMARK_FILES: [("--benchmark", "--features", "f.npz", "--method", "zero-shot", "--out", "o.csv")],
    options.EXTRACT_PARTS: [("--extract", "parts", *WEIGHTS, "--photos", "Dataset/TestSetA")],
    options.SEARCH: [("--search", "a bear", "parts", "--top", "3", "--out", "s.html")],
    options.DUPLICATES: [("--duplicates", "parts", "--out", "d.html")],
    options.INSPECT: [("--inspect", *WEIGHTS)],
    options.SERVE: [("--serve", *WEIGHTS)],
    options.CHECK: [("--check", "r.txt")],
    options.CONVERT: [("--convert", "tiny.pkl", "t.safetensors")],
    options.LIST: [("--list",)],
    options.DOCTOR: [("--doctor",)],
}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Names of the settings that the program reads, but for checking and copying all of them."""
    names: set[str] = set()
    plain = object.__getattribute__
    blind = {"__post_init__", "of", "replace", "<dictcomp>", "__init__", "__eq__", "__hash__"}

    def watched(self: Settings, name: str) -> Any:
        if name in OPTIONS and sys._getframe(1).f_code.co_name not in blind:
            names.add(name)
        return plain(self, name)

    monkeypatch.setattr(Settings, "__getattribute__", watched)
    monkeypatch.setattr(server, "compute", lambda _: None)  # which would wait for Ctrl-C
    yield names


def test_every_option_is_read_by_every_command_that_has_it(workplace: Path, cli: Cli, reads: set[str]) -> None:
    """An option that the table gives to a command, and that the command never reads, is passed over in silence."""
    assert set(RUN_ON) == set(EVERY)
    unread = {}
    for command, runs in RUN_ON.items():
        reads.clear()
        for words in runs:
            outcome = cli(*words)
            assert outcome.status == 0, outcome.err
        expected = {name for name, item in OPTIONS.items() if command in item.commands}
        listed = {item.list_name for item in OPTIONS.values()} - {""}
        unread[command] = expected - reads - listed
    several = {name for name, item in OPTIONS.items() if item.several}
    assert {command: names - several for command, names in unread.items()} == {command: set() for command in EVERY}


def test_a_file_can_name_the_images_and_the_feature_files(workplace: Path, cli: Cli) -> None:
    """`images:` and `features:` decide which command runs, in a file as on the command line."""
    Path("c.yaml").write_text("images: [Dataset/TestSetA/image_1.jpg]\nmethod: zero-shot\nweights: tiny.pkl\n")
    outcome = cli("--predict", "--config", "c.yaml")
    assert outcome.out.startswith("Dataset/TestSetA/image_1.jpg: ")
    assert not Path("result.txt").exists()
    assert cli("--extract", "f.npz", *WEIGHTS).status == 0
    Path("c.yaml").write_text("features: f.npz\nmethod: zero-shot\n")
    assert cli("--benchmark", "--config", "c.yaml").status == 0
    assert Path("results/table.csv").read_text().splitlines()[1].startswith("f,zero-shot,4,1,")


@pytest.mark.parametrize(
    ("flags", "culprit"),
    [
        (("--support", "l.txt", "--shots", "2"), "--shots has no effect on --support l.txt"),
        (("--support", "l.txt", "--strict"), "--strict has no effect on --support l.txt"),
        (("--class-names", "w.yaml", "--weights", "efficientnet-lite0"), "--class-names has no effect on efficientnet"),
    ],
    ids=str,
)
def test_options_that_another_one_makes_idle(flags: tuple[str, ...], culprit: str, workplace: Path, cli: Cli) -> None:
    Path("l.txt").write_text("TrainSet/Animal/Bear/1.jpg 0\n")
    Path("w.yaml").write_text("Animal_Bear: brown bear\n")
    outcome = cli("--train", *WEIGHTS, *flags)
    assert outcome.status == 2
    assert culprit in outcome.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "culprit"),
    [
        (("--seed", "77"), "seed '0', not '77'"),
        (("--views", "5"), "views '0', not '5'"),
        (("--class-names", "w.yaml"), "other class names than w.yaml"),
        (("--support", "l.txt"), "other shots than l.txt"),
    ],
    ids=str,
)
def test_what_a_run_was_trained_with_cannot_be_given_otherwise(
    flags: tuple[str, ...], culprit: str, workplace: Path, cli: Cli
) -> None:
    """Also where a file's name is the same and its content another."""
    Path("w.yaml").write_text("Animal_Bear: brown bear\n")
    Path("l.txt").write_text("".join(Path("Dataset/train.txt").read_text().splitlines(keepends=True)[::2]))
    with_file = [flag for flag in flags if flag.startswith("--") and flags[1] in ("w.yaml", "l.txt")]
    trained = ("--train", *WEIGHTS, "--run", "r", "--method", "tip-adapter", *(flags if with_file else ()))
    assert cli(*trained).status == 0
    Path("w.yaml").write_text("Animal_Bear: submarine\n")
    Path("l.txt").write_text("".join(Path("Dataset/train.txt").read_text().splitlines(keepends=True)[1::2]))
    outcome = cli("--predict", "r.txt", "--run", "r", "--method", "tip-adapter", *flags)
    assert outcome.status == 2
    assert culprit in outcome.err.splitlines()[-1]


def test_a_run_that_is_replaced_by_another_is_told(workplace: Path, cli: Cli) -> None:
    flags = ("--train", *WEIGHTS, "--method", "tip-adapter")
    assert "is replaced" not in cli(*flags).err
    assert "is replaced" not in cli(*flags, "--workers", "0").err
    assert "replaces a run trained with alpha=" in cli(*flags, "--set", "alpha=0.5").err
