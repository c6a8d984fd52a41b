"""The documents: generated sections up to date, links and pictures there, commands that exist, examples that run."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest

from benchmarks import ROOT, options_table, readme
from jclip_adapter.cli.parser import COMMANDS, build_parser, parse
from jclip_adapter.cli.settings import GENERAL, OPTIONS
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.strict_yaml import read_yaml_mapping
from jclip_adapter.features.sharding import Part

READMES = ["README.md", "README.zh.md"]
PAGES = [*READMES, *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]
OTHERS = ["CONTRIBUTING.md", "SECURITY.md", "data/README.md", "prompts/README.md", "results/README.md"]
ENGLISH = [page for page in PAGES if not page.endswith(".zh.md")]
SPREAD = ("sbatch", "parallel")  # they start other commands
PROGRAMS = {"python runner.py": "runner.py", "jclip-adapter": "jclip-adapter"}
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str | None = None) -> list[str]:
    return [body for kind, body in _BLOCK.findall(text_of(name)) if language in (None, kind)]


def lines_of(*names: str) -> list[str]:
    lines = "".join(body for name in names for body in blocks(name, "sh")).splitlines()
    return [line for line in lines if line.strip()]


def commands(*names: str) -> list[list[str]]:
    return [shlex.split(line) for line in lines_of(*names)]


def own_commands(*names: str) -> list[list[str]]:
    """The arguments of this program's commands, whichever way it is called."""
    return [
        shlex.split(line)[len(start.split()) :]
        for line in lines_of(*names)
        for start in PROGRAMS
        if line.startswith(start)
    ]


def targets(text: str) -> set[str]:
    """The targets of a Makefile; one rule may have several."""
    return {name for names in re.findall(r"^([a-z -]+):", text, re.MULTILINE) for name in names.split()}


def anchors(path: Path) -> set[str]:
    """The headings of a page as GitHub names them in links."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", [*PAGES, *OTHERS])
def test_links_and_pictures_exist(name: str) -> None:
    base = (ROOT / name).parent
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(name))
    relative = [link.partition("#") for link in links if not link.startswith(("https://", "http://"))]
    assert [path for path, _, _ in relative if not (base / path).exists()] == []
    assert [
        (path, place)
        for path, _, place in relative
        if place and place not in anchors(base / path if path else ROOT / name)
    ] == []


@pytest.mark.parametrize("readme_page", READMES)
def test_the_readme_leads_to_every_page(readme_page: str) -> None:
    """Directly, or by one of the pages that it links."""
    chinese = readme_page.endswith(".zh.md")
    seen, ahead = set(), [ROOT / readme_page]
    while ahead:
        page = ahead.pop()
        if page in seen:
            continue
        seen.add(page)
        found = re.findall(r"\]\(([^)\s#:]+\.md)[)#]", page.read_text(encoding="utf-8"))
        ahead += [(page.parent / link).resolve() for link in found]
    wanted = {ROOT / page for page in PAGES if chinese or not page.endswith(".zh.md")}
    assert wanted <= seen


@pytest.mark.parametrize("name", READMES)
def test_the_readme_is_short(name: str) -> None:
    assert 150 <= len(text_of(name).splitlines()) <= 200


def test_generated_sections_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert readme.main(["--check"]) == 0, capsys.readouterr().out


def test_every_marker_belongs_to_a_generated_section() -> None:
    known = {(path, name) for path, sections in readme.documents().items() for name in sections}
    found = {
        (ROOT / page, name) for page in [*PAGES, *OTHERS] for name in re.findall(r"<!-- (\S+):begin -->", text_of(page))
    }
    assert found == known


def test_check_notices_a_stale_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = tmp_path / "README.md"
    stale.write_text(text_of("README.md").replace("| `zero-shot`", "| `zero-shoot`"), encoding="utf-8")
    sections = readme.documents()[ROOT / "README.md"]
    monkeypatch.setattr(readme, "documents", lambda: {stale: sections})
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


def test_every_option_and_command_has_a_chinese_text() -> None:
    texts = read_yaml_mapping(options_table.CHINESE)
    assert list(texts["commands"]) == list(COMMANDS)
    assert list(texts["options"]) == [*OPTIONS, *(item.name for item in GENERAL)]
    worded = {item.name for item in OPTIONS.values() if re.search("[a-z] [a-z]|none", item.shown)}
    assert worded <= set(texts["defaults"]) <= set(OPTIONS)


@pytest.mark.parametrize("name", ["docs/flags.md", "docs/flags.zh.md"])
def test_the_tables_have_every_flag(name: str) -> None:
    known = {option for action in build_parser()._actions for option in action.option_strings}
    rows = [line for line in text_of(name).splitlines() if line.startswith("| `")]
    named = [flag for row in rows for flag in re.findall(r"^\| (?:`[a-z].*?` +\| )?`(--[a-z-]+)", row)]
    assert sorted([*named, "--version", "-h", "--help"]) == sorted(known)


def test_a_default_of_zero_is_shown() -> None:
    (views,) = [line for line in options_table.options_table("en").splitlines() if "`--views N`" in line]
    assert [cell.strip() for cell in views.split("|")][3:5] == ["`0`", "0…1000"]


@pytest.mark.parametrize(("english", "chinese"), [READMES, ["docs/flags.md", "docs/flags.zh.md"]])
def test_both_languages_have_the_same_code_and_headings(english: str, chinese: str) -> None:
    first, second = (_BLOCK.findall(text_of(name)) for name in (english, chinese))
    assert first
    assert first == second
    levels = [re.findall(r"^(#+) ", re.sub(_BLOCK, "", text_of(name)), re.MULTILINE) for name in (english, chinese)]
    assert levels[0] == levels[1]


def test_the_chinese_guide_has_the_commands_of_the_english_pages() -> None:
    english = set(lines_of(*ENGLISH))
    guide = lines_of("docs/guide.zh.md")
    assert len(guide) >= 20
    assert set(guide) <= english


def test_own_commands_parse() -> None:
    found = own_commands(*ENGLISH)
    assert len(found) >= 30
    for words in found:
        parse(words, "jclip-adapter")


def test_commands_for_several_processes_parse() -> None:
    """What Slurm and GNU parallel start, with the number of a part filled in."""
    lines = [" ".join(words) for words in commands("docs/sharding.md") if words[0] in SPREAD]
    assert len(lines) == 2
    for line in lines:
        inner = line[line.index("python runner.py") :].partition(" ::: ")[0]
        words = shlex.split(re.sub(r"\{\}|\$SLURM_ARRAY_TASK_ID", "8", inner))[2:]
        assert build_parser().parse_args(words).shard == Part(8, 8)


def test_baseline_commands_parse() -> None:
    lines = [words for words in commands("docs/contest.md") if words[:2] == ["python", "baseline.py"]]
    assert len(lines) == 2
    for words in lines:
        build_parser().parse_args([word for word in words[2:] if word != "--linear-probe"])


@pytest.mark.parametrize("words", [["--trian"], ["trian"], ["train", "--top", "3"]])
def test_a_mistyped_command_would_be_noticed(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(words, "jclip-adapter")


def test_make_targets_exist() -> None:
    known = targets(text_of("Makefile"))
    named = {words[1] for words in commands(*ENGLISH) if words[0] == "make"}
    named |= set(re.findall(r"`make ([a-z-]+)`", "".join(map(text_of, [*PAGES, *OTHERS]))))
    assert {"demo", "test", "test-oldest"} <= named <= known


def test_named_modules_exist() -> None:
    pattern = r"python -m\s+((?:benchmarks|tools|jclip_adapter)[.\w]+\w)"
    named = set(re.findall(pattern, "".join(map(text_of, [*PAGES, *OTHERS]))))
    assert len(named) >= 12
    for module in named - {"benchmarks.reliability.NAME"}:
        assert importlib.util.find_spec(module), module


def test_named_files_exist() -> None:
    """Paths of the repository that stand as code, also those that start at a room of the package."""
    starts = {path.name for top in (ROOT, ROOT / "jclip_adapter") for path in top.iterdir()} - {"results"}
    named = set(re.findall(r"`([\w.-]+/[\w./-]*)`", "".join(map(text_of, [*PAGES, *OTHERS]))))
    found = {name for name in named if name.split("/")[0] in starts} - {"data/weights/", "data/sample/photos/"}
    assert len(found) >= 30
    places = [Path(), Path("jclip_adapter")]
    assert [
        n for n in found if not any((ROOT / top / f"{n}{end}").exists() for top in places for end in ("", ".py"))
    ] == []


@pytest.mark.parametrize("name", PAGES)
def test_every_command_line_is_of_a_known_kind(name: str) -> None:
    known = {"python", "jclip-adapter", "make", "pip", "ray", "export", *SPREAD}
    assert {words[0] for words in commands(name)} <= known


def test_settings_of_the_configuration_file_are_read(tmp_path: Path) -> None:
    (example,) = blocks("docs/flags.md", "yaml")
    path = tmp_path / "settings.yaml"
    path.write_text(example, encoding="utf-8")
    for name, value in read_yaml_mapping(path).items():
        OPTIONS[name].check(value)


def test_python_examples_import_what_exists() -> None:
    examples = [ast.parse(block) for name in ENGLISH for block in blocks(name, "python")]
    imports = [node for tree in examples for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert len(imports) >= 6
    for node in imports:
        for alias in node.names:
            assert hasattr(importlib.import_module(str(node.module)), alias.name) or importlib.import_module(
                f"{node.module}.{alias.name}"
            )


def run_example(example: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(example, encoding="utf-8")
    runpy.run_path(str(script))


def test_the_example_with_a_method_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [block for block in blocks("docs/library.md", "python") if "FewShotTask" in block]
    run_example(example, tmp_path)
    assert "[0 0 0 0 1 1 1 1 2 2 2 2]" in capsys.readouterr().out


def lay_out_photos(place: Path) -> list[str]:
    """Photos of the sample under the names that the README's example has; returns its classes."""
    from jclip_adapter.data.sample import ensure_sample

    folders = sorted((ensure_sample() / "TrainSet" / "Animal").iterdir())[:2]
    for folder in folders:
        (place / "my_photos" / folder.name).mkdir(parents=True)
        for photo in sorted(folder.iterdir())[:3]:
            shutil.copy(photo, place / "my_photos" / folder.name)
    shutil.copy(photo, place / "holiday.jpg")
    return [folder.name for folder in folders]


def test_the_readme_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On photos of the sample, with the sample's CLIP in place of ViT-B/32."""
    names = lay_out_photos(tmp_path)
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("README.md", "python")
    assert example.count('"ViT-B/32"') == 1
    run_example(example.replace('"ViT-B/32"', '"sample"'), tmp_path)
    assert capsys.readouterr().out.startswith(f"['{names[1]}']\n{{'{names[0]}': ")
    assert (tmp_path / "my_classifier").is_dir()
