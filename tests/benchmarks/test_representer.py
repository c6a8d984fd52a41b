"""What photos and texts contribute to a linear classifier's weights."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks import representer
from jclip_adapter.core.task import FewShotTask, normalise
from tests.tiny_features import write_features


def task_of(classes: int = 4, shots: int = 3) -> FewShotTask:
    rng = np.random.default_rng(0)
    text = normalise(rng.standard_normal((classes, 12)).astype(np.float32))
    labels = np.repeat(np.arange(classes), shots)
    photos = normalise(text[labels] + 0.4 * rng.standard_normal((len(labels), 12)).astype(np.float32))
    return FewShotTask(photos, labels, text, tuple("abcdefgh"[:classes]))


@pytest.mark.parametrize("classes", [2, 4])
def test_the_parts_add_up_to_the_weights_and_the_shares_to_one(classes: int) -> None:
    parts = representer.fit(task_of(classes))
    assert parts.residual.max() < 1e-3
    np.testing.assert_allclose(sum(parts.shares), 1, atol=1e-3)
    assert (parts.shares[0] > 0.05).all()


def test_a_part_lies_in_the_span_of_its_rows() -> None:
    task = task_of()
    parts = representer.fit(task)
    for part, rows in ((parts.text, task.text_features), (parts.photo, task.support_features)):
        rest = part - part @ np.linalg.pinv(rows.astype(np.float64)) @ rows
        np.testing.assert_allclose(rest, 0, atol=1e-6)


def test_without_texts_there_is_no_text_part() -> None:
    parts = representer.fit(task_of(), texts=False)
    assert not parts.text.any()
    assert parts.residual.max() < 1e-3


def test_a_photo_s_place_in_the_plane_decides() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.standard_normal((2, 12))
    photos = rng.standard_normal((20, 12))
    axes = representer.plane(first, second)
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
    for vector in (first, second):
        np.testing.assert_allclose((photos @ axes.T) @ (axes @ vector), photos @ vector, atol=1e-9)


def test_the_program_writes_a_row_per_class_and_shot_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert representer.main([str(write_features(tmp_path / "tiny.npz", shots=(1, 3))), "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.with_suffix(".csv").read_text().splitlines()))
    assert [row["shots"] for row in rows] == ["1"] * 5 + ["3"] * 5
    share = {count: np.median([float(row["text_share"]) for row in rows if row["shots"] == count]) for count in "13"}
    assert share["3"] < share["1"] < 1
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("tiny, ") == 2
