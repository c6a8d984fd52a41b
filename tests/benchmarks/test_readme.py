"""The READMEs: generated sections up to date, links and pictures there, commands that exist."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import shlex
from pathlib import Path

import pytest

from benchmarks import ROOT, readme
from jclip_adapter.cli.parser import build_parser
from jclip_adapter.cli.settings import OPTIONS
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.strict_yaml import read_yaml_mapping
from jclip_adapter.features.sharding import Part

FILES = ["README.md", "README.zh.md"]
OTHERS = ["CONTRIBUTING.md", "SECURITY.md", "data/README.md", "docs/design.md", "docs/dependencies.md"]
SPREAD = ("sbatch", "parallel")  # they start other commands
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str | None = None) -> list[str]:
    return [body for kind, body in _BLOCK.findall(text_of(name)) if language in (None, kind)]


def commands(name: str) -> list[list[str]]:
    lines = "".join(blocks(name, "sh")).splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def targets(text: str) -> set[str]:
    return set(re.findall(r"^([a-z]+):", text, re.MULTILINE))


@pytest.mark.parametrize("name", [*FILES, *OTHERS])
def test_links_and_pictures_exist(name: str) -> None:
    base = (ROOT / name).parent
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(name))
    relative = [link.partition("#")[0] for link in links if not link.startswith(("https://", "http://"))]
    assert [link for link in relative if not (base / link).exists()] == []
    if name in FILES:
        assert sum(link.endswith(".png") for link in relative) == 5


def test_generated_sections_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert readme.main(["--check"]) == 0, capsys.readouterr().out


def test_check_notices_a_stale_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = tmp_path / "README.md"
    stale.write_text(text_of("README.md").replace("| `zero-shot`", "| `zero-shoot`"), encoding="utf-8")
    monkeypatch.setattr(readme, "READMES", {"en": stale})
    assert readme.main(["--check"]) == 1
    assert readme.main([]) == 0
    assert readme.main(["--check"]) == 0
    assert stale.read_text(encoding="utf-8") == text_of("README.md")


@pytest.mark.parametrize(
    "text", ["", "<!-- a:end --><!-- a:begin -->", "<!-- a:begin --><!-- a:begin --><!-- a:end -->"]
)
def test_markers_have_to_be_there(text: str) -> None:
    with pytest.raises(DataError, match="a:begin"):
        readme.renewed(text, {"a": "new"}, "README.md")


def test_chinese_table_has_no_english_heading() -> None:
    heading = readme.quoted_table("sample.md", "benchmarks.sample_accuracy", "zh").splitlines()[0]
    assert re.findall(r"[a-z]+", heading) == ["zero", "shot", "jclip", "adapter", "shot"]


def test_both_have_the_same_code() -> None:
    first, second = (_BLOCK.findall(text_of(name)) for name in FILES)
    assert len(first) >= 15
    assert first == second


def test_both_have_the_same_headings() -> None:
    first, second = (re.findall(r"^(#+) ", re.sub(_BLOCK, "", text_of(name)), re.MULTILINE) for name in FILES)
    assert first == second


def test_runner_commands_parse() -> None:
    lines = [words for words in commands("README.md") if words[:2] == ["python", "runner.py"]]
    assert len(lines) >= 10
    for words in lines:
        build_parser().parse_args(words[2:])


def test_commands_for_several_processes_parse() -> None:
    """What Slurm and GNU parallel start, with the number of a part filled in."""
    lines = [" ".join(words) for words in commands("README.md") if words[0] in SPREAD]
    assert len(lines) == 2
    for line in lines:
        inner = line[line.index("python runner.py") :].partition(" ::: ")[0]
        words = shlex.split(re.sub(r"\{\}|\$SLURM_ARRAY_TASK_ID", "8", inner))[2:]
        assert build_parser().parse_args(words).shard == Part(8, 8)


def test_baseline_commands_parse() -> None:
    lines = [words for words in commands("README.md") if words[:2] == ["python", "baseline.py"]]
    assert len(lines) == 2
    for words in lines:
        build_parser().parse_args([word for word in words[2:] if word != "--linear-probe"])


def test_a_mistyped_flag_would_be_noticed() -> None:
    with pytest.raises(UsageError):
        build_parser().parse_args(["--trian"])


def test_make_targets_exist() -> None:
    known = targets(text_of("Makefile"))
    named = {words[1] for words in commands("README.md") if words[0] == "make"}
    named |= set(re.findall(r"`make ([a-z]+)`", "".join(map(text_of, [*FILES, *OTHERS, "results/README.md"]))))
    assert {"demo", "test"} <= named <= known


@pytest.mark.parametrize("name", FILES)
def test_every_command_line_is_of_a_known_kind(name: str) -> None:
    known = {"python", "python3", "make", "pip", ".", *SPREAD}
    assert {words[0] for words in commands(name)} <= known


@pytest.mark.parametrize("name", FILES)
def test_the_tables_have_every_flag(name: str) -> None:
    known = {option for action in build_parser()._actions for option in action.option_strings}
    rows = [line.split("|")[1] for line in text_of(name).splitlines() if line.startswith(("| `--", "| `-h`"))]
    named = [flag for row in rows for flag in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row)]
    assert sorted(named) == sorted(known)


@pytest.mark.parametrize("name", FILES)
def test_settings_of_a_configuration_file_are_named(name: str, tmp_path: Path) -> None:
    names = set(OPTIONS) - {"cache"}
    (example,) = blocks(name, "yaml")
    path = tmp_path / "settings.yaml"
    path.write_text(example, encoding="utf-8")
    assert set(read_yaml_mapping(path)) <= names


def test_python_examples_import_what_exists() -> None:
    examples = [ast.parse(block) for block in [*blocks("README.md", "python"), *blocks("docs/design.md", "python")]]
    imports = [node for tree in examples for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert len(imports) >= 4
    for node in imports:
        for alias in node.names:
            assert hasattr(importlib.import_module(str(node.module)), alias.name) or importlib.import_module(
                f"{node.module}.{alias.name}"
            )


def test_the_example_with_a_method_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [block for block in blocks("README.md", "python") if "FewShotTask" in block]
    script = tmp_path / "example.py"
    script.write_text(example, encoding="utf-8")
    runpy.run_path(str(script))
    assert "[0 0 0 0 1 1 1 1 2 2 2 2]" in capsys.readouterr().out
