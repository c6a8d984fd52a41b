"""What is decided about CUDA, with drivers, compilers and GPUs that are not there."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ROOT, cuda_rehearsal
from jclip_adapter.cli.commands import doctor
from jclip_adapter.core.errors import SetupError
from jclip_adapter.runtime import cuda, cuda_guard, planning
from jclip_adapter.runtime.cuda import Cuda

H200 = Cuda(True, "1 device", "/opt/cuda/bin/nvcc", (13, 0), 9, (13, 0), (9, 0))
REFUSED = {
    "no driver": (replace(H200, driver=False, reason="no CUDA driver"), "no CUDA driver"),
    "no nvcc": (replace(H200, nvcc="", version=(0, 0)), "no nvcc"),
    "nvcc is silent": (replace(H200, version=(0, 0)), "does not report its version"),
    "CUDA 10": (replace(H200, version=(10, 2)), "is CUDA 10.2"),
    "CUDA 14": (replace(H200, version=(14, 0), supported=(14, 0)), "is CUDA 14.0"),
    "an old driver": (replace(H200, supported=(12, 4)), "the driver supports CUDA up to 12.4, but nvcc is 13.0"),
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
    plan = planning.make_plan("auto", found)
    assert (plan.device, plan.environment["nvcc_path"]) == ("cpu", "")
    assert reason in plan.reason
    with pytest.raises(SetupError, match="CUDA was asked for"):
        planning.make_plan("cuda", found)
    findings = doctor._cuda(found)
    assert any(reason in finding.found for finding in findings)
    assert all(finding.hint for finding in findings)


@pytest.mark.parametrize("name", TAKEN)
def test_cuda_is_taken(name: str) -> None:
    found = TAKEN[name]
    plan = planning.make_plan("auto", found)
    assert plan.device == "cuda"
    assert plan.environment["nvcc_path"] == found.nvcc
    assert ("cc_flags" in plan.environment) == (found.version[0] == 13)
    assert (plan.environment.get("conv_opt") == "1") == (found.cudnn != 8)
    assert not plan.insisted
    assert planning.make_plan("cuda", found).insisted


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


def test_a_jittor_without_the_cuda_runtime_is_refused() -> None:
    with pytest.raises(SetupError, match="did not load the CUDA runtime"):
        cuda_guard.guard(None)


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
from jclip_adapter.core.errors import SetupError
from jclip_adapter.runtime import build, planning
runtime.onednn.link = lambda home: True
runtime.shorten_compilation = lambda *_: True
plans = []
def compiled(plan):
    plans.append(plan.device)
    if plan.device == "cuda":
        raise SetupError("nvcc fatal: no such architecture.")
build.compile_core = compiled
gpu = planning.Cuda(True, "1 device", "/opt/cuda/bin/nvcc", (13, 0))
planning.find_cuda = lambda: gpu
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
        env={
            **{name: value for name, value in os.environ.items() if name != "nvcc_path"},
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
            "JITTOR_HOME": str(tmp_path / "home"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if device == "auto":
        assert done.stdout == "['cuda', 'cpu'] cpu\nNone None None\n"  # no setting is left, of either device
        assert "CUDA was found but does not work (nvcc fatal: no such architecture.)" in done.stderr
    else:
        assert done.stdout.startswith("refused nvcc fatal")


def test_each_device_has_a_cache_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one cache for both, CUDA imported the CPU's core: 'Flags' object has no attribute 'cuda_archs'."""
    for given in (None, "mine"):
        monkeypatch.delenv("cache_name", raising=False)
        if given:
            monkeypatch.setenv("cache_name", given)
        names = [planning.make_plan(device, H200).environment["cache_name"] for device in ("cpu", "cuda", "auto")]
        assert names[0] != names[1] == names[2]
        assert not {"default", "mine", "main"} & set(names)  # those of other programs that use Jittor
        assert given is None or all(name.startswith("mine") for name in names)


BESIDE = """
import sys, os, json, types
from jclip_adapter import runtime
from jclip_adapter.runtime import build, planning
runtime.onednn.link = lambda home: True
runtime.shorten_compilation = lambda *_: True
runtime.cuda_guard.guard = runtime.cuda_guard.leave_cub_out = lambda *_: None
build.compile_core = lambda plan: ""
planning.find_cuda = lambda: planning.Cuda(True, "1 device", "/opt/cuda/bin/nvcc", (13, 0))
runtime.start(sys.argv[1])
import jittor, subprocess
print(json.dumps([jittor.seen, sorted(os.environ)]))
if len(sys.argv) > 2:
    sys.stdout.flush()
    subprocess.run([sys.executable, "-c", sys.argv[3], *sys.argv[2:3], "", ""][:4], check=True)
"""
SEEN = """
import os
class flags: use_cuda = 0; cc_path = cc_flags = ''
__version__, has_cuda = '0', 1
seen = {name: os.environ.get(name) for name in ("nvcc_path", "conv_opt", "cc_flags", "cache_name")}
os.environ["cuda_arch"] = "c u 1 3"  # as Jittor does
"""


@pytest.mark.parametrize("first", ["cpu", "cuda"])
def test_a_comparison_of_both_devices_by_processes(first: str, tmp_path: Path) -> None:
    """What a process set for its own Jittor does not reach the Jittor of a process that it starts."""
    (tmp_path / "jittor.py").write_text(SEEN)
    other = "cuda" if first == "cpu" else "cpu"
    environment = {name: value for name, value in os.environ.items() if name not in ("nvcc_path", "cc_flags")}
    environment |= {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "JITTOR_HOME": str(tmp_path / "home")}
    environment["cc_flags"] = "-DMINE"
    command = [sys.executable, "-c", BESIDE, first, other, BESIDE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    seen = dict(zip((first, other), (one[0] for one in told), strict=True))
    flags = "-DMINE -DcomputeMode=integrated -DclockRate=warpSize"
    assert seen["cpu"].pop("cc_flags") == "-DMINE -O1"  # the stand-in has no headers to precompile
    assert seen["cpu"] == {"nvcc_path": "", "conv_opt": None, "cache_name": "jclip-adapter-cpu"}
    assert seen["cuda"] == {
        "nvcc_path": "/opt/cuda/bin/nvcc",
        "conv_opt": "1",
        "cc_flags": flags,
        "cache_name": "jclip-adapter-cuda",
    }
    for _, names in told:
        assert set(names) - set(environment) <= {"CPLUS_INCLUDE_PATH", "LC_CTYPE"}


def test_a_core_without_cuda_is_not_taken_for_one_with_it(tmp_path: Path) -> None:
    (tmp_path / "jittor.py").write_text(SEEN.replace("'0', 1", "'0', 0"))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "JITTOR_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", BESIDE, "cuda"], env=environment, capture_output=True, text=True, check=False
    )
    assert "SetupError: Jittor was built without CUDA. Delete" in done.stderr


@pytest.mark.parametrize("installed", [True, False])
def test_cuda_does_without_onednn(installed: bool, tmp_path: Path) -> None:
    """Jittor would download it at its import, and stop without a network."""
    (tmp_path / "jittor.py").write_text(SEEN.replace('("nvcc_path"', '("use_mkl", "nvcc_path"'))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "JITTOR_HOME": str(tmp_path / "home")}
    code = BESIDE if installed else BESIDE.replace("lambda home: True", "lambda home: False")
    done, refused = (
        subprocess.run(
            [sys.executable, "-c", code, device], env=environment, capture_output=True, text=True, check=False
        )
        for device in ("cuda", "cpu")
    )
    assert json.loads(done.stdout)[0]["use_mkl"] == (None if installed else "0")
    assert ("oneDNN is missing, which Jittor needs on the CPU" in refused.stderr) == (not installed)


def test_the_page_shows_the_rehearsals_results() -> None:
    """All that was rehearsed passed, and no kernel of cub was among it."""
    result = json.loads(cuda_rehearsal.RESULTS.read_text("utf-8"))
    assert cuda_rehearsal.summary(result) in cuda_rehearsal.PAGE.read_text("utf-8")
    assert [row["name"] for row in result["situations"] if not row["passed"]] == []
    assert [one for one in result["kernels"] if not one["compiled"] or "cub_" in one["operator"]] == []
    assert len(result["kernels"]) > 50
