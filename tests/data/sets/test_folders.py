"""A folder per class, with and without domains and with and without a test folder."""

import pytest

from jclip_adapter.core.errors import DataError
from jclip_adapter.data.sets import find_labels, load_dataset
from tests.data.sets.conftest import touch


def build(root, *files):
    for name in files:
        touch(root / name)
    return root


def test_one_level(tmp_path):
    data = load_dataset(build(tmp_path, "c10/1.jpg", "c2/10.JPG", "c2/9.png", "c2/notes.txt"))
    assert data.layout == "folders"
    assert [(c.id, c.name, c.domain, c.folder) for c in data.classes] == [(0, "c2", "", "c2"), (1, "c10", "", "c10")]
    assert [(p.relative, p.label) for p in data.train] == [("c2/9.png", 0), ("c2/10.JPG", 0), ("c10/1.jpg", 1)]
    assert all(photo.path.is_file() for photo in data.train)
    assert data.test == ()


def test_two_levels_make_domains(tmp_path):
    data = load_dataset(build(tmp_path, "Animal/Bear/1.jpg", "My_Birds/Owl/1.jpg", "crow/1.jpg"))
    assert data.class_names == ("Animal_Bear", "My_Birds_Owl", "crow")
    assert data.domains == ("Animal", "My_Birds", "")
    assert data.classes[0].folder == "Animal/Bear"


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Train", "TEST")])
def test_train_and_test_folders(tmp_path, train, test):
    build(tmp_path, f"{train}/a/1.jpg", f"{train}/b/1.jpg", f"{test}/b/2.jpg", f"{test}/a/10.jpg", f"{test}/new/1.jpg")
    data = load_dataset(tmp_path)
    assert data.class_names == ("a", "b", "new")
    assert [(p.relative, p.label) for p in data.train] == [(f"{train}/a/1.jpg", 0), (f"{train}/b/1.jpg", 1)]
    assert [(p.relative, p.label) for p in data.test] == [("a/10.jpg", None), ("b/2.jpg", None), ("new/1.jpg", None)]
    assert all(photo.path.is_file() for photo in (*data.train, *data.test))
    assert find_labels(data) == {"a/10.jpg": 0, "b/2.jpg": 1, "new/1.jpg": 2}


def test_two_levels_below_train_and_test(tmp_path):
    data = load_dataset(build(tmp_path, "train/Animal/Bear/1.jpg", "train/Food/pie/1.jpg", "test/Animal/Bear/2.jpg"))
    assert data.class_names == ("Animal_Bear", "Food_pie")
    assert data.classes[0].folder == "train/Animal/Bear"
    assert find_labels(data) == {"Animal/Bear/2.jpg": 0}


@pytest.mark.parametrize("prefix", ["train/", ""])
def test_flat_test_folder_has_no_answers(tmp_path, prefix):
    data = load_dataset(build(tmp_path, f"{prefix}a/1.jpg", "test/10.jpg", "test/9.jpg"))
    assert data.class_names == ("a",)
    assert data.test_names == ("9.jpg", "10.jpg")
    assert find_labels(data) == {}


def test_links_to_photos_are_photos(tmp_path):
    outside = tmp_path / "store"
    build(outside, "1.jpg")
    build(tmp_path / "data", "a/2.jpg", "a/3.jpg")
    (tmp_path / "data/a/1.jpg").symlink_to(outside / "1.jpg")
    assert [p.relative for p in load_dataset(tmp_path / "data").train] == ["a/1.jpg", "a/2.jpg", "a/3.jpg"]


def test_empty_hidden_and_foreign_folders_are_left_out(tmp_path):
    build(tmp_path, "train/a/1.jpg", "train/.cache/1.jpg", "val/a/1.jpg")
    (tmp_path / "train" / "empty").mkdir()
    data = load_dataset(tmp_path)
    assert data.class_names == ("a",)
    notes = "; ".join(data.notes)
    assert "empty has no photo" in notes
    assert "not val" in notes


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["Animal/Bear/1.jpg", "Animal/1.jpg"], "Animal has both photos and folders"),
        (["train/a/1.jpg", "test/a/1.jpg", "test/1.jpg"], "test has both photos and folders of photos"),
        (["Animal/Bear/1.jpg", "Animal_Bear/1.jpg"], "both give the name Animal_Bear"),
        (["a\nb/1.jpg", "c/1.jpg"], "'a\\nb' holds control characters"),
        (["train/notes.txt"], "there is no folder of photos in"),
    ],
)
def test_contradictions_are_named(tmp_path, files, expected):
    with pytest.raises(DataError) as caught:
        load_dataset(build(tmp_path, *files))
    assert expected in "\n".join(caught.value.details)
