"""Commands that are killed lose nothing; and what spoils a file is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import ROOT
from benchmarks.reliability import kill

WORLD = kill.WORLDS["tiny"]
# In a process of its own: this one has computed something with Jittor, and its forks would wait for ever.
PROGRAM = """
import contextlib, json, os, sys, time
from jclip_adapter import storage
from benchmarks.reliability.kill import WORLDS, campaign

@contextlib.contextmanager
def careless(path, kind):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as handle:
        class Slow:
            def write(self, data):
                handle.write(data[: len(data) // 2])
                handle.flush()
                time.sleep(2)  # past the last moment: whoever is killed after the first write began is amid one
                handle.write(data[len(data) // 2 :])
        yield Slow()

def spoil():
    storage.atomic.atomic_write = careless

trials = campaign(int(sys.argv[2]), 0, WORLDS["tiny"], sys.argv[1], *([spoil] if sys.argv[3] == "spoilt" else []))
print(json.dumps([trial.faults for trial in trials]))
"""


def faults(job: str, trials: int, how: str) -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, job, str(trials), how],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_killed_prediction_goes_on() -> None:
    assert faults("predict", 2, "as it is") == [[], []]


def test_a_careless_writer_is_noticed() -> None:
    assert any("half written" in fault for trial in faults("extract", 6, "spoilt") for fault in trial)


def test_what_is_half_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "results/cells").mkdir(parents=True)
    (tmp_path / "results/cells/a.json").write_text('{"dataset": ')
    (tmp_path / "results/cells/.b.json.0123456789ab.partial").write_text('{"dataset": ')
    (tmp_path / "results/features/images-1").mkdir(parents=True)
    (tmp_path / "results/features/images-1/abc.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "result.txt").write_text("image_1.jpg 1")
    (tmp_path / "result.zip").write_text("older")
    older = {"result.zip": kill.sha256_file(tmp_path / "result.zip")}
    named = {fault.split()[0] for fault in kill.damage(tmp_path, [older, {}])}
    assert named == {"result.txt", "results/cells/a.json", "results/features/images-1/abc.npz"}
    assert list(kill.lost(tmp_path, {"result.zip": "", "gone.txt": ""})) == ["gone.txt is gone"]


def test_a_process_that_lives_on_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill, "PATIENCE_S", 0.0)
    environment = {**os.environ, kill.MARK: "this-one"}
    with subprocess.Popen(["cat"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(b"x\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"x\n"  # only now it is sure to have its own environment
            assert kill.survivors("this-one") == [process.pid]
        finally:
            process.kill()
    assert kill.survivors("this-one") == []


def test_the_commands_share_the_trials() -> None:
    assert [count for _, count in kill.shares(200, kill.jobs_on(WORLD))] == [50, 25, 25, 50, 50]


def test_a_fault_fails_the_program() -> None:
    good, bad = kill.Trial("predict", 0.1, False), kill.Trial("predict", 0.2, True, ["result.txt is gone"])
    assert kill.conclude([good], WORLD).failures == 0
    found = kill.conclude([good, bad], WORLD)
    assert (found.count, found.failures) == (2, 1)
    assert "result.txt is gone" in found.facts["faults"][0]
