"""report.html: what each command adds to it, and what may be replaced."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jclip_adapter.cli.commands import reports
from jclip_adapter.cli.runs import KINDS, REPORT
from jclip_adapter.core.errors import SetupError
from jclip_adapter.storage import atomic
from jclip_adapter.web.report import parts_of
from tests.conftest import PREDICT, RUN, TRAIN, Cli
from tests.tiny_contest import WEIGHTS
from tests.tiny_features import write_features
from tests.web.test_report import checked, words

PAGE = Path(RUN, "report.html")
EVALUATE = ("--evaluate", *WEIGHTS)


def parts(page: Path = PAGE) -> dict[str, str]:
    return parts_of(page, KINDS[REPORT])


def command(name: str) -> list[str]:
    """The command line in a part of the report."""
    (pre,) = (
        each
        for part in checked(PAGE).iter("section")
        if part.get("aria-labelledby") == name
        for each in part.iter("pre")
    )
    return shlex.split("".join(pre.itertext()))


def test_every_command_of_a_run_adds_its_part(trained: Path, cli: Cli) -> None:
    assert list(parts()) == ["training"]
    Path("Dataset/TestSetA/image_3.jpg").write_bytes(b"\xff\xd8")
    said = cli(*EVALUATE, "--reject", 0.3)
    assert said.status == 0, said.err
    assert str(PAGE) in said.out
    assert list(parts()) == ["evaluation", "training"]
    assert cli(*PREDICT).status == 0
    assert list(parts()) == ["evaluation", "prediction", "training"]
    text = words(checked(PAGE))
    total = json.loads(Path(RUN, "evaluation.json").read_text())["scores"][-1]
    estimate = json.loads(Path(RUN, "metrics.json").read_text())["estimate"]
    assert f"jclip-adapter predicts {total['top1']:.1f} % of {total['n']} labelled test photos correctly" in text
    assert f"Top-1 estimated without test photos: {estimate['top1']:.1f} %" in text
    assert "1 of the photos cannot be read and count as wrong" in text
    assert "image_3.jpg is not a readable image" in text
    assert "classified 10 photos and wrote result.txt. 1 could not be read." in text
    before = parts()
    assert cli("--predict", *WEIGHTS, "--images", "Dataset/TestSetA/image_1.jpg").status == 0
    assert parts() == before  # what is only printed is not in the report
    assert cli("--predict", "mine.csv", *WEIGHTS, "--images", "Dataset/TrainSet", "--language", "zh").status == 0
    assert parts()["prediction"] != before["prediction"]
    assert parts()["evaluation"] == before["evaluation"]
    assert "图片" in parts()["prediction"]
    assert cli(*TRAIN).status == 0
    assert list(parts()) == ["training"]  # the others were of the replaced adapter


def test_its_commands_run_again(trained: Path, cli: Cli) -> None:
    facts, scores = (json.loads(Path(RUN, name).read_text()) for name in ("run.json", "metrics.json"))
    program, *again = command("training-reproduce")
    assert program == "jclip-adapter"
    assert cli(f"--{again[0]}", *again[1:]).status == 0
    assert json.loads(Path(RUN, "run.json").read_text())["hyperparameters"] == facts["hyperparameters"]
    assert json.loads(Path(RUN, "metrics.json").read_text()) == scores
    assert cli(*EVALUATE, "--reject", 0.3, "--holdout", 0, "--learning-curve").status == 0
    evaluation = Path(RUN, "evaluation.json").read_bytes()
    _, *again = command("evaluation-command")
    assert cli(f"--{again[0]}", *again[1:]).status == 0
    assert Path(RUN, "evaluation.json").read_bytes() == evaluation
    assert cli("--predict", "a.csv", *WEIGHTS, "--reject", 0.3, "--top", 2).status == 0
    table = Path("a.csv").read_bytes()
    _, *again = command("prediction-command")
    assert again[:2] == ["predict", "a.csv"]
    assert cli(f"--{again[0]}", *again[1:]).status == 0
    assert Path("a.csv").read_bytes() == table


def test_suspicious_shots_are_those_that_fit_another_class(workplace: Path, cli: Cli) -> None:
    """Photos of one class in the folder of another."""
    wrong = [Path(f"Dataset/TrainSet/Animal/Bear/{number}.jpg") for number in range(1, 7)]
    for number, photo in enumerate(wrong, 1):
        photo.write_bytes(Path(f"Dataset/TrainSet/Thu-dog/pug/{number}.jpg").read_bytes() + b"\0" * number)
    assert cli(*TRAIN).status == 0
    doubtful = json.loads(Path(RUN, "metrics.json").read_text())["doubtful"]
    assert {"Thu-dog_pug", "Animal_Bear"} <= {one["class"] for one in doubtful} | {
        one["fits_better"] for one in doubtful
    }
    section = next(each for each in checked(PAGE).iter("section") if each.get("aria-labelledby") == "training-doubtful")
    assert len(list(section.iter("li"))) == min(len(doubtful), 24) > 0
    for one in doubtful[:24]:
        assert one["photo"] in words(section)


@pytest.mark.parametrize("arguments", [TRAIN, EVALUATE, PREDICT, ("--predict", "a.csv", *WEIGHTS)], ids=str)
def test_a_foreign_report_is_refused_before_anything_is_computed(arguments, trained: Path, cli: Cli, monkeypatch):
    PAGE.write_text("<p>mine</p>")
    files = {path: path.read_bytes() for path in Path(RUN).iterdir()}
    monkeypatch.setattr("jclip_adapter.features.encoding.encode_missing", lambda *_: pytest.fail("encodes"))
    said = cli(*arguments)
    assert said.status == 2
    assert "report.html exists and is not a report as this program wrote it" in said.err
    assert {path: path.read_bytes() for path in Path(RUN).iterdir()} == files
    assert not list(Path().glob("result.*"))
    assert not list(Path().glob("a.csv*"))


def test_a_stop_leaves_the_old_report(trained: Path, cli: Cli, monkeypatch) -> None:
    assert cli(*EVALUATE).status == 0
    before = PAGE.read_bytes()
    real = atomic.os.fsync

    def stopped(handle: int) -> None:
        if "report.html" in str(Path(f"/proc/self/fd/{handle}").resolve()):
            raise KeyboardInterrupt
        real(handle)

    monkeypatch.setattr(atomic.os, "fsync", stopped)
    assert cli(*EVALUATE, "--holdout", 1).status == 130
    assert PAGE.read_bytes() == before
    assert not list(Path(RUN).glob(".report.html*"))
    monkeypatch.undo()


def test_a_run_without_a_report_gets_the_part_of_its_training(trained: Path, cli: Cli) -> None:
    """Such as one of an older version."""
    before = parts()["training"]
    PAGE.unlink()
    assert cli(*EVALUATE).status == 0
    assert parts()["training"] == before
    assert list(parts()) == ["evaluation", "training"]


def test_an_evaluation_without_a_run_has_settings_and_commands(workplace: Path, cli: Cli) -> None:
    assert cli("--evaluate", *WEIGHTS, "--method", "zero-shot", "--shots", 0).status == 0
    page = Path(RUN.replace("jclip-adapter-4shot", "zero-shot-0shot"), "report.html")
    assert list(parts(page)) == ["evaluation", "training"]
    text = words(checked(page))
    assert "zero-shot without shots" in text
    assert "instant-clip-tokenizer" in text
    assert text.count("jclip-adapter evaluate --weights tiny.pkl --method zero-shot --shots 0") == 2


def test_predictions_need_no_report(trained: Path, cli: Cli, monkeypatch) -> None:
    """A run folder that cannot be written, as another user's."""

    def refused(folder: Path) -> None:
        raise SetupError(f"cannot write {folder}: Permission denied.")

    monkeypatch.setattr(reports, "check_folder_writable", refused)
    before = PAGE.read_bytes()
    said = cli(*PREDICT)
    assert said.status == 0
    assert f"no report: cannot write {RUN}: Permission denied." in said.err
    assert Path("result.txt").is_file()
    assert PAGE.read_bytes() == before


def test_a_benchmark_has_a_report_beside_its_table(tmp_path: Path, cli: Cli, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_features(tmp_path / "toy.npz")
    ask = ("--benchmark", "--features", "toy.npz", "--method", "zero-shot,gda", "--select", "none", "--out", "t.csv")
    said = cli(*ask)
    assert said.status == 0, said.err
    assert "t.html" in said.out
    tree = checked(Path("t.html"))
    assert "gda" in words(tree)
    again = shlex.split(words(next(tree.iter("pre"))))
    assert again[1] == "benchmark"
    assert cli("--benchmark", *again[2:], "--language", "zh").status == 0
    assert "基准测试" in words(checked(Path("t.html")))
    Path("t.html").write_text("mine")
    monkeypatch.setattr("jclip_adapter.cli.commands.benchmark.run_benchmark", lambda *_, **__: pytest.fail("runs"))
    refused = cli(*ask)
    assert refused.status == 2
    assert "t.html exists and is not a benchmark's report" in refused.err


def test_the_language_has_no_effect_on_other_commands(workplace: Path, cli: Cli) -> None:
    for arguments in (("--check", "result.txt"), ("--inspect",)):
        said = cli(*arguments, "--language", "zh")
        assert said.status == 2
        assert "--language has no effect" in said.err
    assert "--language" in cli(*TRAIN, "--language", "de").err
    assert not Path(RUN).exists()


def test_jinja_is_not_imported_for_help() -> None:
    code = """
import sys, jclip_adapter
from jclip_adapter.cli.app import main
try:
    main(["--help"])
finally:
    print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    modules = done.stdout.splitlines()[-1].split()
    assert "jclip_adapter.cli.settings" in modules
    assert not {"jinja2", "markupsafe", "jclip_adapter.web.report"} & set(modules)
