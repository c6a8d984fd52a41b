from pathlib import Path

import pytest

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.data.sets.typed import typed_classes


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat, dog, a red toy car", ("cat", "dog", "a red toy car")),
        (" cat ,,dog,", ("cat", "dog")),
        ("cat\n dog\n", ("cat", "dog")),
        ("猫,狗", ("猫", "狗")),
        ("猫，狗、汽车", ("猫", "狗", "汽车")),
        ("cafe\u0301, tea", ("café", "tea")),
    ],
)
def test_names_are_separated_by_commas_or_lines(text, names):
    found = typed_classes(text)
    assert found.class_names == names
    assert found.class_ids == tuple(range(len(names)))
    assert (found.train, found.test, found.summary) == ((), (), f"{len(names)} classes")


def test_a_file_has_a_name_per_line(tmp_path: Path):
    path = tmp_path / "names.txt"
    path.write_text("a dog, brown\r\n\ncat\n", encoding="utf-8")
    assert typed_classes(str(path)).class_names == ("a dog, brown", "cat")


@pytest.mark.parametrize("text", ["", "cat", ",", "missing.txt", "cat,", ".", "a" * 300, "a" * 5000])
def test_a_choice_needs_two_names(text):
    """A text that is too long for a path is a name too."""
    with pytest.raises(UsageError, match=r"expected two names or more, got .*, which is no file either") as refused:
        typed_classes(text)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(("content", "count"), [("cat, dog\n", 1), ("", 0)])
def test_a_file_needs_two_lines(content, count, tmp_path: Path):
    path = tmp_path / "names.txt"
    path.write_text(content)
    with pytest.raises(UsageError, match=rf"expected two names or more, got {count} in the file .*names.txt"):
        typed_classes(str(path))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("cat, dog, cat", "given more than once"),
        ("cat, Cat", "only in spelling"),
        ("cat, d\0og", r"'d\x00og' holds control characters"),
        ("cat, d\udcff", "holds bytes that are not UTF-8"),
    ],
)
def test_a_name_that_does_not_stand_for_one_class_is_refused(text, fault):
    with pytest.raises(DataError) as caught:
        typed_classes(text)
    assert fault in caught.value.details[0]
