"""Photos' whole way for the methods that train through CLIP: train, stop, resume, predict, check."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jclip_adapter.cli.runs import ADAPTER, CHECKPOINT
from jclip_adapter.data.sets import load_dataset
from jclip_adapter.data.submission import check_submission
from jclip_adapter.methods import available, create, get
from jclip_adapter.methods.training import checkpoint
from jclip_adapter.models.clip.encoder import Encoder
from jclip_adapter.storage import MANIFEST, read_safetensors
from tests import ROOT
from tests.conftest import Cli, Outcome
from tests.methods.conformance.worlds import quick_values
from tests.stopping import stop_before
from tests.tiny_contest import TESTS

METHODS = [name for name in available() if "encoder" in get(name).meta.needs]
WEIGHTS = ("--weights", "tiny.pkl")


@pytest.fixture(autouse=True)
def state_after_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PAUSE_S", 0.0)


def flags(name: str, run: str = "run") -> list[str]:
    """What trains a method for a few steps."""
    values = [f"{key}={value}" for key, value in quick_values(name).items()]
    return ["--method", name, *WEIGHTS, "--run", run, *(part for value in values for part in ("--set", value))]


def steps_per_epoch(name: str) -> int:
    """Batches of the tiny data set's 24 shots."""
    size: int = create(name).hyper.as_dict()["batch_size"]
    return 24 // min(24, size)


@pytest.mark.parametrize("name", METHODS)
def test_train_stop_resume_predict_check(name: str, workplace: Path, cli: Cli) -> None:
    """Resumed, a training ends in the bytes of an unbroken one, and its submission is what the contest takes.

    Between the two the test photos change their labels, which must not matter to either.
    """
    assert cli("--train", *flags(name, "unbroken")).status == 0
    labels = Path("Dataset/TestSetA_labels.txt")
    names, numbers = zip(*(line.split() for line in labels.read_text().splitlines()), strict=True)
    labels.write_text("".join(f"{photo} {number}\n" for photo, number in zip(names, numbers[::-1], strict=True)))
    with pytest.MonkeyPatch.context() as patch:
        stop_before(5 * steps_per_epoch(name) // 2, patch, KeyboardInterrupt)
        stopped = cli("--train", *flags(name))
    assert stopped.status == 130
    assert "--resume" in stopped.err
    assert {path.name for path in Path("run").iterdir()} == {CHECKPOINT}
    refused = cli("--predict", "result.txt", *flags(name))
    assert refused.status == 2
    assert not Path("result.txt").exists()
    resumed = cli("--train", "--resume", *flags(name))
    assert resumed.status == 0
    assert "going on after epoch 2\n" in resumed.err
    assert not Path("run", CHECKPOINT).exists()
    assert Path("run", ADAPTER).read_bytes() == Path("unbroken", ADAPTER).read_bytes()
    assert json.loads(Path("run/metrics.json").read_text()) == json.loads(Path("unbroken/metrics.json").read_text())
    assert cli("--predict", "result.txt", *flags(name)).status == 0
    report = check_submission("result.txt", load_dataset("Dataset"))
    assert (report.lines, report.zip_checked) == (TESTS, True)
    assert cli("--evaluate", *flags(name)).out.startswith(f"{name} on {TESTS} labelled test photos\n")


def test_a_killed_training_goes_on(workplace: Path, cli: Cli) -> None:
    """Killed by SIGKILL in another process; the state of another training is not taken up."""
    arguments = ["--method", "coop", *WEIGHTS, "--run", "run", "--set", "epochs=400", "--workers", "0"]
    program = (
        "import sys, jclip_adapter.methods.training.checkpoint as t; t.PAUSE_S = 0.0; "
        "from jclip_adapter.cli.app import main;"
        f"sys.exit(main({['--train', *arguments]!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while not Path("run", CHECKPOINT).exists() and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert not Path("run", MANIFEST).exists()
    shutil.copytree("run", "other")
    resumed = cli("--train", "--resume", *arguments)
    assert resumed.status == 0
    assert "going on after epoch" in resumed.err
    assert cli("--train", *(part if part != "run" else "unbroken" for part in arguments)).status == 0
    assert Path("run", ADAPTER).read_bytes() == Path("unbroken", ADAPTER).read_bytes()
    other = [part if part != "run" else "other" for part in arguments]
    kept = Path("other", CHECKPOINT).read_bytes()
    refused = cli("--train", "--resume", *other, "--set", "lr=0.01")
    assert refused.status == 2
    assert "holds the state of another training" in refused.err
    assert Path("other", CHECKPOINT).read_bytes() == kept


def test_without_resume_it_starts_anew(workplace: Path, cli: Cli) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_before(5, patch, KeyboardInterrupt)
        assert cli("--train", *flags("coop")).status == 130
    again = cli("--train", *flags("coop"))
    assert again.status == 0
    assert "going on" not in again.err
    assert "--resume would go on from it" in again.err
    assert not Path("run", CHECKPOINT).exists()


def test_a_run_holds_only_what_was_trained(workplace: Path, cli: Cli) -> None:
    sizes = {}
    for name in ("clip-lora", "cross-modal-partial", "full"):
        assert cli("--train", *flags(name, name)).status == 0
        arrays, _ = read_safetensors(Path(name, ADAPTER))
        sizes[name] = sum(value.nbytes for value in arrays.values())
        assert bool([key for key in arrays if "token_embedding" in key]) == (name == "full")
    assert sizes["clip-lora"] < sizes["cross-modal-partial"] < sizes["full"]


def ids(path: str) -> list[list[str]]:
    return [line.split()[1:] for line in Path(path).read_text().splitlines()]


def test_a_tuned_clip_serves_other_methods(workplace: Path, cli: Cli) -> None:
    """Zero-shot on a tuned CLIP predicts what the tuning method does; an adapter on it is a run like any other."""
    assert cli("--train", "--predict", "tuned.txt", *flags("full", "tuned"), "--set", "lr=0.001").status == 0
    zero = ("--method", "zero-shot", *WEIGHTS)
    assert cli("--predict", "plain.txt", *zero).status == 0
    assert cli("--predict", "zero.txt", *zero, "--encoder", "tuned").status == 0
    assert ids("zero.txt") == ids("tuned.txt") != ids("plain.txt")
    assert cli("--predict", "unnamed.txt", "--method", "zero-shot", "--encoder", "tuned").status == 0
    assert ids("unnamed.txt") == ids("zero.txt"), "the weights are those of the run"
    tip = ("--method", "tip-adapter", *WEIGHTS)
    assert cli("--train", *tip, "--encoder", "tuned", "--run", "tip").status == 0
    assert cli("--predict", "tip.txt", "--run", "tip", "--method", "tip-adapter").status == 0
    assert cli("--predict", "again.txt", "--run", "tip", *tip, "--encoder", "tuned").status == 0
    assert ids("tip.txt") == ids("again.txt")
    assert cli("--train", *tip, "--run", "plain").status == 0
    tuned, plain = (read_safetensors(Path(run, ADAPTER))[0] for run in ("tip", "plain"))
    assert any((tuned[key] != plain[key]).any() for key in tuned)
    # A tuning on top of a tuning.
    assert cli("--train", *flags("text-tower", "second"), "--encoder", "tuned").status == 0
    assert cli("--predict", "second.txt", *flags("text-tower", "second")).status == 0
    # The run that the adapter stands on was trained again, otherwise.
    assert cli("--train", *flags("full", "tuned"), "--set", "lr=0.01").status == 0
    moved = cli("--predict", "tip.txt", "--run", "tip", *tip)
    assert moved.status == 2
    assert "another CLIP" in moved.err


def test_learnt_prompts_serve_other_methods(workplace: Path, cli: Cli) -> None:
    assert cli("--train", "--predict", "coop.txt", *flags("coop", "prompts")).status == 0
    assert cli("--predict", "zero.txt", "--method", "zero-shot", "--encoder", "prompts").status == 0
    assert ids("zero.txt") == ids("coop.txt")


def test_what_is_no_tuned_clip_is_refused(trained: Path, cli: Cli) -> None:
    def refusal(*arguments: object) -> str:
        outcome: Outcome = cli("--predict", "x.txt", "--method", "zero-shot", *arguments)
        assert (outcome.status, outcome.out) == (2, "")
        assert "Traceback" not in outcome.err
        return outcome.err

    run = next(Path("results/runs").iterdir())
    assert "tunes neither CLIP nor prompts" in refusal("--encoder", run)
    assert "no run" in refusal("--encoder", "nowhere")
    assert cli("--train", *flags("coop", "prompts")).status == 0
    assert "other weights" in refusal("--encoder", "prompts", "--weights", "sample")
    resume = cli("--train", "--resume", *WEIGHTS)
    assert resume.status == 2
    assert "Leave --resume out" in resume.err
    assert cli("--predict", "x.txt", "--resume").status == 2


def test_augmented_copies_are_encoded_once(workplace: Path, cli: Cli) -> None:
    arguments = ("--train", "--method", "tip-adapter-f", *WEIGHTS, "--set", "epochs=2", "--views", 2)
    assert cli(*arguments, "--run", "a").status == 0

    def refuse(*_: object) -> None:
        raise AssertionError("encoded again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Encoder, "images", refuse)
        assert cli(*arguments, "--run", "b").status == 0
    assert Path("a", ADAPTER).read_bytes() == Path("b", ADAPTER).read_bytes()
    assert cli(*arguments[:-2], "--run", "c").status == 0
    one, other = (read_safetensors(Path(run, ADAPTER))[0] for run in ("a", "c"))
    assert any(one[key].shape != other[key].shape or (one[key] != other[key]).any() for key in one)


def test_the_benchmark_takes_them_on_photos(workplace: Path, cli: Cli) -> None:
    """A tuned CLIP sees the test photos itself; "all" leaves the slow methods out."""
    wanted = ("--benchmark", *WEIGHTS, "--shots", "2", "--select", "none", "--set", "iterations=4", "--set", "epochs=2")
    assert cli(*wanted, "--method", "cross-modal-partial,zero-shot,text-tower", "--out", "some.csv").status == 0
    rows = [line.split(",")[1] for line in Path("some.csv").read_text().splitlines()[1:]]
    assert rows == ["cross-modal-partial", "zero-shot", "text-tower"]


def test_a_method_that_scores_through_clip_is_restored_with_it(workplace: Path, cli: Cli) -> None:
    assert cli("--train", *flags("cocoop")).status == 0
    photos = sorted(Path("Dataset/TestSetA").glob("*.jpg"))[:2]
    outcome = cli("--predict", "--images", *photos, *flags("cocoop"))
    assert outcome.status == 0
    assert len(outcome.out.splitlines()) == len(photos)
    shares = [float(word) for word in outcome.out.replace(",", "").split() if word.replace(".", "").isdigit()]
    assert np.isfinite(shares).all()
