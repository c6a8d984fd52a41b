import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmarks import first_run
from jclip_adapter.core.errors import SetupError

PRINTED = """\
Jittor runs on cpu
drawing the sample: 960 of 960 photos, 4.1 s
training: 48 steps, 2.5 s
top-1 80 %
"""


def test_a_first_run_is_divided_into_its_steps(monkeypatch, tmp_path):
    commands = []

    def run(command, **more):
        commands.append(command)
        assert more["env"]["HOME"] == str(tmp_path / "home")
        return SimpleNamespace(returncode=0, stdout=PRINTED)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(first_run, "silence", lambda command, folder, environment: 1.5)
    found = dict(first_run.steps(tmp_path, tmp_path / "home"))
    assert (found["– drawing the sample"], found["– training"]) == (4.1, 2.5)
    assert found[first_run.SILENCE] == 1.5
    assert commands[0] == ["make", ".venv/run.stamp"]
    assert len(commands) == 3 + len(first_run.AGAIN)


def test_a_step_that_fails_ends_it(monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=2, stdout="no network"))
    with pytest.raises(SetupError, match="no network"):
        list(first_run.steps(tmp_path, tmp_path))


def test_silence_is_the_longest_time_without_output(tmp_path):
    code = "import sys, time; assert sys.stdout.isatty(); print(1); time.sleep(0.1); print(2); time.sleep({}); {}"
    seconds = first_run.silence([sys.executable, "-uc", code.format(0.6, "print(3)")], tmp_path, {})
    assert 0.5 < seconds < 5
    assert first_run.silence([sys.executable, "-uc", code.format(0.6, "")], tmp_path, {}) > 0.5
    with pytest.raises(SetupError, match="wrong"):
        first_run.silence([sys.executable, "-uc", code.format(0, "raise ValueError('wrong')")], tmp_path, {})


def test_the_table_has_a_column_per_revision():
    steps = ("environment and packages", "Jittor's core", "train, evaluate, predict")
    rows = [{"revision": name, "step": step, "seconds": "1.5"} for name in ("v1", "HEAD") for step in steps]
    lines = first_run.table(rows).splitlines()
    assert "v1" in lines[5] and "HEAD" in lines[5]
    assert "4.5" in next(line for line in lines if "until the first result" in line)
