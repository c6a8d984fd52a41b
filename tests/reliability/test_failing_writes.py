"""No write call fails unnoticed, and none spoils what was there."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.reliability import failing_writes as writes
from jclip_adapter import storage
from jclip_adapter.core.errors import SetupError
from tests.tiny_contest import lay_out

pytestmark = pytest.mark.confined


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("writes") / "base")


@pytest.mark.parametrize("name", ["predict", "convert", "sample"])
def test_every_seventh_call(name: str, base: Path, tmp_path: Path) -> None:
    trials = list(writes.every_call(name, base, tmp_path, [errno.ENOSPC], stride=7))
    assert len(trials) > 2
    assert [trial for trial in trials if trial.faults] == []


def test_a_writer_that_spoils_the_older_file_is_noticed(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def careless(path: str | Path, _: storage.Kind) -> Iterator[object]:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with Path(path).open("wb") as handle:
                yield handle
        except OSError as error:
            raise storage.atomic.unwritable(Path(path), error) from error

    monkeypatch.setattr(storage.atomic, "atomic_write", careless)
    trials = list(writes.every_call("predict", base, tmp_path, [errno.EIO], stride=2))
    assert any("neither the older nor the new one" in fault for trial in trials for fault in trial.faults)


def test_an_error_that_is_swallowed_is_noticed(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = storage.write_bytes

    def deaf(path: str | Path, data: bytes, kind: storage.Kind = storage.NEW) -> None:
        with contextlib.suppress(SetupError):
            genuine(path, data, kind)

    monkeypatch.setattr(storage, "write_bytes", deaf)
    trials = list(writes.every_call("sample", base, tmp_path, [errno.EIO], stride=5))
    assert any(trial.faults for trial in trials)


@pytest.mark.parametrize("command", ["--list", "--no-such-flag"])
def test_streams_that_take_nothing(command: str) -> None:
    trials = list(writes.streams([command]))
    assert len(trials) == 6
    assert [trial for trial in trials if trial.faults] == []


def test_a_fault_fails_the_program() -> None:
    trial = writes.Trial("train", "write", errno.EIO, ("status 0",))
    assert writes.conclude([trial]).failures == 1
    assert "Input/output error: status 0" in writes.conclude([trial]).facts["faults"][0]
