"""Features in parts take the place of photos: training, evaluation, benchmark and prediction give the same numbers."""

import csv
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Cli
from tests.tiny_contest import CLASSES, FOLDERS, PER_CLASS, TESTS, WEIGHTS

SIZE = ("--part-size", 7)


@pytest.fixture
def parts(workplace: Path, cli: Cli) -> Path:
    """A working directory with labelled features of the training photos and unlabelled ones of the test photos."""
    with Path("list.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["path", "label"])
        for name, folder in zip(CLASSES, FOLDERS, strict=True):
            rows.writerows([f"Dataset/TrainSet/{folder}/{number}.jpg", name] for number in range(1, PER_CLASS + 1))
    for target, source in (("labelled", "list.csv"), ("others", "Dataset/TestSetA")):
        found = cli("--extract", target, "--photos", source, *WEIGHTS, *SIZE)
        assert found.status == 0, found.err
    return workplace


def scores(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| total")]


def test_training_and_evaluation_are_those_of_the_photos(parts: Path, cli: Cli) -> None:
    options = ("--method", "tip-adapter", "--shots", 2)
    for data, more in (("labelled", ()), ("list.csv", WEIGHTS)):
        assert cli("--train", "--data", data, *more, *options, "--run", f"run-{data}").status == 0
    one, other = (cli("--evaluate", "--data", data, "--run", f"run-{data}") for data in ("labelled", "list.csv"))
    assert one.status == 0, one.err
    assert scores(one.out) == scores(other.out) != []
    shots = [Path(f"run-{data}", "support.txt").read_text() for data in ("labelled", "list.csv")]
    assert shots[0] == shots[1]
    photo = cli("--predict", "--images", "Dataset/TestSetA/image_1.jpg", "--data", "labelled", "--run", "run-labelled")
    again = cli("--predict", "--images", "Dataset/TestSetA/image_1.jpg", "--data", "list.csv", "--run", "run-list.csv")
    assert photo.out == again.out != ""


def test_a_benchmark_is_that_of_the_photos(parts: Path, cli: Cli) -> None:
    options = ("--benchmark", "--method", "zero-shot,tip-adapter", "--shots", "1,2", "--select", "none")
    tables = []
    for data, more in (("labelled", ()), ("list.csv", WEIGHTS)):
        assert cli(*options, "--data", data, *more, "--out", "table.csv").status == 0
        tables.append(pd.read_csv("table.csv")[["method", "shots", "top1", "top5", "ece"]])
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize("trained_on", ["labelled", "Dataset"])
def test_features_are_classified_without_the_training_data(trained_on: str, parts: Path, cli: Cli) -> None:
    more = () if trained_on == "labelled" else WEIGHTS
    method = ("--method", "tip-adapter", "--shots", 2, "--run", "run")
    assert cli("--train", "--data", trained_on, *more, *method).status == 0
    names = [f"Dataset/TestSetA/image_{number}.jpg" for number in range(1, TESTS + 1)]
    photos = cli("--predict", "wanted.csv", "--images", *names, "--data", trained_on, *more, "--run", "run")
    assert photos.status == 0, photos.err
    (parts / trained_on).rename(parts / "elsewhere")
    found = cli("--predict", "out.parquet", "--data", "others", "--run", "run")
    assert found.status == 0, found.err
    wanted = pd.read_csv("wanted.csv").set_index("path")
    table = pd.read_parquet("out.parquet").set_index("path")
    assert len(table) == TESTS
    table.index = "Dataset/TestSetA/" + table.index
    table = table.loc[wanted.index]
    for column in wanted.columns.drop("error"):
        if column.startswith("name"):
            assert (table[column] == wanted[column]).all()
        else:
            np.testing.assert_allclose(table[column], wanted[column], atol=2e-5)
    assert found.out.strip().endswith("by run run")
    beside, facts = (json.loads(Path(name).read_text()) for name in ("wanted.csv.json", "out.parquet/_manifest.json"))
    same = ("run", "method", "temperature", "calibrated_on", "reject")
    assert [facts[name] for name in same] == [beside[name] for name in same]
    assert set(table["name_1"]) <= set(facts["classes"])
    assert cli("--predict", "out.parquet", "--data", "others", "--run", "run").out == found.out


@pytest.mark.parametrize(("method", "commands"), [("tip-adapter", 2), ("transclip", 1)])
def test_the_next_commands_after_training_work(method: str, commands: int, parts: Path, cli: Cli) -> None:
    """`predict result.txt` was recommended, which features in parts refuse."""
    done = cli("--train", "--data", "labelled", "--method", method, "--shots", 1)
    assert done.status == 0, done.err
    (line,) = (line for line in done.err.splitlines() if line.startswith("next: "))
    following = line.removeprefix("next: ").split(", or ")
    assert len(following) == commands
    for command in following:
        found = cli(*command.split()[2:])
        assert found.status == 0, found.err
    assert Path("labelled.parquet").exists() == (commands == 2)


def test_damaged_features_are_not_classified_and_their_repair_is(parts: Path, cli: Cli) -> None:
    """Predictions of damaged features were kept after `extract` had mended them."""
    predict = ("--predict", "out.parquet", "--data", "others", "--classes", "cat, dog")
    assert cli(*predict).status == 0
    wanted = {path.name: path.read_bytes() for path in Path("out.parquet").iterdir()}
    shutil.rmtree("out.parquet")
    first, second = Path("others/part-00000.parquet"), Path("others/part-00001.parquet")
    first.write_bytes(second.read_bytes())
    for command in (predict, ("--search", "a dog", "others"), ("--duplicates", "others")):
        refused = cli(*command)
        assert refused.status == 2
        assert "Run its extraction again" in refused.err
    assert cli("--extract", "others", "--photos", "Dataset/TestSetA", *WEIGHTS, *SIZE).status == 0
    assert cli(*predict).status == 0
    assert {path.name: path.read_bytes() for path in Path("out.parquet").iterdir()} == wanted


def test_features_are_classified_by_names_alone(parts: Path, cli: Cli) -> None:
    found = cli("--predict", "out.parquet", "--data", "others", "--classes", "cat, dog", "--top", 2)
    assert found.status == 0, found.err
    assert found.out.strip().endswith("by 2 class names alone")
    photos = cli("--predict", "out.csv", *WEIGHTS, "--images", "Dataset/TestSetA", "--classes", "cat, dog", "--top", 2)
    assert photos.status == 0, photos.err
    by_name = {Path(row.path).name: row.name_1 for row in pd.read_csv("out.csv").itertuples()}
    assert {row.path: row.name_1 for row in pd.read_parquet("out.parquet").itertuples()} == by_name


def test_photos_are_found_by_texts_and_photos(parts: Path, cli: Cli) -> None:
    for more in ((), ("--index",)):
        photo = cli("--search", "Dataset/TestSetA/image_3.jpg", "others", "--top", 1, *more)
        assert photo.out.split() == ["1.000", "image_3.jpg"]
    text = cli("--search", "a bear", "labelled")
    rows = [line.split("\t") for line in text.out.splitlines()]
    assert len(rows) == 20
    assert all(row[1] in row[1] and row[2] in CLASSES for row in rows)
    assert [float(row[0]) for row in rows] == sorted((float(row[0]) for row in rows), reverse=True)


def test_every_way_to_name_a_photo_finds_it(parts: Path, cli: Cli) -> None:
    """A path that began with a dot was searched for as a text, and a key that was printed could not be given back."""
    for query in ("./Dataset/TestSetA/image_3.jpg", "../*/Dataset/TestSetA/image_3.jpg", "image_3.jpg"):
        path = query.replace("*", parts.name)
        found = cli("--search", path, "others", "--top", 1)
        assert found.out.split() == ["1.000", "image_3.jpg"], (query, found.err)


def test_a_page_shows_the_photos_that_were_found(parts: Path, cli: Cli) -> None:
    found = cli("--search", "image_3.jpg", "others", "--top", 2, "--out", "found.html")
    assert found.status == 0, found.err
    text = Path("found.html").read_text()
    assert text.count("data:image/jpeg") == 2 and "Nearest to image_3.jpg" in text and "page: found.html" in found.err
    Path("Dataset/TestSetA/image_3.jpg").unlink()
    assert cli("--search", "image_3.jpg", "others", "--top", 1, "--out", "found.html").status == 0
    assert "no thumbnail" in Path("found.html").read_text()
    pairs = cli("--duplicates", "labelled", "--least", 0.5, "--out", "pairs.html", "--language", "zh")
    assert pairs.status == 0 and "data:image/jpeg" in Path("pairs.html").read_text()
    Path("found.html").write_text("mine")
    for target in ("found.html", "found.csv"):
        assert cli("--search", "image_3.jpg", "others", "--out", target).status == 2
    assert Path("found.html").read_text() == "mine"


def test_features_of_an_image_network_need_no_weights_again(parts: Path, cli: Cli) -> None:
    """The manifest had the path of its file, which is no CLIP."""
    made = cli("--extract", "network", "--photos", "list.csv", "--weights", "efficientnet-lite0")
    assert made.status == 0, made.err
    assert "a red toy car" not in made.err
    assert cli("--search", "Dataset/TestSetA/image_3.jpg", "network").status == 0
    assert cli("--train", "--data", "network", "--method", "gda", "--run", "run").status == 0
    assert cli("--predict", "out.parquet", "--data", "network", "--run", "run").status == 0
    assert "has no text encoder" in cli("--search", "a dog", "network").err


def test_an_empty_tar_file_may_come_first(parts: Path, cli: Cli) -> None:
    """The example of the next command was looked for in the first part."""
    for name, photos in (("0.tar", ()), ("1.tar", ("Dataset/TestSetA/image_1.jpg",))):
        with tarfile.open(name, "w") as archive:
            for photo in photos:
                archive.add(photo, "a.jpg")
    for weights in (WEIGHTS, ("--weights", "efficientnet-lite0")):
        made = cli("--extract", f"tars-{weights[-1]}", "--photos", "*.tar", *weights)
        assert made.status == 0, made.err
        assert ("1.tar/a.jpg" in made.err) is (weights is not WEIGHTS)


def test_a_folder_without_its_first_part_is_completed(parts: Path, cli: Cli) -> None:
    whole = {path.name: path.read_bytes() for path in Path("others").iterdir()}
    for path in Path("others").glob("part-00000.*"):
        path.unlink()
    again = cli("--extract", "others", "--photos", "Dataset/TestSetA", *WEIGHTS, *SIZE)
    assert again.status == 0 and "done before" in again.err, again.err
    assert {path.name: path.read_bytes() for path in Path("others").iterdir()} == whole


@pytest.mark.parametrize("broken", [1, 2])
def test_photos_that_cannot_be_read_are_named(broken: int, parts: Path, cli: Cli) -> None:
    Path("some").mkdir()
    for number in (1, 2):
        good = Path(f"Dataset/TestSetA/image_{number}.jpg").read_bytes()
        Path(f"some/{number}.jpg").write_bytes(b"no photo" if number <= broken else good)
    found = cli("--extract", "new", "--photos", "some", *WEIGHTS)
    assert found.status == (2 if broken == 2 else 0)
    assert "the first: 1.jpg (" in found.out + found.err
    assert ("written: new (1 photo in 1 part)" in found.out) is (broken == 1)


def test_photos_that_are_the_same_are_paired(parts: Path, cli: Cli) -> None:
    Path("Dataset/TestSetA/copy.jpg").write_bytes(Path("Dataset/TestSetA/image_4.jpg").read_bytes())
    assert cli("--extract", "more", "--photos", "Dataset/TestSetA", *WEIGHTS).status == 0
    for more in ((), ("--index",)):
        found = cli("--duplicates", "more", "--least", 0.9999, *more)
        assert [line.split("\t") for line in found.out.splitlines()] == [["1.000", "copy.jpg", "image_4.jpg"]]


def test_parts_are_made_by_processes_that_share_them(parts: Path, cli: Cli) -> None:
    command = ("--extract", "shared", "--photos", "list.csv", *WEIGHTS, *SIZE, "--shard")
    outcomes = [cli(*command, f"{number}/3") for number in (2, 3, 1)]
    assert [outcome.status for outcome in outcomes] == [0, 0, 0]
    assert outcomes[2].out.startswith("written: shared") and not outcomes[1].out.startswith("written")
    assert {path.name: path.read_bytes() for path in Path("shared").iterdir()} == {
        path.name: path.read_bytes() for path in Path("labelled").iterdir()
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--extract", "new"), "--photos SOURCE"),
        (("--extract", "Dataset", "--photos", "Dataset"), "has other files"),
        (("--extract", "labelled", "--photos", "Dataset", *WEIGHTS, *SIZE), "of other photos"),
        (("--extract", "labelled", "--photos", "list.csv", *WEIGHTS, "--part-size", 5), "Give the same --part-size"),
        (("--extract", "labelled", "--photos", "list.csv", *WEIGHTS, *SIZE, "--stored", "float16"), "--stored float32"),
        (("--extract", "new", "--photos", "gone", *WEIGHTS), "there is no gone"),
        (("--extract", "new", "--photos", "empty", *WEIGHTS), "empty has no photo"),
        (("--extract", "new.npz", "--photos", "Dataset", "--part-size", 3), "has no effect"),
        (("--train", "--data", "labelled", "--method", "clip-lora"), "only features"),
        (("--train", "--data", "labelled", "--method", "tip-adapter", "--views", 2), "has features in place of photos"),
        (("--train", "--data", "others"), "has a label"),
        (("--train", "--data", "labelled", "--weights", "sample", "--method", "gda"), "were made by"),
        (("--predict", "out.txt", "--data", "others", "--classes", "a, b"), "Write out.parquet"),
        (("--predict", "out.parquet", "--data", "others"), "Give --run"),
        (("--predict", "out.parquet", "--classes", "a, b"), "--classes needs photos"),
        (("--predict", "out.parquet", "--data", "gone", "--classes", "a, b"), "gone has no features in parts"),
        (("--predict", "list.parquet", "--data", "others", "--classes", "a, b"), "list.parquet is a file"),
        (("--extract", "new", "--photos", "list.csv", *WEIGHTS, "--data", "labelled"), "--data has no effect"),
        (("--predict", "out.parquet", "--data", "others", "--classes", "a, b", "--shard", "1/2"), "--shard"),
        (("--serve", "--data", "labelled"), "shows photos"),
        (("--search", "dog", "Dataset"), "no features in parts"),
        (("--search", "gone.jpg", "others"), "gone.jpg cannot be read"),
        (("--search", " ", "others"), "nothing to search for"),
        (("--search", "Dataset", "others"), "is a folder"),
        (("--search", "dog", "others", "--weights", "sample"), "were made by"),
        (("--duplicates", "others", "--least", 2), "at most 1"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[object, ...], message: str, parts: Path, cli: Cli) -> None:
    Path("empty").mkdir()
    Path("list.parquet").touch()
    found = cli(*arguments)
    assert found.status == 2
    assert message in found.err
    assert f"Add one of {arguments[0]}" not in found.err and f", {arguments[0]}" not in found.err
    assert not Path("new").exists() and not Path("out.parquet").exists()


def test_features_that_are_not_finished_are_no_data(parts: Path, cli: Cli) -> None:
    Path("others/manifest.json").unlink()
    for command in (("--train", "--data", "others"), ("--search", "dog", "others"), ("--duplicates", "others")):
        found = cli(*command)
        assert found.status == 2
        assert "not finished" in found.err


def test_a_run_of_another_network_is_refused(parts: Path, cli: Cli) -> None:
    assert cli("--train", "--data", "labelled", "--method", "tip-adapter", "--shots", 1, "--run", "run").status == 0
    facts = json.loads(Path("others/manifest.json").read_text())
    assert facts["weights"] == "tiny.pkl"
    found = cli("--extract", "toy", "--photos", "Dataset/TestSetA", "--weights", "sample")
    assert found.status == 0, found.err
    found = cli("--predict", "out.parquet", "--data", "toy", "--run", "run")
    assert found.status == 2
    assert "other weights" in found.err
