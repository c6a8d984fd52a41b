"""Every mistake that a user can make ends in one line that names the culprit and says what to do, and in status 2."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle  # noqa: TID251  (writes the files that the package has to refuse)
import re
import shutil
import subprocess
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pytest

from jclip_adapter import runtime
from jclip_adapter.cli.commands import train as training
from jclip_adapter.models.weights import download, read_state_dict
from jclip_adapter.runtime import planning
from jclip_adapter.runtime.cuda import Cuda
from tests import ROOT
from tests.conftest import PREDICT, RUN, TRAIN, Cli, Outcome
from tests.random_weights import write_jclip


@pytest.fixture(autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights by name on this machine, and no network."""

    def refuse(url: str) -> IO[bytes]:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.delenv(download.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(download, "FOLDER", tmp_path_factory.getbasetemp() / "no-weights")
    monkeypatch.setattr(download, "_open", refuse)


class Mistake(NamedTuple):
    """A command that has to be refused.

    Attributes:
        name: What is wrong.
        command: The command line.
        culprit: What the error's line has to name: a file, a flag or a value.
        advice: What its last sentence has to say.
        prepare: Spoils something in the working directory beforehand.
    """

    name: str
    command: str
    culprit: str
    advice: str
    prepare: Callable[[], object] = lambda: None


def told(outcome: Outcome, culprit: str, advice: str) -> str:
    """Check how an error was told; returns its line."""
    lines = outcome.err.replace("\r", "\n").splitlines()
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    assert outcome.status == 2, outcome
    assert outcome.out == ""
    assert len(errors) == 1, outcome.err
    assert all(line.startswith("  ") for line in lines[errors[0] + 1 :]), outcome.err
    assert "Traceback" not in outcome.err
    line = lines[errors[0]]
    assert any(culprit in text for text in lines[errors[0] :]), outcome.err
    assert len(line) < 600, "nobody reads so long a line"
    sentences = re.split(r"(?<=[.?:]) ", line.removeprefix("error: "))
    assert len(sentences) > 1, f"no advice: {line}"
    assert line[-1] in ".?…", line
    assert advice in line.partition(culprit)[2] or advice in sentences[-1], line
    return line


def put(path: str, content: str | bytes) -> Callable[[], object]:
    """Write a file."""
    data = content.encode() if isinstance(content, str) else content

    def write() -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)

    return write


def edit(path: str, old: str, new: str) -> Callable[[], object]:
    """Replace a text that stands in a file."""

    def replace() -> None:
        text = Path(path).read_text(encoding="utf-8")
        assert old in text
        put(path, text.replace(old, new))()

    return replace


def spoil(path: str, content: bytes = b"\xff\xd8 no photo") -> Callable[[], object]:
    """Overwrite all files that a pattern names."""

    def write() -> None:
        files = list(Path().glob(path))
        assert files
        for file in files:
            file.write_bytes(content)

    return write


def flip(path: str) -> Callable[[], object]:
    """Change the last bit of a file."""

    def write() -> None:
        data = bytearray(Path(path).read_bytes())
        data[-1] ^= 1
        Path(path).write_bytes(data)

    return write


def remove(path: str) -> Callable[[], object]:
    """Remove a file or a folder."""
    return lambda: shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()


def jittor_file(state: Any) -> bytes:
    """What `jt.save` writes."""
    data = pickle.dumps(state, protocol=4)
    return data + hashlib.sha1(data, usedforsecurity=False).digest() + b"HCAJSLHD"


class Hostile:
    """Makes a folder when unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("attacked",)


def other_weights() -> None:
    """Replace the weights by some that differ in one number."""
    state = read_state_dict("tiny.pkl")
    Path("tiny.pkl").unlink()
    write_jclip(Path("tiny.pkl"), {**state, "logit_scale": state["logit_scale"] + 1})


def flipped_weights() -> None:
    """Weights with one bit changed in their middle."""
    data = bytearray(Path("tiny.pkl").read_bytes())
    data[len(data) // 2] ^= 1
    Path("w.pkl").write_bytes(data)


def full_result(change: Callable[[list[str]], object], end: str = "\n") -> Callable[[], object]:
    """A valid result file but for a change to its lines."""

    def write() -> None:
        lines = [f"image_{number}.jpg 0 1 2 3 4" for number in range(1, 11)]
        change(lines)
        Path("r.txt").write_text("".join(line + end for line in lines), newline="")

    return write


NETWORK = "--weights efficientnet-lite0"
BARE = [
    Mistake("no command", "", "no command given", "Give --train"),
    Mistake("two commands", "--list --check r.txt", "--check and --list", "Give one"),
    Mistake("a command beside the main job", "--train --list", "--train and --list", "Give one"),
    Mistake("typo in a flag", "--train --shot 4", "'--shot'", "Did you mean '--shots'?"),
    Mistake("flag of nowhere", "--train --qqqqqq", "'--qqqqqq'", "--help"),
    Mistake("flag with a typo and =", "--train --sead=3", "'--sead'", "Did you mean '--seed'?"),
    Mistake("word without flag", "--train now", "'now'", "--help"),
    Mistake("flag without its value", "--train --seed", "--seed", "--help"),
    Mistake(
        "word for a number", "--train --shots four", "'four'", "with --benchmark or --extract, a list such as 1,2,4"
    ),
    Mistake("split C", "--train --split C", "'C'", "Known are: A, B"),
    Mistake("device of nowhere", "--train --device tpu", "'tpu'", "'cpu'"),
    Mistake("policy of nowhere", "--predict --on-bad-image ignore", "'ignore'", "fallback, stop"),
    Mistake("no shots", "--train --shots 0", "--shots", "at least 1"),
    Mistake("negative seed", "--train --seed -1", "--seed", "at least 0"),
    Mistake("negative batch", "--train --batch-size -4", "--batch-size", "at least 0"),
    Mistake("batch that fills the memory", "--train --batch-size 1000000000", "--batch-size", "at most"),
    Mistake("negative workers", "--train --workers -2", "--workers", "at least -1"),
    Mistake("thousand workers", "--train --workers 100000", "--workers", "at most"),
    Mistake("nothing on a line", "--predict --top 0", "--top", "at least 1"),
    Mistake("photos without --predict", "--train --images a.jpg", "--images", "Add --predict"),
    Mistake("photos and a result file", "--predict r.txt --images a.jpg", "--images", "--predict --images"),
    Mistake("labels without --evaluate", "--train --labels l.txt", "--labels", "Add --evaluate"),
    Mistake("holdout without --evaluate", "--predict --holdout 3", "--holdout", "Add --evaluate"),
    Mistake("labels and holdout", "--evaluate --labels l.txt --holdout 2", "--holdout", "Give one of them"),
    Mistake("negative holdout", "--evaluate --holdout -2", "--holdout", "at least 0"),
    Mistake("typo in a method", "--train --method jclip-adaptor", "'jclip-adaptor'", "Did you mean 'jclip-adapter'?"),
    Mistake("method of nowhere", "--train --method qqq", "'qqq'", "Known are: "),
    Mistake("typo in a hyper-parameter", "--train --set epoch=3", "'epoch'", "Did you mean 'epochs'?"),
    Mistake("hyper-parameter of another", "--train --method zero-shot --set a=3", "'a'", "Known are: by, names."),
    Mistake("hyper-parameter without value", "--train --set epochs", "--set epochs", "Write --set key=value"),
    Mistake("hyper-parameter twice", "--train --set lr=1 --set lr=2", "'lr'", "Keep one"),
    Mistake("hyper-parameter out of range", "--train --set ratio=1.5", "ratio=1.5", "default is 0.4"),
    Mistake("hyper-parameter of another type", "--train --set epochs=many", "epochs='many'", "default is 20"),
    Mistake("half an epoch", "--train --set epochs=2.5", "epochs='2.5'", "default is 20"),
    Mistake("hyper-parameter not a number", "--train --set lr=nan", "lr=nan", "default is 0.0003"),
    Mistake("choice of nowhere", "--train --set adapt=images", "adapt='images'", "Did you mean 'image'?"),
    Mistake("no bool", "--train --set double_softmax=maybe", "double_softmax='maybe'", "default is False"),
    Mistake("the seed as hyper-parameter", "--train --set seed=3", "'seed'", "--seed"),
    Mistake("a reserved name", "--train --set name=x", "'name'", "Known are: "),
    Mistake("another reserved name", "--train --set self=x", "'self'", "Known are: "),
    Mistake("no data folder", "--train --data Nowhere", "Nowhere", "--data"),
    Mistake("typo in the data folder", "--train --data Datset", "Datset", "Did you mean 'Dataset'?"),
    Mistake("a file for the data", "--train --data tiny.pkl", "tiny.pkl", "Give the folder"),
    Mistake("a name too long for a file", f"--train --data {'d' * 300}", "dddd", "Check the path"),
    Mistake("no weights", "--train --weights no.pkl", "no.pkl", "Known are: "),
    Mistake("typo in the weights", "--train --weights ViT-B32", "ViT-B32", "Did you mean 'ViT-B/32'?"),
    Mistake("a folder for weights", "--train --weights Dataset", "folder 'Dataset'", "open_clip or Hugging Face"),
    Mistake("typo in the prompts", "--train --prompts sead", "'sead'", "Did you mean 'seed'?"),
    Mistake("no prompts file", "--train --prompts my.yaml", "my.yaml", "Check the path"),
    Mistake("no config", "--train --config c.yaml", "c.yaml", "Check the path"),
    Mistake("a layout for lists", "--train --layout class", "--layout", "Leave --layout out"),
    Mistake("all shots of a file", "--benchmark --features f.npz --shots all", "--shots all", "Leave --shots out"),
    Mistake("no such features", "--benchmark --features f.npz", "f.npz", "Check the path"),
    Mistake("a network's configuration", f"--train {NETWORK} --model-config openai", "--model-config", "Leave it out"),
    Mistake("unseen without texts", f"--benchmark {NETWORK} --unseen 0.5", "--unseen", "Give --weights a CLIP"),
    Mistake("no support list", f"{' '.join(TRAIN)} --support list.txt", "list.txt", "'first'"),
    Mistake("typo in a way to choose", f"{' '.join(TRAIN)} --support randm", "randm", "'random'"),
    Mistake("nothing to check", "--check r.txt", "r.txt", "--predict"),
    Mistake("conversion to a pickle", "--convert tiny.pkl o.pkl", "--convert", "ending in .safetensors"),
    Mistake("conversion of nothing", "--convert no.pkl o.safetensors", "no.pkl", "Known are: "),
    Mistake("conversion over itself", "--convert tiny.safetensors tiny.safetensors", "tiny.safetensors", "Known are"),
    Mistake("conversion into a file", "--convert tiny.pkl tiny.pkl/o.safetensors", "tiny.pkl/o.safetensors", "Check"),
    Mistake("prediction before training", " ".join(PREDICT), RUN, "--train"),
    Mistake("evaluation before training", "--evaluate --weights tiny.pkl", RUN, "--train"),
    Mistake("more shots than photos", f"{' '.join(TRAIN)} --shots 7 --strict", "Dataset", "fewer --shots"),
    Mistake("no such test set", f"{' '.join(TRAIN)} --split B", "TestSetB", "--split A"),
    Mistake("a file for a run", f"{' '.join(TRAIN)} --run tiny.pkl", "tiny.pkl", "Give the path of a folder"),
    Mistake("a file for the cache", f"{' '.join(TRAIN)} --cache tiny.pkl", "tiny.pkl", "Check"),
    Mistake("result in no folder", "--train --predict no/r.txt", "folder no ", "Create it"),
    Mistake("a folder for a result", "--train --predict Dataset", "Dataset is a folder", "Give a file"),
    Mistake("a zip for a result", "--train --predict r.zip", "r.zip", "Give the text file"),
]


@pytest.mark.parametrize("mistake", BARE, ids=lambda mistake: mistake.name)
def test_told_before_anything_is_made(mistake: Mistake, workplace: Path, cli: Cli) -> None:
    before = sorted(path for path in workplace.iterdir())
    told(cli(*mistake.command.split()), mistake.culprit, mistake.advice)
    left = {str(path.relative_to(workplace)) for path in workplace.iterdir() if path not in before}
    assert left <= {"results"}
    assert not list(workplace.glob("results/runs/*/manifest.json"))


T, P = " ".join(TRAIN), " ".join(PREDICT)
CHECK = "--check r.txt"
SPOILT = [
    Mistake(
        "table that is a folder", "--benchmark --out t.csv", "t.csv", "another path", lambda: Path("t.csv").mkdir()
    ),
    Mistake(
        "folders without end",
        "--train --data E",
        "8 folders deep",
        "Fix what is listed",
        put(f"E/{'a/' * 12}1.jpg", ""),
    ),
    Mistake(
        "folds without classes",
        "--train --data E",
        "no folder per class",
        "into a folder",
        lambda: [put(f"E/fold_{number}/{number}.jpg", "")() for number in (1, 2)],
    ),
    Mistake(
        "a photo in a domain",
        "--train --data E --layout domain/class",
        "'Animal' has both photos and folders",
        "folder of their class",
        lambda: [put(f"E/{name}.jpg", "")() for name in ("Animal/cat/1", "Animal/dog/1", "Animal/1", "Pet/ox/1")],
    ),
    Mistake("empty data folder", "--train --data E", "E:", "classes.txt", lambda: Path("E").mkdir()),
    Mistake("empty training list", T, "train.txt", "Download", put("Dataset/train.txt", "")),
    Mistake("no training list", T, "train.txt", "Fix what is listed", remove("Dataset/train.txt")),
    Mistake("no class list", T, "classes.txt", "Fix what is listed", remove("Dataset/classes.txt")),
    Mistake("binary class list", T, "Dataset", "Fix what is listed", put("Dataset/classes.txt", b"\xff\xfe\x00")),
    Mistake("gap in the ids", T, "Dataset", "Fix what is listed", edit("Dataset/classes.txt", "pug 5", "pug 7")),
    Mistake("no training folder", T, "TrainSet", "Unpack", remove("Dataset/TrainSet")),
    Mistake("no test folder", T, "TestSetA", "Fix what is listed", remove("Dataset/TestSetA")),
    Mistake(
        "empty test folder",
        T,
        "TestSetA",
        "Fix what is listed",
        lambda: [p.unlink() for p in Path("Dataset/TestSetA").iterdir()],
    ),
    Mistake("data one folder deeper", "--train --data .", ". ", "--data Dataset", lambda: None),
    Mistake(
        "class name of nothing",
        T,
        "Thu-dog_",
        "class list",
        edit("Dataset/classes.txt", "Thu-dog_pug 5", "Thu-dog_pug 5\nThu-dog_ 6"),
    ),
    Mistake(
        "chosen photo gone",
        f"{T} --support first",
        "Animal/Bear/2.jpg",
        "fetch the photo",
        remove("Dataset/TrainSet/Animal/Bear/2.jpg"),
    ),
    Mistake(
        "training photo unreadable",
        f"{T} --support first --strict",
        "Bear/2.jpg",
        "Replace",
        spoil("Dataset/TrainSet/Animal/Bear/2.jpg"),
    ),
    Mistake(
        "training photo empty",
        f"{T} --support first --strict",
        "Bear/2.jpg",
        "Replace",
        spoil("Dataset/TrainSet/Animal/Bear/2.jpg", b""),
    ),
    Mistake(
        "support list of unknown photo",
        f"{T} --support l.txt",
        "1.png",
        "Choose",
        put("l.txt", "TrainSet/Animal/Bear/1.png 0\n"),
    ),
    Mistake(
        "support list of wrong id",
        f"{T} --support l.txt",
        "1.jpg",
        "training list",
        put("l.txt", "TrainSet/Animal/Bear/1.jpg 3\n"),
    ),
    Mistake(
        "support list malformed",
        f"{T} --support l.txt",
        "l.txt line 1",
        "TrainSet/Animal/Bear/1.jpg 0",
        put("l.txt", "TrainSet/Animal/Bear/1.jpg\n"),
    ),
    Mistake("empty support list", f"{T} --support l.txt", "l.txt", "TrainSet", put("l.txt", "")),
    Mistake("weights: text", "--train --weights w.pkl", "w.pkl", "ViT-B-32.pkl", put("w.pkl", "hello")),
    Mistake(
        "weights: web page",
        "--train --weights w.pkl",
        "w.pkl",
        "Download it again",
        put("w.pkl", "<!DOCTYPE html><html>"),
    ),
    Mistake("weights: empty", "--train --weights w.pkl", "w.pkl", "Download it again", put("w.pkl", "")),
    Mistake(
        "weights: hostile",
        "--train --weights w.pkl",
        "mkdir",
        "save only its tensors",
        put("w.pkl", pickle.dumps({"x": Hostile()})),
    ),
    Mistake(
        "weights: no CLIP",
        "--train --weights w.pkl",
        "w.pkl",
        "ViT-B-32.pkl",
        put("w.pkl", jittor_file({"w": np.zeros((2, 2), np.float32)})),
    ),
    Mistake(
        "weights: no tensors",
        "--train --weights w.pkl",
        "w.pkl",
        "Give a dict of tensors",
        put("w.pkl", jittor_file({})),
    ),
    Mistake("weights: damaged", "--train --weights w.pkl", "w.pkl", "Download it again", flipped_weights),
    Mistake(
        "weights: cut short",
        "--train --weights w.pkl",
        "w.pkl",
        "Give",
        lambda: Path("w.pkl").write_bytes(Path("tiny.pkl").read_bytes()[:100_000]),
    ),
    Mistake(
        "config: unknown key", "--train --config c.yaml", "'shot'", "Did you mean 'shots'?", put("c.yaml", "shot: 4\n")
    ),
    Mistake(
        "config: another type",
        "--train --config c.yaml",
        "c.yaml: shots",
        "default is 4",
        put("c.yaml", "shots: many\n"),
    ),
    Mistake(
        "config: bool for a number",
        "--train --config c.yaml",
        "c.yaml: seed",
        "default is 0",
        put("c.yaml", "seed: yes\n"),
    ),
    Mistake("config: out of range", "--train --config c.yaml", "shots", "at least 1", put("c.yaml", "shots: 0\n")),
    Mistake("config: split C", "--train --config c.yaml", "'C'", "Known are: A, B", put("c.yaml", "split: C\n")),
    Mistake("config: no YAML", "--train --config c.yaml", "c.yaml, line 1", "Quote", put("c.yaml", "{shots: 4")),
    Mistake("config: list", "--train --config c.yaml", "c.yaml", "key: value", put("c.yaml", "- shots\n")),
    Mistake("config: binary", "--train --config c.yaml", "c.yaml", "UTF-8", put("c.yaml", b"\xff\xff")),
    Mistake(
        "config: set without names", "--train --config c.yaml", "set: 1", "ratio: 0.3", put("c.yaml", "set: {1: 2}\n")
    ),
    Mistake(
        "config: set of a list",
        "--train --config c.yaml",
        "epochs",
        "default is 20",
        put("c.yaml", "set: {epochs: [1]}\n"),
    ),
    Mistake(
        "config: endless epochs",
        "--train --config c.yaml",
        "epochs",
        "default is 20",
        put("c.yaml", "set: {epochs: .inf}\n"),
    ),
    Mistake(
        "config: huge number",
        "--train --config c.yaml",
        "lr",
        "default is",
        put("c.yaml", f"set: {{lr: 1{'0' * 400}}}\n"),
    ),
    Mistake("config: seed in set", "--train --config c.yaml", "'seed'", "--seed", put("c.yaml", "set: {seed: 3}\n")),
    Mistake("prompts: no YAML", "--train --prompts p.yaml", "p.yaml, line", "Quote", put("p.yaml", "templates: {\n")),
    Mistake(
        "prompts: unknown key",
        "--train --prompts p.yaml",
        "'template'",
        "Did you mean 'templates'?",
        put("p.yaml", "template: {}\n"),
    ),
    Mistake(
        "prompts: no {}",
        "--train --prompts p.yaml",
        "p.yaml",
        "class name",
        put("p.yaml", "templates: {default: [a photo]}\n"),
    ),
    Mistake(
        "prompts: too long",
        f"{T} --prompts p.yaml",
        "word word",
        "Shorten the prompt",
        put("p.yaml", f"templates: {{default: ['{'word ' * 90}{{}}']}}\n"),
    ),
]


@pytest.mark.parametrize("mistake", SPOILT, ids=lambda mistake: mistake.name)
def test_told_of_a_spoilt_file(mistake: Mistake, workplace: Path, cli: Cli) -> None:
    mistake.prepare()
    told(cli(*mistake.command.split()), mistake.culprit, mistake.advice)
    assert not Path("attacked").exists()
    assert not list(workplace.glob("results/runs/*/manifest.json"))


AFTERWARDS = [
    Mistake("run of nowhere", f"{P} --run no/run", "no/run", "--train"),
    Mistake("damaged run", P, f"{RUN}/adapter.safetensors", "again", flip(f"{RUN}/adapter.safetensors")),
    Mistake("unfinished run", P, RUN, "again", remove(f"{RUN}/manifest.json")),
    Mistake("incomplete run", P, "run.json", "again", remove(f"{RUN}/run.json")),
    Mistake("manifest of nothing", P, "manifest.json", "again", put(f"{RUN}/manifest.json", "[]")),
    Mistake(
        "manifest without sizes",
        P,
        "manifest.json",
        "again",
        put(f"{RUN}/manifest.json", '{"files": {"run.json": {}}}'),
    ),
    Mistake("manifest cut short", P, "manifest.json", "again", put(f"{RUN}/manifest.json", "{")),
    Mistake("manifest of something else", P, RUN, "again", put(f"{RUN}/manifest.json", '{"files": {}}\n')),
    Mistake("another method than trained", f"{P} --run {RUN} --method linear-probe", "'linear-probe'", "Train again"),
    Mistake("another weights than trained", f"--predict --run {RUN} --weights w.pkl", "'w.pkl'", "Train again"),
    Mistake("other shots than trained", f"{P} --run {RUN} --shots 2", "shots '4', not '2'", "Train again"),
    Mistake("other ratio than trained", f"{P} --set ratio=0.9", "ratio=0.4, not 0.9", "Train again"),
    Mistake("typo in --set at prediction", f"{P} --set epoch=1", "'epoch'", "Did you mean 'epochs'?"),
    Mistake(
        "other weights by config",
        f"--predict --run {RUN} --config c.yaml",
        "'w.pkl'",
        "Train again",
        put("c.yaml", "weights: w.pkl\n"),
    ),
    Mistake("weights changed", P, "tiny.pkl", "Train again", other_weights),
    Mistake("weights gone", P, "tiny.pkl", "Known are", remove("tiny.pkl")),
    Mistake(
        "classes changed",
        P,
        "Dataset",
        "Train again",
        lambda: [edit("Dataset/classes.txt", "_pug", "_chow")(), edit("Dataset/train.txt", "/pug/", "/chow/")()],
    ),
    Mistake("all test photos unreadable", P, "image_1.jpg", "Replace", spoil("Dataset/TestSetA/*.jpg")),
    Mistake(
        "a test photo unreadable",
        f"{P} --on-bad-image stop",
        "image_3.jpg",
        "--on-bad-image fallback",
        spoil("Dataset/TestSetA/image_3.jpg"),
    ),
    Mistake("no such photo", "--predict --weights tiny.pkl --images no.jpg", "no.jpg", "Give photos"),
    Mistake(
        "folder without photos",
        "--predict --weights tiny.pkl --images notes",
        "notes",
        "Give photos",
        put("notes/inner/a.txt", "x"),
    ),
    Mistake(
        "label of unknown id",
        "--evaluate --weights tiny.pkl --labels l.txt",
        "l.txt",
        "image_1.jpg 142",
        put("l.txt", "image_1.jpg 17\n"),
    ),
    Mistake(
        "labels of unknown photos",
        "--evaluate --weights tiny.pkl --labels l.txt",
        "l.txt",
        "test photo",
        put("l.txt", "a.jpg 1\nb.jpg 2\n"),
    ),
    Mistake("no labels file", "--evaluate --weights tiny.pkl --labels l.txt", "l.txt", "'image_1.jpg 142'"),
    Mistake("too many ids", f"{CHECK} --top 1", "r.txt", "--predict", full_result(lambda lines: None)),
    Mistake("line missing", CHECK, "r.txt", "--predict", full_result(lambda lines: lines.pop())),
    Mistake(
        "line too many", CHECK, "r.txt", "--predict", full_result(lambda lines: lines.append("image_11.jpg 0 1 2 3 4"))
    ),
    Mistake("line twice", CHECK, "r.txt", "--predict", full_result(lambda lines: lines.append(lines[0]))),
    Mistake(
        "id twice",
        CHECK,
        "r.txt",
        "--predict",
        full_result(lambda lines: lines.__setitem__(2, "image_3.jpg 0 0 2 3 4")),
    ),
    Mistake(
        "unknown id",
        CHECK,
        "r.txt",
        "--predict",
        full_result(lambda lines: lines.__setitem__(2, "image_3.jpg 0 9 2 3 4")),
    ),
    Mistake("wrong order", CHECK, "r.txt", "--predict", full_result(lambda lines: lines.sort())),
    Mistake("CRLF", CHECK, "r.txt", "LF", full_result(lambda lines: None, "\r\n")),
    Mistake("zip named", "--check r.zip", "r.zip", "Give the text file", put("r.zip", "x")),
    Mistake(
        "zip of something else",
        CHECK,
        "r.zip",
        "--predict",
        lambda: [full_result(lambda lines: None)(), put("r.zip", "x")()],
    ),
]


@pytest.mark.parametrize("mistake", AFTERWARDS, ids=lambda mistake: mistake.name)
def test_told_after_training(mistake: Mistake, trained: Path, cli: Cli) -> None:
    mistake.prepare()
    told(cli(*mistake.command.split()), mistake.culprit, mistake.advice)
    assert not list(trained.glob("result.*"))


def test_told_offline(workplace: Path, cli: Cli) -> None:
    line = told(cli("--train"), "ViT-B-32.pt", "JCLIP's ViT-B-32.pkl")
    assert "Name or service not known" in line


def test_told_without_cuda(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_started", list)
    monkeypatch.setattr(planning, "find_cuda", lambda: Cuda(driver=False, reason="no CUDA driver"))
    told(cli(*TRAIN, "--device", "cuda"), "CUDA was asked for: no CUDA driver", "--device cpu")


@pytest.mark.parametrize("kind", [errno.EACCES, errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("command", [TRAIN, (*PREDICT, "--run", "done")], ids=["training", "prediction"])
def test_told_where_nothing_can_be_written(
    command: tuple[str, ...], kind: int, trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root writes everywhere, the refusal comes from where files are made."""
    Path(RUN).rename("done")
    genuine = Path.open

    def refuse(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if "x" in mode or "w" in mode:
            raise OSError(kind, os.strerror(kind), str(path))
        return genuine(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", refuse)
    told(cli(*command), os.strerror(kind), "permissions and free space")
    assert not list(trained.rglob("*.partial"))
    assert not list(trained.glob("result.*"))


def test_all_gaps_of_the_weights_are_told(workplace: Path, cli: Cli) -> None:
    """ResNet's keys, a shape that does not fit, and a name that does not belong: the file and the key are named."""
    state = read_state_dict("tiny.pkl")
    write_jclip(Path("w.pkl"), {key: value for key, value in state.items() if key != "visual.proj"})
    told(cli("--train", "--weights", "w.pkl"), "w.pkl", "CLIP checkpoint")
    write_jclip(Path("w.pkl"), {**state, "visual.ln_pre.bias": np.zeros(3, np.float32)})
    assert "visual.ln_pre.bias" in told(cli("--train", "--weights", "w.pkl"), "w.pkl", "as it was published")
    write_jclip(Path("w.pkl"), {**state, "head": np.zeros(3, np.float32)})
    assert "unknown head" in told(cli("--train", "--weights", "w.pkl"), "w.pkl", "as it was published")


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 0), (3, 0, 2), (2, 2, 2, 2)], ids=str)
def test_any_weight_may_have_any_shape(shape: tuple[int, ...], workplace: Path, cli: Cli) -> None:
    state = read_state_dict("tiny.pkl")
    state["token_embedding.weight"] = state["token_embedding.weight"][:8]  # small files are written faster
    for key, value in state.items():
        if value.shape != shape and not (value.size == 1 and shape == (1,)):
            write_jclip(Path("w.pkl"), {**state, key: np.zeros(shape, np.float32)})
            told(cli("--train", "--weights", "w.pkl"), "w.pkl", "CLIP")


def test_prompts_changed_since_training(workplace: Path, cli: Cli) -> None:
    put("p.yaml", "templates: {default: ['a photo of {}']}")()
    assert cli(*TRAIN, "--prompts", "p.yaml").status == 0
    put("p.yaml", "templates: {default: ['a sketch of {}']}")()
    told(cli(*PREDICT, "--prompts", "p.yaml"), "p.yaml", "Train again")


def test_one_line_whatever_the_name(workplace: Path, cli: Cli) -> None:
    told(cli("--train", "--data", "no\nerror: \u2028folder"), "no\\nerror: \\u2028folder", "--data")


@pytest.mark.parametrize(
    ("command", "culprit", "advice"),
    [
        (["runner.py", "--train", "--shot", "4"], "'--shot'", "Did you mean '--shots'?"),
        (["runner.py", "--train", "--data", "Nowhere"], "Nowhere", "--data"),
        (["baseline.py", "--linear-probe", "--weights", "no.pkl"], "no.pkl", "Known are"),
    ],
)
def test_told_by_a_process(command: list[str], culprit: str, advice: str, workplace: Path) -> None:
    script, *flags = command
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *flags], capture_output=True, text=True, check=False, timeout=60
    )
    told(Outcome(done.returncode, done.stdout, done.stderr), culprit, advice)


def test_results_that_nobody_reads(workplace: Path) -> None:
    with subprocess.Popen(
        [sys.executable, str(ROOT / "runner.py"), "--list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_memory_that_does_not_suffice(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(training, "choose_support", fill)
    told(cli(*TRAIN), "memory", "--batch-size")
