"""The contest's layout: what is read, and how every contradiction is told."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jclip_adapter.core.errors import DataError
from jclip_adapter.data.sets import load_dataset
from jclip_adapter.data.sets.contest import parse_line
from tests.data.sets.conftest import CLASSES, TRAIN


def fault(root, **arguments):
    with pytest.raises(DataError) as caught:
        load_dataset(root, **arguments)
    assert "\n" not in str(caught.value)
    return caught.value


def test_reads_classes_train_and_test(contest):
    root = contest()
    data = load_dataset(root)
    assert (data.layout, data.name, data.root, data.split) == ("contest", "Dataset", root, "A")
    assert data.class_names == tuple(line.split()[0] for line in CLASSES)
    assert data.class_ids == (0, 1, 2, 3)
    assert data.domains == ("Animal", "Animal", "Caltech-101", "Thu-dog")
    assert data.classes[2].folder == "TrainSet/Caltech-101/car_side"
    assert [f"{p.relative} {p.label}" for p in data.train] == TRAIN
    assert data.train[0].path == root / "TrainSet/Animal/Bear/1.jpg"


def test_test_photos_are_in_natural_order_without_labels(contest):
    root = contest()
    (root / "TestSetA_labels.txt").write_text("image_1.PNG 3\n")
    data = load_dataset(root)
    assert data.test_names == ("image_1.PNG", "image_2.jpeg", "image_10.jpg")
    assert [photo.label for photo in data.test] == [None] * 3
    assert data.test[0].path == root / "TestSetA" / "image_1.PNG"


def test_other_files_of_the_test_folder_are_counted(contest, caplog):
    root = contest(test=["image_1.jpg", "Thumbs.db", "._image_1.jpg", "notes.txt"])
    with caplog.at_level(logging.WARNING):
        assert load_dataset(root).test_names == ("image_1.jpg",)
    assert "ignored 3 files" in caplog.text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", " \n", "\n  \n"])
def test_line_ends_blank_lines_and_byte_order_mark_are_tolerated(contest, end):
    root = contest(end=end)
    expected = [f"{p.relative} {p.label}" for p in load_dataset(root).train]
    assert expected == TRAIN
    for name in ("classes.txt", "train.txt"):
        (root / name).write_bytes(b"\xef\xbb\xbf" + (root / name).read_bytes() + b"\r\n")
    data = load_dataset(root)
    assert data.class_names[0] == "Animal_Bear"
    assert [f"{p.relative} {p.label}" for p in data.train] == TRAIN


def test_classes_are_ordered_by_id_whatever_the_order_of_lines(contest):
    data = load_dataset(contest(classes=CLASSES[::-1]))
    assert data.class_names == tuple(line.split()[0] for line in CLASSES)


def test_split_b_takes_its_own_classes_and_folder(contest):
    root = contest(split="B")
    (root / "classes_b.txt").write_text("\n".join([*CLASSES, "Stanford-Cars_Audi_TTS_Coupe_2012 4"]))
    data = load_dataset(root, split="B")
    assert len(data.test) == 3
    assert data.domains[4] == "Stanford-Cars"
    assert data.classes[4].folder == ""
    assert data.train_by_class[4] == ()


def test_split_b_without_its_own_list_takes_the_common_one(contest):
    assert len(load_dataset(contest(split="B"), split="B").classes) == 4


def test_domain_with_an_underscore_is_told_by_the_folder(contest):
    train = ["TrainSet/My_Birds/Blue_tit/1.jpg 0", "TrainSet/crow/1.jpg 2"]
    data = load_dataset(contest(classes=["My_Birds_Blue_tit 0", "My_Birds_Owl 1", "crow 2"], train=train, files=train))
    assert data.domains == ("My_Birds", "My_Birds", "")


def test_a_class_without_photos_takes_the_longest_domain_known(contest):
    train = ["TrainSet/My/Cat/1.jpg 0", "TrainSet/My_Birds/Tit/1.jpg 1"]
    data = load_dataset(contest(classes=["My_Cat 0", "My_Birds_Tit 1", "My_Birds_Owl 2"], train=train, files=train))
    assert data.domains == ("My", "My_Birds", "My_Birds")


def test_a_name_may_hold_blanks(contest):
    train = ["TrainSet/My Zoo/Polar bear/photo 1.jpg 0"]
    data = load_dataset(contest(classes=["My Zoo_Polar bear 0"], train=train, files=train))
    assert data.train[0].relative == "TrainSet/My Zoo/Polar bear/photo 1.jpg"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"classes": [*CLASSES, "Animal_Cow 6"]}, "classes.txt has no id 4 to 5"),
        ({"classes": CLASSES[1:], "train": TRAIN[6:]}, "classes.txt has no id 0"),
        ({"classes": [*CLASSES, "Animal_Cow 3"]}, "classes.txt line 5: id 3 is already on line 4"),
        ({"classes": [*CLASSES, "Animal_Bear 4"]}, "classes.txt line 5: Animal_Bear is already on line 1"),
        ({"classes": [*CLASSES, "Animal_Cow"]}, "classes.txt line 5: 'Animal_Cow' is not 'name id'"),
        ({"train": [*TRAIN, "TrainSet/Animal/Bear/7.jpg"]}, "train.txt line 25: 'TrainSet/Animal/Bear/7.jpg' is not"),
        ({"train": [*TRAIN, "TrainSet/Animal/Bear/7.jpg x1"]}, "line 25: 'TrainSet/Animal/Bear/7.jpg x1' is not"),
        ({"train": [*TRAIN, "TrainSet/Animal/Bear/ 0"]}, "line 25: TrainSet/Animal/Bear/ is not a file name"),
        ({"train": [*TRAIN, TRAIN[1]]}, "train.txt line 25: TrainSet/Animal/Bear/2.jpg is already listed"),
        ({"train": [*TRAIN, "TrainSet/Animal/Cow/1.jpg 9"]}, "TrainSet/Animal/Cow has id 9, which classes.txt lacks"),
        (
            {"train": [*TRAIN, "TrainSet/Animal/bear/1.jpg 0"]},
            "Animal/bear is listed under id 0, which classes.txt calls",
        ),
        ({"train": [*TRAIN, "TrainSet/Animal_Sea/lion/1.jpg 1"]}, "TrainSet/Animal_Sea/lion is listed under id 1"),
        ({"train": [*TRAIN, "Animal/Bear/1.jpg 0"]}, "line 25: Animal/Bear is listed under id 0"),
        ({"train": [*TRAIN, "7.jpg 0"]}, "line 25: no folder is listed under id 0"),
        ({"train": [*TRAIN, "TrainSet/../../x/1.jpg 0"]}, "line 25: TrainSet/../../x leaves the data folder"),
        ({"train": [*TRAIN, "/etc/1.jpg 0"]}, "line 25: /etc is an absolute path"),
        ({"train": [*TRAIN, "C:/etc/1.jpg 0"]}, "line 25: C:/etc is an absolute path"),
        ({"train": [*TRAIN, "TrainSet\\Animal\\Bear/1.jpg 0"]}, "contains a backslash"),
        ({"train": [*TRAIN, "TrainSet//Animal/Bear/1.jpg 0"]}, "is not a plain path"),
        ({"train": []}, "train.txt names no photo"),
        ({"classes": [], "train": []}, "classes.txt names no class"),
        ({"test": []}, "there is no folder TestSetA"),
    ],
)
def test_each_contradiction_is_named(contest, change, expected):
    error = fault(contest(**change))
    assert any(expected in line for line in error.details), error.details


def test_a_photo_with_two_labels_is_named(contest):
    error = fault(contest(train=[*TRAIN, "TrainSet/Animal/Bear/1.jpg 3"]))
    assert any("line 25: TrainSet/Animal/Bear/1.jpg is already listed under" in line for line in error.details)


def test_missing_lists_and_folders_are_all_named(tmp_path):
    (tmp_path / "classes.txt").write_text("Animal_Bear 0\n")
    details = "\n".join(fault(tmp_path).details)
    for missing in ("train.txt", "TrainSet", "TestSetA"):
        assert f"there is no {missing}" in details or f"there is no folder {missing}" in details


def test_the_other_split_is_suggested(contest):
    assert "--split B" in str(fault(contest(split="B"), split="A"))


def test_an_empty_test_folder_is_named(contest):
    assert "TestSetA has no photo" in str(fault(contest(test=["notes.txt"])))


def test_a_list_that_is_no_text_is_named(contest):
    root = contest()
    (root / "classes.txt").write_bytes(b"\xff\xfe\x00A")
    assert "not UTF-8" in "\n".join(fault(root).details)


def test_one_message_lists_everything(contest):
    """Faults of every file, and the missing photos, come in a single error."""
    classes = [*CLASSES, "Animal_Cow 7", "broken"]
    train = [*TRAIN, *TRAIN[:2], "TrainSet/Animal/Cow/1.jpg 7", "TrainSet/Animal/Bear/99.jpg 0", "nonsense"]
    error = fault(contest(classes=classes, train=train))
    text = "\n".join(error.details)
    for part in ("no id 4 to 6", "'broken'", "'nonsense'", "duplicate lines", "Bear/99.jpg does not exist"):
        assert part in text
    assert "duplicate lines (2)" in str(error)
    assert "7 problems" in str(error)


def test_many_faults_of_a_kind_are_counted_not_poured_out(contest):
    error = fault(contest(train=TRAIN + TRAIN))
    assert len(error.details) == 11
    assert error.details[-1] == "duplicate lines: … and 14 more"
    assert "duplicate lines (24)" in str(error)


_NAMES = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1)


@given(name=st.lists(_NAMES, min_size=1, max_size=3).map(" ".join), identity=st.integers(0, 999_999_999))
def test_parse_line_takes_any_name_and_id(name, identity):
    assert parse_line(f"{name} {identity}") == (name, identity)
    assert parse_line(f"{name}\t{identity}  ") == (name, identity)


@given(st.text())
def test_parse_line_never_fails(line):
    pair = parse_line(line)
    assert pair is None or (pair[0] and (pair[1] is None or pair[1] >= 0))
