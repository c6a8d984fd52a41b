"""What is decided about CUDA, with drivers, compilers and GPUs that are not there."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ROOT
from jclip_adapter import cuda, doctor, runtime
from jclip_adapter.cuda import Cuda
from jclip_adapter.errors import SetupError

H200 = Cuda(True, "1 device", "/opt/cuda/bin/nvcc", (13, 0), 9, (13, 0), (9, 0))
REFUSED = {
    "no driver": (replace(H200, driver=False, reason="no CUDA driver"), "no CUDA driver"),
    "no nvcc": (replace(H200, nvcc="", version=(0, 0)), "no nvcc"),
    "nvcc is silent": (replace(H200, version=(0, 0)), "does not tell its version"),
    "CUDA 10": (replace(H200, version=(10, 2)), "is CUDA 10.2"),
    "CUDA 14": (replace(H200, version=(14, 0), supported=(14, 0)), "is CUDA 14.0"),
    "an old driver": (replace(H200, supported=(12, 4)), "the driver runs CUDA 12.4 at most, but nvcc is 13.0"),
    "an old nvcc": (replace(H200, version=(11, 2), supported=(12, 2)), "capability 9.0 needs CUDA 11.8"),
    "Blackwell": (replace(H200, version=(12, 2), capability=(10, 0)), "capability 10.0 needs CUDA 12.8"),
    "an old GPU": (replace(H200, capability=(6, 1)), "CUDA 13 no longer compiles for a GPU of compute capability 6.1"),
}
TAKEN = {
    "H200 with CUDA 13": H200,
    "H200 with CUDA 12": replace(H200, version=(12, 4)),
    "a newer toolkit of the same major version": replace(H200, version=(12, 9), supported=(12, 2), capability=(8, 0)),
    "V100 with CUDA 11": replace(H200, version=(11, 2), supported=(11, 4), capability=(7, 0), cudnn=8),
    "RTX 5090": replace(H200, version=(12, 8), supported=(12, 8), capability=(12, 0)),
    "a driver that tells nothing": replace(H200, supported=(0, 0), capability=(0, 0)),
}


class Driver:
    """A CUDA driver that answers what it is told to."""

    def __init__(self, init: int = 0, devices: int = 1, version: int = 13000, capability: tuple[int, int] = (9, 0)):
        self.init, self.devices, self.version, self.capability = init, devices, version, capability

    def cuInit(self, _: int) -> int:
        return self.init

    def cuDeviceGetCount(self, to: Any) -> int:
        return self._put(to, self.devices)

    def cuDriverGetVersion(self, to: Any) -> int:
        return self._put(to, self.version)

    def cuDeviceGetAttribute(self, to: Any, attribute: int, _: int) -> int:
        return self._put(to, self.capability[attribute - 75])

    def _put(self, to: Any, value: int) -> int:
        ctypes.cast(to, ctypes.POINTER(ctypes.c_int))[0] = value
        return 0


@pytest.mark.parametrize("name", REFUSED)
def test_the_cpu_is_taken_with_a_reason(name: str) -> None:
    found, reason = REFUSED[name]
    plan = runtime.make_plan("auto", found)
    assert (plan.device, plan.environment["nvcc_path"]) == ("cpu", "")
    assert reason in plan.reason
    with pytest.raises(SetupError, match="CUDA was asked for"):
        runtime.make_plan("cuda", found)
    findings = doctor._cuda(found)
    assert any(reason in finding.found for finding in findings)
    assert all(finding.cure for finding in findings)


@pytest.mark.parametrize("name", TAKEN)
def test_cuda_is_taken(name: str) -> None:
    found = TAKEN[name]
    plan = runtime.make_plan("auto", found)
    assert plan.device == "cuda"
    assert plan.environment["nvcc_path"] == found.nvcc
    assert ("cc_flags" in plan.environment) == (found.version[0] == 13)
    assert (plan.environment.get("conv_opt") == "1") == (found.cudnn != 8)
    assert not plan.insisted
    assert runtime.make_plan("cuda", found).insisted


@pytest.mark.parametrize(
    ("driver", "answer"),
    [
        (Driver(init=100), (False, "cuInit returned 100", (0, 0), (0, 0))),
        (Driver(devices=0), (False, "reports no device", (0, 0), (0, 0))),
        (Driver(version=12080), (True, "1 device(s), compute capability 9.0", (12, 8), (9, 0))),
    ],
)
def test_the_driver_is_asked(driver: Driver, answer: tuple[bool, str, Any, Any]) -> None:
    found = cuda.ask_driver(driver)
    assert found[0] is answer[0]
    assert answer[1] in found[1]
    assert found[2:] == answer[2:]


def test_nvcc_tells_its_version(tmp_path: Path) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 13.0, V13.0.88'\n")
    nvcc.chmod(0o755)
    assert cuda.nvcc_version(str(nvcc)) == (13, 0)
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    assert cuda.nvcc_version(str(nvcc)) == cuda.nvcc_version(str(tmp_path / "none")) == cuda.nvcc_version("") == (0, 0)


def test_doctor_tells_of_cudnn() -> None:
    told = {version: doctor._cuda(replace(H200, cudnn=version))[1] for version in (0, 8, 9)}
    assert [finding.state for finding in told.values()] == ["note", "ok", "note"]
    assert "version 9" in told[9].found


FALLBACK = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s")
from jclip_adapter import runtime
from jclip_adapter.errors import SetupError
runtime.onednn.link = lambda home: True
runtime.shorten_compilation = lambda *_: True
plans = []
def compiled(plan):
    plans.append(plan.device)
    if plan.device == "cuda":
        raise SetupError("nvcc fatal: no such architecture.")
runtime._compile_in_child = compiled
gpu = runtime.Cuda(True, "1 device", "/opt/cuda/bin/nvcc", (13, 0))
runtime.find_cuda = lambda: gpu
try:
    runtime.start(sys.argv[1])
except SetupError as error:
    print("refused", error)
print(plans, runtime.current_device())
import os
print(os.environ.get("nvcc_path"), os.environ.get("conv_opt"), os.environ.get("cc_flags"))
"""


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_cuda_that_does_not_work_is_left_unless_it_was_asked_for(device: str, tmp_path: Path) -> None:
    (tmp_path / "jittor.py").write_text("class flags: use_cuda = 0; cc_path = cc_flags = ''\n__version__ = '0'\n")
    done = subprocess.run(
        [sys.executable, "-c", FALLBACK, device],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "JITTOR_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if device == "auto":
        assert done.stdout == "['cuda', 'cpu'] cpu\n None None\n"  # nvcc is hidden, and no flag for CUDA is left
        assert "CUDA is found, but does not work (nvcc fatal: no such architecture.)" in done.stderr
    else:
        assert done.stdout.startswith("refused nvcc fatal")
