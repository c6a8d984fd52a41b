import csv
import json

import pytest

from benchmarks import sample_encoder
from jclip_adapter.evaluation.metrics import mean_interval
from jclip_adapter.methods import create
from tests import ROOT

RESULTS = ROOT / "results"


def test_every_method_through_clip_has_candidates_that_it_takes():
    assert sample_encoder.missing() == []
    for name, candidates in sample_encoder.CANDIDATES.items():
        assert len(candidates) > 1
        for values in candidates:
            create(name, **values)


def test_the_table_counts_gains_seed_by_seed():
    cells = {
        "zero-shot": [{"top1": 50.0, "fit_seconds": 0.0}, {"top1": 52.0, "fit_seconds": 0.0}],
        "jclip-adapter": [{"top1": 60.0, "fit_seconds": 1.0}, {"top1": 61.0, "fit_seconds": 1.0}],
        "coop": [{"top1": 57.0, "fit_seconds": 2.0}, {"top1": 56.0, "fit_seconds": 4.0}],
    }
    text = sample_encoder.table(cells, {"coop": '{"lr": 0.1}'})
    (row,) = [line for line in text.splitlines() if line.startswith("| coop")]
    words = [word.strip() for word in row.strip("|").split("|")]
    assert [words[place] for place in (0, 1, 3, 4, 5, 6, 7)] == [
        "coop",
        "56.5 %",
        "5.5",
        "4.0",
        "-4.0",
        "3.0",
        "lr=0.1",
    ]


def test_rows_of_methods_that_were_not_measured_are_kept(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("method,seed\nzero-shot,1\ncoop,1\ncoop,2\nfull,1\n")
    fresh = [{"method": "coop", "seed": 3}, {"method": "zero-shot", "seed": 3}]
    found = [(row["method"], int(row["seed"])) for row in sample_encoder.merged(path, fresh)]
    assert found == [("zero-shot", 3), ("coop", 3), ("full", 1)]
    assert len(sample_encoder.merged(tmp_path / "none.csv", fresh)) == 2


@pytest.mark.parametrize("name", sorted(sample_encoder.CANDIDATES))
def test_what_was_measured_used_what_was_chosen(name):
    """The committed results fit together: the best candidate on left-out shots is the one that was tested."""
    with (RESULTS / "sample-encoder-choices.csv").open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["method"] == name]
    assert {row["values"] for row in rows} == {json.dumps(values) for values in sample_encoder.CANDIDATES[name]}
    best = max(rows, key=lambda row: (float(row["accuracy"]), float(row["likelihood"])))
    with (RESULTS / "sample-encoder.csv").open(encoding="utf-8", newline="") as handle:
        cells = [row for row in csv.DictReader(handle) if row["method"] == name]
    assert len(cells) == 3
    for cell in cells:
        assert json.loads(best["values"]).items() <= json.loads(cell["hyperparameters"]).items()
    mean, _ = mean_interval([float(cell["top1"]) for cell in cells])
    assert f"| {mean:.1f} %" in next(
        line for line in (RESULTS / "sample-encoder.md").read_text().splitlines() if line.startswith(f"| {name} ")
    )
