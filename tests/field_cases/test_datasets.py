"""Data sets: no class out of thin air, no photo in two splits, no shot scored on without a word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jclip_adapter.core.errors import DataError
from jclip_adapter.data.sets import find_labels, load_dataset, remaining
from tests.conftest import Cli, Outcome
from tests.tiny_contest import write_photo

CLASSES = ("cat", "dog", "hen")
FLAGS = ("--weights", "tiny.pkl", "--method", "linear-probe")


def photos(root: Path, names: tuple[str, ...] = CLASSES, count: int = 6, first: int = 0) -> Path:
    """A folder per class; a class's photos have one colour."""
    for label, name in enumerate(names):
        for number in range(first, first + count):
            write_photo(root / name / f"{number}.jpg", number, label)
    return root


def both(root: Path, train: str = "train", test: str = "test", names: tuple[str, ...] = CLASSES) -> Path:
    """Training and test photos of the same classes, none of them in both."""
    photos(root / train, names)
    photos(root / test, names, 3, first=50)
    return root


def total(outcome: Outcome) -> str:
    """The method's top-1 in total, from the table of --evaluate."""
    assert outcome.status == 0, outcome.err
    row = next(line for line in outcome.out.splitlines() if line.startswith("| total"))
    return row.split("|")[4].strip()


def refusal(root: Path, **more: str) -> str:
    """The error, with its details, that a data set is refused with."""
    with pytest.raises(DataError) as caught:
        load_dataset(root, **more)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return "\n".join([str(caught.value), *caught.value.details])


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training", "Testing"), ("TRAIN", "test_set"), ("train_images", "test-images"), ("train2017", "test2017")],
)
def test_split_folders_of_any_spelling_are_splits(workplace: Path, cli: Cli, train: str, test: str) -> None:
    """A7: Training/ and Testing/ became domains, 3 classes became 6, and training used the test photos."""
    both(workplace / "D", train, test)
    outcome = cli("--train", "--evaluate", "--data", "D", *FLAGS)
    assert total(outcome) == "100.0 %"
    assert "9 labelled test photos" in outcome.out
    assert (
        f"3 classes, 18 training photos, 9 test photos, read as {train}/class/photo and {test}/class/photo; "
        "evaluating on 9 labelled test photos" in outcome.err
    )
    support = next(Path("results/runs").glob("*/support.txt")).read_text()
    assert test not in support


def test_validation_photos_are_neither_shots_nor_classes(tmp_path: Path) -> None:
    """A7, relative: train/val/test."""
    photos(both(tmp_path / "D") / "Validation", CLASSES, 2, first=80)
    data = load_dataset(tmp_path / "D")
    assert data.class_names == CLASSES
    assert not [photo for photo in (*data.train, *data.test) if "Validation" in str(photo.path)]
    assert "only train and test are read, not Validation" in data.notes


@pytest.mark.parametrize("names", [("fold_0", "fold_1"), ("Fold1", "Fold2", "Fold3"), ("cv-fold-a", "cv-fold-b")])
def test_folds_hold_the_same_classes(workplace: Path, cli: Cli, names: tuple[str, ...]) -> None:
    """A7: fold_0/ and fold_1/ became domains with classes of their own."""
    for number, name in enumerate(names):
        photos(workplace / "D" / name, CLASSES, 4, first=10 * number)
    data = load_dataset("D")
    assert data.class_names == CLASSES
    assert [len(group) for group in data.train_by_class] == [4 * len(names)] * 3
    assert f"the photos of {len(names)} folds" in " ".join(data.notes)
    assert total(cli("--train", "--evaluate", "--data", "D", *FLAGS)) == "100.0 %"


@pytest.mark.parametrize(
    ("folders", "reason"),
    [
        (("train", "training", "test"), "train and training may both be the train photos"),
        (("val", "test"), "no folder that of a training set"),
        (("fold_0", "fold_1", "extra"), "'fold_0' has the name of a fold, but beside it is extra"),
        (("a_train", "a_test", "b_train", "b_test"), "a_train and b_train may both be the train photos"),
        (("split_0", "split_1"), "'cat' is in split_0, split_1, which have names of parts, not of classes"),
        (("prueba", "entrenamiento"), "may be class 'entrenamiento' with sub-folders such as 'cat' (--layout class)"),
    ],
)
def test_splits_that_are_ambiguous_are_refused(tmp_path: Path, folders: tuple[str, ...], reason: str) -> None:
    """A7, relatives."""
    for name in folders:
        photos(tmp_path / "D" / name)
    assert reason in refusal(tmp_path / "D")


@pytest.mark.parametrize("inner", ["train/cat/test", "cat/train", "Animal/cat/val"])
def test_splits_inside_classes_are_refused(tmp_path: Path, inner: str) -> None:
    """A7, relative: a class's test photos must not become its training photos."""
    root = photos(
        tmp_path / "D", ("train/cat", "train/dog") if inner.startswith("train") else ("Animal/cat", "Pet/dog")
    )
    write_photo(root / inner / "1.jpg", 1)
    assert "named like splits" in refusal(root)


def test_a_class_called_train_stays_a_class(tmp_path: Path) -> None:
    """A7, relative: the vehicle beside bus and car."""
    data = load_dataset(photos(tmp_path / "D", ("bus", "car", "train")))
    assert data.class_names == ("bus", "car", "train")
    assert "'train' has photos beside other classes" in data.notes[0]


@pytest.mark.parametrize("sessions", [("day1", "day2"), ("2021-03-04", "2021-03-05"), ("images", "images_2")])
def test_sub_folders_of_a_class_are_no_classes(workplace: Path, cli: Cli, sessions: tuple[str, ...]) -> None:
    """A8: "a photo of day1"."""
    for number, session in enumerate(sessions):
        photos(workplace / "D", tuple(f"{name}/{session}" for name in CLASSES), 4, first=10 * number)
    data = load_dataset("D")
    assert data.class_names == CLASSES
    assert [len(group) for group in data.train_by_class] == [8, 8, 8]
    outcome = cli("--train", "--evaluate", "--data", "D", *FLAGS)
    assert total(outcome) == "100.0 %"
    assert "read as class/sub-folder/photo" in outcome.err
    assert "prompt of cat: a photo of cat\n" in cli("--train", "--dry-run", "--data", "D", *FLAGS).out


def test_sub_folders_that_may_be_classes_are_refused_with_both_readings(workplace: Path, cli: Cli) -> None:
    """A8, relative: dusk and dawn lie in every folder, so either level may be the classes."""
    photos(workplace / "D", tuple(f"{name}/{time}" for name in CLASSES for time in ("dawn", "dusk")))
    outcome = cli("--train", "--data", "D", *FLAGS)
    assert outcome.status == 2
    assert "class 'cat' with sub-folders such as 'dawn' (--layout class)" in outcome.err
    assert "domain 'cat' with classes such as 'dawn' (--layout domain/class)" in outcome.err
    assert load_dataset("D", layout="class").class_names == CLASSES
    assert len(load_dataset("D", layout="domain/class").classes) == 6
    assert cli("--train", "--data", "D", "--layout", "class", *FLAGS).status == 0
    assert cli("--predict", "--images", "D/cat/dawn/1.jpg", "--data", "D", *FLAGS).status == 0, (
        "the run knows the layout"
    )


def test_domains_are_read_and_said(tmp_path: Path) -> None:
    """A8, relative: domain/class/photo has always been read; now it is said, with the other reading."""
    data = load_dataset(photos(tmp_path / "D", ("Animal/bear", "Animal/bee", "Food/pie")))
    assert data.class_names == ("Animal_bear", "Animal_bee", "Food_pie")
    assert data.notes[0].startswith("read as domain 'Animal' with classes such as 'bear'")
    assert "--layout class" in data.notes[0]


NFC = tuple(unicodedata.normalize("NFC", name) for name in ("café", "Äpfel", "한국"))


def test_names_of_two_unicode_forms_are_one_class(workplace: Path, cli: Cli) -> None:
    """A9: test folders from macOS (NFD) made 3 classes 6."""
    photos(workplace / "D/train", NFC)
    photos(workplace / "D/test", tuple(unicodedata.normalize("NFD", name) for name in NFC), 3, first=50)
    assert sorted(load_dataset("D").class_names) == sorted(NFC)
    assert total(cli("--train", "--evaluate", "--data", "D", *FLAGS)) == "100.0 %"


def test_lists_in_another_unicode_form_than_folders(tmp_path: Path) -> None:
    """A9, relatives: the contest's lists, labels, and a CSV's rows."""
    nfd = unicodedata.normalize("NFD", "Essen_Käse")
    root = tmp_path / "Dataset"
    write_photo(root / "TrainSet" / nfd.replace("_", "/") / "1.jpg", 1)
    write_photo(root / "TestSetA/ä.jpg", 1)
    (root / "classes.txt").write_text(f"{unicodedata.normalize('NFC', nfd)} 0\n", encoding="utf-8")
    (root / "train.txt").write_text(f"TrainSet/{nfd.replace('_', '/')}/1.jpg 0\n", encoding="utf-8")
    (root / "TestSetA_labels.txt").write_text(f"{unicodedata.normalize('NFD', 'ä.jpg')} 0\n", encoding="utf-8")
    assert find_labels(load_dataset(root)) == {"ä.jpg": 0}
    table = tmp_path / "photos.csv"
    table.write_text(f"path,label\n1.jpg,{nfd}\n2.jpg,{unicodedata.normalize('NFC', nfd)}\n", encoding="utf-8")
    assert len(load_dataset(table).classes) == 1


@pytest.mark.parametrize("other", ["Pizza", "PIZZA", "ｐｉｚｚａ"])
def test_classes_that_differ_in_spelling_are_refused_with_both(workplace: Path, cli: Cli, other: str) -> None:
    """A9, E6: test/Pizza beside train/pizza was a further class without shots."""
    photos(workplace / "D/train", ("pizza", "soup"))
    photos(workplace / "D/test", (other, "soup"), 2, first=50)
    outcome = cli("--train", "--data", "D", *FLAGS)
    assert outcome.status == 2
    assert f"'pizza' and '{other}' differ only in spelling" in outcome.err
    (workplace / "photos.csv").write_text(f"path,label\na.jpg,pizza\nb.jpg,{other}\n", encoding="utf-8")
    assert "differ only in spelling" in refusal(workplace / "photos.csv")


def test_other_test_classes_are_refused_or_told(tmp_path: Path) -> None:
    """A9, relatives: no class in common, and one class more."""
    photos(tmp_path / "D/train", ("cat", "dog"))
    photos(tmp_path / "D/test", ("cats", "dogs"))
    assert "no class of the test photos (cats, dogs) is a class of the training photos (cat, dog)" in refusal(
        tmp_path / "D"
    )
    photos(tmp_path / "D/test", ("cat",))
    assert "2 classes of the test photos have no training photo: cats, dogs" in load_dataset(tmp_path / "D").notes


def test_identical_photos_are_counted_and_scored_apart(workplace: Path, cli: Cli) -> None:
    """A10: copies of shots were scored without a word; two of the other four are right."""
    photos(workplace / "D/train", ("cat", "dog"), 4)
    photos(workplace / "D/test", ("cat", "dog"), 2, first=50)
    for number in range(2):
        copy = (workplace / f"D/train/cat/{number}.jpg").read_bytes()
        (workplace / f"D/test/cat/copy_{number}.jpg").write_bytes(copy)
        write_photo(workplace / f"D/test/cat/5{number}.jpg", 70 + number, 1)  # a dog's colours
    outcome = cli("--train", "--evaluate", "--data", "D", *FLAGS)
    assert total(outcome) == "66.7 %"
    assert "2 of 6 scored photos are byte-identical to shots: cat/copy_0.jpg = train/cat/0.jpg" in outcome.out
    assert "top-1 without byte-identical photos (4 photos)" in outcome.out
    assert "linear-probe 50.0 %" in outcome.out
    report = json.loads(next(Path("results/runs").glob("*/evaluation.json")).read_text())["overlap"]
    assert report["identical"] == 2
    assert report["without"]["byte-identical photos"]["scores"]["n"] == 4
    predicted = cli("--predict", "result.txt", "--data", "D", *FLAGS)
    assert predicted.status == 0
    assert "2 of 6 scored photos are byte-identical to shots" in predicted.err


def test_nothing_is_said_where_nothing_overlaps(workplace: Path, cli: Cli) -> None:
    """A10, the other side."""
    both(workplace / "D")
    outcome = cli("--train", "--evaluate", "--data", "D", *FLAGS)
    assert total(outcome) == "100.0 %"
    assert "byte-identical" not in outcome.out + outcome.err
    assert "two classes" not in outcome.out + outcome.err
    assert "top-1 without byte-identical" not in outcome.out


def test_one_photo_in_two_classes_is_named(workplace: Path, cli: Cli) -> None:
    """A10: the same bytes as cat and as dog, among the shots and among the photos to score on."""
    photos(workplace / "D", ("cat", "dog"), 4)
    (workplace / "D/dog/0.jpg").write_bytes((workplace / "D/cat/1.jpg").read_bytes())
    outcome = cli("--train", "--data", "D", *FLAGS)
    assert outcome.status == 0
    assert "1 photos are in two classes with the same bytes: cat/1.jpg = dog/0.jpg" in outcome.err


def test_benchmark_tells_of_identical_photos(workplace: Path, cli: Cli) -> None:
    """A10, relative."""
    both(workplace / "D")
    (workplace / "D/test/cat/copy.jpg").write_bytes((workplace / "D/train/cat/0.jpg").read_bytes())
    outcome = cli("--benchmark", "--data", "D", "--shots", "all", *FLAGS)
    assert outcome.status == 0, outcome.err
    assert "1 of 10 scored photos are byte-identical to shots: cat/copy.jpg = train/cat/0.jpg" in outcome.err


def texts_of(cli: Cli, data: str, *more: str) -> tuple[list[str], np.ndarray, str]:
    """Class names and text features of a feature file, and what was said."""
    outcome = cli("--extract", "f.npz", "--data", data, "--weights", "tiny.pkl", *more)
    assert outcome.status == 0, outcome.err
    with np.load("f.npz") as file:
        return file["classnames"].tolist(), file["text"], outcome.err


def test_wordnet_numbers_are_translated(workplace: Path, cli: Cli) -> None:
    """A11: "a photo of n02123045"."""
    photos(workplace / "D", ("n02123045", "n02099601"))
    photos(workplace / "E", ("golden retriever", "tabby cat"))
    names, texts, said = texts_of(cli, "D")
    _, expected, _ = texts_of(cli, "E")
    assert names == ["n02099601", "n02123045"]
    assert np.array_equal(texts, expected)
    assert "no meaning for CLIP" not in said


def test_names_that_say_nothing_get_one_warning_and_words(workplace: Path, cli: Cli) -> None:
    """A11: numbers, letters, other scripts, numbers that WordNet's table lacks; class_names.yaml mends them."""
    names = ("12", "b", "n99999999", "class_7", "猫")
    photos(workplace / "D", (*names, "dog"))
    _, _, said = texts_of(cli, "D")
    (line,) = [line for line in said.splitlines() if "no meaning for CLIP" in line]
    assert "5 of 6 class names" in line
    assert "class_names.yaml" in line
    assert "--class-names" in line
    words = ("apple", "bear", "cup", "desk", "cat")
    lines = "".join(f"'{name}': {word}\n" for name, word in zip(names, words, strict=True))
    (workplace / "D/class_names.yaml").write_text(lines, encoding="utf-8")
    found, texts, said = texts_of(cli, "D")
    assert "no meaning for CLIP" not in said
    photos(workplace / "E", (*words, "dog"))
    plain, expected, _ = texts_of(cli, "E")
    meant = dict(zip(names, words, strict=True))
    for name, row in zip(found, texts, strict=True):
        assert np.array_equal(row, expected[plain.index(meant.get(name, name))])


def test_words_are_kept_by_the_run(workplace: Path, cli: Cli) -> None:
    """A11: names come from run.json at prediction, the ids and folder names of result.txt stay."""
    both(workplace / "D", names=("12", "13", "14"))
    (workplace / "w.yaml").write_text("'12': cat\n'13': dog\n'14': hen\n")
    flags = ("--data", "D", "--weights", "tiny.pkl", "--method", "tip-adapter")
    assert cli("--train", *flags, "--class-names", "w.yaml").status == 0
    facts = json.loads(next(Path("results/runs").glob("*/run.json")).read_text())
    assert facts["class_names"] == {"12": "cat", "13": "dog", "14": "hen"}
    first = cli("--predict", "r.txt", *flags)
    assert first.status == 0
    assert "no meaning for CLIP" not in first.err
    result = Path("r.txt").read_bytes()
    (workplace / "w.yaml").write_text("'12': moon\n'13': sun\n'14': star\n")
    assert cli("--predict", "r.txt", *flags).status == 0
    assert Path("r.txt").read_bytes() == result
    assert result.startswith(b"12/50.jpg ")
    (workplace / "other.yaml").write_text("'12': moon\n")
    refused = cli("--predict", "r.txt", *flags, "--class-names", "other.yaml")
    assert (refused.status, "was trained with class_names" in refused.err) == (2, True)


def test_a_file_of_names_for_other_classes_is_refused(workplace: Path, cli: Cli) -> None:
    """A11, relative."""
    photos(workplace / "D")
    (workplace / "w.yaml").write_text("catt: cat\n")
    outcome = cli("--train", "--data", "D", *FLAGS, "--class-names", "w.yaml")
    assert outcome.status == 2
    assert "no line names a class" in outcome.err
    assert "Did you mean 'cat'" in outcome.err


@pytest.mark.parametrize("suffix", [".ppm", ".pgm", ".pnm", ".pbm", ".JFIF"])
def test_photos_of_rarer_formats_are_found_in_folders(tmp_path: Path, suffix: str) -> None:
    """B2: "no folder of photos"."""
    mode = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        kind = "JPEG" if suffix == ".JFIF" else "PPM"
        Image.new(mode, (8, 8)).save(tmp_path / name / f"1{suffix}", kind)
    assert [photo.relative for photo in load_dataset(tmp_path).train] == [f"cat/1{suffix}", f"dog/1{suffix}"]


def linked(workplace: Path) -> Path:
    """Class folders and a photo that are links out of the data folder, in train and test."""
    both(workplace / "store")
    for part in ("train", "test"):
        (workplace / "D" / part).mkdir(parents=True)
        for name in ("cat", "dog"):
            (workplace / "D" / part / name).symlink_to(workplace / "store" / part / name)
        (workplace / "D" / part / "hen").mkdir()
        for photo in (workplace / "store" / part / "hen").iterdir():
            (workplace / "D" / part / "hen" / photo.name).symlink_to(photo)
    return workplace / "D"


def test_links_are_followed_when_asked(workplace: Path, cli: Cli) -> None:
    """C5: train and test alike; the refusal names the option, and the run remembers it."""
    linked(workplace)
    refused = cli("--train", "--data", "D", *FLAGS)
    assert refused.status == 2
    assert "--follow-links" in refused.err.splitlines()[-1] + refused.err
    assert total(cli("--train", "--evaluate", "--data", "D", "--follow-links", *FLAGS)) == "100.0 %"
    assert cli("--predict", "r.txt", "--data", "D", *FLAGS).status == 0


def test_links_of_test_photos_are_refused_alike(workplace: Path, cli: Cli) -> None:
    """C5, relative: real training photos, linked test photos."""
    linked(workplace)
    photos(workplace / "E/train")
    (workplace / "E/test").symlink_to(workplace / "store/test")
    assert cli("--train", "--data", "E", *FLAGS).status == 0
    for command in (("--evaluate",), ("--predict", "r.txt")):
        refused = cli(*command, "--data", "E", *FLAGS)
        assert refused.status == 2
        assert "--follow-links" in refused.err


def test_a_link_in_a_circle_is_refused(tmp_path: Path) -> None:
    """C5, relative."""
    photos(tmp_path / "D")
    (tmp_path / "D/cat/back").symlink_to(tmp_path / "D")
    assert "is a circular link" in refusal(tmp_path / "D")


def supports() -> list[str]:
    return next(Path("results/runs").glob("*/support.txt")).read_text().splitlines()


def test_fewer_photos_than_shots_are_taken_and_told(workplace: Path, cli: Cli) -> None:
    """C9: --shots takes what there is, --shots all everything, --strict refuses."""
    photos(workplace / "D", ("cat", "dog"), 6)
    photos(workplace / "D", ("hen", "owl"), 2)
    outcome = cli("--train", "--data", "D", *FLAGS)
    assert outcome.status == 0
    assert "2 classes have fewer photos than 4 shots: hen (2), owl (2)" in outcome.err
    assert len(supports()) == 4 + 4 + 2 + 2
    strict = cli("--train", "--data", "D", "--strict", *FLAGS)
    assert strict.status == 2
    assert "hen has 2 of 4" in strict.err
    assert cli("--train", "--data", "D", "--shots", "all", "--run", "all", *FLAGS).status == 0
    assert len(Path("all/support.txt").read_text().splitlines()) == 6 + 6 + 2 + 2
    (workplace / "E").mkdir()
    (workplace / "D").rename(workplace / "E/train")
    photos(workplace / "E/test", ("cat", "hen"), 2, first=50)
    assert cli("--extract", "f.npz", "--shots", "1,4,all", "--data", "E", "--weights", "tiny.pkl").status == 0
    with np.load("f.npz") as file:
        assert [len(file[f"train{shots}_y"]) for shots in (1, 4, 6)] == [4, 12, 16]


@pytest.mark.parametrize("flags", [("--shots", "all", "--seed", "1,2"), ("--shots", "6,all", "--seed", "1")])
def test_draws_that_are_the_same_are_not_compared(workplace: Path, cli: Cli, flags: tuple[str, ...]) -> None:
    """C9, relative: an interval of ± 0.0 over seeds that take the same photos."""
    both(workplace / "D")
    outcome = cli("--benchmark", "--data", "D", *flags, *FLAGS)
    assert outcome.status == 2
    assert "draw the same 18 photos" in outcome.err


@pytest.mark.parametrize("damage", [b"", b"no image", "cut"])
def test_unreadable_shots_are_replaced(workplace: Path, cli: Cli, damage: bytes | str) -> None:
    """C10: others of their class take their places, all other shots stay, the draw is the same each time."""
    photos(workplace / "D", CLASSES, 8)
    assert cli("--train", "--data", "D", *FLAGS).status == 0
    before = supports()
    for line in before[:2]:
        path = workplace / "D" / line.rsplit(" ", 1)[0]
        path.write_bytes(path.read_bytes()[:200] if isinstance(damage, str) else damage)
    outcome = cli("--train", "--data", "D", *FLAGS)
    assert outcome.status == 0
    assert "2 training photos cannot be read and are replaced by others of their classes" in outcome.err
    after = supports()
    assert len(after) == 12
    assert set(before[2:]) < set(after)
    assert not set(before[:2]) & set(after)
    assert cli("--train", "--data", "D", *FLAGS).status == 0
    assert supports() == after
    assert cli("--train", "--data", "D", "--strict", *FLAGS).status == 2


def test_a_class_without_readable_photos_is_refused_by_name(workplace: Path, cli: Cli) -> None:
    """C10, relatives: one photo left is taken; none left is refused."""
    photos(workplace / "D", CLASSES, 3)
    for number in range(2):
        (workplace / f"D/dog/{number}.jpg").write_bytes(b"x")
    outcome = cli("--train", "--data", "D", *FLAGS)
    assert outcome.status == 0
    assert "dog (1)" in outcome.err
    (workplace / "D/dog/2.jpg").write_bytes(b"x")
    outcome = cli("--train", "--data", "D", *FLAGS)
    assert outcome.status == 2
    assert "no training photo of dog can be read" in outcome.err


def test_nothing_left_to_evaluate_on_says_why(workplace: Path, cli: Cli) -> None:
    """All photos are shots: the hint is fewer shots, not labels of test photos that do not exist."""
    photos(workplace / "D")
    outcome = cli("--train", "--evaluate", "--shots", "12", "--data", "D", *FLAGS)
    assert outcome.status == 2
    assert "all 18 training photos are shots, and it has no test photos. Train with fewer --shots" in outcome.err
    assert "--labels" not in outcome.err


HEADS = {
    "semicolons": ("filename;class\n", ";", "utf-8"),
    "tabs": ("image\tcategory\n", "\t", "utf-8"),
    "BOM and CRLF": ("Path,Label\r\n", ",", "utf-8-sig"),
    "GBK": ("path,label\n", ",", "gbk"),
    "GB18030 and Chinese columns": ("文件名;类别\n", ";", "gb18030"),
    "UTF-16": ("file\tlabel\n", "\t", "utf-16"),
}


@pytest.mark.parametrize("kind", HEADS)
def test_tables_as_people_write_them(workplace: Path, cli: Cli, kind: str) -> None:
    """C12: other separators, encodings and column names."""
    head, mark, encoding = HEADS[kind]
    names = ("猫咪", "小狗", "母鸡") if "GB" in kind else CLASSES
    photos(workplace, names)
    end = "\r\n" if "CRLF" in kind else "\n"
    rows = [f"{name}/{number}.jpg{mark}{name}{end}" for name in names for number in range(6)]
    (workplace / "photos.csv").write_bytes((head + "".join(rows)).encode(encoding))
    data = load_dataset("photos.csv")
    assert sorted(data.class_names) == sorted(names)
    assert set(remaining(data, ())) == set(data.train)
    assert ("GB18030" in " ".join(data.notes)) == ("GB" in kind)
    assert total(cli("--train", "--evaluate", "--data", "photos.csv", *FLAGS)) == "100.0 %"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("path,label\nLöwe.jpg,Löwe\n".encode("cp1252"), "neither UTF-8 (invalid"),
        ("path,label\nシマウマ.jpg,シマウマ\n".encode("shift-jis"), "neither UTF-8 (invalid"),
        (b"image;file;label\n1.jpg;2.jpg;cat\n", "several columns that may be the path (image, file)"),
        (b"id;breed\n1.jpg;cat\n", "no column path and no column label; its columns are id, breed"),
        (b"1.jpg cat\n2.jpg dog\n", "has one column, '1.jpg cat'"),
    ],
)
def test_tables_that_cannot_be_decided_get_the_true_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    """C12, relatives."""
    (tmp_path / "photos.csv").write_bytes(content)
    assert reason in refusal(tmp_path / "photos.csv")


def test_a_table_beside_class_folders_does_not_replace_them(tmp_path: Path) -> None:
    """C12, relative: metadata.csv with a column called filename beside a folder per class."""
    root = photos(tmp_path / "D")
    (root / "metadata.csv").write_text("filename,category\ncat/0.jpg,animal\n")
    data = load_dataset(root)
    assert (data.layout, data.class_names) == ("folders", CLASSES)
    assert "metadata.csv is not read" in data.notes[-1]


def test_names_in_other_bytes_get_the_true_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """C13: a class folder and photos with GBK names, from a zip made on Windows, are no "control characters"."""
    root = photos(tmp_path / "D")
    (root / os.fsdecode("老虎".encode("gbk"))).mkdir()
    reason = refusal(root)
    assert "holds bytes that are not UTF-8 (read as GBK it is '老虎')" in reason
    assert "control" not in reason
    other = photos(tmp_path / "E")
    (other / "cat" / os.fsdecode("照片.jpg".encode("gbk"))).write_bytes(b"")
    (other / "cat" / "a\nb.jpg").write_bytes(b"")
    assert len(load_dataset(other).train) == 18
    assert "holds bytes that are not UTF-8 (read as GBK it is '照片.jpg')" in caplog.text
    assert r"'a\nb.jpg' holds control characters" in caplog.text


def test_a_c_locale_is_named_as_what_it_is(tmp_path: Path) -> None:
    """Chinese names under a strict C locale are no "control characters"."""
    photos(tmp_path / "D", ("老虎", "dog"))
    code = f"from jclip_adapter.data.sets import load_dataset; load_dataset({os.fspath(tmp_path / 'D')!r})"
    strict = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **strict}, capture_output=True, text=True, check=False
    )
    assert "cannot be read under this locale, whose encoding is ascii (set LC_ALL=C.UTF-8)" in done.stderr, done.stderr
    assert "control characters" not in done.stderr


@pytest.mark.parametrize("ids", [(1, 2), (0, 2), (3,)])
def test_contest_ids_have_to_be_whole(tmp_path: Path, ids: tuple[int, ...]) -> None:
    """C14: ids from 1 or with gaps are told clearly."""
    root = tmp_path / "Dataset"
    write_photo(root / "TestSetA/image_1.jpg", 1)
    names = [f"Animal_{'ABC'[number]}" for number in range(len(ids))]
    for name in names:
        write_photo(root / "TrainSet" / name.replace("_", "/") / "1.jpg", 1)
    pairs = list(zip(names, ids, strict=True))
    (root / "classes.txt").write_text("".join(f"{name} {number}\n" for name, number in pairs))
    lines = [f"TrainSet/{name.replace('_', '/')}/1.jpg {number}\n" for name, number in pairs]
    (root / "train.txt").write_text("".join(lines))
    assert "has no id" in refusal(root)


@pytest.mark.parametrize("wrapper", ["images", "my_animals", "archive/dataset"])
def test_a_wrapper_folder_is_unwrapped(workplace: Path, cli: Cli, wrapper: str) -> None:
    """C15: one class called images, or classes called images_cat."""
    both(workplace / "D" / wrapper)
    photos(workplace / "E" / wrapper)
    for root in ("D", "E"):
        data = load_dataset(root)
        assert data.class_names == CLASSES
        assert f"'{wrapper.split('/', maxsplit=1)[0]}' is a single folder" in data.notes[0]
        assert total(cli("--train", "--evaluate", "--data", root, *FLAGS)) == "100.0 %"


def test_wrappers_inside_splits_and_a_single_class_are_told(tmp_path: Path) -> None:
    """C15, relatives: Kaggle's train/train, unlabelled test photos in test/images, and a single class."""
    photos(tmp_path / "D/train/train")
    photos(tmp_path / "D/test", ("images",), 4)
    data = load_dataset(tmp_path / "D")
    assert data.class_names == CLASSES
    assert data.test_names == ("images/0.jpg", "images/1.jpg", "images/2.jpg", "images/3.jpg")
    assert find_labels(data) == {}
    single = load_dataset(photos(tmp_path / "E", ("images",)))
    assert single.notes == ("only one class, 'images'",)


def test_debris_is_no_data(tmp_path: Path) -> None:
    """D: what systems and programs leave behind stays out."""
    root = both(tmp_path / "D")
    for place in ("", "train", "train/cat", "test/dog"):
        for name in ("@eaDir", "__MACOSX", ".ipynb_checkpoints", "lost+found", "$RECYCLE.BIN", "__pycache__"):
            write_photo(root / place / name / "x.jpg", 1)
        for name in (".DS_Store", "Thumbs.db", "._1.jpg", "desktop.ini"):
            (root / place / name).write_bytes(b"x")
    data = load_dataset(root)
    assert (data.class_names, len(data.train), len(data.test)) == (CLASSES, 18, 9)


@pytest.mark.parametrize(("classes", "shots"), [(1, 1), (2, 1)])
def test_small_data_sets_work(workplace: Path, cli: Cli, classes: int, shots: int) -> None:
    """D: one class; two classes with one shot each; a path with blanks and Chinese letters."""
    both(workplace / "我的 photos", names=CLASSES[:classes])
    outcome = cli("--train", "--evaluate", "--data", "我的 photos", "--shots", shots, *FLAGS)
    assert total(outcome) == "100.0 %"


def test_ten_thousand_classes_are_read(tmp_path: Path) -> None:
    """D: the checks of names do not grow with the square of their number."""
    rows = "".join(f"{number}.jpg,kind {number:05}\n" for number in range(10_000))
    (tmp_path / "photos.csv").write_text("path,label\n" + rows)
    assert len(load_dataset(tmp_path / "photos.csv").classes) == 10_000


def test_a_dry_run_shows_the_reading_and_encodes_nothing(workplace: Path, cli: Cli) -> None:
    """The reading of a data set, with any command on photos."""
    both(workplace / "D")
    for command in (("--train",), ("--evaluate",), ("--predict", "r.txt"), ("--benchmark",), ("--extract", "f.npz")):
        outcome = cli(*command, "--dry-run", "--data", "D", "--weights", "nowhere.pkl")
        assert outcome.status == 0, outcome.err
        assert "read as: train/class/photo and test/class/photo" in outcome.out
        assert "classes: 3" in outcome.out
        assert "prompt of cat: a photo of cat" in outcome.out
        (row,) = [line for line in outcome.out.splitlines() if "| cat " in line]
        assert [cell.strip() for cell in row.split("|")[1:-1]] == ["0", "cat", "6", "3", "4"]
    assert not (workplace / "results").exists()
    assert not list(workplace.glob("*.npz"))
