"""A benchmark's numbers are of what they say, or it is refused before the first cell."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jclip_adapter.core.errors import DivergedError
from jclip_adapter.evaluation import benchmark
from jclip_adapter.features.file import read_feature_file
from tests.conftest import Cli

CLASSES, WIDTH = 4, 8


def write(path: str, seed: int = 0, **changes: Any) -> None:
    """A feature file; an array given as None is left out."""
    rng = np.random.default_rng(seed)
    labels, test = np.repeat(np.arange(CLASSES), 4), np.repeat(np.arange(CLASSES), 6)
    centres = rng.standard_normal((CLASSES, WIDTH))
    arrays = {
        "classnames": np.array([f"class {number}" for number in range(CLASSES)]),
        "text": centres + 0.3 * rng.standard_normal((CLASSES, WIDTH)),
        "train4_x": centres[labels] + 0.3 * rng.standard_normal((len(labels), WIDTH)),
        "train4_y": labels,
        "test_x": centres[test] + 0.3 * rng.standard_normal((len(test), WIDTH)),
        "test_y": test,
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: value for name, value in (arrays | changes).items() if value is not None})


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("toy.npz")


def rows(name: str = "results/table.csv") -> list[dict[str, str]]:
    with Path(name).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


TOY = ("--benchmark", "--features", "toy.npz")


@pytest.mark.parametrize(
    ("flags", "culprit", "hint"),
    [
        (("--set", "alhpa=1"), "--set alhpa", "Did you mean 'alpha'?"),
        (
            ("--method", "gda,zero-shot", "--set", "epochs=3"),
            "gda, zero-shot has no such",
            "Known are: alpha, by, names",
        ),
        (("--method", "all", "--set", "ratio=7"), "ratio=7", "range"),
        (("--seed", "1,2"), "--seed 1,2", "--resample"),
        (("--unseen", "0.01"), "--unseen 0.01 is less than one of 4 classes", "Give 0.25 or more"),
        (("--select", "validation"), "--select validation", "--select support"),
        (("--method", "coop"), "no method can run", "--weights a CLIP"),
        (("--method", "gda,nowhere"), "'nowhere'", "Known are"),
        (("--shots", "3"), "no task with 3 shots", "It has tasks with 4 shots"),
    ],
    ids=str,
)
def test_refused_before_the_first_cell(flags: tuple[str, ...], culprit: str, hint: str, cli: Cli) -> None:
    outcome = cli(*TOY, *flags)
    assert outcome.status == 2
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert culprit in line
    assert hint in line
    assert not Path("results/cells").exists()
    assert not Path("results/table.csv").exists()


def test_two_files_of_one_base_name_have_a_column_each(cli: Cli) -> None:
    """E3: they were merged into one, "± 0.0"."""
    write("a/pets.npz", seed=1)
    write("b/pets.npz", seed=2)
    write("b/c/pets.npz", seed=3)
    write("x/c/pets.npz", seed=4)
    files = ("a/pets.npz", "b/pets.npz", "b/c/pets.npz", "x/c/pets.npz")
    outcome = cli("--benchmark", "--features", *files, "--method", "zero-shot")
    assert outcome.status == 0, outcome.err
    assert [row["dataset"] for row in rows()] == ["a/pets", "b/pets", "b/c/pets", "x/c/pets"]
    alone = []
    for file in files:
        assert cli("--benchmark", "--features", file, "--method", "zero-shot", "--out", "one.csv").status == 0
        alone.append(rows("one.csv")[0]["top1"])
    assert [row["top1"] for row in rows()] == alone
    assert "±" not in outcome.out


def test_a_file_given_twice_is_refused(cli: Cli) -> None:
    write("copy.npz")
    outcome = cli("--benchmark", "--features", "toy.npz", "copy.npz", "--method", "zero-shot")
    assert outcome.status == 2
    assert "copy.npz has the same content as toy.npz" in outcome.err


def test_an_unsuitable_method_costs_only_itself(cli: Cli) -> None:
    """E7: `tip-adapter,coop` ended after some cells; now the need is told first, and the others run."""
    outcome = cli(*TOY, "--method", "tip-adapter,coop,two-views,zero-shot")
    assert outcome.status == 0
    assert [row["method"] for row in rows()] == ["tip-adapter", "zero-shot"]
    assert "coop is skipped: coop trains through CLIP" in outcome.err
    assert "two-views is skipped: two-views needs a second network's features. Give --auxiliary NAME" in outcome.err


def test_a_training_that_diverges_costs_only_its_cell(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    run = benchmark.run_cell

    def diverging(name: str, *rest: Any) -> dict[str, Any]:
        if name == "gda":
            raise DivergedError("gda: the training diverged: the loss is nan in epoch 1.", "Change lr=9.")
        return run(name, *rest)

    monkeypatch.setattr(benchmark, "run_cell", diverging)
    outcome = cli(*TOY, "--method", "gda,zero-shot")
    assert outcome.status == 0
    assert [row["method"] for row in rows()] == ["zero-shot"]
    assert "skipped: toy, 4-shot, seed 1: gda: the training diverged" in outcome.err


def test_a_hyperparameter_goes_to_the_methods_that_have_it(cli: Cli) -> None:
    assert cli(*TOY, "--method", "gda,zero-shot", "--set", "alpha=0.5", "--select", "none").status == 0
    assert ['"alpha": 0.5' in row["hyperparameters"] for row in rows()] == [True, False]


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"test_y": np.repeat(np.arange(CLASSES), 6) + 0.5}, "test_y has numbers that are not whole (0.5)"),
        ({"train4_y": np.repeat(np.arange(CLASSES), 4) + 0.5}, "train4_y has numbers that are not whole (0.5)"),
        ({"train4_y": np.array([0.0, np.nan] * 8)}, "train4_y has numbers that are not whole (nan)"),
        ({"train4_y": np.array([True, False] * 8)}, "train4_y: expected class indices, got bool"),
        ({"test_y": np.repeat([True, False], 12)}, "test_y: expected class indices, got bool"),
        ({"test_y": np.array(["a"] * 24)}, "test_y: expected class indices, got <U1"),
        ({"logit_scale": np.float32(-100)}, "logit_scale: expected one positive number, got -100.0"),
        ({"logit_scale": np.float32(0)}, "logit_scale: expected one positive number, got 0.0"),
        ({"logit_scale": np.float32(np.nan)}, "logit_scale: expected one positive number, got nan"),
        ({"logit_scale": np.ones(3)}, "logit_scale: expected one positive number, got [1.0, 1.0, 1.0]"),
        ({"logit_scale": np.array("100")}, "logit_scale: expected one positive number, got '100'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_labels_and_scales_that_cannot_be(changes: dict[str, Any], culprit: str, cli: Cli) -> None:
    write("odd.npz", **changes)
    outcome = cli("--benchmark", "--features", "odd.npz", "--method", "zero-shot")
    assert outcome.status == 2
    assert f"odd.npz: {culprit}" in outcome.err


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.float64, np.float16])
def test_whole_labels_of_any_kind_are_taken(kind: type[Any]) -> None:
    write("kind.npz", test_y=np.repeat(np.arange(CLASSES), 6).astype(kind), logit_scale=np.array([50]))
    content = read_feature_file("kind.npz")
    assert content.test.labels.tolist() == np.repeat(np.arange(CLASSES), 6).tolist()
    assert content.tasks[4].logit_scale == 50


def test_unreadable_photos_count_as_wrong(workplace: Path, cli: Cli) -> None:
    """They were left out without a word, so that accuracy rose with every damaged photo."""
    flags = ("--weights", "tiny.pkl", "--method", "zero-shot")
    assert cli("--benchmark", *flags, "--out", "before.csv").status == 0
    for number in range(1, 6):
        Path(f"Dataset/TestSetA/image_{number}.jpg").write_bytes(b"none")
    outcome = cli("--benchmark", *flags, "--out", "after.csv")
    assert "5 of 10 photos to score cannot be read (they count as wrong" in outcome.err
    assert cli("--evaluate", *flags).status == 0
    report = json.loads(next(Path("results/runs").glob("*/evaluation.json")).read_text())
    row = rows("after.csv")[0]
    for key in ("top1", "top5"):
        assert float(row[key]) == pytest.approx(report["scores"][-1][key], abs=1e-3)
        assert float(row[key]) <= 50
    assert "5 of 10 photos to score cannot be read" in cli("--extract", "f.npz", "--weights", "tiny.pkl").err


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"train0_x": np.ones((4, WIDTH))}, "'train0_x' has no number of shots"),
        ({"train04_y": np.arange(4)}, "'train04_y' has no number of shots"),
        ({"train2_x": np.ones((16, WIDTH)), "train2_y": np.repeat(np.arange(4), 4)}, "train2_y has up to 4 rows"),
        ({"text": np.zeros((CLASSES, WIDTH))}, "'text' has rows of zeros"),
        ({"train4_aux": np.ones((16, 5))}, "has 'train4_aux', but no 'test_aux'"),
        ({"train4_aux": np.ones((16, 5)), "test_aux": np.ones((24, 6))}, "the widths of *_aux differ"),
        ({"test_y": np.full(24, 2**63 + 5, dtype=np.uint64)}, "test_y ranges from 9223372036854775813"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_feature_files_that_contradict_themselves(changes: dict[str, Any], culprit: str, cli: Cli) -> None:
    write("odd.npz", **changes)
    outcome = cli("--benchmark", "--features", "odd.npz", "--method", "zero-shot")
    assert outcome.status == 2
    assert culprit in outcome.err.splitlines()[-1]
    assert "odd.npz" in outcome.err.splitlines()[-1]


def test_test_rows_that_are_training_rows_are_counted(cli: Cli) -> None:
    rng = np.random.default_rng(0)
    rows_ = rng.standard_normal((16, WIDTH))
    write("seen.npz", train4_x=rows_, test_x=np.concatenate([rows_[:6], rng.standard_normal((18, WIDTH))]))
    outcome = cli("--benchmark", "--features", "seen.npz", "--method", "zero-shot")
    assert "seen: 6 of 24 test rows are also training rows" in outcome.err


def test_rows_that_are_left_out_of_a_table_are_counted(cli: Cli) -> None:
    assert cli(*TOY, "--method", "gda,zero-shot", "--select", "none").status == 0
    outcome = cli(*TOY, "--method", "zero-shot", "--select", "none")
    assert "results/table.csv: drops 1 rows of an earlier benchmark" in outcome.err


def test_shots_that_one_file_lacks_are_named(cli: Cli) -> None:
    outcome = cli(*TOY, "--method", "zero-shot", "--shots", "2,4")
    assert outcome.status == 0
    assert "toy.npz has no task with 2 shots, only with 4" in outcome.err
