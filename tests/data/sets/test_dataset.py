"""Recognising layouts, and the answers that only scoring may see."""

import logging

import pytest

from jclip_adapter.core.errors import DataError
from jclip_adapter.data.sets import find_labels, load_dataset, load_labels
from tests.data.sets.conftest import touch


def test_nothing_there(tmp_path):
    (tmp_path / "Dataset").mkdir()
    with pytest.raises(DataError, match=r"there is no data set at .*Did you mean 'Dataset'"):
        load_dataset(tmp_path / "Datasset")
    with pytest.raises(DataError, match="Give the folder by --data"):
        load_dataset(tmp_path / "a" / "b")


def test_a_file_that_is_no_table(tmp_path):
    touch(tmp_path / "photos.zip")
    with pytest.raises(DataError, match="neither a CSV file nor a published split"):
        load_dataset(tmp_path / "photos.zip")


def test_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"no folder of photos .* Expected classes\.txt"):
        load_dataset(tmp_path)


def test_the_folder_above_is_not_taken_for_the_data(contest):
    root = contest()
    with pytest.raises(DataError, match=f"Use --data {root}"):
        load_dataset(root.parent)


def test_accepts_text_paths(contest):
    assert load_dataset(str(contest())).layout == "contest"


def test_repr_is_short(contest):
    assert len(repr(load_dataset(contest()))) < 500


def test_labels_are_class_indices_by_name(contest, tmp_path):
    data = load_dataset(contest())
    path = tmp_path / "labels.txt"
    path.write_bytes(b"image_1.PNG 3\r\nimage_2.jpeg 0\r\nimage_10.jpg 1")
    assert load_labels(path, data) == {"image_1.PNG": 3, "image_2.jpeg": 0, "image_10.jpg": 1}


def test_labels_beside_the_test_folder_are_found(contest):
    root = contest()
    assert find_labels(load_dataset(root)) == {}
    (root / "TestSetB_labels.txt").write_text("image_1.PNG 1")
    assert find_labels(load_dataset(root)) == {}
    (root / "TestSetA_labels.txt").write_text("image_1.PNG 2")
    assert find_labels(load_dataset(root)) == {"image_1.PNG": 2}


def test_missing_labels_are_logged(contest, tmp_path, caplog):
    (tmp_path / "labels.txt").write_text("image_1.PNG 2")
    with caplog.at_level(logging.WARNING):
        load_labels(tmp_path / "labels.txt", load_dataset(contest()))
    assert "2 of 3 test photos have no label" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image_1.PNG 9", "line 1: no class has id 9"),
        ("image_7.jpg 0", "line 1: there is no test photo image_7.jpg"),
        ("image_1.PNG 0\nimage_1.PNG 0", "line 2: image_1.PNG is already listed"),
        ("image_1.PNG", "is not 'name id'"),
        ("", "names no photo"),
    ],
)
def test_faulty_labels(contest, tmp_path, text, expected):
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(DataError, match=expected):
        load_labels(tmp_path / "labels.txt", load_dataset(contest()))
