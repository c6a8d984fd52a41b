"""What prompt_growth counts; the seconds themselves are the machine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import prompt_growth
from benchmarks.prompt_growth import class_words, main, measured, report, shared


def test_a_beginning_is_shared_from_the_first_token_on() -> None:
    assert shared([[1, 2, 3], [1, 2, 3]]) == 0.5
    assert shared([[1, 2, 3], [4, 2, 3]]) == 0


def test_prompts_are_counted_and_encoded_once() -> None:
    rows = list(measured("sample", "float32", [6, 3], [2, 1]))
    sizes = [(row["classes"], row["templates"], row["prompts"]) for row in rows]
    assert sizes == [(3, 1, 3), (6, 1, 6), (3, 2, 6), (6, 2, 12)]
    assert all(float(row["per_second"]) > 0 for row in rows)
    # "a photo of …" and "a photo of a …": start, a, photo and of are those of the first prompt.
    assert all(0.3 < float(row["shared"]) < 0.8 for row in rows)
    assert report(rows).count("\n| float32") == 4


@pytest.mark.parametrize("classes", ["0", "1001", "many", "5,"])
def test_another_number_of_classes_is_refused(classes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(class_words()) == 1000
    assert main(["--classes", classes]) == 2
    assert "classes" in capsys.readouterr().err


def test_the_results_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = dict.fromkeys(prompt_growth.COLUMNS, "1")
    monkeypatch.setattr(prompt_growth, "measured", lambda *given: [{**row, "precision": given[1]}])
    assert main(["--classes", "7", "--precision", "bfloat16", "--out", str(tmp_path / "prompts")]) == 0
    assert (tmp_path / "prompts.csv").read_text().splitlines()[1].startswith("bfloat16,1,")
    assert (tmp_path / "prompts.md").read_text().count("bfloat16") == 1
