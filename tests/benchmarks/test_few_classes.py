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
    assert len(found) == 2 * 3 * 5 * 3
    assert {row["size"] for row in found if (row["classes"], row["queries"]) == ("5", "as drawn")} == {"10.0000"}
    sizes = {(row["classes"], row["queries"]): row["size"] for row in found}
    assert all(sizes[classes, "same size"] == sizes[classes, "drawn shares"] for classes in ("5", "3-10", "all"))
    place = ("shots", "classes", "queries")
    zero = {tuple(row[key] for key in place): float(row["top1"]) for row in found if row["method"] == "zero-shot"}
    for row in found:
        expected = float(row["top1"]) - zero[tuple(row[key] for key in place)]
        assert abs(float(row["gain"]) - expected) < 1e-3
    assert capsys.readouterr().out == out.with_suffix(".md").read_text() + "\n"


def test_the_effect_of_shares_names_the_rows_whose_intervals_do_not_overlap():
    def row(method: str, queries: str, gain: float) -> dict[str, object]:
        facts = {"dataset": "a", "shots": 0, "classes": "5", "method": method, "expected": "", "queries": queries}
        return {**facts, "gain": gain, "gain_interval": 1.0}

    gains = {"x": (5.0, 2.9), "y": (5.0, 3.1), "zero-shot": (5.0, 0.0)}
    rows = [
        row(method, way, gain)
        for method, pair in gains.items()
        for way, gain in zip(("same size", "drawn shares"), pair, strict=True)
    ]
    expected = "by more than their intervals in 1 of 2 rows; -2.1 for a, 5 classes, x, expects –"
    assert few_classes.effect_of_shares(rows) == expected
