"""The wheel, and the two lists of what the program needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks import ROOT
from tests.benchmarks.test_readme import blocks, lay_out_photos
from tools import dependency_bounds
from tools.dependency_bounds import allowed, extras, oldest, pinned, requirements

LOOKS_ROUND = """
import json, sys
from jclip_adapter.cli.app import main
from jclip_adapter.core import resources
from jclip_adapter.data.sample import ensure_sample, read_sample_weights, SAMPLE_WEIGHTS
from jclip_adapter.data.texts.imagenet import wordnet_name
from jclip_adapter.data.texts.prompts import available_prompts, load_prompts

prompts = available_prompts()
print(json.dumps({
    "module": resources.__file__,
    "prompts": {name: load_prompts(name).texts("Animal_Bear") for name in prompts},
    "n01440764": wordnet_name("n01440764"),
    "weights": len(read_sample_weights(SAMPLE_WEIGHTS)),
    "sample": str(ensure_sample()),
    "list": main(["--list"]),
}))
"""


def run(command: list[str], folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)], folder)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_and_what_comes_with_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"jclip_adapter"}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "jclip_adapter").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert "jclip_adapter/py.typed" in names
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "jclip_adapter/web/templates").iterdir()}
    assert len(templates) > 5
    assert templates <= names
    static = {path.relative_to(ROOT).as_posix() for path in (ROOT / "jclip_adapter/web/static").iterdir()}
    assert len(static) > 3
    assert static <= names
    prompts = {f"jclip_adapter/resources/{path.relative_to(ROOT)}" for path in (ROOT / "prompts").rglob("*.*")}
    assert len(prompts) > 3
    assert prompts <= names
    sample = {f"jclip_adapter/resources/data/sample/{name}" for name in ("clip.safetensors", "photos.zip", "README.md")}
    assert {name for name in names if "/resources/" in name} == prompts | sample
    assert not [name for name in names if {"tests", "benchmarks", "tools", "painter.py"} & set(name.split("/"))]


def test_an_installed_wheel_finds_what_comes_with_it(wheel: Path, tmp_path: Path) -> None:
    """From another working folder; the sample's photos go to the user's cache."""
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    run([*pip, "--target", str(site), str(wheel)], elsewhere)
    paths = {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    *listed, found = run([sys.executable, "-c", LOOKS_ROUND], elsewhere, **paths).splitlines()
    facts = json.loads(found)
    assert Path(facts["module"]).is_relative_to(site)
    assert facts["prompts"].keys() >= {"seed"}
    assert all(any("bear" in text.lower() or "熊" in text for text in texts) for texts in facts["prompts"].values())
    assert facts["list"] == 0
    assert "tench" in facts["n01440764"]
    assert facts["weights"] > 10
    assert any("jclip-adapter" in line for line in listed)
    assert Path(facts["sample"]) == tmp_path / "cache/jclip-adapter/data/sample/photos"
    assert len(list(Path(facts["sample"]).rglob("*.jpg"))) > 100
    entry = "import sys; from jclip_adapter.cli.entry import main; sys.argv[0] = 'jclip-adapter'; main()"
    assert "jclip-adapter" in run([sys.executable, "-c", entry, "--list"], elsewhere, **paths)
    lay_out_photos(elsewhere)
    (example,) = blocks("README.md", "python")
    said = run([sys.executable, "-c", example.replace('"ViT-B/32"', '"sample"')], elsewhere, **paths)
    assert said.startswith("[")
    assert (elsewhere / "my_classifier").is_dir()
    assert "jclip_adapter.cli.entry:main" in next(site.glob("*.dist-info/entry_points.txt")).read_text()


def disagreements(root: Path) -> list[str]:
    """Packages of which requirements*.txt and pyproject.toml say different things."""
    files = ("requirements.txt", *(f"requirements-{extra}.txt" for extra in extras(root)))
    pins = {(pin.name.lower(), str(pin.marker or "")): pin for file in files for pin in pinned(root / file)}
    ranges = {(item.name.lower(), str(item.marker or "")): item for item in allowed(root)}
    missing = [f"{name}: only in one of the lists" for name, _ in pins.keys() ^ ranges.keys()]
    outside = []
    for key in pins.keys() & ranges.keys():
        (pin,) = pins[key].specifier
        if pin.operator != "==" or not ranges[key].specifier.contains(pin.version):
            outside.append(f"{key[0]}: {pin} is not within {ranges[key].specifier}")
    return missing + outside


def test_requirements_and_pyproject_agree() -> None:
    assert disagreements(ROOT) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("requirements.txt", "numpy==1.26.4", "numpy==2.1.0", "numpy: ==2.1.0 is not within"),
        ("requirements.txt", "tqdm==", "tqdm>=", "tqdm: >="),
        ("requirements.txt", "ftfy==", "fttfy==", "fttfy: only in one"),
        ("pyproject.toml", '"pandas>=', '"polars>=', "pandas: only in one"),
    ],
)
def test_a_disagreement_is_found(file: str, old: str, new: str, told: str, tmp_path: Path) -> None:
    for path in (*ROOT.glob("requirements*.txt"), ROOT / "pyproject.toml"):
        text = path.read_text(encoding="utf-8")
        assert path.name != file or old in text
        (tmp_path / path.name).write_text(text.replace(old, new) if path.name == file else text)
    assert any(told in line for line in disagreements(tmp_path))


def test_the_lists_of_both_ends() -> None:
    old = {item.name: item for item in requirements("oldest")}
    new = {item.name: item for item in requirements("newest")}
    assert old.keys() == new.keys() >= {item.name for item in allowed()} | dependency_bounds.TEST_TOOLS
    for name, item in old.items():
        (version,) = item.specifier
        assert version.operator == "=="
        assert new[name].specifier.contains(version.version)
        assert item.marker == new[name].marker
    with pytest.raises(ValueError, match="expected one lowest version"):
        oldest(dependency_bounds.Requirement("numpy<2"))
