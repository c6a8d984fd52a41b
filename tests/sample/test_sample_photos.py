"""The sample's photos: unpacked once, anew where they are damaged or older, never over something else."""

import pytest

from jclip_adapter import storage
from jclip_adapter.core.errors import DataError, SetupError, UsageError
from jclip_adapter.data import sample
from jclip_adapter.data.sample import ensure_sample
from tools.sample.classes import CLASSES
from tools.sample.painter import pack, write_sample


def archive(path, classes):
    write_sample(path / "drawn", train_per_class=1, test_per_class=1, classes=classes)
    (path / "photos.zip").write_bytes(pack(path / "drawn"))
    return path / "photos.zip"


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path_factory):
    """An archive of three classes of two photos."""
    monkeypatch.setattr(sample, "PHOTOS", archive(tmp_path_factory.mktemp("small"), CLASSES[:3]))


def test_the_sample_is_unpacked_once(tmp_path):
    root = tmp_path / "photos"
    assert ensure_sample(root) == root
    before = (root / storage.MANIFEST).stat().st_mtime_ns
    assert ensure_sample(root) == root
    assert (root / storage.MANIFEST).stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    assert len(list(root.rglob("*.jpg"))) == 6


def test_a_damaged_sample_is_unpacked_anew(tmp_path):
    root = ensure_sample(tmp_path / "photos")
    (root / "TestSetA" / "image_1.jpg").write_bytes(b"")
    ensure_sample(root)
    assert (root / "TestSetA" / "image_1.jpg").stat().st_size > 0


def test_an_older_sample_is_replaced(tmp_path, monkeypatch):
    root = ensure_sample(tmp_path / "photos")
    monkeypatch.setattr(sample, "PHOTOS", archive(tmp_path / "newer", CLASSES[:2]))
    ensure_sample(root)
    assert len(list(root.rglob("*.jpg"))) == 4


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="did not write"):
        ensure_sample(tmp_path)
    assert (tmp_path / "holiday.jpg").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_stopped_run_leaves_nothing_behind(tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "write_manifest", stopped)
    with pytest.raises(KeyboardInterrupt):
        ensure_sample(tmp_path / "photos")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_archive_and_a_folder_that_cannot_be_written_are_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot write"):
        ensure_sample(tmp_path / "file" / "photos")
    monkeypatch.setattr(sample, "PHOTOS", tmp_path / "none.zip")
    with pytest.raises(DataError, match="is missing"):
        ensure_sample(tmp_path / "photos")
