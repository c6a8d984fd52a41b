"""`--shots 0`: methods that need no support photo, without any."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from jclip_adapter.core.task import normalise
from tests.conftest import Cli
from tests.tiny_contest import WEIGHTS

EM = ("--method", "em-dirichlet")
RUN = "results/runs/none"


@pytest.mark.parametrize("method", ["em-dirichlet", "transclip", "zero-shot"])
def test_prediction_without_training(method: str, workplace: Path, cli: Cli) -> None:
    assert cli("--predict", "plain.txt", *WEIGHTS, "--method", method).status == 0
    assert cli("--predict", "result.txt", *WEIGHTS, "--method", method, "--shots", "0").status == 0
    assert Path("result.txt").read_bytes() == Path("plain.txt").read_bytes()


def test_a_training_without_shots_keeps_its_hyperparameters(workplace: Path, cli: Cli) -> None:
    assert cli("--train", *WEIGHTS, *EM, "--shots", "0", "--set", "iterations=0", "--run", RUN).status == 0
    assert "support" not in json.loads(Path(RUN, "metrics.json").read_text())
    assert Path(RUN, "support.txt").read_text() == ""
    assert cli("--predict", "run.txt", "--run", RUN).status == 0
    assert cli("--predict", "plain.txt", *WEIGHTS, "--method", "zero-shot").status == 0
    assert Path("run.txt").read_bytes() == Path("plain.txt").read_bytes()  # no iteration is zero-shot
    assert cli("--evaluate", "--run", RUN).status == 0


def test_the_benchmark_without_shots(workplace: Path, cli: Cli) -> None:
    done = cli("--benchmark", *WEIGHTS, "--method", "zero-shot,em-dirichlet,gda", "--shots", "0,1", "--out", "b.csv")
    assert done.status == 0, done.err
    assert "gda is skipped" in done.err
    rows = [(row["method"], row["shots"]) for row in csv.DictReader(Path("b.csv").read_text().splitlines())]
    assert sorted(rows) == [
        ("em-dirichlet", "0"),
        ("em-dirichlet", "1"),
        ("gda", "1"),
        *(("zero-shot", n) for n in "01"),
    ]


def test_a_feature_file_without_its_shots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    text, labels = normalise(rng.standard_normal((4, 16))), np.arange(4)
    rows = normalise(text + 0.1 * rng.standard_normal(text.shape))
    np.savez("f.npz", classnames=list("abcd"), text=text, train1_x=rows, train1_y=labels, test_x=rows, test_y=labels)
    done = cli("--benchmark", "--features", "f.npz", "--method", "all", "--shots", "0", "--out", "b.csv")
    assert done.status == 0, done.err
    rows = list(csv.DictReader(Path("b.csv").read_text().splitlines()))
    assert {row["method"] for row in rows} == {"zero-shot", "em-dirichlet", "hard-em-dirichlet", "transclip"}
    assert {row["shots"] for row in rows} == {"0"}
    assert "has no task of 0 shots" not in done.err


@pytest.mark.parametrize(
    ("command", "culprit"),
    [
        (("--train", *WEIGHTS, "--method", "gda"), "--shots 0: gda needs support photos"),
        (("--predict", "r.txt", *WEIGHTS), "--shots 0: jclip-adapter needs support photos"),
        (("--train", *WEIGHTS, *EM, "--strict"), "--strict has no effect with --shots 0"),
        (("--train", *WEIGHTS, *EM, "--select", "support"), "--select has no effect with --shots 0"),
        (("--train", *WEIGHTS, *EM, "--support", "first"), "--support has no effect with --shots 0"),
        (("--extract", "f.npz", *WEIGHTS), "--shots 0: a feature file needs training rows"),
        (("--benchmark", *WEIGHTS, "--unseen", "0.5"), "--unseen and --protocol cannot be combined with --shots 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_needs_shots_is_refused(command: tuple[str, ...], culprit: str, workplace: Path, cli: Cli) -> None:
    outcome = cli(*command, "--shots", "0")
    assert outcome.status == 2
    assert culprit in outcome.err.splitlines()[-1]
