import json
import os

import pytest

from jclip_adapter.core.errors import DataError, PhotoError
from jclip_adapter.features.parts.engine import extract_parts
from jclip_adapter.features.parts.places import matching, open_file, read_photo, size_of, walk
from jclip_adapter.features.parts.source import units
from tests.features.encoders import MeanColour
from tests.features.parts.test_parts import KEYS, bytes_of, folder, photo, tar  # noqa: F401  (a fixture)


@pytest.fixture
def remote(folder):  # noqa: F811
    """The address of a copy of the folder on fsspec's file system in memory."""
    import fsspec

    system = fsspec.filesystem("memory")
    system.put(str(folder), "/bucket/photos", recursive=True)
    yield "memory://bucket/photos"
    system.rm("/bucket", recursive=True)


def test_a_remote_folder_gives_the_units_and_parts_of_a_local_one(remote, folder, tmp_path):  # noqa: F811
    assert [unit.photos for unit in units(remote, 3)] == [unit.photos for unit in units(str(folder), 3)]
    assert [name for name in walk(remote) if name.endswith(".png")] == KEYS
    for name, source in (("here", str(folder)), ("there", remote)):
        extract_parts("local", MeanColour, tmp_path / name, source, size=3, dtype="float32")
    here, there = (bytes_of(tmp_path / name) for name in ("here", "there"))
    assert [json.loads(found.pop("manifest.json"))["source"] for found in (here, there)] == [str(folder), remote]
    assert here == there


@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
def test_an_address_of_no_file_is_not_read(name, tmp_path):
    """It was read without end."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PhotoError, match="no file"):
        read_photo(f"file://{tmp_path / name}")


def test_an_address_within_another_is_refused(tmp_path):
    with pytest.raises(DataError, match="within another"):
        list(units(f"zip://photos::file://{tmp_path}/x.zip"))


def test_remote_tar_files_and_lists_are_read(remote, tmp_path):
    import fsspec

    system = fsspec.filesystem("memory")
    for number in range(2):
        system.put(str(tar(tmp_path / f"{number}.tar", {"a.png": photo(1), "a.cls": b"7"})), f"/bucket/{number}.tar")
    found = list(units("memory://bucket/*.tar"))
    assert [[entry.key for entry in unit.entries()] for unit in found] == [["0.tar/a.png"], ["1.tar/a.png"]]
    with system.open("/bucket/photos/list.csv", "w") as handle:
        handle.write("path,label\na/0.png,cat\nmemory://bucket/photos/a/1.png,dog\ngone.png,dog\n")
    (unit,) = units("memory://bucket/photos/list.csv")
    entries = list(unit.entries())
    assert [(entry.label, bool(entry.data)) for entry in entries] == [("cat", True), ("dog", True), ("dog", False)]
    assert "no such file" in entries[2].error


def test_a_file_is_the_same_here_and_there(remote, folder):  # noqa: F811
    here = folder / "a" / "0.png"
    assert read_photo(f"{remote}/a/0.png") == read_photo(str(here)) == here.read_bytes()
    assert size_of(f"{remote}/a/0.png") == size_of(str(here))
    assert size_of(f"{remote}/gone") == size_of(str(folder / "gone")) == 0
    with open_file(f"{remote}/a/0.png") as handle:
        assert handle.read() == here.read_bytes()


def test_a_failing_file_system_is_no_fault_of_a_photo(remote, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    with pytest.raises(PhotoError):
        read_photo(f"{remote}/gone.png")

    def fail(*_args, **_more):
        raise TimeoutError("timed out")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
    with pytest.raises(DataError, match="timed out"):
        read_photo(f"{remote}/a/0.png")


@pytest.mark.parametrize("place", ["nosuch://a/b", "memory://bucket/*.gone.tar"])
def test_an_address_that_leads_nowhere_is_refused(place):
    with pytest.raises(DataError):
        list(units(f"{place}.tar"))


def test_a_pattern_may_have_stars_in_its_folders(tmp_path):
    for name in ("a/0.tar", "b/1.tar", "b/.2.tar", "b/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert matching(f"{tmp_path}/*/*.tar") == [f"{tmp_path}/a/0.tar", f"{tmp_path}/b/1.tar"]
    assert matching(f"{tmp_path}/b/*.tar") == [f"{tmp_path}/b/1.tar"]
