"""The program that counts refused paths notices what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.reliability import paths
from jclip_adapter import storage
from jclip_adapter.data.sets import contest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    place = paths.prepare(tmp_path.resolve())
    paths._use_data(place)
    paths._in_table("TrainSet/Animal/Bear/3.jpg", place)
    return place


def test_some_of_every_kind_are_refused(data: Path) -> None:
    tried = paths.cases(data.parent)
    assert len(tried) >= 400
    assert len({case.name for case in tried}) >= 50
    assert [found for case in tried[::7] if (found := paths.attempt(case, data))] == []


def case(data: Path, where: str, name: str) -> paths.Case:
    return next(case for case in paths.cases(data.parent) if (case.where, case.name) == (where, name))


def test_a_list_that_is_not_checked_is_noticed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    up = case(data, "train.txt", "a link to a photo")
    assert paths.attempt(up, data) == ""
    monkeypatch.setattr(paths, "remaining", lambda images, _: images.train)
    found = paths.attempt(up, data)
    assert "was taken" in found
    assert "outside/secret.jpg" in found


def test_a_name_that_is_not_looked_at_is_noticed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    up = case(data, "train.txt", "up from a class")
    monkeypatch.setattr(contest, "_check_pairs", lambda *_: (set(), {}))
    monkeypatch.setattr(paths, "remaining", lambda images, _: images.train)
    assert "outside/secret.jpg" in paths.attempt(up, data)


def test_a_manifest_that_reaches_out_is_noticed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = case(data, "run manifest", "absolute")
    assert paths.attempt(absolute, data) == ""
    monkeypatch.setattr(storage.folders, "_ELSEWHERE", frozenset())
    assert "opened" in paths.attempt(absolute, data)


def test_another_error_is_noticed(data: Path) -> None:
    def fault(_: Path) -> None:
        raise RuntimeError("x")

    assert "raised RuntimeError" in paths.attempt(paths.Case("list", "odd", fault), data)
