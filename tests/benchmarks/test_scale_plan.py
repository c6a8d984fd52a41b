"""The tables of docs/scale.md against values that can be worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks import scale_plan
from benchmarks.part_times import NETWORK, Value
from jclip_adapter.core.choices import PART_PHOTOS
from jclip_adapter.core.errors import DataError


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Round numbers in place of the measurements."""
    size = PART_PHOTOS
    values = [
        *(Value(f"{step} a photo", NETWORK, 32, 0.001, "core-s") for step in ("read", "hash", "decode", "encode")),
        Value("encode a part, all cores", NETWORK, 100, 3.6, "core-s"),
        Value("bytes of a photo", NETWORK, 32, 20_000, "bytes"),
        Value("bytes of a row", "float32", size, 2000, "bytes"),
        Value("bytes of a row", "float16", size, 1000, "bytes"),
        Value("list a photo", "folder", 10, 36e-6, "s"),
        Value("list a photo", "list", size, 3.6e-6, "s"),
        Value("check a part", "float32", size, 0.0036 * size, "s"),
        Value("stream a part", "float32", size, 0.036 * size, "s"),
        Value("memory of a unit", "list", size, 0.25, "MB"),
        Value("memory of a part", "float32", size, 30, "MB"),
        Value("memory of a part", "float16", size, 50, "MB"),
    ]
    searched = {"bytes per row": 1040.0, "a query of photos": 5000.0, "near duplicates": 25.0}
    monkeypatch.setattr(scale_plan, "read_values", lambda: values)
    monkeypatch.setattr(scale_plan, "searched", lambda what, by, rows: searched[what])


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_rates() -> None:
    rows = cells(scale_plan.rates_table())
    assert [row[1:] for row in rows] == [["1", "1,000"]] * 4 + [["36", "27.8"]]


def test_work() -> None:
    cores, gpus, decode, read = (row[1:] for row in cells(scale_plan.work_table()))
    assert cores == ["10", "1,000", "10,000"]
    assert gpus == ["0.185", "18.5", "185"]
    assert decode == ["0.833", "83.3", "833"]
    assert read == ["0.02", "2", "20"]


def test_storage() -> None:
    rows = cells(scale_plan.storage_table())
    assert [row[3] for row in rows] == ["2,000", "1,000", "1,040", "64"]


def test_limits() -> None:
    rows = {row[0]: row[1:] for row in cells(scale_plan.limits_table())}
    assert rows["hours to list a folder, local disk"] == ["0.01", "1", "10"]
    assert rows["hours to read a list of paths"] == ["0.001", "0.1", "1"]
    assert rows[f"files of parts of {PART_PHOTOS:,}"][2] == scale_plan.figure(2 * 10**9 / PART_PHOTOS)
    assert rows["core-hours to check all parts when a run goes on"] == ["1", "100", "1,000"]
    assert rows["core-hours to read all features"] == ["10", "1,000", "10,000"]
    assert rows["seconds of an exact search, one query"] == ["5", "500", "5,000"]
    quadratic = 25 / scale_plan.MOST_COMPARED**2 / 3600
    assert rows["hours to compare all pairs"] == [scale_plan.figure(count**2 * quadratic) for count in (1e6, 1e8, 1e9)]


def test_memory() -> None:
    assert cells(scale_plan.memory_table()) == [[f"{PART_PHOTOS:,}", "0.25", "30", "50"]]


def test_an_index_pays_off_after_some_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building takes 100 s; a query 250 ms instead of 1,250."""
    known = {"build": 100.0, "open": 0.5}
    monkeypatch.setattr(
        scale_plan, "searched", lambda what, by, rows: known.get(what, 1250.0 if by == "exact" else 250.0)
    )
    lines = scale_plan.index_worth().splitlines()
    assert len(lines) == 2
    assert all("after 100 queries" in line and "takes 250 ms instead of 1,250 ms" in line for line in lines)


def test_a_missing_search_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"benchmarks\.search_speed"):
        scale_plan.searched("bytes per row", "index", 7)
