"""A test photo never becomes a training photo: splits by folders and columns of any name, and cures that are right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jclip_adapter.data.sets import find_labels, load_dataset
from tests.conftest import Cli

from .test_datasets import CLASSES, FLAGS, both, photos, refusal, total


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("my_train", "my_test"),
        ("train_v2", "test_v2"),
        ("seg-train", "seg-test"),
        ("训练集", "测试集"),
        ("我的_训练", "我的_测试"),
        ("support", "query"),
        ("gallery_images", "query_images"),
        ("imagenet_train", "test"),
        ("Training", "PublicTest"),
    ],
)
def test_split_folders_with_an_addition_are_splits(workplace: Path, cli: Cli, train: str, test: str) -> None:
    """A7: the outer folders became classes or domains, and the test photos training photos."""
    both(workplace / "D", train, test)
    data = load_dataset("D")
    assert data.class_names == CLASSES
    assert {photo.relative.split("/")[0] for photo in data.train} == {train}
    assert len(find_labels(data)) == 9
    outcome = cli("--train", "--evaluate", "--data", "D", *FLAGS)
    assert total(outcome) == "100.0 %"
    assert "9 labelled test photos" in outcome.out


def test_kaggle_s_intel_scenes_are_read_whole(tmp_path: Path) -> None:
    """A7: seg_train/seg_train, seg_test/seg_test, and unlabelled photos in seg_pred, which are not read."""
    both(tmp_path / "D", "seg_train/seg_train", "seg_test/seg_test")
    photos(tmp_path / "D/seg_pred", ("seg_pred",), 4)
    data = load_dataset(tmp_path / "D")
    assert (data.class_names, len(data.train), len(data.test)) == (CLASSES, 18, 9)
    assert "only seg_train and seg_test are read, not seg_pred" in " ".join(data.notes)


@pytest.mark.parametrize(
    "names", [("bullet_train", "car", "ship"), ("bullet_train", "crash_test", "ship"), ("gallery", "kitchen")]
)
def test_classes_that_are_called_almost_like_splits_stay_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    """A7, the other side: a word of a class's name is no split."""
    assert load_dataset(photos(tmp_path / "D", names)).class_names == names


@pytest.mark.parametrize("inner", ["cat/my_train", "cat/support"])
def test_splits_with_an_addition_inside_classes_are_refused(tmp_path: Path, inner: str) -> None:
    """A7, relative: cat/my_train and cat/my_test are no sub-folders of a class."""
    other = {"my_train": "my_test", "support": "query"}[inner.split("/")[1]]
    photos(tmp_path / "D", (inner, f"cat/{other}", inner.replace("cat", "dog"), f"dog/{other}"))
    assert "named like splits" in refusal(tmp_path / "D")


WRAPPED = ("images", "my_animals", "archive/data")


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("splits", [True, False])
def test_both_cures_of_a_refusal_give_what_they_say(workplace: Path, cli: Cli, wrapper: str, splits: bool) -> None:
    """A8, C15: `--layout class` made one class of a wrapper; the readings are taken from the message itself."""
    names = tuple(f"{name}/{side}" for name in ("bear", "lion") for side in ("left", "right"))
    photos(workplace / "D" / ("train" if splits else "") / wrapper, names)
    if splits:
        photos(workplace / "D/test" / wrapper, names, 3, first=50)
    refused = cli("--train", "--data", "D", *FLAGS)
    assert refused.status == 2
    one, two, layout_one = re.search(r"class '(\w+)' with sub-folders such as '(\w+)' \((.+?)\)", refused.err).groups()
    outer, inner, layout_two = re.search(r"domain '(\w+)' with classes such as '(\w+)' \((.+?)\)", refused.err).groups()
    as_class = load_dataset("D", layout=layout_one.removeprefix("--layout "))
    assert as_class.class_names == ("bear", "lion")
    assert one in as_class.class_names
    assert f"{one}/{two}/" in " ".join(photo.relative for photo in as_class.train)
    as_domain = load_dataset("D", layout=layout_two.removeprefix("--layout "))
    assert as_domain.class_names == ("bear_left", "bear_right", "lion_left", "lion_right")
    assert (f"{outer}_{inner}" in as_domain.class_names, set(as_domain.domains)) == (True, {"bear", "lion"})
    for data, classes in ((as_class, 2), (as_domain, 4)):
        assert (len(data.train), len(data.test), len(data.classes)) == (24, 12 * splits, classes)
        assert len(find_labels(data)) == 12 * splits
    outcome = cli("--train", "--evaluate", "--data", "D", *layout_one.split(), *FLAGS)
    assert "2 classes" in outcome.err
    assert outcome.status == 0


def test_a_single_class_and_a_single_domain_are_meant_where_they_are_said(tmp_path: Path) -> None:
    """A8, C15, relatives: the message names --layout class for one class of sessions; a single domain stays one."""
    photos(tmp_path / "D/bear", ("day1", "day2"))
    assert "Use --layout class for one class" in refusal(tmp_path / "D")
    assert load_dataset(tmp_path / "D", layout="class").class_names == ("bear",)
    photos(tmp_path / "E/Animal", ("bear", "lion"))
    assert load_dataset(tmp_path / "E", layout="domain/class").class_names == ("Animal_bear", "Animal_lion")
    assert load_dataset(tmp_path / "E").class_names == ("bear", "lion")
    assert load_dataset(tmp_path / "E", layout="class").class_names == ("bear", "lion"), "the wrapper first, as without"


def table(root: Path, head: str, cells: dict[str, tuple[str, str]]) -> Path:
    """Photos and a CSV file whose last columns tell test from training photos, class by class.

    Args:
        root: Where.
        head: The last columns' names.
        cells: By name of part, the cells for the first and the other photos of a class.
    """
    photos(root, CLASSES, 6)
    photos(root, CLASSES, 3, first=50)
    rows = [
        f"{name}/{number}.jpg,{name},{cells[part][number % 2]}\n"
        for name in CLASSES
        for part, numbers in (("train", range(6)), ("test", range(50, 53)))
        for number in numbers
    ]
    path = root / "photos.csv"
    path.write_text(f"path,label,{head}\n" + "".join(rows), encoding="utf-8")
    return path


COLUMNS = {
    "set": ("train", "test"),
    "phase": ("Training", "Testing"),
    "data_split": ("train", "test"),
    "subset": ("trn", "tst"),
    "partition": ("my_train", "my_test"),
    "Usage": ("Training", "PublicTest"),
    "数据集": ("训练集", "测试集"),
    "dataset": ("support", "query"),
    "fold": (("0", "1"), "test"),
    "is_test": ("0", "1"),
    "is_train": ("True", "False"),
    "istest": ("no", "yes"),
    "test": ("FALSE", "TRUE"),
    "is_train,is_test": ("1,0", "0,1"),
    "split,fold": (("train,1", "train,2"), "test,test"),
}


@pytest.mark.parametrize("head", COLUMNS)
def test_split_columns_of_any_name_keep_test_photos_out(workplace: Path, cli: Cli, head: str) -> None:
    """C12: test photos became training photos where the column was not called split."""
    cells = [cell if isinstance(cell, tuple) else (cell, cell) for cell in COLUMNS[head]]
    table(workplace / "T", head, dict(zip(("train", "test"), cells, strict=True)))
    data = load_dataset("T/photos.csv")
    assert (len(data.train), len(data.test), data.class_names) == (18, 9, CLASSES)
    assert all("/5" in photo.relative for photo in data.test)
    assert head.partition(",")[0].lower() in data.reading
    outcome = cli("--train", "--evaluate", "--data", "T/photos.csv", *FLAGS)
    assert total(outcome) == "100.0 %"
    assert "9 labelled test photos" in outcome.out


@pytest.mark.parametrize(
    ("head", "train", "test", "reason"),
    [
        ("which", "train", "test", "its column 'which' has train, test, but no column has the name of a split"),
        ("use", "", "val", "its column 'use' has val, but no column has the name of a split"),
        ("split,set", "train,train", "train,test", "split and set contradict each other in row 8: 'train' and 'test'"),
        ("split,which", "train,test", "test,train", "split and which contradict each other"),
        ("is_test", "0", "maybe", "is_test has 'maybe', expected 0 or 1, true or false"),
        ("is_train,is_test", "1,0", "1,1", "'test and train' is neither train nor test"),
        ("is_train,is_test", "1,0", "0,0", "'none of is_train, is_test' is neither train nor test"),
        ("is_val", "0", "1", "'val' is neither train nor test"),
        ("set", "train", "tset", "'tset'"),
        ("set", "train", "validation", "'val' is neither train nor test"),
    ],
)
def test_columns_that_may_be_splits_are_refused(tmp_path: Path, head: str, train: str, test: str, reason: str) -> None:
    """C12: refused where a column may part test from training photos, and nothing says so."""
    path = table(tmp_path / "T", head, {"train": (train, train), "test": (test, test)})
    if test == "tset":  # a typo beside a cell that is none
        path.write_text(path.read_text().replace("tset", "test", 1))
    assert reason in refusal(path)


@pytest.mark.parametrize(
    ("head", "cells"), [("fold", ("0", "1")), ("set", ("a", "b")), ("note", ("", "x")), ("test", ("A7", "B"))]
)
def test_columns_that_are_no_splits_are_ignored(tmp_path: Path, head: str, cells: tuple[str, str]) -> None:
    """C12, the other side: folds, sets and notes."""
    data = load_dataset(table(tmp_path / "T", head, {"train": cells, "test": cells}))
    assert (len(data.train), len(data.test)) == (27, 0)


def labelled(root: Path, head: str, rows: list[str]) -> Path:
    root.mkdir()
    path = root / "photos.csv"
    path.write_text(
        "".join([f"path,{head}\n", *(f"{number}.jpg,{row}\n" for number, row in enumerate(rows))]), encoding="utf-8"
    )
    return path


@pytest.mark.parametrize("head", ["label,label_name", "class,class_name", "label,类名", "label,category"])
def test_names_beside_numbers_are_the_classes_names(tmp_path: Path, head: str) -> None:
    """C12, A11: "a photo of 10"; the ids keep the order of the numbers, as without names."""
    data = load_dataset(labelled(tmp_path / "T", head, ["2,wolf", "10,bear", "2,wolf", "1,zebra", "10,"]))
    assert data.class_names == ("zebra", "wolf", "bear")
    assert [photo.label for photo in data.train] == [1, 2, 1, 0, 2]
    numbers, names = head.split(",")
    assert f"class names are read from the column {names}, not {numbers}" in data.notes


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (["134,crane", "517,crane"], "the name 'crane' is paired with '134' and '517'"),
        (["1,bear", "1,wolf"], "the label '1' is paired with 'bear' and 'wolf'"),
    ],
)
def test_names_that_are_not_those_of_the_numbers_are_refused(tmp_path: Path, rows: list[str], reason: str) -> None:
    """C12, relatives: two classes of one name would become one."""
    assert reason in refusal(labelled(tmp_path / "T", "label,label_name", rows))


def test_words_beside_coarser_words_stay_the_labels(tmp_path: Path) -> None:
    """C12, relative: a column of families does not replace the species, and that is said."""
    data = load_dataset(labelled(tmp_path / "T", "label,category_name", ["bear,mammal", "crow,bird", "wolf,mammal"]))
    assert data.class_names == ("bear", "crow", "wolf")
    assert "class names are read from the column label; category_name groups the photos differently" in data.notes


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"path,label\n1.jpg,ca\0t\n2.jpg,dog\n", "line 2 contains a NUL"),
        (b"path,label\n1.jpg,cat\n2.j\0pg,dog\n", "line 3 contains a NUL"),
        ("path,label\n1.jpg,cat\n".encode("utf-16-le"), "line 1 contains a NUL"),
        (b'path,label\n1.jpg,"ca\nt"\n', "the label 'ca\\nt' holds control characters"),
        (b"path,label\n1.jpg,ca\x07t\n", "the label 'ca\\x07t' holds control characters"),
    ],
)
def test_a_nul_does_not_cut_a_label(tmp_path: Path, content: bytes, reason: str) -> None:
    """C12: a class "ca" came of "ca\\0t"."""
    (tmp_path / "photos.csv").write_bytes(content)
    assert reason in refusal(tmp_path / "photos.csv")
