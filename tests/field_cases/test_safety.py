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
from jclip_adapter.errors import UsageError
from jclip_adapter.submission import RESULT, write_submission
from tests.conftest import PREDICT, RUN, TRAIN, Cli
from tests.tiny_contest import WEIGHTS, write_photo

ROOT = Path(__file__).resolve().parents[2]
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
    "the list of a run": (("--train", *WEIGHTS, "--run", "mine"), "mine/support.txt"),
    "an evaluation": (("--evaluate", *ZERO_SHOT, "--run", "mine"), "mine/evaluation.json"),
    "the picture of an evaluation": (("--evaluate", *ZERO_SHOT, "--run", "mine"), "mine/confusion.png"),
}


def no_jittor(*_: object, **__: object) -> None:
    raise RuntimeError("the long work was started")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("content", FOREIGN)
@pytest.mark.parametrize("place", PLACES)
def test_a_foreign_file_stays_as_it_is(
    place: str, content: str, workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2: refused in one line before the long work; every file is byte-identical."""
    command, name = PLACES[place]
    path = workplace / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(FOREIGN[content])
    before = snapshot(workplace)
    monkeypatch.setattr("jclip_adapter.runtime.start", no_jittor)
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
    assert "my_photos is not a run folder: it holds p1.jpg" in done.err
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
        "results.csv",
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


def plain(image: bytes) -> bytes:
    """A picture as version 0.1.0 wrote it: matplotlib's, without a mark."""
    from jclip_adapter.storage.kinds import _PNG_TEXT

    place = image.index(b"tEXt" + _PNG_TEXT) - 4
    return image[:place] + image[place + 12 + len(_PNG_TEXT) :]


def test_files_of_version_0_1_0_are_replaced(workplace: Path, cli: Cli) -> None:
    """Markdown and pictures had no mark then; the table beside them tells."""
    assert cli("--benchmark", *ZERO_SHOT).status == 0
    tables = workplace / "results.md"
    tables.write_text(tables.read_text().removesuffix(f"\n{storage.kinds.MARKDOWN_MARK}"))
    image = workplace / "results.png"
    image.write_bytes(plain(image.read_bytes()))
    assert cli("--benchmark", *ZERO_SHOT).status == 0
    image.write_bytes(plain(image.read_bytes()))
    (workplace / "results.csv").unlink()  # without it nothing tells whose picture that is
    done = cli("--benchmark", *ZERO_SHOT)
    assert done.status == 2
    assert "results.png" in done.err


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
        lambda path: storage.write_sealed_json(path, {}),
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
        "from jclip_adapter.cli import main\n"
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
