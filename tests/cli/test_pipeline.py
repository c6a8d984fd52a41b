"""The whole way on tiny data: photos and weights in, a run folder, a result file and an evaluation out."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jclip_adapter.cli.app import main
from jclip_adapter.cli.parser import COMMANDS
from jclip_adapter.data.sets import load_dataset
from jclip_adapter.data.submission import check_submission
from jclip_adapter.features.encoding import SHARD_ROWS
from jclip_adapter.models.clip.encoder import Encoder
from jclip_adapter.models.weights.published import published_models
from jclip_adapter.storage import MANIFEST, check_manifest, read_safetensors
from tests import ROOT
from tests.conftest import PREDICT, RUN, TRAIN, Cli
from tests.tiny_contest import CLASSES, PER_CLASS, TESTS, write_contest, write_photo


def run_bytes(folder: str | Path = RUN) -> dict[str, bytes]:
    """Each file of a run folder but its manifest, and run.json and report.html, which name paths."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.suffix not in (".json", ".html")}


def answers() -> dict[str, int]:
    lines = Path("Dataset/TestSetA_labels.txt").read_text().splitlines()
    return {line.split()[0]: int(line.split()[1]) for line in lines}


def results(path: str = "result.txt") -> dict[str, list[int]]:
    lines = [line.split() for line in Path(path).read_text().splitlines()]
    return {name: [int(number) for number in ids] for name, *ids in lines}


def test_training_leaves_a_whole_run(trained: Path) -> None:
    run = Path(RUN)
    names = {"adapter.safetensors", "support.txt", "support.sha256", "run.json", "metrics.json", "curves.png"}
    assert {path.name for path in run.iterdir()} == {*names, MANIFEST, "report.html"}
    assert set(check_manifest(run)["files"]) == names
    facts = json.loads((run / "run.json").read_text())
    assert facts["classes"] == list(CLASSES)
    assert facts["settings"]["shots"] == 4
    assert facts["settings"]["weights"] == "tiny.pkl"
    assert facts["hyperparameters"]["epochs"] == 2
    arrays, manifest = read_safetensors(run / "adapter.safetensors")
    assert arrays["text_"].shape == (6, 64)
    assert manifest["weights_sha256"] == facts["weights_sha256"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert [row["epoch"] for row in metrics["epochs"]] == [1, 2]
    with Image.open(run / "curves.png") as picture:
        assert picture.width > 300
    support = (run / "support.txt").read_text().splitlines()
    assert len(set(support)) == 24
    assert set(support) < set(Path("Dataset/train.txt").read_text().splitlines())
    assert [line.split()[1] for line in support] == [str(label) for label in range(6) for _ in range(4)]


def test_prediction_is_what_the_contest_takes(trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cli(*PREDICT)
    assert first.status == 0
    assert f"{TESTS} photos, 5 ids each" in first.out
    report = check_submission("result.txt", load_dataset("Dataset"))
    assert (report.lines, report.top, report.zip_checked) == (TESTS, 5, True)
    assert cli("--check", "result.txt").status == 0
    written = Path("result.txt").read_bytes(), Path("result.zip").read_bytes()

    def refuse(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(Encoder, "images", refuse)
    monkeypatch.setattr(Encoder, "texts", refuse)
    assert cli(*PREDICT).status == 0
    assert (Path("result.txt").read_bytes(), Path("result.zip").read_bytes()) == written


def test_one_id_a_line(trained: Path, cli: Cli) -> None:
    assert cli(*PREDICT, "--top", 1).status == 0
    assert {len(ids) for ids in results().values()} == {1}
    assert cli("--check", "result.txt", "--top", 1).status == 0


def test_evaluation_agrees_with_a_recount(trained: Path, cli: Cli) -> None:
    assert cli(*PREDICT, "--top", 6).status == 0
    outcome = cli("--evaluate", "--weights", "tiny.pkl")
    assert outcome.status == 0
    assert outcome.out.startswith("jclip-adapter on 10 labelled test photos\n")
    with Image.open(f"{RUN}/confusion.png") as picture:
        assert picture.width > 300
    report = json.loads(Path(f"{RUN}/evaluation.json").read_text())
    names = list(answers())
    truth = np.array([answers()[name] for name in names])
    ids = np.array([results()[name] for name in names])
    domains = np.array([name.split("_")[0] for name in CLASSES])[truth]
    scores = {score["domain"]: score for score in report["scores"]}
    assert set(scores) == {"Animal", "Caltech-101", "Thu-dog", "total"}
    for domain, score in scores.items():
        chosen = np.ones(len(names), bool) if domain == "total" else domains == domain
        assert score["n"] == chosen.sum()
        assert score["top1"] == pytest.approx(100 * (ids[:, 0] == truth)[chosen].mean())
        assert score["top5"] == pytest.approx(100 * (ids[:, :5] == truth[:, None]).any(axis=1)[chosen].mean())
    assert check_manifest(RUN)


def test_evaluation_on_the_rest_of_the_training_photos(trained: Path, cli: Cli) -> None:
    outcome = cli("--evaluate", "--weights", "tiny.pkl", "--holdout", 1)
    assert outcome.status == 0
    assert "6 photos not used for training" in outcome.out
    assert "12 photos not used" in cli("--evaluate", "--weights", "tiny.pkl", "--holdout", 0).out
    Path("Dataset/TestSetA_labels.txt").unlink()
    assert "12 photos not used" in cli("--evaluate", "--weights", "tiny.pkl").out


def test_hyperparameters_are_chosen_on_the_shots_if_asked(workplace: Path, cli: Cli) -> None:
    from jclip_adapter.methods import get

    flags = ("--train", "--weights", "tiny.pkl", "--method", "tip-adapter", "--set", "beta=2")
    assert cli(*flags, "--run", "plain").status == 0
    assert cli(*flags, "--run", "chosen", "--select", "support").status == 0
    plain, chosen = (json.loads(Path(run, "run.json").read_text()) for run in ("plain", "chosen"))
    assert (plain["selected_on"], chosen["selected_on"]) == ("given", "support")
    defaults = get("tip-adapter").Hyper(beta=2.0)
    assert plain["hyperparameters"] == defaults.as_dict()
    assert chosen["hyperparameters"]["beta"] == 2
    assert chosen["hyperparameters"]["alpha"] in get("tip-adapter").Hyper.__dataclass_fields__["alpha"].metadata["grid"]
    assert cli(*flags, "--select", "validation").status == 2


def test_evaluation_tells_classes_with_and_without_shots_apart(trained: Path, cli: Cli) -> None:
    assert "classes with shots" not in cli("--evaluate", "--weights", "tiny.pkl").out
    lines = Path(RUN, "support.txt").read_text().splitlines(keepends=True)
    Path("some.txt").write_text("".join(line for line in lines if int(line.split()[1]) < 4))
    flags = ("--weights", "tiny.pkl", "--support", "some.txt", "--method", "linear-probe")
    assert cli("--train", *flags).status == 0
    outcome = cli("--evaluate", *flags)
    assert "classes with shots (base) and without (new), method: base " in outcome.out
    (run,) = Path("results/runs").glob("Dataset-tiny.pkl-linear-probe-support-some@*")
    report = json.loads((run / "evaluation.json").read_text())
    zero_shot = report["seen_and_unseen"]["zero_shot"]
    assert report["seen_and_unseen"]["method"].keys() == {"base", "new", "harmonic"}
    total = next(score["top1"] for score in report["zero_shot"] if score["domain"] == "total")
    few = np.isin(list(answers().values()), range(4)).mean()
    assert total == pytest.approx(few * zero_shot["base"] + (1 - few) * zero_shot["new"])


def test_extracted_features_give_the_benchmark_of_the_photos(workplace: Path, cli: Cli) -> None:
    flags = ("--weights", "tiny.pkl", "--shots", "1,2", "--seed", 3)
    assert cli("--extract", "some.npz", *flags).status == 0
    assert cli("--extract", "some.txt", *flags).status == 2
    methods = ("--benchmark", "--method", "zero-shot,tip-adapter,linear-probe")
    assert cli(*methods, *flags, "--out", "photos.csv").status == 0
    assert cli(*methods, "--features", "some.npz", "--seed", 3, "--out", "file.csv").status == 0
    rows = []
    for name in ("photos.csv", "file.csv"):
        with Path(name).open(encoding="utf-8", newline="") as handle:
            kept = ("method", "shots", "top1", "top5", "hyperparameters")
            rows.append([[row[key] for key in kept] for row in csv.DictReader(handle)])
    assert len(rows[0]) == 6
    assert rows[0] == rows[1]
    Path("Dataset/TestSetA_labels.txt").unlink()
    assert cli("--extract", "rest.npz", *flags).status == 0
    with np.load("rest.npz") as arrays:
        learnt = {row.tobytes() for key in ("train1_x", "train2_x") for row in arrays[key]}
        assert learnt.isdisjoint(row.tobytes() for row in arrays["test_x"])
        assert len(arrays["test_x"]) == len(CLASSES) * PER_CLASS - len(learnt)


def test_a_benchmark_notices_another_photo(workplace: Path, cli: Cli) -> None:
    command = ("--benchmark", "--method", "zero-shot", "--weights", "tiny.pkl", "--out", "b.csv")
    assert cli(*command).status == 0
    cells = set(Path("results/cells").iterdir())
    assert cli(*command).status == 0
    assert set(Path("results/cells").iterdir()) == cells
    photo = next(Path("Dataset/TestSetA").iterdir())
    write_photo(photo, 999, 3)
    assert cli(*command).status == 0
    assert len(set(Path("results/cells").iterdir())) == len(cells) + 1


def test_evaluation_names_the_method_of_the_run(workplace: Path, cli: Cli) -> None:
    assert cli("--train", "--weights", "tiny.pkl", "--method", "linear-probe", "--run", "mine").status == 0
    outcome = cli("--evaluate", "--run", "mine")
    assert outcome.out.startswith("linear-probe on 10 labelled")
    assert "jclip-adapter" not in outcome.out


def test_all_three_commands_at_once(workplace: Path, cli: Cli) -> None:
    outcome = cli(*TRAIN, "--evaluate", "--predict", "result.txt")
    assert outcome.status == 0
    assert [outcome.out.index(word) for word in ("run: ", " labelled ", "written: result.txt")] == sorted(
        outcome.out.index(word) for word in ("run: ", " labelled ", "written: result.txt")
    )


def test_a_broken_photo_among_the_test_photos(trained: Path, cli: Cli) -> None:
    assert cli(*PREDICT).status == 0
    whole = results()
    for number in (3, 7):  # the same bytes twice
        Path(f"Dataset/TestSetA/image_{number}.jpg").write_bytes(b"\xff\xd8\xff no photo")
    stopped = cli(*PREDICT, "--on-bad-image", "stop")
    assert stopped.status == 2
    assert results() == whole
    outcome = cli(*PREDICT)
    assert outcome.status == 0
    assert "2 photos could not be read: result.rejects.txt" in outcome.out
    assert cli("--check", "result.txt").status == 0
    assert {name: ids for name, ids in results().items() if name not in ("image_3.jpg", "image_7.jpg")} == {
        name: ids for name, ids in whole.items() if name not in ("image_3.jpg", "image_7.jpg")
    }
    assert results()["image_3.jpg"] == results()["image_7.jpg"]
    *rejects, checksum = [line.split("\t") for line in Path("result.rejects.txt").read_text().splitlines()]
    assert checksum[0] == "# jclip-adapter"
    assert [name for name, _ in rejects] == ["image_3.jpg", "image_7.jpg"]
    assert all("not a readable image" in reason for _, reason in rejects)
    for number in (3, 7):
        write_photo(Path(f"Dataset/TestSetA/image_{number}.jpg"), number)
    assert cli(*PREDICT).status == 0
    assert not Path("result.rejects.txt").exists(), "it would tell of a prediction that is gone"


def test_a_broken_photo_counts_as_wrong(trained: Path, cli: Cli) -> None:
    for photo in Path("Dataset/TestSetA").iterdir():
        if photo.name != "image_1.jpg":
            photo.write_bytes(b"")
    outcome = cli("--evaluate", "--weights", "tiny.pkl")
    assert "9 photos could not be read, counted as wrong: image_2.jpg, image_3.jpg, " in outcome.out
    total = json.loads(Path(f"{RUN}/evaluation.json").read_text())["scores"][-1]
    assert total["n"] == TESTS
    assert total["top1"] <= total["top5"] <= 10


def test_photos_from_anywhere(trained: Path, cli: Cli) -> None:
    assert cli(*PREDICT).status == 0
    write_photo(Path("elsewhere/a.png"), 1)
    Path("elsewhere/b.jpg").write_bytes(b"none")
    outcome = cli("--predict", "--weights", "tiny.pkl", "--top", 2, "--images", "Dataset/TestSetA", "elsewhere")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert len(lines) == TESTS + 1
    assert "elsewhere/b.jpg is not a readable image (none of JPEG, " in outcome.err
    for line, (name, ids) in zip(lines, results().items(), strict=False):
        path, guesses = line.split(": ")
        assert path == f"Dataset/TestSetA/{name}"
        assert [guess.split()[0] for guess in guesses.split(", ")] == [CLASSES[number] for number in ids[:2]]


def test_photos_of_which_none_can_be_read(trained: Path, cli: Cli) -> None:
    for name in ("a.jpg", "b.jpg"):
        Path(name).write_bytes(b"none")
    outcome = cli("--predict", "--weights", "tiny.pkl", "--images", "a.jpg", "b.jpg")
    assert (outcome.status, outcome.out) == (2, "")
    assert "error: no photo can be read." in outcome.err
    for name in ("a.jpg", "b.jpg"):  # the second has the first's content
        assert f"{name} is not a readable image (none of JPEG, " in outcome.err


def test_zero_shot_needs_no_training(workplace: Path, cli: Cli) -> None:
    outcome = cli(*PREDICT, "--method", "zero-shot")
    assert outcome.status == 0
    assert not Path("results/runs").exists()
    assert cli("--check", "result.txt").status == 0
    assert cli("--evaluate", "--weights", "tiny.pkl", "--method", "zero-shot").status == 0


@pytest.mark.parametrize("flags", [[], ["--linear-probe"]], ids=["zero-shot", "linear-probe"])
def test_baseline(flags: list[str], workplace: Path, cli: Cli) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "baseline.py"), "--split", "A", "--weights", "tiny.pkl", *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert cli("--check", "result.txt").status == 0
    runs = [path.name for path in Path().glob("results/runs/*")]
    assert runs == (["Dataset-tiny.pkl-jclip-linear-probe-4first"] if flags else [])
    if flags:
        support = Path(f"results/runs/{runs[0]}/support.txt").read_text().splitlines()
        assert support[:4] == [f"TrainSet/Animal/Bear/{number}.jpg 0" for number in (1, 2, 3, 4)]


def make_folders(root: Path) -> Path:
    """The same photos, a folder per class."""
    shutil.copytree("Dataset/TrainSet", root / "train")
    for name, label in answers().items():
        target = root / "test" / CLASSES[label].replace("_", "/", 1)
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(f"Dataset/TestSetA/{name}", target / name)
    return root


def make_table(root: Path) -> Path:
    """The same photos in a CSV file."""
    shutil.copytree("Dataset", root)
    rows = [("path", "label", "split")]
    for line in Path("Dataset/train.txt").read_text().splitlines():
        path, label = line.split()
        rows.append((path, CLASSES[int(label)], "train"))
    rows += [(f"TestSetA/{name}", CLASSES[label], "test") for name, label in answers().items()]
    with (root / "photos.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return root / "photos.csv"


@pytest.mark.parametrize("make", [make_folders, make_table])
def test_other_layouts(make: type[Path], workplace: Path, cli: Cli) -> None:
    """They give the same scores as the contest's layout with the same photos, texts and order of classes."""
    assert cli(*TRAIN, "--support", "first", "--evaluate").status == 0
    expected = json.loads(next(Path().glob("results/runs/*/evaluation.json")).read_text())["scores"][-1]
    data = make(Path("other"))
    outcome = cli(
        *TRAIN,
        "--method",
        "jclip-adapter",
        "--support",
        "first",
        "--data",
        data,
        "--run",
        "run",
        "--evaluate",
        "--predict",
    )
    assert outcome.status == 0, outcome.err
    assert cli("--check", "result.txt", "--data", data).status == 0
    found = json.loads(Path("run/evaluation.json").read_text())["scores"][-1]
    assert found["n"] == TESTS
    if make is make_folders:  # a CSV's classes have no domain, so other prompts
        assert found == expected


def test_test_labels_never_reach_training_or_prediction(workplace: Path, cli: Cli) -> None:
    def outcome() -> tuple[dict[str, bytes], bytes]:
        shutil.rmtree("results", ignore_errors=True)
        assert cli(*TRAIN, "--predict", "result.txt").status == 0
        return run_bytes(), Path("result.txt").read_bytes()

    first = outcome()
    labels = Path("Dataset/TestSetA_labels.txt")
    names, ids = zip(*(line.split() for line in labels.read_text().splitlines()), strict=True)
    labels.write_text("".join(f"{name} {number}\n" for name, number in zip(names, ids[1:] + ids[:1], strict=True)))
    assert outcome() == first
    labels.write_text("no labels at all")
    assert outcome() == first
    labels.unlink()
    assert outcome() == first


@pytest.mark.parametrize("method", ["jclip-adapter", "linear-probe", "zero-shot"])
def test_same_seed_same_bytes(method: str, workplace: Path, cli: Cli) -> None:
    def outcome(run: str, seed: int) -> dict[str, bytes]:
        flags = ("--weights", "tiny.pkl", "--method", method, "--run", run, "--cache", f"{run}-cache")
        assert cli("--train", "--seed", seed, *flags).status == 0
        assert cli("--predict", f"{run}.txt", *flags).status == 0
        return {**run_bytes(run), "result.txt": Path(f"{run}.txt").read_bytes()}

    first = outcome("one", 3)
    assert outcome("two", 3) == first
    assert outcome("three", 4)["support.txt"] != first["support.txt"]


def test_the_support_list_of_a_run_gives_the_same_run(trained: Path, cli: Cli) -> None:
    lines = Path(RUN, "support.txt").read_text().splitlines(keepends=True)
    Path("list.txt").write_text("".join(reversed(lines)), newline="\r\n")
    assert cli(*TRAIN, "--support", "list.txt").status == 0
    (run,) = Path("results/runs").glob("Dataset-tiny.pkl-jclip-adapter-support-list@*")
    again = run_bytes(run)
    assert again["support.txt"] == Path(RUN, "support.txt").read_bytes()
    assert again["adapter.safetensors"] == Path(RUN, "adapter.safetensors").read_bytes()


def test_settings_from_a_file(workplace: Path, cli: Cli) -> None:
    Path("c.yaml").write_text("weights: tiny.pkl\nmethod: linear-probe\nshots: 2\nset: {c: 2}\nbatch-size: 8\n")
    assert cli("--train", "--config", "c.yaml").status == 0
    run = Path("results/runs/Dataset-tiny.pkl-linear-probe-2shot-seed0")
    assert json.loads((run / "run.json").read_text())["hyperparameters"]["c"] == 2.0
    assert cli("--predict", "--config", "c.yaml").status == 0
    assert cli("--train", "--config", "c.yaml", "--shots", 3).status == 0
    assert run.with_name("Dataset-tiny.pkl-linear-probe-3shot-seed0").is_dir()


def test_the_same_weights_by_another_path(trained: Path, cli: Cli) -> None:
    assert cli("--predict", "--weights", trained / "tiny.pkl").status == 0


def test_a_damaged_shard_is_encoded_again(trained: Path, cli: Cli) -> None:
    assert cli(*PREDICT).status == 0
    before = Path("result.txt").read_bytes()
    shards = sorted(Path("results/features").glob("*/*.npz"))
    for shard in shards:
        shard.write_bytes(shard.read_bytes()[:-7] + b"changed")
    outcome = cli(*PREDICT)
    assert outcome.status == 0
    assert outcome.err.count("is damaged; its features are recomputed") == len(shards)
    assert Path("result.txt").read_bytes() == before
    assert cli(*PREDICT).err.count("damaged") == 0


MANY = 300
FLAGS = ("--method", "zero-shot", "--batch-size", "8")  # small batches make encoding last long enough to be stopped


@contextlib.contextmanager
def encoding(weights: Path, workers: int) -> Iterator[subprocess.Popen[str]]:
    """A process that predicts, once it has left its first shard."""
    command = [sys.executable, str(ROOT / "runner.py"), "--predict", "result.txt", *FLAGS]
    command += ["--weights", str(weights), "--workers", str(workers)]
    # Where this process was started to ignore Ctrl-C, as in the background, its children would too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        signal.signal(signal.SIGINT, before)
        end = time.monotonic() + 60
        while not shards() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        yield process


def shards() -> set[Path]:
    return set(Path("results/features").glob("images-*/*.npz"))


@pytest.fixture
def many(tmp_path: Path, many_template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with MANY test photos."""
    shutil.copytree(many_template, tmp_path / "Dataset")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def many_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_contest(tmp_path_factory.mktemp("many") / "Dataset", tests=MANY)


@pytest.fixture(scope="module")
def unbroken(many_template: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The result of a prediction that nobody stopped."""
    place = tmp_path_factory.mktemp("unbroken")
    where = ("--data", many_template, "--weights", tiny_weights, "--cache", place / "cache", "--workers", 0)
    assert main(["--predict", str(place / "result.txt"), *FLAGS, *map(str, where)]) == 0
    return (place / "result.txt").read_bytes()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_and_run_again(
    how: signal.Signals, workers: int, many: None, unbroken: bytes, tiny_weights: Path, cli: Cli
) -> None:
    """A prediction stopped after its first shard goes on where it was, to the same bytes."""
    with encoding(tiny_weights, workers) as process:
        process.send_signal(how)
        _, err = process.communicate()
    if how == signal.SIGINT:
        assert process.returncode == 130, err
        assert err.endswith("\nstopped. What is finished is kept: the same command goes on from it.\n")
        assert "Traceback" not in err
    else:
        assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert not Path("result.txt").exists()
    kept = shards()
    whole = -(-MANY // SHARD_ROWS)
    assert 0 < len(kept) < whole
    flags = (*FLAGS, "--weights", tiny_weights, "--workers", 0)
    assert cli("--predict", "result.txt", *flags).status == 0
    assert kept < shards()
    assert len(shards()) == whole, "what was kept is not encoded twice"
    assert Path("result.txt").read_bytes() == unbroken
    assert len(unbroken.splitlines()) == MANY


def decoders(process: int) -> list[int]:
    """The children that decode; Jittor has some of its own."""
    numbers = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(number) for number in numbers if "serve()" in Path(f"/proc/{number}/cmdline").read_text()]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_decoder_is_told(many: None, tiny_weights: Path) -> None:
    with encoding(tiny_weights, workers=2) as process:
        os.kill(decoders(process.pid)[0], signal.SIGKILL)
        _, err = process.communicate()
    assert process.returncode == 2, err
    assert "\nerror: a decoding process was killed" in err
    assert "Traceback" not in err


def test_decoders_end_with_a_killed_parent(many: None, tiny_weights: Path) -> None:
    with encoding(tiny_weights, workers=2) as process:
        orphans = decoders(process.pid)
        assert len(orphans) == 2
        process.kill()
        process.wait()
    end = time.monotonic() + 10
    while any(map(alive, orphans)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(alive, orphans))


def test_decoding_in_other_processes_changes_nothing(tmp_path: Path, tiny_weights: Path, cli: Cli) -> None:
    data = write_contest(tmp_path / "Dataset", tests=40)
    bad = data / "TestSetA" / "image_9.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    flags = ("--method", "zero-shot", "--weights", tiny_weights, "--data", data)
    for workers in (0, 2):
        cache = tmp_path / f"cache-{workers}"
        assert cli("--predict", tmp_path / f"{workers}.txt", *flags, "--workers", workers, "--cache", cache).status == 0
    assert (tmp_path / "0.txt").read_bytes() == (tmp_path / "2.txt").read_bytes()
    assert (tmp_path / "0.rejects.txt").read_bytes() == (tmp_path / "2.rejects.txt").read_bytes()


def test_nothing_is_written_outside_results(workplace: Path, cli: Cli) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path("Dataset").rglob("*")}
    assert cli(*TRAIN, "--predict", "result.txt").status == 0
    assert {path: path.stat().st_mtime_ns for path in Path("Dataset").rglob("*")} == before
    assert sorted(path.name for path in Path().iterdir()) == [
        "Dataset",
        "result.txt",
        "result.zip",
        "results",
        "tiny.pkl",
    ]


def test_the_one_run_on_the_data_is_taken(workplace: Path, cli: Cli) -> None:
    """Evaluation and prediction need no flags but those of their own, as long as there is one run."""
    train = ("--train", "--weights", "tiny.pkl", "--method", "tip-adapter", "--shots", 1)
    done = cli(*train)
    assert done.status == 0
    assert "next: python runner.py --evaluate --run results/runs/" in done.err
    evaluated = cli("--evaluate", "--holdout", 1)
    assert evaluated.status == 0, evaluated.err
    assert "using the only run on this data: results/runs/" in evaluated.err
    assert "tip-adapter on 6 photos" in evaluated.out
    curve = cli("--evaluate", "--learning-curve")
    assert "--learning-curve: no class has two shots" in curve.err, "the run is found with any option"
    predicted = cli("--predict", "result.txt", "--top", 2)
    assert predicted.status == 0, predicted.err
    assert len(Path("result.txt").read_text().splitlines()[0].split()) == 3
    other = cli("--evaluate", "--method", "clip-adapter")
    assert other.status == 2
    assert "there is no trained run" in other.err
    assert cli(*train[:-1], 2).status == 0
    several = cli("--evaluate")
    assert several.status == 2
    assert "there is no trained run" in several.err
    assert "--run" in several.err
    assert cli("--evaluate", "--shots", 2).status == 0


def test_the_next_command_is_one_that_works(workplace: Path, cli: Cli) -> None:
    """Where all photos are shots, none is left to evaluate."""
    shutil.copytree("Dataset/TrainSet/Animal", "mine")
    for shots, named in (
        (4, "next: python runner.py --evaluate --data mine"),
        ("all", "next: python runner.py --pred"),
    ):
        done = cli("--train", "--data", "mine", "--weights", "tiny.pkl", "--method", "tip-adapter", "--shots", shots)
        assert done.status == 0, done.err
        assert named in done.err
        assert "--predict --images PHOTO --data mine" in done.err


def test_subcommands_do_what_the_flags_do(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed command's form, with operands and options of its own."""
    given = ("--weights", "tiny.pkl", "--method", "tip-adapter", "--shots", 1)
    assert cli("train", *given).status == 0
    assert cli("predict", "one.txt").status == 0
    assert cli("--predict", "two.txt").status == 0
    assert Path("one.txt").read_bytes() == Path("two.txt").read_bytes()
    assert cli("check", "one.txt").status == 0
    assert "hyper-parameters" in cli("list", "tip-adapter").out
    models = cli("list", "models").out
    assert all(model.weights in models and model.good_for in models for model in published_models())
    assert max(map(len, models.splitlines())) <= 80
    for words, told in (
        (("trian",), "Did you mean 'train'?"),
        (("train", "--holdout", 1), "--holdout has no effect with runner.py train. It belongs to evaluate."),
        (("check",), "required: FILE"),
        (("list", "tip-adaptor"), "Did you mean 'tip-adapter'?"),
        (("evaluate", "photo.jpg"), "unexpected argument 'photo.jpg'"),
    ):
        refused = cli(*words)
        assert refused.status == 2, words
        assert told in refused.err, words


def test_a_subcommand_s_help_fits_a_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for name in COMMANDS:
        shown = {}
        for flag in ("--help", "--help-all"):
            with pytest.raises(SystemExit) as left:
                main([name, flag])
            assert left.value.code == 0
            shown[flag] = capsys.readouterr().out
        assert len(shown["--help"].splitlines()) <= 50, name
        assert set(shown["--help"].split()) <= set(shown["--help-all"].split()), name
        assert "--quiet" in shown["--help-all"], name
