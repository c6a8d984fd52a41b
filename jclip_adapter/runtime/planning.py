"""How Jittor is to be started: device, environment, and paths of its compile cache."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from jclip_adapter.core.choices import DEVICES
from jclip_adapter.core.errors import SetupError, UsageError
from jclip_adapter.storage import read_json

from . import python_headers
from .cuda import Cuda, find_cuda
from .cuda_toolkit import Toolkit, output_of

# Optional parts of Jittor that would be downloaded at import and are not used here.
_WITHOUT = {"use_cutt": "0", "use_cutlass": "0", "use_nccl": "0", "use_mpi": "0"}
# CUDA 13 removed two fields of cudaDeviceProp that Jittor prints; two others of the same type replace them.
CUDA13_FLAGS = "-DcomputeMode=integrated -DclockRate=warpSize"


@dataclass(frozen=True)
class Plan:
    """How Jittor is to be started.

    Attributes:
        device: "cpu" or "cuda".
        reason: Why this device, in words.
        environment: Environment variables to set before the import.
        insisted: Whether the CPU must not replace CUDA.
        toolkit: The CUDA toolkit to use, if any.
    """

    device: str
    reason: str
    environment: dict[str, str] = field(default_factory=dict)
    insisted: bool = False
    toolkit: Toolkit | None = None


_SPINS = "5000"  # a fifth of the time of an adapter's training; 20,000 take longer than none beside other work


def make_plan(device: str = "auto", cuda: Cuda | None = None) -> Plan:
    """Decide the device and the environment for Jittor.

    Args:
        device: "auto" chooses CUDA only if a driver initialises and nvcc exists; or "cpu", "cuda".
        cuda: From `find_cuda`, which is called if None.

    Returns:
        The plan; nothing is changed yet.

    Raises:
        UsageError: an unknown device.
        SetupError: "cuda" is not available.
    """
    if device not in DEVICES:
        raise UsageError(f"unknown device '{device}'.", f"Known are: {', '.join(DEVICES)}.")
    environment = {**_WITHOUT, "JITTOR_HOME": str(jittor_home())}
    environment["log_silent"] = os.environ.get("log_silent", "1")
    # With more threads than free cores, spinning threads block the one that they wait for: training steps on shared
    # machines took several times longer. A thread that sleeps at once takes 70 µs to wake up, longer than many
    # operators take; so it spins for about as long, which pays beside other work too.
    environment["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "passive")
    if environment["OMP_WAIT_POLICY"] == "passive":
        environment["GOMP_SPINCOUNT"] = os.environ.get("GOMP_SPINCOUNT", _SPINS)
    environment["python_config_path"] = os.environ.get("python_config_path") or python_headers.config(cache_folder())
    on_cpu = {**environment, "nvcc_path": "", "cache_name": _cache_name("cpu")}
    if device == "cpu":
        return Plan("cpu", "asked for", on_cpu)
    cuda = cuda or find_cuda()
    obstacle = cuda.obstacle
    if obstacle and device == "cuda":
        raise SetupError(f"CUDA was asked for: {obstacle}.", f"{cuda.hint} Or use --device cpu.")
    if obstacle:
        return Plan("cpu", obstacle, on_cpu)
    environment["cache_name"] = _cache_name("cuda")
    environment["nvcc_path"] = cuda.toolkit.compiler(cache_folder()) if cuda.toolkit else cuda.nvcc
    if cuda.version >= (13, 0):
        environment["cc_flags"] = f"{os.environ.get('cc_flags', '')} {CUDA13_FLAGS}".strip()
    if cuda.cudnn != 8:
        environment["conv_opt"] = "1"  # disables cuDNN; cuBLAS and cuRAND stay
    return Plan("cuda", cuda.reason, environment, device == "cuda", cuda.toolkit)


def _cache_name(device: str) -> str:
    """The name of Jittor's cache for one device.

    Jittor puts CUDA's core in a folder inside the CPU's and imports the one that was compiled first for both: with the
    same name for both devices, or another program's, the second does not start. By default Jittor names its cache after
    the current git branch and compiles everything again for each.
    """
    return f"{os.environ.get('cache_name', 'jclip-adapter')}-{device}"


def jittor_home() -> Path:
    """The folder of Jittor's `.cache/jittor`, found as by Jittor: JITTOR_HOME, else its stored value, else the home."""
    if os.environ.get("JITTOR_HOME"):
        return Path(os.environ["JITTOR_HOME"]).absolute()
    remembered = Path.home() / ".cache" / "jittor" / "config.json"
    folder = read_json(remembered).get("JITTOR_HOME") if remembered.is_file() else None
    return Path(folder).absolute() if folder else Path.home()


def cache_folder() -> Path:
    """Jittor's cache folder, which this program uses too."""
    return jittor_home() / ".cache" / "jittor"


def compiler_path() -> str:
    """Path of the C++ compiler; empty if there is none."""
    return os.environ.get("cc_path") or shutil.which("g++") or ""


@functools.cache
def compiler() -> str:
    """The C++ compiler's first version line; empty if there is none."""
    return output_of(compiler_path(), "--version")[0].split("\n", 1)[0]


def compiled_folder() -> Path:
    """The folder of this version of Jittor, named by its first three numbers, in its cache."""
    return cache_folder() / f"jt{'.'.join(importlib.metadata.version('jittor').split('.')[:3])}"
