"""Python's headers are found without the script that images often lack, and missed before anything is compiled."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from jclip_adapter import runtime
from jclip_adapter.cli.commands import doctor
from jclip_adapter.core.errors import SetupError
from jclip_adapter.runtime import planning, python_headers


def answer(path: str, flag: str) -> str:
    return subprocess.run([path, flag], capture_output=True, text=True, check=True).stdout.strip()


def test_the_interpreters_own_script_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = tmp_path / "bin" / f"python3.{sys.version_info.minor}-config"
    genuine.parent.mkdir()
    genuine.touch()
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    assert python_headers.config(tmp_path / "cache") == str(genuine)
    python_headers.write(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_one_of_ours_answers_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    (tmp_path / "cache").mkdir()
    path = python_headers.config(tmp_path / "cache")
    python_headers.write(tmp_path / "cache")
    python_headers.write(tmp_path / "cache")  # a second time changes nothing
    assert Path(answer(path, "--includes").removeprefix("-I"), "Python.h").is_file()
    assert answer(path, "--extension-suffix") == sysconfig.get_config_var("EXT_SUFFIX")
    with pytest.raises(subprocess.CalledProcessError):
        answer(path, "--ldflags")


def test_a_path_that_the_user_names_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("python_config_path", "/mine/python3-config")
    assert planning.make_plan("cpu").environment["python_config_path"] == "/mine/python3-config"


def test_missing_headers_are_told_before_compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_headers, "include", lambda: tmp_path)
    with pytest.raises(SetupError, match=r"Python's headers are missing .*Python\.h.* apt-get install python3\."):
        runtime.check_requirements()
    finding = doctor._python()
    assert (finding.state, finding.found.endswith("without its headers")) == ("problem", True)
