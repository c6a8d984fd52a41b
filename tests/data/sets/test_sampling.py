"""Support sets: drawn, taken from the front, read from a list; and what remains."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.data.sets import (
    ClassInfo,
    ImageSet,
    Photo,
    first_support,
    load_dataset,
    read_support,
    remaining,
    sample_support,
    support_lines,
)
from tests.data.sets.conftest import CLASSES, TRAIN


def names(photos):
    return [photo.relative for photo in photos]


def test_draws_the_same_photos_for_the_same_seed(contest):
    data = load_dataset(contest())
    drawn = sample_support(data, 3, seed=1)
    assert drawn == sample_support(data, 3, seed=1)
    assert drawn != sample_support(data, 3, seed=2)
    assert [photo.label for photo in drawn] == [label for label in range(4) for _ in range(3)]
    assert names(drawn) == [name for name in names(data.train) if name in set(names(drawn))]


def test_the_draw_is_fixed_for_good(contest):
    """A published list of chosen photos must come out again from its seed; a change here breaks users' runs."""
    drawn = sample_support(load_dataset(contest()), 2, seed=0)
    assert [name.removeprefix("TrainSet/") for name in names(drawn)[:4]] == [
        "Animal/Bear/1.jpg",
        "Animal/Bear/2.jpg",
        "Animal/Sea_lion/1.jpg",
        "Animal/Sea_lion/5.jpg",
    ]


def test_fewer_shots_are_part_of_more(contest):
    data = load_dataset(contest())
    sets = [set(names(sample_support(data, shots, seed=7))) for shots in (1, 2, 4, 6)]
    assert sets[0] < sets[1] < sets[2] < sets[3]


def test_a_class_is_drawn_independently_of_the_others(contest):
    whole = load_dataset(contest())
    kept = [Photo(p.base, p.relative, 0) for p in whole.train_by_class[3]]
    alone = ImageSet("x", whole.root, "contest", (whole.classes[3],), tuple(kept), ())
    assert names(sample_support(alone, 4, 5)) == names(sample_support(whole, 4, 5))[-4:]


def test_classes_do_not_share_their_draw(contest):
    drawn = sample_support(load_dataset(contest()), 3, seed=0)
    numbers = {tuple(p.path.stem for p in drawn if p.label == label) for label in range(4)}
    assert len(numbers) > 1


def test_first_support_is_the_contests_baseline(contest):
    chosen = first_support(load_dataset(contest()), 2)
    assert names(chosen)[:3] == [
        "TrainSet/Animal/Bear/1.jpg",
        "TrainSet/Animal/Bear/2.jpg",
        "TrainSet/Animal/Sea_lion/1.jpg",
    ]
    assert len(chosen) == 8


@pytest.mark.parametrize("draw", [lambda d, **k: sample_support(d, 4, 0, **k), lambda d, **k: first_support(d, 4, **k)])
def test_short_classes_are_listed_or_taken_as_they_are(contest, draw):
    train = [*TRAIN[:8], *TRAIN[12:13]]
    data = load_dataset(contest(train=train))
    with pytest.raises(DataError) as caught:
        draw(data)
    assert caught.value.details == [
        "classes with fewer photos than shots: Animal_Sea_lion has 2 of 4",
        "classes with fewer photos than shots: Caltech-101_car_side has 1 of 4",
    ]
    assert [photo.label for photo in draw(data, allow_fewer=True)] == [0, 0, 0, 0, 1, 1, 2]  # the pug has none at all


def test_short_classes_and_missing_photos_come_in_one_message(contest):
    root = contest(train=TRAIN[:14])
    (root / "TrainSet/Animal/Bear/1.jpg").unlink()
    with pytest.raises(DataError) as caught:
        first_support(load_dataset(root), 4)
    assert len(caught.value.details) == 2
    assert "TrainSet/Animal/Bear/1.jpg does not exist" in caught.value.details[1]


@pytest.mark.parametrize(("shots", "seed"), [(0, 0), (-1, 0), (1, -1)])
def test_numbers_out_of_range(contest, shots, seed):
    with pytest.raises(UsageError):
        sample_support(load_dataset(contest()), shots, seed)


def test_links_out_of_the_data_folder_are_refused(contest, tmp_path):
    root = contest()
    (tmp_path / "secret.jpg").touch()
    (root / "TrainSet/Animal/Bear/1.jpg").unlink()
    (root / "TrainSet/Animal/Bear/1.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "TrainSet/Animal/Bear/2.jpg").unlink()
    (root / "TrainSet/Animal/Bear/2.jpg").symlink_to("3.jpg")
    (tmp_path / "pug").mkdir()
    (tmp_path / "pug/1.jpg").touch()
    for file in (root / "TrainSet/Thu-dog/pug").iterdir():
        file.unlink()
    (root / "TrainSet/Thu-dog/pug").rmdir()
    (root / "TrainSet/Thu-dog/pug").symlink_to(tmp_path / "pug")
    with pytest.raises(DataError) as caught:
        first_support(load_dataset(root), 2)
    refused = [line for line in caught.value.details if "leads out of the data folder" in line]
    assert len(refused) == len(caught.value.details) == 3


def test_remaining_leaves_out_the_support(contest):
    data = load_dataset(contest())
    support = sample_support(data, 4, seed=0)
    rest = remaining(data, support)
    assert sorted(names(rest) + names(support)) == sorted(names(data.train))
    few = remaining(data, support, per_class=1, seed=3)
    assert [photo.label for photo in few] == [0, 1, 2, 3]
    assert set(names(few)) < set(names(rest))
    assert few == remaining(data, support, per_class=1, seed=3)
    assert remaining(data, support, per_class=99) == rest
    with pytest.raises(UsageError, match="photos per class is 0"):
        remaining(data, support, per_class=0)


def test_written_lists_are_read_again(contest, tmp_path):
    data = load_dataset(contest())
    support = sample_support(data, 4, seed=0)
    text = support_lines(support, data)
    assert text.endswith(" 3\n")
    assert set(text.splitlines()) < set(TRAIN)
    path = tmp_path / "support.txt"
    for variant in (text, text.replace("\n", "\r\n"), "\ufeff" + text.rstrip("\n"), "\n".join(text.split("\n")[::-1])):
        path.write_bytes(variant.encode())
        assert read_support(path, data) == support


_FILE = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp"), blacklist_characters="/\\"), min_size=1)


@given(
    files=st.lists(_FILE.map("TrainSet/A/b/{}.jpg".format), unique=True, min_size=1, max_size=5),
    offset=st.integers(0, 9),
)
def test_round_trip_of_any_name(files, offset, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    photos = tuple(Photo(root, name, 0) for name in files)
    data = ImageSet("x", root, "contest", (ClassInfo(offset, "A_b", "A", "TrainSet/A/b"),), photos, ())
    path = root / "list.txt"
    path.write_bytes(support_lines(photos, data).encode())
    with pytest.raises(DataError) as caught:  # none of the files is there, and each is told by its right name
        read_support(path, data)
    assert {line.removeprefix("missing photos: ") for line in caught.value.details} == {
        f"{name} does not exist" for name in files
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("TrainSet/Animal/Bear/99.jpg 0", "line 2: TrainSet/Animal/Bear/99.jpg is not among the training photos"),
        ("../../secret.jpg 0", "is not among the training photos"),
        ("TrainSet/Animal/Bear/2.jpg 9", "line 2: no class has id 9"),
        ("TrainSet/Animal/Bear/2.jpg 1", "has another id than 1 in the data set"),
        ("TrainSet/Animal/Bear/1.jpg 0", "is already on line 1"),
        ("TrainSet/Animal/Bear/2.jpg", "is not 'name id'"),
    ],
)
def test_faults_of_a_list_are_named(contest, tmp_path, line, expected):
    data = load_dataset(contest())
    path = tmp_path / "support.txt"
    path.write_text(f"{TRAIN[0]}\n{line}\n")
    with pytest.raises(DataError, match=r"support\.txt") as caught:
        read_support(path, data)
    assert expected in caught.value.details[0]


def test_empty_and_missing_lists(contest, tmp_path):
    data = load_dataset(contest())
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(DataError, match="names no photo"):
        read_support(tmp_path / "empty.txt", data)
    with pytest.raises(DataError, match=r"there is no none\.txt"):
        read_support(tmp_path / "none.txt", data)


def test_classes_left_out_of_a_list_are_logged(contest, tmp_path, caplog):
    (tmp_path / "support.txt").write_text(TRAIN[0])
    with caplog.at_level(logging.WARNING):
        assert len(read_support(tmp_path / "support.txt", load_dataset(contest()))) == 1
    assert "has no shots of 3 classes" in caplog.text


def test_unlabelled_photos_make_no_list(contest):
    data = load_dataset(contest())
    with pytest.raises(DataError, match="no label"):
        support_lines(data.test, data)


def test_shots_and_photos_that_lack(contest):
    root = contest(classes=[*CLASSES, "Stanford-Cars_Audi 4"], train=TRAIN[:20])
    data = load_dataset(root)
    sample_support(data, 2, 0)
    with pytest.raises(DataError, match=r"Thu-dog_pug has 2 of 4\. Choose fewer --shots"):
        sample_support(data, 4, 0)
    (root / "TrainSet/Animal/Bear/5.jpg").unlink()
    with pytest.raises(DataError, match=r"Bear/5\.jpg does not exist"):
        remaining(data, ())
