"""Help, lists and versions: complete, and without Jittor."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jclip_adapter import __version__
from jclip_adapter.cli.app import main
from jclip_adapter.cli.parser import build_parser
from jclip_adapter.cli.settings import GENERAL, OPTIONS
from jclip_adapter.methods import NOT_INCLUDED, available
from tests.conftest import Cli

COMMANDS = [
    "--train",
    "--evaluate",
    "--predict",
    "--extract",
    "--check",
    "--convert",
    "--list",
    "--doctor",
    "--version",
    "--help",
]


def test_every_setting_has_a_flag() -> None:
    flags = {option for action in build_parser()._actions for option in action.option_strings}
    assert {item.flag for item in (*OPTIONS.values(), *GENERAL)} <= flags
    assert set(COMMANDS) <= flags


def test_flags_leave_the_defaults_to_the_settings() -> None:
    """A default of the parser would hide what a YAML file says."""
    nothing = vars(build_parser().parse_args([]))
    assert {name: nothing[name] for name in OPTIONS} == dict.fromkeys(OPTIONS)


def test_help_tells_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    for action in build_parser()._actions:
        assert action.option_strings[-1] in text
        assert action.help
    assert "result.txt" in text
    assert max(map(len, text.splitlines())) <= 120


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"jclip-adapter {__version__}\n"


def test_list_names_everything(cli: Cli) -> None:
    outcome = cli("--list")
    assert outcome.status == 0
    for name in (*available(), "seed", "jclip", "ViT-B/32"):
        assert name in outcome.out
    assert outcome.err == ""


@pytest.mark.parametrize("words", [["--list", "DeIL"], ["--train", "--method", "deil"]])
def test_a_method_that_is_not_included_is_named_with_the_reason(words: list[str], cli: Cli) -> None:
    reason = NOT_INCLUDED["deil"]
    assert " ".join(cli("--list").out.split()).count(reason) == 1
    outcome = cli(*words)
    assert outcome.status == 2
    assert reason in outcome.err
    assert {"amu-tuning", "two-views"} <= set(available())


def test_doctor_finds_this_machine_fit(cli: Cli) -> None:
    outcome = cli("--doctor", "--device", "cpu")
    assert outcome.status == 0, outcome.out
    assert "[  ok   ] Jittor: computes on cpu" in outcome.out


@pytest.mark.parametrize("flags", [["--help"], ["--version"], ["--list"], ["--train", "--shot", "4"]], ids=" ".join)
def test_jittor_is_not_started_for(flags: list[str]) -> None:
    code = (
        "import sys; from jclip_adapter.cli.app import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'jittor', 'jittor_utils', 'sklearn', 'scipy', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
