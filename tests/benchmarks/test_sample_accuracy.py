"""The tables of benchmarks.sample_accuracy, on scores made by hand."""

from __future__ import annotations

import csv

import pytest

from benchmarks import sample_accuracy
from jclip_adapter.evaluation.metrics import Score

NOT_USED = (0.0, 1.0)


def scores(cats: float, dogs: float) -> list[Score]:
    return [
        Score("Cats", 10, cats, 1.0, NOT_USED, NOT_USED),
        Score("Dogs", 30, dogs, 0.9, NOT_USED, NOT_USED),
        Score("total", 40, (10 * cats + 30 * dogs) / 40, 0.925, NOT_USED, NOT_USED),
    ]


ZERO_SHOT = scores(0.5, 0.4)
ADAPTED = [scores(0.6, 0.5), scores(0.8, 0.5), scores(0.7, 0.5)]


def test_table_has_mean_interval_and_gain() -> None:
    header, _, cats, dogs, total = sample_accuracy.table(ZERO_SHOT, ADAPTED).splitlines()
    assert "jclip-adapter (4 shots, mean of 3 seeds)" in header
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (cats, dogs, total)]
    assert cells[0] == ["Cats", "10", "50.0 %", "70.0 %", "45.2–94.8 %", "20.0"]
    assert cells[1] == ["Dogs", "30", "40.0 %", "50.0 %", "50.0–50.0 %", "10.0"]
    assert cells[2][:4] == ["total", "40", "42.5 %", "55.0 %"]


def test_csv_has_one_line_per_run() -> None:
    rows = list(csv.DictReader(sample_accuracy.csv_text(ZERO_SHOT, ADAPTED).splitlines()))
    assert [(row["method"], row["shots"], row["seed"]) for row in rows] == [
        ("zero-shot", "0", ""),
        ("jclip-adapter", "4", "0"),
        ("jclip-adapter", "4", "1"),
        ("jclip-adapter", "4", "2"),
    ]
    assert rows[2]["top1_Cats"] == "0.8000"
    assert rows[0]["top1"] == "0.4250"
    assert rows[0]["top5"] == "0.9250"


def test_one_seed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert sample_accuracy.main(["--seeds", "1"]) == 2
    assert "--seeds 1" in capsys.readouterr().err
