import csv

import numpy as np
import pytest

from benchmarks import unseen
from jclip_adapter.core.task import FewShotTask, normalise


@pytest.fixture
def features(tmp_path):
    rng = np.random.default_rng(0)
    text = normalise(rng.standard_normal((5, 16)))
    labels = np.repeat(np.arange(5), 6)
    rows = normalise(text[labels] + 0.3 * rng.standard_normal((30, 16)))
    path = tmp_path / "tiny.npz"
    few = np.arange(30) % 6 < 3
    np.savez(
        path,
        classnames=np.array(list("abcde")),
        text=text,
        train3_x=rows[few],
        train3_y=labels[few],
        test_x=rows[~few],
        test_y=labels[~few],
    )
    return path


def test_the_table_has_every_draw_and_method(features, tmp_path, capsys):
    out = tmp_path / "out"
    given = [f"{features}=0.4", "--shots", "3", "--method", "zero-shot,tip-adapter", "--out", str(out)]
    assert unseen.main(given) == 0
    rows = list(csv.DictReader(out.with_suffix(".csv").read_text().splitlines()))
    assert len(rows) == 2 * 3 * 2
    assert {(row["without_shots"], row["seed"]) for row in rows} == {(w, s) for w in ("last", "drawn") for s in "123"}
    assert all(float(row["closed"]) >= float(row["seen"]) for row in rows)
    assert capsys.readouterr().out.count("| tip-adapter") == 2


def test_as_many_classes_are_drawn_as_the_last_ones():
    task = FewShotTask(np.eye(10), np.arange(10), np.eye(10), tuple("abcdefghij"))
    assert unseen.hide(task, 0.35, "last", 1).seen.tolist() == [0, 1, 2, 3, 4, 5, 6]
    draws = [unseen.hide(task, 0.35, "drawn", seed).seen.tolist() for seed in (1, 2)]
    assert [len(draw) for draw in draws] == [7, 7]
    assert draws[0] != draws[1]


@pytest.mark.parametrize("text", ["x.npz", "x.npz=", "=0.5", "x.npz=1", "x.npz=much"])
def test_a_wrong_share_is_refused(text, capsys):
    assert unseen.main([text]) == 2
    assert "FILE=SHARE" in capsys.readouterr().err
