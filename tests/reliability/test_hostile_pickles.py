"""The program that counts hostile files notices what it is for."""

from __future__ import annotations

import os
import pickle  # noqa: TID251  (what our reader must not do)
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reliability import hostile_files
from benchmarks.reliability.hostile_pickles import genuine, hostile, refuse
from jclip_adapter.core.errors import WeightsError

pytestmark = pytest.mark.confined


def test_there_are_enough_different_ones() -> None:
    files = hostile()
    assert len(set(hostile_files.HOSTILE.values())) == len(hostile_files.HOSTILE) >= 250
    assert len({data for _, data in files.values()}) == len(files) >= 750
    assert {ending for ending, _ in files.values()} == {".pkl", ".pt", ".zip"}


def test_some_are_refused_without_a_call(tmp_path: Path) -> None:
    files = hostile()
    some = {name: files[name] for name in list(files)[::29] if "100000" not in name and "million" not in name}
    assert refuse(some, tmp_path) == []


def test_genuine_files_are_read() -> None:
    count, failures = genuine()
    assert count == 21
    assert failures == []


def test_an_unpickler_is_noticed(tmp_path: Path) -> None:
    def unpickle(path: Path) -> Any:
        return pickle.loads(path.read_bytes())  # noqa: S301

    files = {name: hostile()[name] for name in ("system", "protocol 4: eval")}
    failures = refuse(files, tmp_path, unpickle)
    assert len(failures) == 2
    assert "os.system" in failures[0]
    assert "made calls" in failures[1]


def test_other_faults_of_a_reader_are_noticed(tmp_path: Path) -> None:
    def nameless(path: Path) -> Any:
        raise WeightsError("no.")

    def writes(path: Path) -> Any:
        os.close(os.open(tmp_path / "x", os.O_CREAT | os.O_WRONLY))
        raise WeightsError(f"{path} is bad.")

    def crashes(path: Path) -> Any:
        raise KeyError(path)

    files = {"system": hostile()["system"]}
    assert "not by name" in refuse(files, tmp_path, nameless)[0]
    assert "for writing" in refuse(files, tmp_path, writes)[0]
    assert "raised KeyError" in refuse(files, tmp_path, crashes)[0]
    assert genuine(nameless)[1]
