"""A finished benchmark computes nothing."""

from __future__ import annotations

from pathlib import Path

from benchmarks.reliability import finished_benchmark as finished


def test_nothing_is_computed_twice(tmp_path: Path) -> None:
    tables = finished.prepare(tmp_path)
    for kind, table in tables.items():
        run = finished.again(tmp_path, kind, table)
        assert not any(run.counts.values()), run
        assert run.same
    cell = next((tmp_path / "results/cells").glob("features-*"))
    cell.unlink()
    assert finished.again(tmp_path, "photos", tables["photos"]).counts["fit"] == 0
    # The first of again's two runs computes the cell, so it has to go once more before the counting one.
    assert finished.again(tmp_path, "feature file", tables["feature file"]).seconds > 0
    for path in (tmp_path / "results/features").rglob("*.npz"):
        path.unlink()
    watched = finished._run(
        tmp_path, finished.COMMANDS["photos"], ["-c", finished.WATCHED.format(root=str(finished.ROOT))]
    )
    assert '"jittor": 1' in watched.stderr.splitlines()[-1]


def test_each_fault_fails_the_program() -> None:
    nothing = {"images": 0, "fit": 0, "jittor": 0}
    good = finished.Again("photos", 1.0, nothing, True)
    assert finished.conclude([good]).failures == 0
    for bad in (
        finished.Again("photos", 3.1, nothing, True),
        finished.Again("photos", 1.0, {**nothing, "fit": 1}, True),
        finished.Again("photos", 1.0, {**nothing, "jittor": 1}, True),
        finished.Again("photos", 1.0, nothing, False),
    ):
        assert finished.conclude([good, bad]).failures == 1
