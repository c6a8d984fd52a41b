"""oneDNN is linked from the installed packages, and nothing of anybody else's is touched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jclip_adapter.core.errors import SetupError
from jclip_adapter.runtime import onednn


def write_packages(prefix: Path, minor: int) -> Path:
    """The files of the oneDNN packages in a Python prefix."""
    files = {
        "lib/libdnnl.so": f"2.{minor}",
        "lib/libdnnl.so.2": f"2.{minor}",
        "include/dnnl.hpp": "",
        "include/oneapi/dnnl/dnnl_version.h": f"#define DNNL_VERSION_MAJOR 2\n#define DNNL_VERSION_MINOR {minor}\n",
    }
    for name, text in files.items():
        (prefix / name).parent.mkdir(parents=True, exist_ok=True)
        (prefix / name).write_text(text)
    return prefix


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prefix = write_packages(tmp_path / "prefix", 6)
    monkeypatch.setattr(sys, "prefix", str(prefix))
    return prefix


def test_it_is_linked_from_the_packages(packages: Path, tmp_path: Path) -> None:
    place = onednn.place(tmp_path)
    for _ in range(2):
        assert onednn.link(tmp_path)
        assert (place / "lib/libmkldnn.so").read_text() == (place / "lib/libdnnl.so.2").read_text() == "2.6"
        assert (place / "include").readlink() == packages / "include"
        assert sorted(path.name for path in place.iterdir()) == ["include", "lib"]
    assert onednn.has_matmul(tmp_path)


def test_its_own_folder_of_links_is_renewed(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert onednn.link(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(write_packages(tmp_path / "newer", 7)))
    assert onednn.link(tmp_path)
    assert (onednn.place(tmp_path) / "lib/libmkldnn.so").read_text() == "2.7"


@pytest.mark.parametrize("gone", [False, True])
def test_older_links_and_those_into_an_environment_that_is_gone_are_renewed(
    gone: bool, packages: Path, tmp_path: Path
) -> None:
    older, place = tmp_path / "older", onednn.place(tmp_path)
    if not gone:
        write_packages(older, 2)
        (older / "lib/libmkldnn.so").write_text("2.2")
    place.mkdir(parents=True)
    for name in ("lib", "include"):
        (place / name).symlink_to(older / name)
    assert onednn.link(tmp_path)
    assert (place / "lib/libmkldnn.so").read_text() == "2.6"
    assert (place / "include").readlink() == packages / "include"
    assert older.exists() is not gone


def test_links_to_a_newer_one_are_left_alone(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert onednn.link(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(write_packages(tmp_path / "older", 5)))
    assert onednn.link(tmp_path)
    assert (onednn.place(tmp_path) / "include").readlink() == packages / "include"


def test_what_jittor_downloaded_is_left_alone(packages: Path, tmp_path: Path) -> None:
    place = onednn.place(tmp_path)
    for name in ("lib/libmkldnn.so", "include/dnnl.hpp"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("downloaded")
    assert onednn.link(tmp_path)
    assert (place / "lib/libmkldnn.so").read_text() == "downloaded"
    assert not onednn.has_matmul(tmp_path)


def test_without_packages_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert not onednn.link(tmp_path)
    assert onednn.version(tmp_path) == (0, 0)


def test_a_home_that_cannot_be_written_is_told(packages: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="JITTOR_HOME"):
        onednn.link(tmp_path / "file")
