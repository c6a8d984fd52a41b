"""The program that reads mutated headers notices what it is for."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import numpy as np
import pytest

from benchmarks.reliability import mutated_headers
from benchmarks.reliability.hostile_pickles import GENUINE
from benchmarks.reliability.mutated_headers import READERS, spread, work
from benchmarks.reliability.mutations import formats
from jclip_adapter.core.errors import DataError

pytestmark = pytest.mark.confined


def test_some_of_every_format() -> None:
    found = work(0, 600, 1, READERS, lambda _: None)
    assert found["failures"] == []
    assert all(done["refused"] for done in found["done"].values())
    assert found["slowest"] < 1


def test_every_format_is_sound_before_it_is_changed(tmp_path: Path) -> None:
    kinds = formats(tmp_path, GENUINE)
    assert sum(kind.share for kind in kinds) == pytest.approx(1)
    for kind in kinds:
        for data in kind.files:
            (tmp_path / "file").write_bytes(data)
            READERS[kind.name](tmp_path / "file")
        changed = {change(kind.files[0], Random(number)) for number, change in enumerate(kind.changes)}  # noqa: S311
        assert len(changed - {kind.files[0]}) > 1


def test_faults_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(_: Path) -> None:
        np.ones(400 << 20, np.uint8)

    def odd(_: Path) -> None:
        raise KeyError("x")

    def endless(_: Path) -> None:
        while True:
            pass

    def sound(_: Path) -> None:
        raise DataError("no.")

    monkeypatch.setattr(mutated_headers, "LIMIT_S", 0.1)
    calls = dict.fromkeys(READERS, 0)

    def late(name: str, fault: object) -> object:
        def read(path: Path) -> None:
            calls[name] += 1
            if calls[name] == 2:  # the first call is to import what is imported late
                fault(path)  # type: ignore[operator]
            if calls[name] > 2:
                sound(path)

        return read

    faults = dict(zip(READERS, (greedy, odd, endless, sound, sound), strict=True))
    started = time.perf_counter()
    found = work(0, 60, 1, {name: late(name, fault) for name, fault in faults.items()}, lambda _: None)  # type: ignore[misc]
    assert time.perf_counter() - started < 20
    text = "\n".join(found["failures"])
    assert len(found["failures"]) == 3
    assert "MemoryError" in text
    assert "KeyError" in text
    assert "_TooLong" in text


def test_a_process_that_dies_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutated_headers.sys, "executable", "false")
    found = spread(10, 0)
    assert len(found) == 2
    assert all("died with status 1" in part["failures"][0] for part in found)
