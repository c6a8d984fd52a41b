"""Every engine writes the same parts, whatever is killed in between."""

import collections
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jclip_adapter import storage
from jclip_adapter.core.errors import DataError, SetupError, UsageError
from jclip_adapter.features.parts import ray_engine, slurm_engine
from jclip_adapter.features.parts.engine import extract_parts
from jclip_adapter.features.sharding import Part
from jclip_adapter.runtime.cluster import Share, share_of
from tests.features.encoders import Logged, MeanColour

ROOT = Path(__file__).parents[3]
PARTS, SIZE = 16, 4
pytestmark = pytest.mark.xdist_group("ray")  # one Ray at a time


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with a core each, beside one without on which the programs of the tests run."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_failure_threshold": 3}
        nodes = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": quick, "include_dashboard": False}
        )
        nodes.spare = [nodes.add_node(num_cpus=1) for _ in range(2)]
        patch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes
        nodes.shutdown()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for number in range(PARTS * SIZE):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number:03d}.png")
    (root / "001.png").write_bytes(b"broken")
    return root


@pytest.fixture(scope="module")
def wanted(photos, tmp_path_factory):
    """The bytes that the local engine writes."""
    folder = tmp_path_factory.mktemp("local")
    extract_parts("local", MeanColour, folder, str(photos), size=SIZE, dtype="float32")
    return bytes_of(folder)


def bytes_of(folder):
    """Name and bytes of each file but those that a killed process left half written, which are swept an hour later."""
    files = (path for path in folder.iterdir() if path.is_file())
    return {path.name: path.read_bytes() for path in files if not storage.is_stray(path)}


def start(photos, tmp_path, seconds):
    arguments = [photos, tmp_path / "out", tmp_path / "log", SIZE, seconds]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.features.parts.driver", "ray", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def encodings(tmp_path):
    """(process, photo) of each encoding so far."""
    log = tmp_path / "log"
    return [tuple(line.split()) for line in log.read_text().splitlines()] if log.exists() else []


def after(tmp_path, count, driver):
    """Wait until so many photos were encoded."""
    deadline = time.monotonic() + 60
    while len(encodings(tmp_path)) < count:
        assert driver.poll() is None, driver.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ends(driver, status=0):
    _, error = driver.communicate(timeout=60)
    assert driver.returncode == status, error
    return error


def encoded_twice(tmp_path):
    return sum(count > 1 for count in collections.Counter(photo for _, photo in encodings(tmp_path)).values())


@pytest.mark.parametrize("engine", ["ray", "shards"])
def test_every_engine_writes_the_same_bytes(engine, cluster, photos, wanted, tmp_path):
    run = functools.partial(extract_parts, folder=tmp_path, source=str(photos), size=SIZE, dtype="float32")
    if engine == "ray":
        assert run("ray", MeanColour)["rows"] == PARTS * SIZE
    else:
        assert "11 of 16 parts are missing" in run("local", MeanColour, share=Part(3, 3))
        run("local", MeanColour, share=Part(1, 3))
        assert run("local", MeanColour, share=Part(2, 3))["parts"] == PARTS
    assert bytes_of(tmp_path) == wanted


def test_a_lost_process_and_a_lost_node_are_done_without(cluster, photos, wanted, tmp_path):
    driver = start(photos, tmp_path, 0.2)
    for moment in (1, 16):
        after(tmp_path, moment, driver)
        os.kill(int(encodings(tmp_path)[-1][0]), signal.SIGKILL)
    after(tmp_path, 32, driver)
    node = cluster.spare.pop()
    raylet = next(info for kind, infos in node.all_processes.items() if kind == "raylet" for info in infos)
    os.kill(raylet.process.pid, signal.SIGKILL)
    error = ends(driver)
    cluster.remove_node(node)
    cluster.spare.append(cluster.add_node(num_cpus=1))
    assert error.count("its process was lost; another one encodes it") >= 2
    assert bytes_of(tmp_path / "out") == wanted
    assert encoded_twice(tmp_path) <= 3 * SIZE


def test_a_killed_driver_is_gone_on_from(cluster, photos, wanted, tmp_path):
    driver = start(photos, tmp_path, 0.2)
    after(tmp_path, 1, driver)
    driver.kill()
    ends(driver, -signal.SIGKILL)
    driver = start(photos, tmp_path, 0.5)
    after(tmp_path, 16, driver)
    driver.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in ends(driver, -signal.SIGINT)
    ends(start(photos, tmp_path, 0))
    assert bytes_of(tmp_path / "out") == wanted
    assert encoded_twice(tmp_path) <= 2 * 2 * SIZE


def test_a_damaged_tar_is_reported(cluster, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(DataError, match=r"\d\.tar is not a whole tar file"):
        extract_parts("ray", MeanColour, tmp_path / "out", str(tmp_path / "*.tar"), size=1, dtype="float32")


def kills_itself(moment):
    """A network whose process ends when it is opened, or when it encodes."""
    if moment == "open" and "RAY_JOB_ID" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    return Deadly()


class Deadly(MeanColour):
    def images(self, pixels):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("moment", "told"), [("open", "ended while they opened the network"), ("encode", r"part \d has ended 2 processes")]
)
def test_what_kills_every_process_is_given_up(moment, told, cluster, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "_TRIES", 2)
    load = functools.partial(kills_itself, moment)
    with pytest.raises(SetupError, match=told):
        extract_parts("ray", load, tmp_path / "out", str(photos), size=PARTS * SIZE, dtype="float32")


def test_processes_divide_the_nodes():
    assert share_of([{"CPU": 2}]) == (Share(2, 0), 1)
    assert share_of([{"CPU": 16}, {"CPU": 7}, {"CPU": 1}, {"memory": 1}]) == (Share(4, 0), 5)
    assert share_of([{"CPU": 64, "GPU": 8}, {"CPU": 12, "GPU": 4}, {"CPU": 96}]) == (Share(3, 1), 12)
    assert share_of([{"CPU": 32, "GPU": 1}]) == (Share(8, 1), 1)
    assert share_of([])[1] == 0


def test_a_share_is_for_this_process(tmp_path):
    with pytest.raises(UsageError, match="--shard cannot be combined with --engine ray"):
        extract_parts("ray", MeanColour, tmp_path, "x", size=1, dtype="float32", share=Part(1, 2))


@pytest.mark.parametrize(("engine", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_is_named(engine, module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SetupError, match=f"pip install -r requirements-{engine}.txt"):
        extract_parts(engine, MeanColour, tmp_path, "x", size=1, dtype="float32")


def test_slurm_is_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="needs Slurm's sbatch"):
        extract_parts("slurm", MeanColour, tmp_path, "x", size=1, dtype="float32")


def test_the_tasks_of_an_array_write_the_same_bytes(photos, wanted, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm_engine, "TASKS", 3)
    load = functools.partial(Logged, tmp_path / "log")
    out = tmp_path / "out"
    told = slurm_engine.submit(load, out, str(photos), SIZE, "float32", PARTS, cluster="local")
    assert "3 tasks for 16 missing parts" in told
    deadline = time.monotonic() + 60
    while not (out / "manifest.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert bytes_of(out) == wanted
    assert encoded_twice(tmp_path) == 0


SBATCH = """#!/bin/sh
cp "$(eval echo \\${$#})" "$SUBMITTED"
echo Submitted batch job 7
"""


def test_an_array_is_submitted_until_all_is_there(photos, wanted, tmp_path, monkeypatch):
    """With an sbatch that keeps what it is given; the array's tasks are then run here."""
    for name, text in (("sbatch", SBATCH), ("srun", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SUBMITTED", str(tmp_path / "submitted.sh"))
    out, load = tmp_path / "out", MeanColour
    run = functools.partial(extract_parts, folder=out, source=str(photos), size=SIZE, dtype="float32")
    for number in range(2):
        run("local", load, share=Part(number + 1, PARTS))
    told = run("slurm", load)
    assert "Slurm job 7, 14 tasks for 14 missing parts" in told
    script = (tmp_path / "submitted.sh").read_text()
    assert "#SBATCH --array=0-13%14" in script
    assert "#SBATCH --time=240" in script
    for number in range(14):
        run("local", load, share=Part(number + 1, 14))
    assert run("slurm", load)["parts"] == PARTS
    assert bytes_of(out) == wanted
