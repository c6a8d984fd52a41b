"""The table of cache keys, and that it notices keys which leave something out or hold too much."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.reliability import cache_keys
from jclip_adapter.evaluation import benchmark
from jclip_adapter.features.store import FeatureStore
from jclip_adapter.models.clip.encoder import Encoder


@pytest.fixture
def extraction(tmp_path: Path) -> cache_keys.Extraction:
    return cache_keys.Extraction(tmp_path / "extraction")


def test_extraction(extraction: cache_keys.Extraction) -> None:
    tried, wanted, faults = cache_keys.check(extraction.rows(), 1000)
    assert faults == []
    assert tried == sum(wanted.values()) >= 45
    assert min(wanted.values()) >= 20


def test_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extraction: cache_keys.Extraction) -> None:
    monkeypatch.chdir(tmp_path)  # and back, at the end
    extraction.other_weights()
    cells = cache_keys.Cells(tmp_path / "cells", extraction.folder)
    tried, _, faults = cache_keys.check(cells.rows(), 1000)
    assert faults == []
    assert tried >= 28
    monkeypatch.setattr(benchmark, "code_digest", lambda *modules: "")
    rows = [row for row in cells.rows() if "code" in row.name and row.wanted]
    cache_keys.check(iter(rows[:1]), 1)  # under the key without code there is nothing yet
    assert len(cache_keys.check(iter(rows), 1000)[2]) == len(rows) == 3


def test_a_key_without_the_weights_is_noticed(
    extraction: cache_keys.Extraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Encoder, "image_key", lambda self: "0" * 64)
    extraction.photos()
    _, _, faults = cache_keys.check((row for row in extraction.rows() if row.group == "photos"), 1000)
    missed = [fault for fault in faults if ": 0 computed" in fault]
    assert {fault.split(": ")[1] for fault in missed} >= {"weights", "tuned image tower", "arithmetic", "preprocessing"}


def test_a_store_that_forgets_is_noticed(extraction: cache_keys.Extraction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FeatureStore, "refresh", lambda self: None)
    _, _, faults = cache_keys.check((row for row in extraction.rows() if row.group == "photos"), 1000)
    assert {"nothing", "another order"} <= {fault.split(": ")[1] for fault in faults}
