"""Tables of predictions: the same rows in every format, and no file of others is replaced."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jclip_adapter.core.choices import TABLES
from jclip_adapter.core.errors import SetupError, UsageError
from jclip_adapter.data import predictions
from jclip_adapter.data.predictions import Predictions, check_table, facts_path, write_predictions

FOUND = Predictions(
    ("a.jpg", "odd, name\nof \udcff.jpg", "broken.jpg", "猫.jpg"),
    {2: "broken.jpg is\nbroken"},
    ("cat", "dog", "bird"),
    np.array([[1, 0], [2, 1], [0, 2]]),
    np.array([[0.3, 0.5, 0.2], [0.0, 1 / 3, 2 / 3], [0.9, 0.0, 0.1]]),
    np.array([True, False, True]),
)
ROWS = [
    ("a.jpg", "dog", 0.5, "cat", 0.3, False, None),
    ("odd, name\nof \\udcff.jpg", "bird", 0.666667, "dog", 0.333333, True, None),
    ("broken.jpg", None, None, None, None, None, "broken.jpg is\\nbroken"),
    ("猫.jpg", "cat", 0.9, "bird", 0.1, False, None),
]
COLUMNS = ["path", "name_1", "probability_1", "name_2", "probability_2", "unknown", "error"]


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".jsonl":
        return pd.DataFrame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


@pytest.mark.parametrize("suffix", TABLES)
def test_every_format_has_the_same_rows(suffix, tmp_path):
    table, facts = write_predictions(tmp_path / f"x{suffix}", FOUND, {"method": "gda"})
    found = read(table)
    assert list(found.columns) == COLUMNS
    assert [tuple(None if pd.isna(value) else value for value in row) for row in found.values.tolist()] == ROWS
    assert json.loads(facts.read_text())["method"] == "gda"
    again, _ = write_predictions(tmp_path / f"y{suffix}", FOUND, {"method": "gda"})
    assert again.read_bytes() == table.read_bytes()


def test_a_table_without_the_question_has_no_column_of_unknown_photos(tmp_path):
    table, _ = write_predictions(
        tmp_path / "x.csv", Predictions(["a"], {}, ["cat"], np.array([[0]]), np.array([[1.0]])), {}
    )
    assert table.read_text() == "path,name_1,probability_1,error\na,cat,1.0,\n"


def test_the_truth_stands_beside_the_path(tmp_path):
    table, _ = write_predictions(
        tmp_path / "x.csv", dataclasses.replace(FOUND, truth=["cat", "a\udcff", "b", "猫"]), {}
    )
    found = pd.read_csv(table)
    assert list(found.columns) == ["path", "truth", *COLUMNS[1:]]
    assert list(found["truth"]) == ["cat", "a\\udcff", "b", "猫"]


def test_parquet_keeps_types_also_where_all_is_missing(tmp_path):
    nothing = Predictions(
        ["a"], {0: "broken"}, ["cat"], np.zeros((0, 1), np.int64), np.zeros((0, 1)), np.zeros(0, bool)
    )
    table, _ = write_predictions(tmp_path / "x.parquet", nothing, {})
    kinds = pd.read_parquet(table).dtypes.astype(str)
    assert kinds.to_dict() == {
        "path": "string",
        "name_1": "string",
        "probability_1": "Float64",
        "unknown": "boolean",
        "error": "string",
    }


def test_only_its_own_table_is_replaced(tmp_path):
    path = tmp_path / "x.csv"
    for _ in range(2):
        check_table(path)
        write_predictions(path, FOUND, {})
    path.write_text(path.read_text() + "mine\n")
    for attempt in (lambda: check_table(path), lambda: write_predictions(path, FOUND, {})):
        with pytest.raises(UsageError, match="not a file of predictions as this program wrote it"):
            attempt()
    assert path.read_text().endswith("mine\n")
    other = tmp_path / "y.csv"
    facts_path(other).write_text("{}")
    with pytest.raises(UsageError, match=r"y\.csv\.json exists"):
        check_table(other)


def test_places_that_cannot_be_written_are_refused_before(tmp_path, monkeypatch):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_table(tmp_path / "folder.csv")
    with pytest.raises(UsageError, match="there is no folder"):
        check_table(tmp_path / "missing" / "x.csv")
    monkeypatch.setattr(predictions.importlib.util, "find_spec", lambda _: None)
    check_table(tmp_path / "x.csv")
    with pytest.raises(SetupError, match="pip install pyarrow"):
        check_table(tmp_path / "x.parquet")
