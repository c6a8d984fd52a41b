"""Seconds of a training, measured in full on features, extrapolated through CLIP."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest

from benchmarks import fit_time
from jclip_adapter.methods.training import loop
from tests.tiny_features import write_features


class Nothing:
    """An optimizer without parameters."""

    def apply(self, gradients: object, rate: object) -> None:
        """Does nothing."""

    def variables(self) -> list[object]:
        """None."""
        return []


def test_seconds_through_clip_are_those_of_all_steps_and_of_what_is_around_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = []

    def step(_: object) -> loop.Step:
        taken.append(0)
        time.sleep(1 if len(taken) == 1 else 0.05)  # the first one compiles
        return loop.Step(1.0, [])

    class Slow:
        def fit(self, _: object) -> None:
            time.sleep(0.3)
            loop.train(step, Nothing(), loop.Batches(iter(range(100)), 100, 10))
            time.sleep(0.3)

    monkeypatch.setattr(fit_time, "create", lambda _: Slow())
    seconds, steps = fit_time.measure_through_clip("slow", None)
    assert steps == 100
    assert len(taken) == 1 + fit_time.STEPS
    assert seconds == pytest.approx(0.6 + 100 * 0.05, rel=0.3)


def test_the_table_marks_what_is_extrapolated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = write_features(tmp_path / "tiny.npz", shots=(4,)), tmp_path / "out"
    assert fit_time.main([str(file), "--method", "zero-shot,gda,coop", "--out", str(out)]) == 0
    rows = {row["method"]: row for row in csv.DictReader(out.with_suffix(".csv").read_text().splitlines())}
    assert list(rows) == ["zero-shot", "gda", "coop"]
    assert rows["gda"]["steps"] == rows["gda"]["steps_timed"] == rows["coop"]["predict_seconds"] == ""
    assert int(rows["coop"]["steps"]) > int(rows["coop"]["steps_timed"]) == fit_time.STEPS
    printed = capsys.readouterr().out
    assert printed == out.with_suffix(".md").read_text() + "\n"
    assert "The 2 methods on features" in printed
