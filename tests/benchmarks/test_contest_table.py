"""The table of the contest's three models, on the tiny contest."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks import contest_table
from benchmarks.seeds import theirs


def test_the_models_are_scored_on_the_same_photos(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert contest_table.main(["--data", "Dataset", "--weights", "tiny.pkl", "--out", "contest"]) == 0
    rows = {row["model"]: row for row in csv.DictReader(Path("contest.csv").read_text().splitlines())}
    assert list(rows) == ["baseline", "trained baseline", "baseline with the adapter's prompts", "adapter"]
    assert {row["photos"] for row in rows.values()} == {"10"}
    assert all(0 <= float(row["top1"]) <= float(row["top5"]) <= 1 for row in rows.values())
    shots = [Path(f"results/runs/Dataset-tiny.pkl-{run}-4first/support.txt").read_text() for run in RUNS]
    assert shots[0] == shots[1]
    assert "/4.jpg" in shots[0]
    assert "/5.jpg" not in shots[0]
    assert capsys.readouterr().out in Path("contest.md").read_text()


RUNS = ("jclip-linear-probe", "slides-jclip-adapter")


def test_the_slides_figures_stand_beside_the_models_that_they_belong_to() -> None:
    rows = [
        {"model": name, "method": "m", "prompts": "p", "top1": "0.1", "top5": "0.2"}
        for name in ("baseline", "adapter", "other")
    ]
    cells = [[cell.strip() for cell in line.split("|")][6:8] for line in contest_table.table(rows).splitlines()[2:]]
    assert cells == [theirs("baseline"), theirs("adapter"), ["–", "–"]]
    assert theirs("adapter") == ["0.6267", "0.8207"]


def test_a_missing_data_set_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert contest_table.main(["--data", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err
