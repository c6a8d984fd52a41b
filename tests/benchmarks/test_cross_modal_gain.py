"""What texts as training rows add: the draws, the table, and the program on a tiny feature file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cross_modal_gain
from benchmarks.seeds import theirs
from jclip_adapter.evaluation.benchmark import feature_problems
from tests.tiny_features import write_features


@pytest.fixture
def features(tmp_path: Path) -> str:
    return str(write_features(tmp_path / "tiny.npz", shots=(1, 4)))


def test_fewer_shots_are_a_part_of_more_and_seeds_draw_others(features: str) -> None:
    problems = feature_problems([features], [4], [1, 2], resample=True)
    drawn = {
        (problem.seed, count): {row.tobytes() for row in cross_modal_gain.thinned(problem, count).task.support_features}
        for problem in problems
        for count in (1, 2, 4)
    }
    for seed in (1, 2):
        assert drawn[seed, 1] < drawn[seed, 2] < drawn[seed, 4]
        assert [len(drawn[seed, count]) for count in (1, 2, 4)] == [5, 10, 20]
    assert drawn[1, 2] != drawn[2, 2]
    one, two = (cross_modal_gain.thinned(problems[0], count) for count in (1, 2))
    assert np.bincount(two.task.support_labels).tolist() == [2] * 5
    assert (one.shots, two.shots) == (1, 2)


def test_the_program_compares_each_pair_on_the_same_draws(
    features: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cross_modal_gain.AUTHORS, "iterations", 20)
    out = tmp_path / "out"
    assert cross_modal_gain.main([features, "--shots", "1", "2", "8", "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.with_suffix(".csv").read_text().splitlines()))
    pairs = [name for name in cross_modal_gain.PAIRS if name != "prompting"]
    keys = [(pair, shots, seed) for pair in pairs for shots in "12" for seed in "123"]
    assert sorted((row["pair"], row["shots"], row["seed"]) for row in rows) == sorted(keys)
    for row in rows:
        assert float(row["gain"]) == pytest.approx(float(row["cross_modal"]) - float(row["uni_modal"]), abs=1e-3)
    assert capsys.readouterr().out.strip() == out.with_suffix(".md").read_text().strip()


def test_more_shots_than_there_are_are_refused(
    features: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cross_modal_gain.main([features, "--shots", "8", "--out", str(tmp_path / "out")]) == 2
    assert "fewer than 8 shots" in capsys.readouterr().err


def test_the_table_has_means_gains_and_the_posters_figures() -> None:
    rows = [
        {
            "dataset": "x",
            "pair": "wise-ft",
            "shots": "4",
            "seed": seed,
            "uni_modal": uni,
            "cross_modal": cross,
            "gain": gain,
        }
        for seed, uni, cross, gain in (("1", "50", "52", "2"), ("2", "54", "58", "4"))
    ]
    text = cross_modal_gain.table(rows)
    assert "52.0 → 55.0: +3.0 ± 12.7" in text
    assert "36.7 → 64.1: +27.4" in text
    assert "59.1 → 63.8: +4.7" in text


@pytest.mark.parametrize("pair", ["linear", "wise-ft", "tip-adapter", "prompting"])
def test_the_posters_gains_are_the_differences_of_its_accuracies(pair: str) -> None:
    published = cross_modal_gain.PAIRS[pair].published
    assert published is not None
    uni, cross = map(theirs, published)
    gains = [f"{float(b) - float(a):.1f}" for a, b in zip(uni, cross, strict=True)]
    assert gains == theirs(f"delta-{pair}")
