"""The report of a benchmark: a sortable table per data set, with intervals."""

from __future__ import annotations

import pytest

from jclip_adapter.web.benchmark import benchmark_part
from jclip_adapter.web.report import write_report
from tests.web.test_report import KIND, checked, words


def cell(method, top1, *, seed=1, shots=4, dataset="toy", **further):
    facts = {"dataset": dataset, "method": method, "shots": shots, "seed": seed, "top1": top1, "queries": 100}
    return {**facts, "ece": 2.0, "fit_seconds": 0.5, "transductive": method == "transclip", **further}


def tables(cells, folder, language="en"):
    """Heading and rows of every table, and the words of the page."""
    part = benchmark_part(cells, b"", language, "jclip-adapter benchmark")
    write_report(folder / "table.html", KIND, "table.csv", language, {"benchmark": part})
    tree = checked(folder / "table.html")
    found = {}
    for section in tree.iter("section"):
        for table in section.iter("table"):
            heads = [words(each) for each in next(table.iter("thead"))[0]]
            rows = [[words(each) for each in row] for row in next(table.iter("tbody"))]
            found[words(next(section.iter("h3")))] = (heads, rows) if section.get("class") != "part" else None
    return {name: table for name, table in found.items() if table}, tree


def test_a_table_per_data_set_best_first(tmp_path):
    cells = [cell("zero-shot", 60.0), cell("gda", 80.0), cell("gda", 70.0, shots=1)]
    found, tree = tables([*cells, cell("transclip", 75.0, dataset="<b>other")], tmp_path)
    assert list(found) == ["<b>other", "toy"]
    heads, rows = found["toy"]
    assert heads == ["method", "kind", "shots", "top-1", "95 % interval", "", "calibration error"]
    assert [row[:4] for row in rows] == [
        ["gda", "training-free", "4", "80.0 %"],
        ["gda", "training-free", "1", "70.0 %"],
        ["zero-shot", "zero-shot", "4", "60.0 %"],
    ]
    assert rows[0][4] == "71.1–86.7 %"  # Wilson's interval of 80 of 100
    assert found["<b>other"][1][0][0] == "transclip *"
    assert "A star marks transductive methods" in words(tree)
    assert "(Wilson)" in words(tree)
    buttons = [each for each in tree.iter("button")]
    assert len(buttons) == 2 * 6
    values = [each.get("data-value") for each in tree.iter("td") if each.get("data-value")]
    assert all(float(value) >= 0 for value in values)


def test_intervals_over_seeds_are_students(tmp_path):
    cells = [cell("gda", value, seed=seed) for seed, value in enumerate((60.0, 70.0, 80.0))]
    found, tree = tables(cells, tmp_path)
    assert found["toy"][1][0][3:5] == ["70.0 %", "45.2–94.8 %"]  # t(0.975; 2) = 4.302653, deviation 10, √3
    assert "over 3 seeds" in words(tree)


def test_classes_without_shots_have_their_columns(tmp_path):
    groups = {"base": 80.0, "new": 60.0, "harmonic": 68.6, "difference": 20.0, "protocol": "base-to-new"}
    cells = [cell("gda", 70.0, unseen=share, **groups) for share in (0.2, 0.5)]
    found, _ = tables(cells, tmp_path)
    heads, rows = found["toy"]
    assert heads[3:4] == ["classes without shots"]
    assert heads[7:11] == ["base", "new", "harmonic mean", "difference"]
    assert [row[3] for row in rows] == ["20 %", "50 %"]
    assert rows[0][7:11] == ["80.0 %", "60.0 %", "68.6 %", "20.0 %"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_rows_of_imagenet_esc_are_a_table_per_task(language, tmp_path):
    row = {"classes": 19, "rows": "own", "start": "text", "shots": 1, "top1": 50.0, "std": 1.5, "runs": 5}
    rows = [{**row, "task": task, "published": None} for task in ("image", "audio")]
    found, _ = tables(rows, tmp_path, language)
    assert list(found) == ["ImageNet-ESC-19, image", "ImageNet-ESC-19, audio"]
    heads, body = found["ImageNet-ESC-19, image"]
    assert heads == ["rows", "start", "shots", "top1", "std", "runs", "published"]
    assert body == [["own", "text", "1", "50.00", "1.50", "5", "–"]]
