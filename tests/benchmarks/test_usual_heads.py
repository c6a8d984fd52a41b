"""benchmarks.usual_heads on features made by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from benchmarks import usual_heads
from jclip_adapter.core.errors import DataError
from jclip_adapter.features.file import FeatureFile, read_feature_file

FIGURES = {"linear-probe": 50.0, "zero-shot": 70.0, "jclip-adapter": 72.0, "auto": 73.0, "gda": 74.0, "transclip": 99.0}


def rows_of(dataset: str, figures: dict[str, float]) -> list[dict[str, str]]:
    return [{"dataset": dataset, "method": name, "shots": "4", "top1": str(top1)} for name, top1 in figures.items()]


@pytest.fixture
def content(tmp_path: Path) -> FeatureFile:
    """Two classes along two axes; one of four test photos lies on the other class's side."""
    path = tmp_path / "toy.npz"
    axes = np.eye(2, 3, dtype=np.float32)
    labels = np.repeat(np.arange(2), 4)
    test = axes[[0, 0, 1, 0]]
    noise = np.random.default_rng(0).normal(scale=0.01, size=(8, 3)).astype(np.float32)
    arrays = {
        "text": axes,
        "train4_x": axes[labels] + noise,
        "train4_y": labels,
        "test_x": test,
        "test_y": [0, 0, 1, 1],
    }
    np.savez(path, classnames=np.array(["a", "b"]), **arrays)
    return read_feature_file(path)


def test_rows_have_both_kinds_from_low_to_high(content: FeatureFile) -> None:
    rows = usual_heads.measure(content, rows_of("toy", FIGURES), {"nearest class mean": NearestCentroid})
    assert [(row["kind"], row["name"], row["top1"]) for row in rows] == [
        (usual_heads.PLAIN, "linear-probe", "50.0000"),
        (usual_heads.PLAIN, "nearest class mean", "75.0000"),
        (usual_heads.OURS, "zero-shot", "70.0000"),
        (usual_heads.OURS, "jclip-adapter", "72.0000"),
        (usual_heads.OURS, "auto", "73.0000"),
        (usual_heads.OURS, "gda", "74.0000"),
    ]
    assert {(row["dataset"], row["classes"], row["shots"], row["queries"]) for row in rows} == {("toy", 2, 4, 4)}
    assert usual_heads.picture(rows).startswith(b"\x89PNG")


def test_methods_that_were_not_measured_are_named(content: FeatureFile) -> None:
    with pytest.raises(DataError, match="no zero-shot on toy"):
        usual_heads.measure(content, rows_of("toy", {"linear-probe": 50.0, "jclip-adapter": 1.0, "auto": 1.0}), {})
    with pytest.raises(DataError, match="no auto on toy"):
        usual_heads.measure(content, rows_of("other", FIGURES), {})


def test_heads_fit(content: FeatureFile) -> None:
    task, test = content.tasks[4], content.test
    found = {name: usual_heads.top1(constructor(), task, test) for name, constructor in usual_heads.heads().items()}
    assert set(found.values()) == {75.0}
    assert len(found) == 5


def test_the_committed_figures_agree_with_the_benchmark() -> None:
    """Rows of our methods are those of results/benchmark.csv."""
    with usual_heads.RESULTS.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (usual_heads.ROOT / "results" / "benchmark.csv").open(encoding="utf-8") as file:
        others = list(csv.DictReader(file))
    ours = [(row["kind"], row["name"], float(row["top1"])) for row in rows if row["name"] not in usual_heads.heads()]
    assert ours == usual_heads.quoted(rows[0]["dataset"], others)
    assert {row["name"] for row in rows} > set(usual_heads.heads())
