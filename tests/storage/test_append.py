"""A log that only grows: what a kill leaves, and who may write it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jclip_adapter.core.errors import DataError, SetupError, UsageError
from jclip_adapter.storage import AppendLog, link_folder

LINES = st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=20), max_size=5)


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    log = AppendLog(tmp_path / "new" / "log")
    log.append("one")
    log.append("zwei ü")
    log.close()
    assert AppendLog(tmp_path / "new" / "log").lines() == ["one", "zwei ü"]


@given(LINES, st.integers(0, 200))
def test_a_log_cut_anywhere_keeps_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], cut: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = AppendLog(path)
    for line in lines:
        log.append(line)
    log.close()
    data = path.read_bytes()[:cut]
    path.write_bytes(data)
    again = AppendLog(path)
    kept = lines[: data.count(b"\n")]
    assert again.lines() == kept
    again.append("next")
    assert again.lines() == [*kept, "next"]
    again.close()


def test_only_one_process_holds_it(tmp_path: Path) -> None:
    log = AppendLog(tmp_path / "log")
    with pytest.raises(UsageError, match="open in another process"):
        AppendLog(tmp_path / "log")
    log.close()
    AppendLog(tmp_path / "log").close()


def test_a_line_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    """The process is killed right after: what it acknowledged is there."""
    code = (
        "import os, pathlib; from jclip_adapter.storage import AppendLog\n"
        "log = AppendLog(pathlib.Path('log'))\n"
        "log.append('kept'); os.kill(os.getpid(), 9)"
    )
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, check=False
    )
    assert done.returncode == -9
    assert AppendLog(tmp_path / "log").lines() == ["kept"]


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AppendLog(tmp_path / "log")
    log.append("one")
    write, calls = os.write, []

    def full(handle: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return write(handle, data[:3])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SetupError, match="No space left"):
        log.append("second line")
    monkeypatch.undo()
    log.append("two")
    assert log.lines() == ["one", "two"]


def test_what_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="not UTF-8"):
        AppendLog(tmp_path / "log").lines()


def test_a_link_to_another_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    link_folder(tmp_path / "p" / "data", tmp_path / "a")
    link_folder(tmp_path / "p" / "data", tmp_path / "a")
    assert (tmp_path / "p" / "data").resolve() == tmp_path / "a"
    with pytest.raises(UsageError, match="belongs to"):
        link_folder(tmp_path / "p" / "data", tmp_path / "b")
