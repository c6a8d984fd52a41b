import json

import numpy as np
import pytest

from jclip_adapter.core.errors import DataError
from jclip_adapter.data.sets import find_labels, load_dataset, sample_support
from tests.conftest import Cli
from tests.tiny_contest import WEIGHTS, write_photo

NAMES = ("abyssinian", "boxer", "english_setter", "pug")


def rows(part, per_class, labels=range(4)):
    return [
        [f"{NAMES[label]}_{part}{number}.jpg", label, NAMES[label]] for label in labels for number in range(per_class)
    ]


def split(**changed):
    return {"train": rows("train", 4), "val": rows("val", 3), "test": rows("test", 2), **changed}


@pytest.fixture
def pets(tmp_path):
    """A published split with its photos in images/, as CoOp lays it out."""

    def build(content=None, *, inner="images", name="split_zhou_OxfordPets.json"):
        root = tmp_path / "oxford_pets"
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        for listed in split().values():
            for path, label, _ in listed:
                write_photo(root / inner / path, len(path), label)
        file = root / name
        file.write_text(content if isinstance(content, str) else json.dumps(content or split()))
        return file

    return build


@pytest.mark.parametrize("inner", ["images", "."])
def test_a_published_split_is_read(pets, inner):
    file = pets(inner=inner)
    for given in (file, file.parent):
        images = load_dataset(given)
        assert images.class_names == NAMES
        assert set(images.domains) == {"OxfordPets"}
        assert [len(images.train), len(images.validation), len(images.test)] == [16, 12, 8]
        assert all(photo.label is None for photo in images.test)
        labels = find_labels(images)
        assert {name: NAMES[label] for name, label in labels.items()} == {
            path: name for path, _, name in split()["test"]
        }
        assert [photo.label for photo in images.validation] == sorted(np.repeat(range(4), 3).tolist())


def test_validation_photos_are_never_shots(pets):
    images = load_dataset(pets())
    held = {photo.relative for photo in images.validation}
    assert held.isdisjoint(photo.relative for photo in sample_support(images, 4, 1))


def test_classes_keep_the_order_of_the_labels(pets):
    """Base-to-new takes the first half of them."""
    order = (3, 1, 0, 2)
    content = {part: [[path, order[label], name] for path, label, name in listed] for part, listed in split().items()}
    images = load_dataset(pets(content))
    assert images.class_names == ("english_setter", "boxer", "pug", "abyssinian")
    assert images.class_ids == (0, 1, 2, 3)
    answers = find_labels(images)
    assert images.class_names[answers["pug_test0.jpg"]] == "pug"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("[]", "expected lists train, val and test"),
        ('{"train": [], "test": []}', "expected lists train, val and test"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        (split(train=[["../a.jpg", 3, "pug"]]), "leaves the data folder"),
        (split(train=[["/etc/a.jpg", 3, "pug"]]), "is an absolute path"),
        (split(train=[["a.jpg", "0", "pug"]]), "expected [path, label, class name]"),
        (split(train=[["a.jpg", True, "pug"]]), "expected [path, label, class name]"),
        (split(train=[["a.jpg", 0]]), "expected [path, label, class name]"),
        (split(train=[["a.jpg", -1, "pug"]]), "expected [path, label, class name]"),
        (split(train=[["a.jpg", 3, " "]]), "expected [path, label, class name]"),
        (split(train=[["a.jpg", 4, "a\nb"]]), "labels that fit no list"),
        (
            split(train=[*rows("train", 4), ["abyssinian_train0.jpg", 0, "cat"]]),
            "label '0' is paired with 'abyssinian' and 'cat'",
        ),
        (
            split(train=[*rows("train", 4), ["abyssinian_train0.jpg", 9, "pug"]]),
            "the name 'pug' is paired with '3' and '9'",
        ),
        (split(train=[*rows("train", 4), *rows("test", 1)]), "is already listed with another label or split"),
        (split(train=[]), "no row is a training photo"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 60 else "",
)
def test_a_faulty_split_is_refused(pets, change, message):
    with pytest.raises(DataError) as caught:
        load_dataset(pets(change))
    assert message in " ".join([str(caught.value), *caught.value.details])


def test_missing_photos_are_told_with_their_number(pets):
    file = pets()
    (file.parent / "images" / "boxer_train1.jpg").unlink()
    images = load_dataset(file)
    with pytest.raises(DataError, match=r"boxer_train1\.jpg does not exist"):
        sample_support(images, 4, 0)


def test_a_name_too_long_for_the_file_system_is_a_missing_photo(pets):
    images = load_dataset(pets(split(train=[["a" * 400, 3, "pug"]])))
    with pytest.raises(DataError, match="aaaa"):
        sample_support(images, 1, 0)


def test_two_splits_in_a_folder_are_ambiguous(pets):
    pets()
    file = pets(name="split_zhou_Other.json")
    with pytest.raises(DataError, match="more than one list of photos"):
        load_dataset(file.parent)


def test_the_benchmark_runs_base_to_new_on_a_published_split(pets, workplace, cli: Cli):
    given = ("--benchmark", "--data", str(pets()), *WEIGHTS, "--prompts", "coop", "--shots", "2", "--out", "out.csv")
    method = ("--method", "zero-shot,multimodal-adapter", "--set", "epochs=3")
    outcome = cli(*given, *method, "--protocol", "base-to-new", "--select", "validation", "--set", "patience=1")
    assert outcome.status == 0, outcome.err
    assert "split_zhou_OxfordPets, 2-shot, base" in outcome.out
    assert "4 classes, 16 training photos, 8 test photos, read as a published split of photos in images/" in outcome.err
    rows_ = (workplace / "out.csv").read_text().splitlines()
    assert len(rows_) == 3


def test_photos_without_a_validation_set_cannot_select_on_one(workplace, cli: Cli):
    outcome = cli("--benchmark", *WEIGHTS, "--method", "gda", "--select", "validation")
    assert outcome.status == 2
    assert "--select validation: Dataset has no validation set. Use --select support." in outcome.err


def test_a_run_is_trained_and_evaluated_on_a_published_split(pets, workplace, cli: Cli):
    given = ("--data", str(pets()), *WEIGHTS, "--prompts", "coop", "--shots", "2", "--method", "gda")
    outcome = cli("--train", "--evaluate", *given)
    assert outcome.status == 0, outcome.err
    assert "gda on 8 labelled test photos" in outcome.out
