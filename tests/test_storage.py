import errno
import os
import time

import numpy as np
import pytest
from safetensors.numpy import load

from jclip_adapter import storage
from jclip_adapter.errors import DataError, SetupError


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
    with pytest.raises(RuntimeError), storage.atomic_write(path) as handle:
        handle.write(b"new")
        raise RuntimeError
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
        storage.write_text(path, "new")
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
    assert storage.sweep_strays(tmp_path) == 1
    assert {p.name for p in tmp_path.iterdir()} == names.keys() - {".x.0123456789ab.partial"}
