"""The benchmark's table does not depend on the engine, and a sweep that was killed goes on."""

import csv
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tiny_features import write_features

ROOT = Path(__file__).parents[2]
METHODS = "zero-shot,tip-adapter,linear-probe,jclip-adapter"
SWEEP = (
    "--features",
    "a.npz",
    "b.npz",
    "--shots",
    "1,4",
    "--seed",
    "1",
    "--resample",
    "--method",
    METHODS,
    "--select",
    "none",
)
CELLS = 4 * 2 * 2
pytestmark = pytest.mark.xdist_group("ray")  # one Ray at a time


@pytest.fixture
def two_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_features(tmp_path / "a.npz", (1, 4))
    write_features(tmp_path / "b.npz", (1, 4), classes=4)


def rows(path):
    """The rows without what was measured by a clock."""
    with Path(path).open() as handle:
        return [{key: value for key, value in row.items() if "seconds" not in key} for row in csv.DictReader(handle)]


def test_a_killed_sweep_on_ray_has_the_same_table(two_files, cli, monkeypatch):
    assert cli("--benchmark", *SWEEP, "--device", "cpu").status == 0
    wanted = rows("results/table.csv")
    assert len(wanted) == CELLS
    Path("results").rename("local")
    driver = subprocess.Popen(
        [sys.executable, ROOT / "runner.py", "--benchmark", *SWEEP, "--device", "cpu", "--engine", "ray"],
        stderr=subprocess.PIPE,
        text=True,
    )
    cells, deadline = Path("results/cells"), time.monotonic() + 60
    while len(list(cells.glob("*.json"))) < 5:
        assert driver.poll() is None, driver.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    driver.kill()
    driver.communicate()
    before = {path: path.stat().st_ino for path in cells.glob("*.json")}
    outcome = cli("--benchmark", *SWEEP, "--device", "cpu", "--engine", "ray")
    assert outcome.status == 0, outcome.err
    assert rows("results/table.csv") == wanted
    assert all(path.stat().st_ino == number for path, number in before.items()), "a finished cell was computed again"
    # All are there now: Ray is not started.
    monkeypatch.setattr("jclip_adapter.runtime.cluster.connected", None)
    assert cli("--benchmark", *SWEEP, "--device", "cpu", "--engine", "ray").status == 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--method", "clip-lora", "--engine", "ray"), "clip-lora trains through CLIP"),
        (("--engine", "slurm"), "--engine slurm is for --extract"),
        (("--protocol", "imagenet-esc", "--engine", "ray"), "no effect"),
    ],
)
def test_what_ray_cannot_do_is_refused(more, told, workplace, cli):
    outcome = cli("--benchmark", "--data", "Dataset", "--weights", "tiny.pkl", "--shots", "1", *more)
    assert outcome.status == 2
    assert told in outcome.err
