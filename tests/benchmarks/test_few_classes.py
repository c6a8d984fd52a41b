import csv

import numpy as np

from benchmarks import few_classes
from jclip_adapter.core.task import normalise


def test_the_table_has_every_kind_of_task_and_method(tmp_path, capsys):
    rng = np.random.default_rng(0)
    text = normalise(rng.standard_normal((12, 16)))
    labels = np.repeat(np.arange(12), 4)
    rows = normalise(text[labels] + 0.3 * rng.standard_normal((48, 16)))
    path, out = tmp_path / "tiny.npz", tmp_path / "out"
    np.savez(
        path,
        classnames=np.array(list("abcdefghijkl")),
        text=text,
        train2_x=rows[::2],
        train2_y=labels[::2],
        test_x=rows[1::2],
        test_y=labels[1::2],
    )
    assert few_classes.main([str(path), "--shots", "0", "2", "--tasks", "3", "--out", str(out)]) == 0
    found = list(csv.DictReader(out.with_suffix(".csv").read_text().splitlines()))
    assert len(found) == 3 * (5 + 4)
    assert {(row["shots"], row["method"]) for row in found if row["method"] == "zero-shot"} == {("0", "zero-shot")}
    assert {row["queries"] for row in found if row["classes"] == "5"} == {"10.0000"}
    assert capsys.readouterr().out == out.with_suffix(".md").read_text() + "\n"
