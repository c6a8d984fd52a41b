import resource
import subprocess
import sys

import pytest

from jclip_adapter.core import memory
from jclip_adapter.core.errors import OutOfMemoryError
from tests import ROOT

MEMINFO = "MemTotal: 16000000 kB\nMemAvailable:    2000000 kB\n"
STATUS = "Name:\tpython\nVmSize:\t  100000 kB\nVmData:\t   50000 kB\n"
LIMITS = "Limit                     Soft Limit           Hard Limit           Units     \n"
DATA = "Max data size             1051200000           unlimited            bytes     \n"
SPACE = "Max address space         unlimited            unlimited            bytes     \n"


@pytest.mark.parametrize(
    ("meminfo", "limits", "group", "expected"),
    [
        (MEMINFO, LIMITS, None, 2_048_000_000),
        (MEMINFO, LIMITS + SPACE, "max", 2_048_000_000),
        (MEMINFO, LIMITS + DATA + SPACE, None, 1_000_000_000),
        (MEMINFO, LIMITS, "900000000", 800_000_000),
        (MEMINFO, LIMITS, "50000000", 0),
        (MEMINFO, LIMITS, "90000000000", 2_048_000_000),
        ("MemTotal: 1 kB\n", LIMITS, None, None),
        (None, LIMITS, None, None),
    ],
)
def test_the_least_of_what_machine_process_and_container_leave(tmp_path, monkeypatch, meminfo, limits, group, expected):
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text(STATUS)
    (tmp_path / "self" / "limits").write_text(limits)
    if meminfo:
        (tmp_path / "meminfo").write_text(meminfo)
    if group:
        (tmp_path / "memory.max").write_text(group)
        (tmp_path / "memory.current").write_text("100000000\n")
    assert memory.available() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_real_limit_is_seen():
    code = "from jclip_adapter.core import memory; print(memory.available())"
    limit = 3 * 2**30
    printed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    ).stdout
    assert 0 < int(printed) < limit


def test_work_that_does_not_fit_is_refused_with_what_it_needs(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2_000_000_000)
    memory.require(1_900_000_000, "the work", "Do less.")
    with pytest.raises(OutOfMemoryError, match=r"the work needs 3\.0 GB of memory, and 2\.0 GB are free"):
        memory.require(3_000_000_000, "the work", "Do less.")
    monkeypatch.setattr(memory, "available", lambda: None)
    memory.require(3_000_000_000, "the work", "Do less.")
