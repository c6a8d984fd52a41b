"""The table of options: what it declares is what the command line does, for every option with every command."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jclip_adapter.cli import options
from jclip_adapter.cli.app import main
from jclip_adapter.cli.options import EVERY, Option
from jclip_adapter.cli.parser import build_parser
from jclip_adapter.cli.settings import GENERAL, OPTIONS, Settings, build_settings
from jclip_adapter.core.errors import UsageError

COMMANDS = {
    options.TRAIN: ["--train"],
    options.EVALUATE: ["--evaluate"],
    options.PREDICT: ["--predict", "r.txt"],
    options.CLASSIFY: ["--predict", "--images", "p.jpg"],
    options.BENCHMARK: ["--benchmark"],
    options.BENCHMARK_FILES: ["--benchmark", "--features", "f.npz"],
    options.EXTRACT: ["--extract", "f.npz"],
    options.EXTRACT_PARTS: ["--extract", "parts"],
    options.SEARCH: ["--search", "a dog", "parts"],
    options.DUPLICATES: ["--duplicates", "parts"],
    options.INSPECT: ["--inspect"],
    options.SERVE: ["--serve"],
    options.CHECK: ["--check", "r.txt"],
    options.CONVERT: ["--convert", "a.pkl", "b.safetensors"],
    options.LIST: ["--list"],
    options.DOCTOR: ["--doctor"],
}
NAMES_A_COMMAND = {"images", "features"}  # they make another command of --predict and --benchmark


def typed(item: Option) -> list[str]:
    """The option with a value that is not its default."""
    if item.kind == "switch":
        return [item.flag]
    if item.choices:
        return [item.flag, next(choice for choice in item.choices if choice != item.default)]
    values = {"assignments": "a=1", "number": "0.5", "numbers": "0.5", "text": "x"}
    if item.kind == "other":
        return [item.flag, {"shard": "1/2", "effective_classes": "4", "noise": "0.3", "engine": "ray"}[item.name]]
    if item.kind in values:
        return [item.flag, values[item.kind]]
    return [item.flag, str(int(max(item.default or 0, item.low or -1)) + 1) if item.kind != "texts" else ""]


def test_every_command_is_tried() -> None:
    assert set(COMMANDS) == set(EVERY)


@pytest.mark.parametrize("command", EVERY)
def test_an_option_has_an_effect_or_is_refused(
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    subtests: pytest.Subtests,
) -> None:
    """The refusal is told before anything is read: nothing that the command line names exists."""
    monkeypatch.chdir(tmp_path)
    seen: list[Settings] = []
    monkeypatch.setattr("jclip_adapter.cli.app._call", lambda _, invocation: seen.append(invocation.settings))
    (tmp_path / "x").write_text("{}")
    for item in (*OPTIONS.values(), *GENERAL):
        if item.name in NAMES_A_COMMAND:
            continue
        with subtests.test(item.name):
            seen.clear()
            logging.getLogger().setLevel(logging.WARNING)  # as it was before --quiet
            status = main([*COMMANDS[command], *typed(item)])
            error = capsys.readouterr().err
            if command not in item.commands:
                assert status == 2
                assert f"error: {item.flag} has no effect with {command}." in error
                assert not seen
                continue
            assert status == 0, error
            assert len(seen) == 1
            if item.name in OPTIONS:
                assert item.name in seen[0].given
                value = getattr(seen[0], item.list_name if command in item.several else item.name)
                assert value not in (item.default, ())


@pytest.mark.parametrize("item", [OPTIONS[name] for name in sorted(NAMES_A_COMMAND)], ids=lambda item: item.name)
def test_options_that_name_a_command(
    item: Option, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    verb = item.commands[0].split()[0]
    others = [command for command in EVERY if command.split(maxsplit=1)[0] != verb]  # of its own it makes another
    accepted = [command for command in others if main([*COMMANDS[command], item.flag, "x"]) != 2]
    assert len(others) > 5
    assert accepted == []
    assert capsys.readouterr().err.count(f"{item.flag} has no effect with") == len(others)


def test_every_owner_is_a_command() -> None:
    assert OPTIONS
    for item in OPTIONS.values():
        assert set(item.several) <= set(item.commands) <= set(COMMANDS), item.name
        assert len(set(item.commands)) == len(item.commands), item.name


@pytest.mark.parametrize(
    "words",
    [
        ["--train", "--shots", "1.5"],
        ["--train", "--shots", "4x"],
        ["--train", "--shots", ""],
        ["--benchmark", "--shots", "1,,2"],
        ["--benchmark", "--shots", "1,1"],
        ["--benchmark", "--seed", "1,2,1"],
        ["--benchmark", "--seed=-1"],
        ["--benchmark", "--seed", "1,-1"],
        ["--benchmark", "--shots=-1,1"],
        ["--benchmark", "--unseen", "nan"],
        ["--benchmark", "--unseen", "-0.1"],
        ["--benchmark", "--unseen", "1"],
        ["--train", "--shots", "1,2"],
        ["--train", "--views", "many"],
        ["--train", "--workers", "1e3"],
        ["--extract", "f.npz", "--seed", "1,2"],
        ["--extract", "f.npz", "--shard", "0/4"],
        ["--train", "--batch-size", "99999999999999999999"],
    ],
    ids=" ".join,
)
def test_values_that_cannot_be_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    flag = next(word.partition("=")[0] for word in words[1:] if word.startswith("--"))
    assert error.startswith(f"error: {flag}"), error
    assert error.count("\n") == 1
    assert "_numbers" not in error


@pytest.mark.parametrize("command", EVERY)
def test_a_file_serves_several_commands(command: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Keys without effect are named and left out; those with an effect are in use."""
    path = tmp_path / "c.yaml"
    path.write_text("shots: 2\ntop: 3\nholdout: 4\nresample: true\nimages: [a.jpg]\nunseen: 0.5\n")
    with caplog.at_level("INFO"):
        found = build_settings({}, str(path), (command,))
    names = {"shots", "top", "holdout", "resample", "images", "unseen"}
    assert found.given == {name for name in names if command in OPTIONS[name].commands}
    for name in names - found.given:
        assert name in caplog.text
        assert getattr(found, name) == OPTIONS[name].default


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("holdout: 1.5", "holdout: expected a whole number, got 1.5"),
        ("resample: 1", "resample: expected true or false, got 1"),
        ("images: {a: 1}", "images: expected a list of texts, got"),
        ("shots: []", "shots: expected a whole number, or a list of them, got []"),
        ("shots: [1, yes]", "shots: expected a whole number, or a list of them, got [1, True]"),
        ("unseen: .nan", "unseen: expected a number, or a list of them, got nan"),
        ("unseen: [0.5, x]", "unseen: expected a number, or a list of them, got"),
        ("out: 3", "out: expected text, got 3"),
        ("shard: 3", "shard: expected text, got 3"),
    ],
)
def test_a_files_value_of_another_kind(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        build_settings({}, str(path))
    assert expected in str(caught.value)


def test_a_files_lists_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("shots: [1, 2]\nseed: 3\nfeatures: a.npz\n")
    found = build_settings({}, str(path), (options.BENCHMARK_FILES,))
    assert (found.shot_counts, found.seeds, found.features) == ((1, 2), (3,), ("a.npz",))
    assert (found.shots, found.seed) == (4, 0)


FLAGS = [item.flag for item in (*OPTIONS.values(), *GENERAL)]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(FLAGS),
            st.sampled_from([word for words in COMMANDS.values() for word in words]),
            st.sampled_from(["1", "-1", "0", "1,2", "x", "", "=", "a=1", "9" * 30, "--", "cpu", "nan", "1/2", "A"]),
            st.text(max_size=6),
        ),
        max_size=7,
    )
)
def test_no_command_line_ends_in_a_traceback(words: list[str]) -> None:
    """Whatever is typed is parsed or refused in words."""
    from jclip_adapter.cli import app as cli

    try:
        arguments = build_parser().parse_args(words)
        commands = cli._contexts(arguments, cli._chosen(arguments))
        cli._settings(arguments, commands)
    except UsageError:
        pass  # `app._refuse` prints it in one line, whatever was typed
    except SystemExit as left:  # --help and --version
        assert left.code == 0


def test_the_method_fits_the_data(tmp_path: Path) -> None:
    """The contest's two commands and the sample train jclip-adapter, other data auto."""
    contest, folders = tmp_path / "contest", tmp_path / "my_photos"
    (contest / "TrainSet").mkdir(parents=True)
    (folders / "Cat").mkdir(parents=True)
    methods = {data: Settings(data=str(data)).method_or_default for data in (contest, folders, "sample")}
    assert methods == {contest: "jclip-adapter", folders: "auto", "sample": "jclip-adapter"}
    assert Settings(data=str(folders), method="clap").method_or_default == "clap"
