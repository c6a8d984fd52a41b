"""Calibrated probabilities, tables of predictions and "none of these", from the command line."""

import csv
import json
import re
from itertools import groupby
from pathlib import Path

import pytest
from PIL import Image

from jclip_adapter.features.task_encoder import TaskEncoder
from jclip_adapter.storage import ANY, MANIFEST, read_safetensors, write_bytes, write_safetensors
from jclip_adapter.storage.folders import write_manifest
from tests.conftest import PREDICT, RUN, TRAIN, Cli, no_photos
from tests.tiny_contest import CLASSES, TESTS, WEIGHTS, write_photo

TABLE = ("--predict", "found.csv", *WEIGHTS)


def table(path: str = "found.csv") -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_run_holds_its_temperature(trained: Path) -> None:
    arrays, manifest = read_safetensors(f"{RUN}/adapter.safetensors")
    facts = json.loads(Path(f"{RUN}/run.json").read_text())
    assert manifest["calibrated_on"] == facts["calibrated_on"] == "24 photos: held-out shots"
    assert float(manifest["temperature"]) == facts["temperature"] != 1
    assert len(arrays["calibration_.known"]) == len(arrays["calibration_.unknown"]) == 24


def test_probabilities_are_the_calibrated_ones(trained: Path, cli: Cli) -> None:
    """Another temperature in the run changes what is printed, and no ranking; result.txt stays as it is."""
    ask = ("--predict", *WEIGHTS, "--images", "Dataset/TestSetA/image_1.jpg", "--top", 2)
    before = cli(*ask).out
    assert cli(*PREDICT).status == 0
    result = Path("result.txt").read_bytes()
    arrays, manifest = read_safetensors(f"{RUN}/adapter.safetensors")
    write_safetensors(f"{RUN}/adapter.safetensors", arrays, {**manifest, "temperature": "1e9"}, ANY)
    remake_manifest()
    after = cli(*ask).out
    share = f"{100 / len(CLASSES):.1f} %"
    assert after.count(share) == 2
    assert re.findall(r"[A-Z]\w+-?\w* (?=\d)", before) == re.findall(r"[A-Z]\w+-?\w* (?=\d)", after)
    assert cli(*PREDICT).status == 0
    assert Path("result.txt").read_bytes() == result


def remake_manifest() -> None:
    names = json.loads(Path(f"{RUN}/{MANIFEST}").read_text())["files"]
    Path(f"{RUN}/{MANIFEST}").unlink()
    write_manifest(Path(RUN), sorted(names))


def test_a_run_of_an_older_version_predicts_at_temperature_1(trained: Path, cli: Cli) -> None:
    path = f"{RUN}/adapter.safetensors"
    arrays, manifest = read_safetensors(path)
    old = {name: value for name, value in manifest.items() if name not in ("temperature", "calibrated_on")}
    write_safetensors(path, {k: v for k, v in arrays.items() if not k.startswith("calibration_.")}, old, ANY)
    remake_manifest()
    said = cli("--predict", *WEIGHTS, "--images", "Dataset/TestSetA/image_1.jpg")
    assert said.status == 0
    assert said.err.count("the probabilities are not calibrated (temperature 1)") == 1
    refused = cli(*TABLE, "--reject", 0.1)
    assert refused.status == 2
    assert "no photos were held out" in refused.err


def test_a_table_of_the_test_photos(trained: Path, cli: Cli) -> None:
    Path("Dataset/TestSetA/image_3.jpg").write_bytes(b"\xff\xd8")
    said = cli(*TABLE)
    assert said.status == 0, said.err
    assert said.out.splitlines() == [
        f"written: found.csv ({TESTS} photos) and found.csv.json",
        "1 photo could not be read",
    ]
    rows = table()
    assert [row["path"] for row in rows] == [f"image_{number}.jpg" for number in range(1, TESTS + 1)]
    assert list(rows[0]) == ["path", *(f"{what}_{n}" for n in range(1, 6) for what in ("name", "probability")), "error"]
    broken = rows.pop(2)
    assert "image_3.jpg" in broken["error"]
    assert not broken["name_1"]
    assert cli(*PREDICT).status == 0
    lines = [line.split() for line in Path("result.txt").read_text().splitlines()]
    ranked = {name: [CLASSES[int(number)] for number in ids] for name, *ids in lines}
    for row in rows:
        assert [row[f"name_{n}"] for n in range(1, 6)] == ranked[row["path"]]
        shares = [float(row[f"probability_{n}"]) for n in range(1, 6)]
        assert shares == sorted(shares, reverse=True)
        assert 0.5 < sum(shares) <= 1.00001
        assert not row["error"]
    facts = json.loads(Path("found.csv.json").read_text())
    assert (facts["method"], facts["photos"], facts["unreadable"]) == ("jclip-adapter", TESTS, 1)


def test_a_table_of_any_photos(trained: Path, cli: Cli) -> None:
    write_photo(Path("elsewhere/mine.jpg"), 7)
    Path("elsewhere/no.jpg").write_bytes(b"\xff\xd8")
    said = cli("--predict", "found.jsonl", *WEIGHTS, "--images", "elsewhere", "--top", 1, "--reject", 0.1)
    assert said.status == 0, said.err
    assert said.out.startswith("written: found.jsonl (2 photos) and found.jsonl.json\n")
    mine, broken = (json.loads(line) for line in Path("found.jsonl").read_text().splitlines())
    assert list(mine) == ["path", "name_1", "probability_1", "unknown", "error"]
    assert (mine["path"], mine["error"]) == ("elsewhere/mine.jpg", None)
    assert mine["unknown"] in (True, False)
    assert broken["unknown"] is broken["name_1"] is None
    assert "no.jpg" in broken["error"]


def test_photos_that_are_none_of_these_are_marked(trained: Path, cli: Cli) -> None:
    """All training photos: the share that is marked is about the rate, and it is the same in lines and tables."""
    photos = ("--images", "Dataset/TrainSet")
    lines = cli("--predict", *WEIGHTS, *photos, "--reject", 0.4)
    assert lines.status == 0
    assert "24 held-out shots" in lines.err or "expected" not in lines.err
    marked = {line.split(": ")[0] for line in lines.out.splitlines() if ": unknown (" in line}
    assert cli(*TABLE, *photos, "--reject", 0.4).status == 0
    assert {row["path"] for row in table() if row["unknown"] == "True"} == marked
    assert 0 < len(marked) < 30
    assert cli(*TABLE, *photos, "--reject", 0.04).status == 0
    assert sum(row["unknown"] == "True" for row in table()) < len(marked)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*PREDICT, "--reject", "0.1"), "--reject has no effect on result.txt"),
        ((*TRAIN, "--predict", "result.txt", "--reject", "0.1"), "--reject has no effect on result.txt"),
        ((*TABLE, "--reject", "0.01"), "24 held-out photos allow shares from 0.04 to 0.96, got 0.01"),
        ((*TABLE, "--reject", "1"), "expected at most 0.999"),
        ((*TABLE, "--on-bad-image", "fallback"), "--on-bad-image fallback has no effect on found.csv"),
        ((*PREDICT, "--images", "Dataset/TestSetA"), "not to result.txt"),
        (("--train", *WEIGHTS, "--reject", "0.1"), "--reject has no effect with --train"),
    ],
)
def test_what_has_no_effect_is_refused_in_one_line(trained: Path, cli: Cli, arguments, told) -> None:
    said = cli(*arguments)
    assert said.status == 2
    assert told in said.err
    assert len(said.err.rstrip().splitlines()[-1:]) == 1
    assert not Path("result.txt").exists()
    assert not Path("found.csv").exists()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("--predict", "found.csv", "--reject", 0.01), "24 held-out photos allow shares from 0.04 to 0.96, got 0.01"),
        (("--predict", "--images", "Dataset/TestSetA", "--reject", 0.01), "24 held-out photos allow"),
        (("--evaluate", "--reject", 0.01), "24 held-out photos allow"),
        (("--evaluate", "--method", "zero-shot", "--reject", 0.1), "no photos were held out"),
    ],
)
def test_a_share_that_is_not_possible_is_refused_before_photos_are_encoded(
    trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, command, told
) -> None:
    monkeypatch.setattr(TaskEncoder, "photos", no_photos)
    said = cli(*command, *WEIGHTS)
    assert said.status == 2, said.err
    assert told in said.err


def test_a_foreign_table_is_not_replaced(trained: Path, cli: Cli) -> None:
    Path("found.csv").write_text("path,label\nmine.jpg,cat\n")
    said = cli(*TABLE)
    assert said.status == 2
    assert "is not a file of predictions as this program wrote it" in said.err
    assert Path("found.csv").read_text() == "path,label\nmine.jpg,cat\n"


@pytest.mark.parametrize(
    ("counts", "method", "said"),
    [
        ((2, 2, 2, 2, 2, 2), "tip-adapter", "12 held-out shots, each class counting alike"),
        ((0, 1, 2, 2, 2, 2), "tip-adapter", "8 held-out shots of 4 of 6 classes, each of these counting alike"),
        ((1, 1, 2, 2, 3, 3), "tip-adapter", "10 held-out shots of 4 of 6 classes, classes counting by their shots"),
        ((3, 2, 2, 2, 2, 2), "tip-adapter", "13 held-out shots, classes counting by their shots"),
        ((1, 1, 1, 1, 1, 1), "zero-shot", "6 held-out shots, each class counting alike"),
    ],
)
def test_the_estimate_says_which_classes_it_is_about(workplace: Path, cli: Cli, counts, method, said) -> None:
    by_class = groupby(Path("Dataset/train.txt").read_text().splitlines(), lambda line: line.split()[-1])
    shots = [line for count, (_, lines) in zip(counts, by_class, strict=True) for line in [*lines][:count]]
    Path("Dataset/train.txt").write_text("\n".join(shots) + "\n")
    outcome = cli("--train", *WEIGHTS, "--method", method, "--run", "run")
    assert outcome.status == 0, outcome.err
    assert f"from {said}\n" in outcome.out
    assert json.loads(Path("run/metrics.json").read_text())["estimate"]["source"] == said


def test_evaluate_reports_the_calibration(trained: Path, cli: Cli) -> None:
    said = cli("--evaluate", *WEIGHTS, "--reject", 0.1)
    assert said.status == 0, said.err
    report = json.loads(Path(f"{RUN}/evaluation.json").read_text())
    assert 0 <= report["calibration_error"] <= 100
    assert f"expected calibration error of the probabilities: {report['calibration_error']:.1f} %" in said.out
    assert f"keeps {report['reject']['kept']:.1f} %" in said.out
    assert "expected by leaving classes out:" in said.out
    with Image.open(f"{RUN}/reliability.png") as picture:
        assert picture.width > 300
    assert cli("--evaluate", *WEIGHTS).status == 0
    assert "--reject" not in cli("--evaluate", *WEIGHTS).out
    assert cli(*TRAIN).status == 0
    assert not Path(f"{RUN}/reliability.png").exists()  # of the replaced adapter


def test_evaluate_writes_its_predictions(trained: Path, cli: Cli) -> None:
    Path("Dataset/TestSetA/image_3.jpg").write_bytes(b"\xff\xd8")
    assert cli("--evaluate", *WEIGHTS, "--reject", 0.3).status == 0
    rows = table(f"{RUN}/predictions.csv")
    answers = [line.split() for line in Path("Dataset/TestSetA_labels.txt").read_text().splitlines()]
    assert [(row["path"], row["truth"]) for row in rows] == [(name, CLASSES[int(label)]) for name, label in answers]
    (broken,) = (row for row in rows if row["error"])
    assert broken["path"] == "image_3.jpg"
    assert {row["unknown"] for row in rows if row is not broken} <= {"True", "False"}
    total = json.loads(Path(f"{RUN}/evaluation.json").read_text())["scores"][-1]
    assert total["top1"] == 100 * sum(row["name_1"] == row["truth"] for row in rows) / TESTS
    assert cli(*TABLE, "--reject", 0.3).status == 0  # probabilities and ranks are those of predict
    assert [{**row, "truth": ""} for row in table()] == [{**row, "truth": ""} for row in rows]
    mine = Path(f"{RUN}/predictions.csv")
    mine.write_text(mine.read_text() + "mine\n")
    refused = cli("--evaluate", *WEIGHTS)
    assert refused.status == 2
    assert "predictions.csv exists and is not the predictions of an evaluation" in refused.err
    assert mine.read_text().endswith("mine\n")
    mine.unlink()
    assert cli("--evaluate", *WEIGHTS).status == 0
    assert cli(*TRAIN).status == 0
    assert not mine.exists()  # of the replaced adapter


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ("--method", "tip-adapter", "--shots", "1"),
            "6 photos: shots of held-out classes, as there is one shot per class",
        ),
        (("--method", "zero-shot"), "24 photos: the shots, which the method does not use"),
        (("--method", "transclip"), "the probabilities are not calibrated, as the method is transductive"),
        (("--method", "coop", "--set", "epochs=1"), "24 photos: held-out shots"),
    ],
)
def test_training_says_what_the_temperature_comes_from(workplace: Path, cli: Cli, flags, said) -> None:
    outcome = cli("--train", *WEIGHTS, *flags, "--run", "run")
    assert outcome.status == 0
    assert said in outcome.err
    facts = json.loads(Path("run/run.json").read_text())
    assert facts["calibrated_on"] == ("" if "transclip" in flags else said)


def test_an_unfinished_write_leaves_no_table(trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli(*TABLE).status == 0
    before = Path("found.csv").read_bytes(), Path("found.csv.json").read_bytes()
    write_bytes("found.csv.json", b"", ANY)  # an empty file shows nothing
    assert cli(*TABLE).status == 2
    assert Path("found.csv").read_bytes() == before[0]


def test_train_estimates_top1_and_evaluate_the_learning_curve(trained: Path, cli: Cli) -> None:
    estimate = json.loads(Path(f"{RUN}/metrics.json").read_text())["estimate"]
    low, high = estimate["interval"]
    assert low < estimate["top1"] < high
    assert estimate["held_out"] == 24
    said = cli("--train", *WEIGHTS, "--method", "tip-adapter")
    assert re.search(
        r"top-1 estimated without test photos: \d+\.\d % \(95 % interval .* %\), from 24 held-out shots", said.out
    )
    found = cli("--evaluate", *WEIGHTS, "--method", "tip-adapter", "--learning-curve")
    assert found.status == 0, found.err
    rows = re.findall(r"^\| *(\d+) \| +\d+\.\d % \| +[\d.–]+ % \| +(\d+) \|$", found.out, re.MULTILINE)
    assert [shots for shots, _ in rows] == ["1", "2", "3"]
    report = json.loads(next(Path("results/runs").glob("*tip-adapter*/evaluation.json")).read_text())
    assert [point["shots"] for point in report["learning_curve"]] == [1, 2, 3]
