import errno
import os
import time

import numpy as np
import pytest
from safetensors.numpy import load

from jclip_adapter import storage
from jclip_adapter.core.errors import DataError, SetupError, UsageError
from jclip_adapter.storage.kinds import Kind, unchanged_npz, unchanged_safetensors


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "x.txt"
    with storage.atomic_write(path) as handle:
        handle.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]


def test_a_failing_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="stop"), storage.atomic_write(path, storage.ANY) as handle:
        handle.write(b"new")
        raise RuntimeError("stop")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (type(path), "replace")), full)
    with pytest.raises(SetupError, match="No space left on device"):
        storage.write_text(path, "new", storage.ANY)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_and_text_round_trip(tmp_path):
    storage.write_json(tmp_path / "x.json", {"ü": [1, 2.5, None]})
    assert storage.read_json(tmp_path / "x.json") == {"ü": [1, 2.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.write_json(tmp_path / "y.json", float("nan"))
    (tmp_path / "z.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        storage.read_json(tmp_path / "z.json")


def test_safetensors_of_every_kind_are_read_by_the_library(tmp_path):
    arrays = {
        kind: np.arange(6).reshape(2, 3).astype(kind).T
        for kind in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?")
    }
    arrays["scalar"] = np.array(1.5, np.float32)
    storage.write_safetensors(tmp_path / "x", arrays, {"b": "2", "a": "1"})
    theirs = load((tmp_path / "x").read_bytes())
    ours, facts = storage.read_safetensors(tmp_path / "x")
    assert facts == {"a": "1", "b": "2"}
    for name, value in arrays.items():
        for back in (theirs[name], ours[name]):
            assert back.dtype == value.dtype
            np.testing.assert_array_equal(back, value)


@pytest.mark.parametrize("known", [True, False])
def test_files_of_the_same_format_are_told_apart(tmp_path, known):
    arrays = {"x": np.zeros(2, np.float32)}
    storage.write_safetensors(tmp_path / "a", arrays, {"source": "s", "format": "mine" if known else "another"})
    storage.write_bytes(tmp_path / "b", storage.npz_bytes(arrays if known else {"y": arrays["x"]}))
    assert Kind("", unchanged_safetensors("source", format="mine")).owns(tmp_path / "a") is known
    assert Kind("", unchanged_npz("x")).owns(tmp_path / "b") is known


def test_objects_are_not_stored():
    with pytest.raises(ValueError, match="Python objects"):
        storage.npz_bytes({"x": np.array([{}])})


@pytest.mark.parametrize("damage", ["missing", "longer", "changed"])
def test_a_manifest_notices(tmp_path, damage):
    (tmp_path / "a").write_bytes(b"abc")
    storage.write_manifest(tmp_path, ["a"], kind="test")
    assert storage.check_manifest(tmp_path)["kind"] == "test"
    if damage == "missing":
        (tmp_path / "a").unlink()
    else:
        (tmp_path / "a").write_bytes(b"abcd" if damage == "longer" else b"abd")
    with pytest.raises(DataError, match="a is missing or damaged"):
        storage.check_manifest(tmp_path)


def test_without_a_manifest_nothing_is_finished(tmp_path):
    with pytest.raises(DataError, match="no finished result"):
        storage.check_manifest(tmp_path)


def test_only_old_strays_of_our_own_are_swept(tmp_path):
    names = {".x.0123456789ab.partial": 1, ".y.0123456789ab.partial": 0, ".notours.partial": 1, "x.partial": 1}
    for name, old in names.items():
        (tmp_path / name).write_text("")
        stamp = time.time() - old * 7200
        os.utime(tmp_path / name, (stamp, stamp))
    storage.sweep_strays(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == names.keys() - {".x.0123456789ab.partial"}


RUN = ("a run", {"a": storage.NEW, "b": storage.NEW})  # of content that nothing recognises but the manifest


def old_files(folder):
    with storage.write_together(folder, *RUN) as fresh:
        for name in ("a", "b"):
            storage.write_text(fresh / name, "old")
    (folder / "other").write_text("stays")


def test_files_that_belong_together_are_replaced_together(tmp_path):
    old_files(tmp_path)
    with storage.write_together(tmp_path, *RUN) as fresh:
        storage.write_text(fresh / "a", "new")
        storage.write_text(fresh / "b", "new")
        assert (tmp_path / "a").read_text() == "old"
        assert set(storage.check_manifest(tmp_path)["files"]) == {"a", "b"}
    assert set(storage.check_manifest(tmp_path)["files"]) == {"a", "b"}
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "other", storage.MANIFEST}


def test_a_failing_writer_leaves_the_old_files(tmp_path):
    old_files(tmp_path)
    with pytest.raises(RuntimeError, match="stop"), storage.write_together(tmp_path, *RUN) as fresh:
        storage.write_text(fresh / "a", "new")
        raise RuntimeError("stop")
    assert storage.check_manifest(tmp_path)
    assert (tmp_path / "a").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "other", storage.MANIFEST}


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_what_was_not_moved_is_moved_by_the_reader(tmp_path, monkeypatch, moved):
    old_files(tmp_path)
    genuine, left = type(tmp_path).replace, iter(range(moved))

    def stopping(self, target):
        if self.parent.name == ".next" and next(left, None) is None:
            raise OSError(errno.EIO, "Input/output error")
        return genuine(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "replace", stopping)
        with pytest.raises(SetupError, match="Input/output error"), storage.write_together(tmp_path, *RUN) as fresh:
            storage.write_text(fresh / "a", "new")
            storage.write_text(fresh / "b", "new")
    assert (tmp_path / ".next").is_dir()
    assert storage.check_manifest(tmp_path)
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "new"
    assert not (tmp_path / ".next").exists()


def test_a_folder_is_replaced_when_the_new_one_is_whole(tmp_path):
    target = tmp_path / "photos"
    for text in ("old", "new"):
        with storage.replace_folder(target) as fresh:
            storage.write_text(fresh / "a", text)
            storage.write_manifest(fresh, ["a"])
    with pytest.raises(RuntimeError, match="stop"), storage.replace_folder(target) as fresh:
        storage.write_text(fresh / "a", "half")
        raise RuntimeError("stop")
    assert (target / "a").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("foreign", ["photos", "photos/mine"])
def test_a_folder_with_foreign_files_is_not_replaced(tmp_path, foreign):
    (tmp_path / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / foreign).write_text("mine")
    with pytest.raises(UsageError, match=f"{foreign} is in the way"), storage.replace_folder(tmp_path / "photos"):
        pass
    assert (tmp_path / foreign).read_text() == "mine"


def test_a_damaged_manifest_does_not_bar_the_next_writer(tmp_path):
    kinds = {"a": storage.ANY, storage.MANIFEST: storage.ANY}
    for text in ("old", "new"):
        with storage.write_together(tmp_path, "a run", kinds) as fresh:
            storage.write_text(fresh / "a", text)
        manifest = tmp_path / storage.MANIFEST
        sound = manifest.read_text()
        manifest.write_text(sound.replace('"bytes": 3', '"bytes": 4'))
        assert not storage.is_listed(tmp_path / "a")
    manifest.write_text(sound)
    assert storage.check_manifest(tmp_path)
    assert (tmp_path / "a").read_text() == "new"


def test_the_old_folder_comes_back_where_the_new_one_cannot_be_put(tmp_path, monkeypatch):
    target = tmp_path / "photos"
    with storage.replace_folder(target) as fresh:
        storage.write_text(fresh / "a", "old")
        storage.write_manifest(fresh, ["a"])
    genuine, turns = type(target).rename, iter([0])

    def rename(self, goal):
        if goal == target and next(turns, None) is not None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return genuine(self, goal)

    monkeypatch.setattr(type(target), "rename", rename)
    with pytest.raises(SetupError, match="No space"), storage.replace_folder(target) as fresh:
        storage.write_text(fresh / "a", "new")
    assert (target / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "write", [lambda to: storage.write_text(to / "x", ""), old_files, lambda to: storage.replace_folder(to / "x")]
)
def test_every_writer_sweeps_the_folder_it_writes_to(tmp_path, write):
    stray = tmp_path / ".photos.0123456789ab.partial"
    stray.mkdir()
    (stray / "half").write_text("")
    os.utime(stray, (0, 0))
    done = write(tmp_path)
    if done is not None:
        with done as fresh:
            storage.write_text(fresh / "x", "")
    assert not stray.exists()
