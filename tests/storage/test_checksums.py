"""Files that carry their own checksum."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jclip_adapter import storage
from jclip_adapter.core.errors import DataError, SetupError, UsageError
from jclip_adapter.core.problems import Problems
from jclip_adapter.data.sets.model import ClassInfo, ImageSet, Photo
from jclip_adapter.data.sets.paths import check_files
from jclip_adapter.data.submission import check_submission, write_submission
from jclip_adapter.evaluation.benchmark import finished_cell
from jclip_adapter.features.store import FeatureStore
from jclip_adapter.storage import checksums

ARRAYS = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "names": np.array(["a", "熊"]), "y": np.array(3)}


def savez(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def member(text: str, data: bytes = b"") -> bytes:
    """An archive of one array whose header is given."""
    header = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)
    return buffer.getvalue()


def test_json_with_a_checksum_round_trips_and_is_plain_json(tmp_path: Path) -> None:
    value = {"ü": [1, 2.5, None], "seal of approval": "x"}
    storage.write_checked_json(tmp_path / "x", value)
    assert storage.read_checked_json(tmp_path / "x") == value
    assert list(json.loads((tmp_path / "x").read_text(encoding="utf-8"))) == ["seal", *value]


def test_json_without_a_checksum_is_refused(tmp_path: Path) -> None:
    storage.write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(DataError, match=r"x\.json is damaged"):
        storage.read_checked_json(tmp_path / "x.json")
    with pytest.raises(DataError, match=r"cannot read .*none\.json"):
        storage.read_checked_json(tmp_path / "none.json")


def test_bytes_with_a_checksum_that_are_no_json() -> None:
    body = checksums.JSON_START + checksums.ZEROS + b'"' + b"[" * 10
    data = body.replace(checksums.ZEROS, checksums.checksum_of([body]))
    with pytest.raises(DataError, match="is not JSON"):
        checksums.parse_json(data, "x")


def test_arrays_with_a_checksum_are_read_by_numpy_too() -> None:
    data = storage.npz_bytes(ARRAYS)
    with np.load(io.BytesIO(data), allow_pickle=False) as theirs:
        ours = checksums.read_npz(data)
        assert ours.keys() == set(theirs.files) == ARRAYS.keys()
        for name, value in ARRAYS.items():
            np.testing.assert_array_equal(ours[name], value)
            np.testing.assert_array_equal(theirs[name], value)


def test_other_programs_arrays_are_read() -> None:
    back = checksums.read_npz(savez(**ARRAYS, order=np.asfortranarray(ARRAYS["x"]), big=np.arange(3, dtype=">f8")))
    np.testing.assert_array_equal(back["order"], ARRAYS["x"])
    np.testing.assert_array_equal(back["big"], [0, 1, 2])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **ARRAYS)
    assert checksums.read_npz(buffer.getvalue()).keys() == ARRAYS.keys()


REFUSED = {
    "objects": (savez(x=np.array([{}])), "not of numbers or text"),
    "records": (savez(x=np.zeros(2, [("a", "f4")])), "not of numbers or text"),
    "bytes": (savez(x=np.zeros(2, "V4")), "not of numbers or text"),
    "too large": (
        member("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }", bytes(8)),
        "does not fit",
    ),
    "a negative size": (member("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", bytes(8)), "does not fit"),
    "too small": (member("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", bytes(8)), "does not fit"),
    "empty texts": (
        member("{'descr': '<U0', 'fortran_order': False, 'shape': (4,), }"),
        "not of numbers or text",
    ),
    "code": (member("lambda: 0"), "not a .npz"),
    "parentheses": (member("(" * 5000), "not a .npz"),
    "cut by a byte": (savez(**ARRAYS)[:-1], "its end is wrong"),
    "empty": (b"", "its end is wrong"),
    "cut in its checksum": (storage.npz_bytes(ARRAYS)[: -len(checksums.ZEROS) - 5], "its end is wrong"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_arrays_that_are_refused(kind: str) -> None:
    data, message = REFUSED[kind]
    with pytest.raises(DataError, match=message):
        checksums.read_npz(data)


def test_an_archive_that_unfolds_is_refused() -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.zeros(20_000_000, np.uint8))
    with pytest.raises(DataError, match="would expand"):
        checksums.read_npz(buffer.getvalue())


def test_a_shard_of_something_else_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = np.zeros((2, 32), np.uint8)
    for shard in (
        {"keys": keys, "features": np.ones((2, 4))},
        {"keys": keys[0], "features": np.ones((2, 4), np.float32)},
        {"keys": np.array(1), "features": np.array(1, np.float32)},
        {"keys": keys.astype(np.int64), "features": np.ones((2, 4), np.float32)},
        {"other": keys},
    ):
        data = storage.npz_bytes(shard)
        storage.write_bytes(tmp_path / f"{checksums.hashlib.sha256(data).hexdigest()[:32]}.npz", data)
    assert len(FeatureStore(tmp_path, 4)) == 0
    assert len(list(tmp_path.iterdir())) == 5


def test_a_damaged_cell_is_told_and_counts_as_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "cell.json"
    assert finished_cell(path) == {}
    storage.write_checked_json(path, {"top1": 61.25})
    assert finished_cell(path) == {"top1": 61.25}
    path.write_text(path.read_text(encoding="utf-8").replace("61.25", "71.25"), encoding="utf-8")
    assert finished_cell(path) == {}
    assert f"{path} is damaged" in caplog.text


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../../b", "..\\a", "C:a", "", ".", "a\0b", "a//b"])
def test_a_manifest_names_files_of_its_folder_alone(name: str, tmp_path: Path) -> None:
    storage.write_checked_json(tmp_path / storage.MANIFEST, {"files": {name: {"bytes": 0, "sha256": ""}}})
    with pytest.raises(DataError, match="not a file in its folder"):
        storage.check_manifest(tmp_path)


def test_a_zip_in_another_wrapping_is_valid_but_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    classes = tuple(ClassInfo(number, f"A_{number}", "A", "") for number in range(6))
    images = ImageSet("x", tmp_path, "contest", classes, (), (Photo(tmp_path, "image_1.jpg", None),), "A", tmp_path)
    path, packed = write_submission(tmp_path / "result.txt", ["image_1.jpg"], [[0, 1, 2, 3, 4]])
    caplog.set_level(logging.WARNING)
    assert check_submission(path, images).zip_checked
    assert caplog.text == ""
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(path, path.name)
    assert check_submission(path, images).zip_checked
    assert f"{packed} has the right text, but was packed by another program" in caplog.text


def test_a_link_in_a_circle_leads_out(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    problems = Problems(tmp_path)
    check_files([Photo(tmp_path, "loop.jpg", 0)], problems)
    assert "leads out" in problems.summary()


def test_every_changed_byte_of_a_picture_is_noticed() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 3), (200, 30, 90)).save(buffer, "PNG")
    data = checksums.png_with_checksum(buffer.getvalue())
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        assert picture.getpixel((0, 0)) == (200, 30, 90)
    assert checksums.png_is_unchanged(data)
    assert not checksums.png_is_unchanged(buffer.getvalue())
    assert not checksums.png_is_unchanged(data + b"\n")
    for place in range(len(data)):
        assert not checksums.png_is_unchanged(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]), place


@pytest.mark.parametrize("mark", [checksums.MARKDOWN_MARK, checksums.LIST_MARK])
@given(text=st.text(), more=st.text(min_size=1))
def test_text_that_was_added_to_is_noticed(mark: str, text: str, more: str) -> None:
    whole = checksums.text_with_checksum(text, mark)
    assert checksums.text_is_unchanged(whole, mark)
    assert not checksums.text_is_unchanged(more + whole, mark)
    assert not checksums.text_is_unchanged(whole + more, mark)
    assert not checksums.text_is_unchanged(text, mark)


def test_files_that_show_whose_others_are_are_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them where one may not be replaced or cannot be staged; no partial file is left."""
    (tmp_path / "b").write_text("mine")
    with pytest.raises(UsageError, match="b exists"):
        storage.write_files([(tmp_path / "a", b"1", storage.ANY), (tmp_path / "b", b"2", storage.NEW)])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"b": "mine"}
    (tmp_path / "a").write_text("old")
    files = [(tmp_path / "a", b"1", storage.ANY), (tmp_path / "b", b"2", storage.ANY)]
    flush, numbers = os.fsync, iter(range(9))

    def fails_second(handle: int) -> None:
        if next(numbers) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails_second)
        with pytest.raises(SetupError, match=r"cannot write .*b: No space left"):
            storage.write_files(files)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "b": "mine"}
    storage.write_files(files)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "1", "b": "2"}
