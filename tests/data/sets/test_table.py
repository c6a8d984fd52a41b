"""A CSV file of photos."""

import pytest

from jclip_adapter.core.errors import DataError
from jclip_adapter.data.sets import find_labels, load_dataset
from tests.data.sets.conftest import touch


def table(root, text, name="photos.csv", files=()):
    root.mkdir(exist_ok=True)
    for file in files:
        touch(root / file)
    (root / name).write_bytes(text.encode())
    return root / name


def test_reads_rows_and_keeps_odd_class_names(tmp_path):
    path = table(tmp_path, "path,label\nb/1.jpg,null\na/1.jpg,007\na/2.jpg,NA\n")
    data = load_dataset(path)
    assert (data.layout, data.name, data.root, data.source) == ("csv", "photos", tmp_path, path)
    assert data.class_names == ("007", "NA", "null")
    assert [(p.relative, p.label) for p in data.train] == [("b/1.jpg", 2), ("a/1.jpg", 0), ("a/2.jpg", 1)]
    assert data.train[0].path == tmp_path / "b/1.jpg"


def test_numbers_stay_text(tmp_path):
    assert load_dataset(table(tmp_path, "path,label\n1,007\n2,10\n")).class_names == ("007", "10")


def test_a_folder_with_one_table_is_read(tmp_path):
    table(tmp_path, "path,label\na.jpg,x\n")
    table(tmp_path, "alpha,beta\n1,2\n", name="other.csv")
    assert load_dataset(tmp_path).source == tmp_path / "photos.csv"


def test_two_tables_are_not_guessed_between(tmp_path):
    table(tmp_path, "path,label\na.jpg,x\n", name="a.csv")
    table(tmp_path, "path,label\na.jpg,x\n", name="b.csv")
    with pytest.raises(DataError, match=r"more than one list of photos \(a.csv, b.csv\)"):
        load_dataset(tmp_path)


def test_split_column_parts_train_from_test_and_hides_the_answers(tmp_path):
    text = "\ufeffPath, Label ,split,note\r\n1.jpg,b,train,x\r\n10.jpg,a,test,y\r\n2.jpg,,TEST,\r\n"
    data = load_dataset(table(tmp_path, text))
    assert data.class_names == ("a", "b")
    assert [(p.relative, p.label) for p in data.train] == [("1.jpg", 1)]
    assert [(p.relative, p.label) for p in data.test] == [("2.jpg", None), ("10.jpg", None)]
    assert find_labels(data) == {"10.jpg": 0}


def test_quoted_commas(tmp_path):
    assert load_dataset(table(tmp_path, 'path,label\n"a,b.jpg","x, y"\n')).class_names == ("x, y",)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("../1.jpg,a", "row 2: ../1.jpg leaves the data folder"),
        ("/1.jpg,a", "row 2: /1.jpg is an absolute path"),
        (",a", "row 2: the path is empty"),
        ("1.jpg,", "row 2: 1.jpg has no label"),
        ("1.jpg,a\n1.jpg,a", "row 3: 1.jpg is already listed"),
        ("1.jpg,a\n1.jpg,b", "row 3: 1.jpg is already listed with another label"),
        ("", "no row is a training photo"),
    ],
)
def test_contradictions_are_named(tmp_path, rows, expected):
    with pytest.raises(DataError) as caught:
        load_dataset(table(tmp_path, f"path,label\n{rows}\n"))
    assert any(expected in line for line in caught.value.details), caught.value.details


def test_unknown_split_is_named(tmp_path):
    with pytest.raises(DataError, match="'val' is neither train nor test"):
        load_dataset(table(tmp_path, "path,label,split\n1.jpg,a,val\n2.jpg,a,train\n", files=["1.jpg", "2.jpg"]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,species\n1.jpg,a\n", "no column label; its columns are path, species"),
        ("id,breed\n1.jpg,a\n", "no column path and no column label; its columns are id, breed"),
        ("image,file,label\n1.jpg,1,a\n", r"several columns that may be the path \(image, file\)"),
        ("path class\n1.jpg a\n", "has one column, 'path class'"),
        ("", "not a CSV file that can be read"),
        ("path,label\na,b.jpg,c\n", "not a CSV file that can be read"),
        ('path,label\n"a.jpg,c\n', "not a CSV file that can be read"),
    ],
)
def test_no_such_table(tmp_path, text, expected):
    with pytest.raises(DataError, match=expected) as caught:
        load_dataset(table(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_no_text(tmp_path):
    (tmp_path / "photos.csv").write_bytes(b"path,label\n\xff\xfe.jpg,a\n")
    with pytest.raises(DataError, match=r"neither UTF-8 \(invalid start byte at byte 11\) nor clearly GB18030"):
        load_dataset(tmp_path / "photos.csv")
