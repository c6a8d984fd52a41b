"""Nothing of the user's is lost: no command replaces a file that this program did not write (E2, E5)."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jclip_adapter import storage
from jclip_adapter.cli.runs import ADAPTER, CHECKPOINT
from jclip_adapter.core.errors import UsageError
from jclip_adapter.data.submission import RESULT, write_submission
from jclip_adapter.methods.training import checkpoint
from tests import ROOT
from tests.conftest import PREDICT, RUN, TRAIN, Cli
from tests.methods.conformance.worlds import quick_values
from tests.stopping import stop_before
from tests.tiny_contest import WEIGHTS, write_photo

ZERO_SHOT = (*WEIGHTS, "--method", "zero-shot", "--device", "cpu")


def photo() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (200, 30, 90)).save(buffer, "JPEG")
    return buffer.getvalue()


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (200, 30, 90)).save(buffer, "PNG", dpi=(110, 110), comment="mine")
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as handle:
        handle.writestr("thesis.txt", "one 1 2 3 4 5\n")
    return buffer.getvalue()


def arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, classnames=np.array(["a"]), text=np.zeros((1, 2)), test_x=np.zeros((1, 2)), test_y=np.zeros(1))
    return buffer.getvalue()


FOREIGN: dict[str, bytes] = {
    "photo": photo(),
    "picture": picture(),
    "table": b"dataset,score\ncats,1\n",
    "labels": b"image_1.jpg 4\nimage_2.jpg 3\n",
    "boxes": b"image_2.jpg 10 10 40 40 1\nimage_1.jpg 3 3 9 9 0\n",
    "results of another program": b"a.jpg 10 20 30 40\nb.jpg 1 2 3 4\n",
    "rejects of another program": b"image_1.jpg\tTestSetA/image_1.jpg is empty.\n",
    "rows of another program": b"dataset,method,shots,seed,top1,top5,mine\ncats,tip-adapter,4,1,61.0,90.0,x\n",
    "tables of another program": b"### Inductive methods\n\n| method | cats |\n|---|---|\n<!-- jclip-adapter -->\n",
    "facts of another run": json.dumps({"settings": {}, "weights_sha256": "", "files": {}}).encode(),
    "metrics of another run": json.dumps({"unit": "percent", "epochs": [], "mine": 1}).encode(),
    "tab-separated": b"image_1.jpg\tblurred, taken at night\n",
    "notes": "Für morgen: neue Photos.\n".encode(),
    "zip": archive(),
    "arrays of another program": arrays(),
    "weights of another program": (20).to_bytes(8, "little") + b'{"__metadata__":{}} ' + bytes(8),
    "json": json.dumps({"photos": 3}).encode(),
    "binary": bytes(range(256)),
}
# Command, what names the file, and its name.
PLACES: dict[str, tuple[tuple[str, ...], str]] = {
    "predict": (("--predict", "{}", *ZERO_SHOT), "mine.txt"),
    "predict over a CSV": (("--predict", "{}", *ZERO_SHOT), "mine.csv"),
    "the zip beside a result": (("--predict", "mine.txt", *ZERO_SHOT), "mine.zip"),
    "the list beside a result": (("--predict", "mine.txt", *ZERO_SHOT), "mine.rejects.txt"),
    "train and predict": (("--train", "--predict", "{}", *WEIGHTS), "mine.txt"),
    "benchmark": (("--benchmark", "--out", "{}", *ZERO_SHOT), "mine.csv"),
    "the tables beside a benchmark": (("--benchmark", "--out", "mine.csv", *ZERO_SHOT), "mine.md"),
    "the picture beside a benchmark": (("--benchmark", "--out", "mine.csv", *ZERO_SHOT), "mine.png"),
    "extract": (("--extract", "{}", *WEIGHTS), "mine.npz"),
    "convert": (("--convert", "tiny.pkl", "{}"), "mine.safetensors"),
    "a run": (("--train", *WEIGHTS, "--run", "mine"), "mine/adapter.safetensors"),
    "a photo in a run folder": (("--train", *WEIGHTS, "--run", "mine"), "mine/p1.jpg"),
    "the manifest of a run": (("--train", *WEIGHTS, "--run", "mine"), "mine/manifest.json"),
    "the facts of a run": (("--train", *WEIGHTS, "--run", "mine"), "mine/run.json"),
    "the metrics of a run": (("--train", *WEIGHTS, "--run", "mine"), "mine/metrics.json"),
    "the list of a run": (("--train", *WEIGHTS, "--run", "mine"), "mine/support.txt"),
    "an evaluation": (("--evaluate", *ZERO_SHOT, "--run", "mine"), "mine/evaluation.json"),
    "the picture of an evaluation": (("--evaluate", *ZERO_SHOT, "--run", "mine"), "mine/confusion.png"),
}


def no_jittor(*_: object, **__: object) -> None:
    raise RuntimeError("the long work was started")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", PLACES)
def test_a_foreign_file_stays_as_it_is(
    place: str, workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    """E2: refused in one line before the long work; every file is byte-identical."""
    command, name = PLACES[place]
    path = workplace / name
    path.parent.mkdir(exist_ok=True)
    monkeypatch.setattr("jclip_adapter.runtime.start", no_jittor)
    for kind, content in FOREIGN.items():
        with subtests.test(kind):
            path.write_bytes(content)
            before = snapshot(workplace)
            done = cli(*[word.format(name) for word in command])
            assert done.status == 2, done
            assert done.err.startswith("error: ")
            assert done.err.count("\n") == 1
            assert Path(name).name in done.err
            assert snapshot(workplace) == before


@pytest.mark.parametrize("name", ["p1.jpg", "P1.JPEG", "p1.png", "p1.webp"])
@pytest.mark.parametrize("there", [True, False])
def test_a_photo_that_is_to_be_classified(name: str, there: bool, workplace: Path, cli: Cli) -> None:
    """E2: `--predict p1.jpg` overwrote the photo with text; the natural wish is answered."""
    if there:
        (workplace / name).write_bytes(photo())
    done = cli("--predict", name, *ZERO_SHOT)
    assert done.status == 2
    assert f"Did you mean --predict --images {name}?" in done.err
    assert (workplace / name).exists() is there


@pytest.mark.parametrize("flag", ["--run", "--out", "--predict", "--extract", "--convert", "--cache"])
def test_a_class_folder_keeps_its_photos(flag: str, workplace: Path, cli: Cli) -> None:
    """E2: a class folder named by a flag that writes keeps every byte."""
    folder = Path("Dataset/TrainSet/Animal/Bear")
    command = {
        "--run": ("--train", *WEIGHTS, "--set", "epochs=1"),
        "--out": ("--benchmark", *ZERO_SHOT),
        "--convert": (),
        "--cache": ("--predict", *ZERO_SHOT),
    }.get(flag, ZERO_SHOT)
    before = snapshot(folder)
    done = cli(*command, flag, *(["tiny.pkl"] if flag == "--convert" else []), folder)
    after = snapshot(folder)
    assert {name: after[name] for name in before} == before
    if flag != "--cache":  # a cache adds folders of its own, and replaces nothing
        assert done.status == 2
        assert after == before


def test_a_run_named_like_a_folder_of_photos(workplace: Path, cli: Cli) -> None:
    """E2: `--run my_photos` mixed a run with the user's photos."""
    write_photo(workplace / "my_photos" / "p1.jpg", 1)
    done = cli(*TRAIN, "--run", "my_photos")
    assert done.status == 2
    assert "my_photos is not a run folder: it has p1.jpg" in done.err
    assert [path.name for path in (workplace / "my_photos").iterdir()] == ["p1.jpg"]


OWN: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "train": (TRAIN, ("--train", *WEIGHTS, "--set", "epochs=3"), f"{RUN}/adapter.safetensors"),
    "predict": ((*PREDICT, "--top", "3"), PREDICT, "result.txt"),
    "predict one id": ((*PREDICT, "--top", "1"), (*PREDICT, "--top", "2"), "result.txt"),
    "evaluate": (("--evaluate", *WEIGHTS), ("--evaluate", *WEIGHTS, "--holdout", "1"), f"{RUN}/evaluation.json"),
    "zero-shot evaluate": (
        ("--evaluate", *ZERO_SHOT),
        ("--evaluate", *ZERO_SHOT, "--holdout", "1"),
        f"{RUN.replace('jclip-adapter', 'zero-shot')}/evaluation.json",
    ),
    "benchmark": (
        ("--benchmark", *ZERO_SHOT),
        ("--benchmark", *WEIGHTS, "--method", "zero-shot,tip-adapter"),
        "results/table.csv",
    ),
    "extract": (("--extract", "f.npz", *WEIGHTS), ("--extract", "f.npz", *WEIGHTS, "--shots", "1"), "f.npz"),
    "convert": (("--convert", "tiny.pkl", "c.safetensors"), ("--convert", "big.pkl", "c.safetensors"), "c.safetensors"),
}


@pytest.mark.parametrize("name", OWN)
def test_a_second_run_replaces_the_first(name: str, trained: Path, cli: Cli) -> None:
    """What this program wrote itself is replaced without a question."""
    from tests.random_weights import TINY, random_state, write_jclip

    write_jclip(trained / "big.pkl", random_state(TINY, 9))
    first, second, file = OWN[name]
    contents = []
    for command in (first, second):
        done = cli(*command)
        assert done.status == 0, done.err
        contents.append((trained / file).read_bytes())
    assert contents[0] != contents[1]


# What makes the file, its name, what is changed in it, and a command that would replace it.
RESULTS: dict[str, tuple[tuple[str, ...], str, Callable[[bytes], bytes], tuple[str, ...]]] = {
    "a line of the result": (PREDICT, "result.txt", lambda data: data.replace(b" 0", b" 9", 1), PREDICT),
    "a line more in the result": (PREDICT, "result.txt", lambda data: data + b"mine.jpg 1 2 3 4 5\n", PREDICT),
    "a row of the benchmark": (
        ("--benchmark", *ZERO_SHOT),
        "results/table.csv",
        lambda data: data + b"mine,zero-shot,4,1,61.0,90.0,0,0,{}\n",
        ("--benchmark", *ZERO_SHOT),
    ),
    "a note in the tables": (
        ("--benchmark", *ZERO_SHOT),
        "results/table.md",
        lambda data: b"My notes.\n\n" + data,
        ("--benchmark", *ZERO_SHOT),
    ),
    "a mark in the picture": (
        ("--benchmark", *ZERO_SHOT),
        "results/table.png",
        lambda data: data[:-12] + b"\0\0\0\1tEXtm\0\0\0\0" + data[-12:],
        ("--benchmark", *ZERO_SHOT),
    ),
    "a remark in the metrics": (
        TRAIN,
        f"{RUN}/metrics.json",
        lambda data: data.replace(b'"epochs"', b'"mine": 1,\n  "epochs"'),
        TRAIN,
    ),
    "a photo in the list of a run": (TRAIN, f"{RUN}/support.txt", lambda data: data + b"mine.jpg 3\n", TRAIN),
    "an evaluation": (
        ("--evaluate", *ZERO_SHOT),
        f"{RUN.replace('jclip-adapter', 'zero-shot')}/evaluation.json",
        lambda data: data.replace(b"photos", b"photographs", 1),
        ("--evaluate", *ZERO_SHOT),
    ),
    "features": (
        ("--extract", "f.npz", *WEIGHTS),
        "f.npz",
        lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:],
        ("--extract", "f.npz", *WEIGHTS),
    ),
}


@pytest.mark.parametrize("what", RESULTS)
def test_what_the_user_changed_in_a_file_of_ours_stays(what: str, trained: Path, cli: Cli) -> None:
    """E2: rows and notes that were added to our own files were lost; before it the same command replaces the file."""
    make, name, change, command = RESULTS[what]
    for _ in range(2):
        done = cli(*make)
        assert done.status == 0, done.err
    path = trained / name
    changed = change(path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    before = snapshot(trained)
    done = cli(*command)
    assert done.status == 2, done
    assert done.err.count("\n") == 1
    assert path.name in done.err
    assert snapshot(trained) == before


def test_a_result_whose_zip_is_gone(workplace: Path, cli: Cli) -> None:
    """E2: nothing shows any more whose it is; the message says so, and each of its cures works."""
    command = ("--predict", *ZERO_SHOT)
    assert cli(*command).status == 0
    (workplace / "result.zip").unlink()
    done = cli(*command)
    assert done.status == 2
    assert "result.zip beside it, which would show that, is missing or holds another text" in done.err
    assert "Give another path, or move this file away." in done.err
    assert cli("--predict", "other.txt", *ZERO_SHOT).status == 0
    (workplace / "result.txt").rename(workplace / "old.txt")
    assert cli(*command).status == 0


def test_a_result_that_another_process_is_just_replacing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its zip is new and its text old for a moment; it is no foreign one then."""
    for name, ids in (("old", [[1, 2]]), ("new", [[2, 1]])):
        write_submission(tmp_path / name / "result.txt", ["a.jpg"], ids)
    result = tmp_path / "old/result.txt"
    shutil.copy(tmp_path / "new/result.zip", tmp_path / "old")
    assert not RESULT.owns(result)
    monkeypatch.setattr("time.sleep", lambda _: shutil.copy(tmp_path / "new/result.txt", result))
    assert RESULT.owns(result)


def test_a_foreign_zip_of_the_same_text_shows_nothing(workplace: Path, cli: Cli) -> None:
    """E2: another program's result.txt and its own zip of it."""
    text = b"image_1.jpg 1 2 3 4 5\n"
    (workplace / "result.txt").write_bytes(text)
    with zipfile.ZipFile(workplace / "result.zip", "w", zipfile.ZIP_DEFLATED) as handle:
        handle.writestr(zipfile.ZipInfo("result.txt"), text)
    before = snapshot(workplace)
    assert cli("--predict", *ZERO_SHOT).status == 2
    assert snapshot(workplace) == before


def test_a_foreign_list_beside_our_result_is_not_removed(workplace: Path, cli: Cli) -> None:
    """E2: a prediction without unreadable photos deletes the list of an earlier one, and no other."""
    bad = workplace / "Dataset/TestSetA/image_3.jpg"
    whole = bad.read_bytes()
    bad.write_bytes(b"no photo")
    command = ("--predict", *ZERO_SHOT)
    assert cli(*command).status == 0
    listing = workplace / "result.rejects.txt"
    assert listing.is_file()
    bad.write_bytes(whole)
    assert cli(*command).status == 0
    assert not listing.exists()
    listing.write_text("image_3.jpg\tmy remark on image_3.jpg\n")
    done = cli(*command)
    assert done.status == 2
    assert "result.rejects.txt" in done.err
    assert listing.read_text() == "image_3.jpg\tmy remark on image_3.jpg\n"


def test_a_run_of_version_0_1_0_is_replaced(trained: Path, cli: Cli) -> None:
    """Its JSON and pictures carry no checksum; the manifest lists them, and nothing else is taken for ours."""
    run = trained / RUN
    for name in ("run.json", "metrics.json"):
        value = json.loads((run / name).read_text())
        del value["seal"]
        (run / name).write_text(json.dumps(value))
    listed = list(json.loads((run / storage.MANIFEST).read_text())["files"])
    (run / "curves.png").write_bytes(picture())
    storage.write_manifest(run, listed)
    assert cli(*PREDICT).status == 0
    metrics = (run / "metrics.json").read_bytes()
    (run / "metrics.json").write_bytes(metrics.replace(b"percent", b"mine"))
    assert cli(*TRAIN).status == 2
    (run / "metrics.json").write_bytes(metrics)
    assert cli(*TRAIN).status == 0
    assert "seal" in json.loads((run / "metrics.json").read_text())


def test_a_foreign_run_with_the_names_of_ours(workplace: Path, cli: Cli) -> None:
    """E2: `--run DIR` with another program's {"epochs": …, "mine": …} replaced it."""
    folder = workplace / "exp"
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"epochs": [1, 2], "mine": "x"}))
    done = cli(*TRAIN, "--run", "exp")
    assert done.status == 2
    assert "exp is not a run folder: it has metrics.json" in done.err
    assert json.loads((folder / "metrics.json").read_text()) == {"epochs": [1, 2], "mine": "x"}


def test_a_new_training_finishes_the_moving_of_an_older_one(trained: Path, cli: Cli) -> None:
    """A training that was killed while its files took their places left new ones beside an old manifest."""
    old = (trained / RUN / storage.MANIFEST).read_bytes()
    assert cli("--train", *WEIGHTS, "--set", "epochs=3", "--shots", "2", "--run", RUN).status == 0
    ready = trained / RUN / ".next"
    ready.mkdir()
    shutil.move(trained / RUN / storage.MANIFEST, ready)
    (trained / RUN / storage.MANIFEST).write_bytes(old)
    assert cli(*TRAIN).status == 0


def test_results_of_different_names_have_different_zips(workplace: Path, cli: Cli) -> None:
    """`pred.1` and `pred.2` shared pred.zip."""
    for name in ("pred.1", "pred.2"):
        assert cli("--predict", name, *ZERO_SHOT).status == 0
    for name in ("pred.1", "pred.2"):
        with zipfile.ZipFile(workplace / f"{name}.zip") as handle:
            assert handle.read(name) == (workplace / name).read_bytes()
        assert cli("--check", name).status == 0


def test_a_link_is_followed(tmp_path: Path) -> None:
    """A link to a result of ours stays a link; one to the user's file, and one to nothing, are refused."""
    (tmp_path / "real").mkdir()
    write_submission(tmp_path / "real" / "r.txt", ["a.jpg"], [[1, 2]])
    link = tmp_path / "result.txt"
    link.symlink_to(tmp_path / "real" / "r.txt")
    storage.write_text(link, "a.jpg 2 1\n", RESULT)
    assert link.is_symlink()
    assert (tmp_path / "real" / "r.txt").read_text() == "a.jpg 2 1\n"
    (tmp_path / "notes").write_text("mine")
    link.unlink()
    for target in ("notes", "nothing"):
        link.symlink_to(tmp_path / target)
        with pytest.raises(UsageError, match=r"result\.txt"):
            storage.write_text(link, "a.jpg 2 1\n", RESULT)
        link.unlink()
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_writer_that_forgets_its_kind_replaces_nothing(tmp_path: Path) -> None:
    """The rule stands in storage alone: without a kind there is no replacing."""
    writers: tuple[Callable[[Path], Any], ...] = (
        lambda path: storage.write_text(path, "x"),
        lambda path: storage.write_bytes(path, b"x"),
        lambda path: storage.write_json(path, {}),
        lambda path: storage.write_checked_json(path, {}),
        lambda path: storage.write_safetensors(path, {}, {}),
    )
    for write in writers:
        path = tmp_path / "file"
        write(path)  # a new one
        before = path.read_bytes()
        path.write_bytes(before + b"mine")
        with pytest.raises(UsageError, match="not replaced"):
            write(path)
        assert path.read_bytes() == before + b"mine"
        path.unlink()


def test_a_stranger_in_the_feature_store_is_left_alone(trained: Path, cli: Cli) -> None:
    """Whatever had another name than its own digest was removed as damaged."""
    store = next((trained / "results/features").glob("images-*"))
    (store / "mine.npz").write_bytes(arrays())
    assert cli(*PREDICT).status == 0
    assert (store / "mine.npz").read_bytes() == arrays()


UNWRITABLE = {
    "the run folder": ("--train", *WEIGHTS),
    "the run folder, with the cache elsewhere": ("--train", *WEIGHTS, "--cache", "../cache"),
    "a run folder that is named": ("--train", *WEIGHTS, "--cache", "../cache", "--run", "there/run"),
    "the result": ("--train", "--predict", "result.txt", *WEIGHTS, "--run", "../run"),
    "the cells": ("--benchmark", *WEIGHTS, "--out", "../out.csv", "--cache", "../cache"),
    "the table": ("--benchmark", *WEIGHTS, "--cache", "../cache"),
    "the features": ("--extract", "f.npz", *WEIGHTS, "--cache", "../cache"),
    "the evaluation": ("--evaluate", *ZERO_SHOT, "--cache", "../cache"),
    "the weights": ("--convert", "tiny.pkl", "c.safetensors"),
}


@pytest.mark.parametrize("place", UNWRITABLE)
def test_a_place_that_cannot_be_written_is_found_before_the_work(place: str, workplace: Path) -> None:
    """E5: a read-only working folder was told after 20 epochs."""
    work = workplace / "work"
    work.mkdir()
    shutil.move(workplace / "Dataset", work / "Dataset")
    shutil.copy((workplace / "tiny.pkl").resolve(), work / "tiny.pkl")
    code = (
        "import ctypes, struct, sys, jclip_adapter.runtime as runtime\n"
        "ctypes.CDLL(None).capset(struct.pack('Ii', 0x20080522, 0), bytes(24))\n"  # or root may write anywhere
        "def start(*_): raise RuntimeError('the long work was started')\n"
        "runtime.start = start\n"
        "from jclip_adapter.cli.app import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    work.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", code, *UNWRITABLE[place]],
        cwd=work,
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(workplace)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    work.chmod(0o755)
    assert done.returncode == 2, done.stderr
    assert "Permission denied" in done.stderr
    assert done.stderr.count("\n") == 1


COOP = (
    "--train",
    "--method",
    "coop",
    *WEIGHTS,
    *(part for key, value in quick_values("coop").items() for part in ("--set", f"{key}={value}")),
)
MINE = (*COOP, "--run", "mine")
OTHER = (*MINE, "--set", "lr=0.01")


@pytest.fixture
def stopped(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The state of a training that Ctrl-C ended, in the run folder "mine"."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "PAUSE_S", 0.0)
        stop_before(5, patch, KeyboardInterrupt)
        done = cli(*MINE)
    assert done.status == 130
    assert "which are kept" in done.err
    return Path("mine", CHECKPOINT).read_bytes()


def stopped_at_once(cli: Cli, *command: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        stop_before(0, patch, KeyboardInterrupt)
        done = cli(*command)
    assert done.status == 130
    return done.err


def test_the_state_of_a_training_outlives_a_start_without_resume(stopped: bytes, cli: Cli) -> None:
    """E1: "123 epochs, which are kept", and the same command without --resume threw them away before it had any."""
    told = stopped_at_once(cli, *MINE)
    assert "this training" in told
    assert "--resume would go on from it" in told
    assert Path("mine", CHECKPOINT).read_bytes() == stopped
    resumed = cli(*MINE, "--resume")
    assert resumed.status == 0
    assert "going on after epoch" in resumed.err
    assert not Path("mine", CHECKPOINT).exists()
    assert cli(*COOP, "--run", "unbroken").status == 0
    assert Path("mine", ADAPTER).read_bytes() == Path("unbroken", ADAPTER).read_bytes()


def test_the_state_of_a_training_with_other_settings_is_kept(stopped: bytes, cli: Cli) -> None:
    """E1: told at the start, kept until there is another; --resume does not take it for its own."""
    told = stopped_at_once(cli, *OTHER)
    assert "another training" in told
    assert "another --run would leave it alone" in told
    assert Path("mine", CHECKPOINT).read_bytes() == stopped
    refused = cli(*OTHER, "--resume")
    assert refused.status == 2
    assert refused.err.splitlines()[-1].startswith("error: mine/checkpoint.safetensors holds the state of another")
    assert Path("mine", CHECKPOINT).read_bytes() == stopped
    assert cli(*OTHER).status == 0  # in less time than PAUSE_S, so that it wrote no state
    assert Path("mine", CHECKPOINT).read_bytes() == stopped
    assert cli(*MINE, "--resume").status == 0


def test_a_training_that_writes_a_state_replaces_the_one_it_has_told_of(
    stopped: bytes, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E1: the new state is the newer training's, and goes on."""
    monkeypatch.setattr(checkpoint, "PAUSE_S", 0.0)
    with pytest.MonkeyPatch.context() as patch:
        stop_before(5, patch, KeyboardInterrupt)
        assert cli(*OTHER).status == 130
    assert Path("mine", CHECKPOINT).read_bytes() != stopped
    assert "going on after epoch" in cli(*OTHER, "--resume").err


def test_a_method_without_a_state_leaves_that_of_another_alone(stopped: bytes, cli: Cli) -> None:
    """E1: a training on features removed the state at its end."""
    done = cli(*TRAIN, "--run", "mine")
    assert done.status == 0
    assert "holds the state of another training and is kept" in done.err
    assert Path("mine", CHECKPOINT).read_bytes() == stopped
