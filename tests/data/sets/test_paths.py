"""Names in list files."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jclip_adapter.core.errors import DataError
from jclip_adapter.data.sets.paths import list_folder, unsafe


@pytest.mark.parametrize(
    "name", ["..", "../a", "a/../b", "a/..", "/a", "//a", "C:/a", "c:a", "..\\a", "a//b", "./a", "a/./b"]
)
def test_paths_that_are_refused(name):
    assert unsafe(name)


@pytest.mark.parametrize("name", ["a", "a/b.jpg", "a..b/c...jpg", "..a/b", "ä/熊.jpg", "a b/c d.jpg"])
def test_paths_that_are_taken(name):
    assert not unsafe(name)


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b.jpg", "..."]), min_size=1).map("/".join))
def test_what_is_taken_stays_inside(name):
    if not unsafe(name):
        assert os.path.normpath(f"/data/{name}").startswith("/data/")


def test_photos_are_known_by_their_endings(tmp_path, caplog):
    kept = [f"{n}{end}" for n, end in enumerate([".jpg", ".JPEG", ".Png", ".bmp", ".webp", ".gif", ".tif", ".TIFF"])]
    for name in [*kept, "a.txt", "jpg", ".jpg", "b\nc.jpg"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "endless.jpg").symlink_to("endless.jpg")
    (tmp_path / "far.jpg").symlink_to("x" * 300)
    os.mkfifo(tmp_path / "pipe.jpg")
    listing = list_folder(tmp_path)
    assert listing.photos == [*kept, "dangling.jpg", "endless.jpg", "far.jpg", "pipe.jpg"]
    assert listing.others == 3
    assert r"skipped 1 photo whose names fit no list, rename them: 'b\nc.jpg'" in caplog.text


def test_unreadable_folders(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        list_folder(tmp_path / "none")
