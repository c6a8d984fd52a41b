"""Result files: what is written is valid, and whatever the contest would refuse is named."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jclip_adapter.core.errors import SubmissionError, UsageError
from jclip_adapter.core.natural import natural_key
from jclip_adapter.data.sets import ClassInfo, ImageSet, Photo
from jclip_adapter.data.submission import check_submission, format_lines, write_submission

NAMES = ["image_1.jpg", "image_2.jpeg", "image_10.png"]
IDS = np.array([[0, 1, 2, 3, 4], [5, 4, 3, 2, 1], [6, 0, 5, 1, 3]])


def image_set(names=NAMES, ids=range(7)):
    classes = tuple(ClassInfo(i, f"D{i % 2}_class{i}", f"D{i % 2}", "") for i in ids)
    photos = tuple(Photo(Path("TestSetA"), name, None) for name in sorted(names, key=natural_key))
    return ImageSet("x", Path(), "contest", classes, (), photos)


def faults(path, *, top=5, data=None):
    with pytest.raises(SubmissionError) as caught:
        check_submission(path, data or image_set(), top=top)
    assert "\n" not in str(caught.value)
    return caught.value.details or [str(caught.value)]


def test_writes_the_contests_lines_in_natural_order(tmp_path):
    text, packed = write_submission(tmp_path / "result.txt", NAMES[::-1], IDS[::-1])
    expected = b"image_1.jpg 0 1 2 3 4\nimage_2.jpeg 5 4 3 2 1\nimage_10.png 6 0 5 1 3\n"
    assert text.read_bytes() == expected
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == ["result.txt"]
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)
        assert archive.read("result.txt") == expected
    report = check_submission(text, image_set())
    assert (report.lines, report.top, report.zip_checked) == (3, 5, True)
    assert list(report.first_choices.items()) == [("D0_class0", 1), ("D1_class5", 1), ("D0_class6", 1)]
    assert report.per_domain == {"D0": 2, "D1": 1}
    write_submission(text, NAMES, IDS[[2, 1, 0]])
    assert list(check_submission(text, image_set()).first_choices) == ["D0_class0", "D1_class5", "D0_class6"]


def test_equal_results_give_equal_bytes(tmp_path):
    one = write_submission(tmp_path / "a" / "result.txt", NAMES, IDS)
    other = write_submission(tmp_path / "b" / "result.txt", NAMES[::-1], IDS[::-1].tolist())
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["result.txt", "result.zip"]


def test_one_id_form(tmp_path):
    path, _ = write_submission(tmp_path / "result.txt", NAMES, IDS[:, :1])
    assert check_submission(path, image_set(), top=1).lines == 3
    assert "line 1 has 1 id instead of 5" in faults(path)[0]
    path, _ = write_submission(path, NAMES, IDS)
    assert "line 1 has 5 ids instead of 1" in faults(path, top=1)[0]


def test_fewer_classes_than_five(tmp_path):
    path = tmp_path / "result.txt"
    small = image_set(ids=range(3))
    path.write_text("".join(f"{name} 2 0 1\n" for name in NAMES))
    report = check_submission(path, small)
    assert (report.top, report.zip_checked) == (3, False)


def test_a_missing_last_line_feed_is_no_fault(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text(format_lines(NAMES, IDS).rstrip("\n"))
    assert check_submission(path, image_set()).lines == 3


_WORD = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1, max_size=6)
_NAME = st.lists(_WORD, min_size=1, max_size=3).map(lambda words: " ".join(words) + ".jpg")


@given(st.data(), st.integers(1, 5))
def test_whatever_is_written_passes_the_check(tmp_path_factory, data, top):
    names = data.draw(st.lists(_NAME, unique=True, min_size=1, max_size=6))
    ids = data.draw(st.lists(st.integers(0, 10**9 - 1), unique=True, min_size=top, max_size=9))
    rows = [data.draw(st.permutations(ids))[:top] for _ in names]
    path, _ = write_submission(tmp_path_factory.mktemp("run") / "result.txt", names, rows)
    report = check_submission(path, image_set(names, sorted(ids)), top=top)
    assert report.lines == len(names)
    assert report.zip_checked
    lines = [line.rsplit(" ", top) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [line[0] for line in lines] == sorted(names, key=natural_key)
    assert {line[0]: [int(word) for word in line[1:]] for line in lines} == dict(zip(names, rows, strict=True))


@pytest.mark.parametrize(
    ("names", "ids", "expected"),
    [
        (["a.jpg"], [[1, 1]], "a.jpg has the same id twice"),
        (["a.jpg", "a.jpg"], [[1], [2]], "duplicate photo"),
        (["a.jpg"], [[1], [2]], "expected ids of shape"),
        (["a.jpg"], [1], "expected ids of shape"),
        (["a.jpg"], [[]], "expected ids of shape"),
        (["a.jpg"], [[-1]], "whole numbers"),
        (["a.jpg"], [[0.5]], "whole numbers"),
        (["a\n.jpg"], [[1]], "cannot be written to a result file"),
        (["\udcff.jpg"], [[1]], "cannot be written to a result file"),
        ([""], [[1]], "cannot be written to a result file"),
    ],
)
def test_results_that_cannot_be_written(tmp_path, names, ids, expected):
    with pytest.raises(SubmissionError, match=expected):
        write_submission(tmp_path / "result.txt", names, ids)
    assert list(tmp_path.iterdir()) == []


def test_paths_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        write_submission(tmp_path, NAMES, IDS)
    with pytest.raises(UsageError, match="is the zip's name"):
        write_submission(tmp_path / "result.zip", NAMES, IDS)


GOOD = ["image_1.jpg 0 1 2 3 4", "image_2.jpeg 5 4 3 2 1", "image_10.png 6 0 5 1 3"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([GOOD[0], GOOD[2]], "image_2.jpeg has no line"),
        ([*GOOD, GOOD[2]], "line 4: image_10.png already has a line"),
        ([*GOOD, "image_11.jpg 0 1 2 3 4"], "image_11.jpg is not among the test photos"),
        ([GOOD[0], "image_2.jpg 5 4 3 2 1", GOOD[2]], "image_2.jpg is not among the test photos, but image_2.jpeg is"),
        ([GOOD[0], "image_2 5 4 3 2 1", GOOD[2]], "image_2 is not among the test photos, but image_2.jpeg is"),
        ([GOOD[0], "image_2.jpeg 5 4 3 2 5", GOOD[2]], "line 2: duplicate id"),
        ([GOOD[0], "image_2.jpeg 5 4 3 2 7", GOOD[2]], "line 2: no class has id 7"),
        ([GOOD[0], "image_2.jpeg 5 4 3 2", GOOD[2]], "line 2 has 4 ids instead of 5"),
        ([GOOD[0], "image_2.jpeg 5 4 3 2 1 0", GOOD[2]], "line 2 has 6 ids instead of 5"),
        ([GOOD[0], "image_2.jpeg  5 4 3 2 1", GOOD[2]], "line 2: 'image_2.jpeg  5 4 3 2 1' is not a name and 5 ids"),
        ([GOOD[0], "image_2.jpeg 5  4 3 2 1", GOOD[2]], "line 2: 'image_2.jpeg 5  4 3 2 1' is not"),
        ([GOOD[0], "image_2.jpeg\t5 4 3 2 1", GOOD[2]], "line 2"),
        ([GOOD[0], "image_2.jpeg 5 4 3 2 01", GOOD[2]], "line 2: 'image_2.jpeg 5 4 3 2 01' is not"),
        ([GOOD[0], "image_2.jpeg 5 4 3 2 x", GOOD[2]], "line 2: 'image_2.jpeg 5 4 3 2 x' is not"),
        ([GOOD[0], "image_2.jpeg", GOOD[2]], "line 2: 'image_2.jpeg' is not"),
        ([GOOD[0], GOOD[1] + " ", GOOD[2]], "line 2 ends in a blank"),
        ([GOOD[0], GOOD[1] + "\r", GOOD[2]], "line 2 ends in CR LF"),
        ([GOOD[0], "", *GOOD[1:]], "line 2 is blank"),
        ([*GOOD, ""], "line 4 is blank"),
        ([GOOD[0], GOOD[2], GOOD[1]], "not in natural order: image_2.jpeg comes too late"),
        (["\ufeff" + GOOD[0], *GOOD[1:]], "byte-order mark"),
    ],
)
def test_each_fault_is_named(tmp_path, lines, expected):
    path = tmp_path / "result.txt"
    path.write_bytes(("\n".join(lines) + "\n").encode())
    assert any(expected in line for line in faults(path)), faults(path)


def test_missing_photos_are_listed_in_order(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text(GOOD[0] + "\n")
    assert faults(path) == [f"missing photos: {name} has no line" for name in NAMES[1:]]


def test_files_that_are_no_results(tmp_path):
    path = tmp_path / "result.txt"
    assert "cannot read" in faults(path)[0]
    path.write_bytes(b"")
    assert "there are no lines" in faults(path)[0]
    path.write_bytes(b"\xff\xfe")
    assert "byte 0 is not UTF-8" in faults(path)[0]
    assert "Give the text file" in faults(path.with_suffix(".zip"))[0]
    assert "no test photos" in faults(path, data=image_set([]))[0]
    with pytest.raises(UsageError):
        check_submission(path, image_set(), top=0)


def test_the_zip_beside_it_is_checked(tmp_path, monkeypatch):
    path, packed = write_submission(tmp_path / "result.txt", NAMES, IDS)
    whole = packed.read_bytes()
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("more.txt", "")
    assert "expected only result.txt, got result.txt, more.txt" in faults(path)[0]
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("run/result.txt", path.read_bytes())
    assert "got run/result.txt" in faults(path)[0]
    for other in (b"short", path.read_bytes().replace(b"jpg 0 1", b"jpg 1 0")):
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("result.txt", other)
        assert "differs from the one beside it" in faults(path)[0]
    monkeypatch.setattr(zipfile.ZipFile, "read", None)  # a file of another size is not even unpacked
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("result.txt", b"short")
    assert "differs from the one beside it" in faults(path)[0]
    monkeypatch.undo()
    packed.write_bytes(whole[:40] + bytes([whole[40] ^ 255]) + whole[41:])
    assert "cannot be read" in faults(path)[0]
    packed.write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in faults(path)[0]
