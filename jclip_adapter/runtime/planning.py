"""How Jittor is going to be started: the device, the environment, and the places of its compile cache."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from jclip_adapter.core.choices import DEVICES
from jclip_adapter.core.errors import SetupError, UsageError
from jclip_adapter.storage import read_json

from . import python_headers
from .cuda import Cuda, find_cuda
from .cuda_toolkit import Toolkit

# Optional parts of Jittor that would be downloaded at import and that nothing here uses.
_WITHOUT = {"use_cutt": "0", "use_cutlass": "0", "use_nccl": "0", "use_mpi": "0"}
# CUDA 13 took two fields from cudaDeviceProp that Jittor prints; two others of the same type stand in for them.
CUDA13_FLAGS = "-DcomputeMode=integrated -DclockRate=warpSize"


@dataclass(frozen=True)
class Plan:
    """How Jittor is going to be started.

    Attributes:
        device: "cpu" or "cuda".
        reason: Why this device, in words.
        environment: What has to be set before the import.
        insisted: Whether nothing else will do.
        toolkit: The CUDA toolkit that is going to be used, if any.
    """

    device: str
    reason: str
    environment: dict[str, str] = field(default_factory=dict)
    insisted: bool = False
    toolkit: Toolkit | None = None


def make_plan(device: str = "auto", cuda: Cuda | None = None) -> Plan:
    """Decide the device and the environment for Jittor.

    Args:
        device: "auto" takes CUDA only where a driver initialises and nvcc is there; "cpu" and "cuda" insist.
        cuda: What was found; looked up if not given.

    Returns:
        The plan; nothing is changed yet.

    Raises:
        UsageError: an unknown device.
        SetupError: "cuda" was asked for and cannot be had.
    """
    if device not in DEVICES:
        raise UsageError(f"there is no device '{device}'.", f"Known are: {', '.join(DEVICES)}.")
    environment = {**_WITHOUT, "JITTOR_HOME": str(jittor_home())}
    environment["log_silent"] = os.environ.get("log_silent", "1")
    # Threads that wait for one another by spinning take the core from the one that they wait for, wherever there are
    # more threads than free cores: training steps on shared machines took several times longer.
    environment["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "passive")
    environment["python_config_path"] = os.environ.get("python_config_path") or python_headers.config(cache_folder())
    on_cpu = {**environment, "nvcc_path": "", "cache_name": _cache_name("cpu")}
    if device == "cpu":
        return Plan("cpu", "asked for", on_cpu)
    cuda = cuda or find_cuda()
    obstacle = cuda.obstacle
    if obstacle and device == "cuda":
        raise SetupError(f"CUDA was asked for: {obstacle}.", f"{cuda.cure} Or use --device cpu.")
    if obstacle:
        return Plan("cpu", obstacle, on_cpu)
    environment["cache_name"] = _cache_name("cuda")
    environment["nvcc_path"] = cuda.toolkit.compiler(cache_folder()) if cuda.toolkit else cuda.nvcc
    if cuda.version >= (13, 0):
        environment["cc_flags"] = f"{os.environ.get('cc_flags', '')} {CUDA13_FLAGS}".strip()
    if cuda.cudnn != 8:
        environment["conv_opt"] = "1"  # leaves cuDNN out; cuBLAS and cuRAND stay
    return Plan("cuda", cuda.reason, environment, device == "cuda", cuda.toolkit)


def _cache_name(device: str) -> str:
    """The name of a cache that holds one device's core alone.

    Jittor keeps CUDA's core in a folder within the CPU's, and imports the one that was compiled first for both: with
    one name for both devices, or one that other programs use, whichever comes second does not start. Left to itself
    Jittor names its cache after the git branch around the environment, and compiles everything again for each.
    """
    return f"{os.environ.get('cache_name', 'jclip-adapter')}-{device}"


def jittor_home() -> Path:
    """The folder below which Jittor keeps its `.cache/jittor`.

    As Jittor itself finds it: the environment variable JITTOR_HOME, else the one that it remembered from an
    earlier run, else the home folder.
    """
    if os.environ.get("JITTOR_HOME"):
        return Path(os.environ["JITTOR_HOME"]).absolute()
    remembered = Path.home() / ".cache" / "jittor" / "config.json"
    folder = read_json(remembered).get("JITTOR_HOME") if remembered.is_file() else None
    return Path(folder).absolute() if folder else Path.home()


def cache_folder() -> Path:
    """Where Jittor keeps what it compiles, and this program what belongs to it."""
    return jittor_home() / ".cache" / "jittor"


def compiler_path() -> str:
    """Path of the C++ compiler; empty if there is none."""
    return os.environ.get("cc_path") or shutil.which("g++") or ""


@functools.cache
def compiler() -> str:
    """The C++ compiler's first version line; empty if there is none."""
    path = compiler_path()
    if not path:
        return ""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.split("\n", 1)[0]


def compiled_folder() -> Path:
    """Where this version of Jittor keeps what it compiles."""
    return cache_folder() / f"jt{_version()}"


def _version() -> str:
    """Jittor's version, as its folder is named: the first three numbers."""
    return ".".join(importlib.metadata.version("jittor").split(".")[:3])
