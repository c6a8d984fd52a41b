"""Detection of CUDA on this machine, and whether Jittor can use it."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cuda_toolkit import Toolkit, find_toolkit, output_of

Version = tuple[int, int]
OLDEST: Version = (11, 0)
NEWEST: Version = (13, 99)
# The first CUDA that compiles for a GPU of this compute capability or a later one (NVIDIA's release notes).
_FIRST = {(8, 0): (11, 0), (8, 6): (11, 1), (8, 9): (11, 8), (9, 0): (11, 8), (10, 0): (12, 8), (11, 0): (13, 0)}
_FIRST |= {(12, 0): (12, 8), (12, 1): (12, 9)}
_LAST_OLD: Version = (7, 5)  # the oldest that CUDA 13 still compiles for
_MAJOR, _MINOR = 75, 76  # cuDeviceGetAttribute's numbers of the compute capability


@dataclass(frozen=True)
class Cuda:
    """The CUDA found.

    Attributes:
        driver: Whether a driver initialised and reported a device.
        reason: Why not, or what was found.
        nvcc: The compiler's path, empty if there is none.
        version: nvcc's (major, minor), (0, 0) if unknown.
        cudnn: cuDNN's major version, 0 for none; Jittor uses only 8.
        supported: The newest CUDA that the driver runs, (0, 0) if unknown.
        capability: The first device's compute capability, (0, 0) if unknown.
        toolkit: The toolkit's headers and libraries; None if unknown.
    """

    driver: bool
    reason: str
    nvcc: str = ""
    version: Version = (0, 0)
    cudnn: int = 0
    supported: Version = (0, 0)
    capability: Version = (0, 0)
    toolkit: Toolkit | None = None

    @property
    def obstacle(self) -> str:
        """Why Jittor cannot use CUDA here, in words; empty if no reason is known."""
        found = (self.reason if not self.driver else "") or self._compiler_obstacle or self._gpu_obstacle
        return found or self._library_obstacle

    @property
    def _compiler_obstacle(self) -> str:
        if not self.nvcc:
            return "there is a CUDA driver but no nvcc, which Jittor needs to compile its kernels"
        if not self.version[0]:
            return f"{self.nvcc} does not report its version"
        if not OLDEST <= self.version <= NEWEST:
            return f"nvcc is CUDA {_text(self.version)}; supported are {OLDEST[0]} to {NEWEST[0]}"
        # Within a major version a driver runs code of a newer compiler.
        if self.supported[0] and self.supported[0] < self.version[0]:
            return f"the driver supports CUDA up to {_text(self.supported)}, but nvcc is {_text(self.version)}"
        return ""

    @property
    def _gpu_obstacle(self) -> str:
        if not self.capability[0]:
            return ""
        since = max((known for known in _FIRST if known <= self.capability), default=None)
        first = _FIRST[since] if since else OLDEST
        if self.version < first:
            return f"a GPU of compute capability {_text(self.capability)} needs CUDA {_text(first)} or newer"
        if self.version >= (13, 0) and self.capability < _LAST_OLD:
            return f"CUDA 13 no longer compiles for a GPU of compute capability {_text(self.capability)}"
        return ""

    @property
    def _library_obstacle(self) -> str:
        if self.toolkit is None or not self.toolkit.missing:
            return ""
        files = " and ".join(f"{name}.h with lib{name}.so" for name in self.toolkit.missing)
        return f"{self.nvcc} lacks {files}, which Jittor needs"

    @property
    def hint(self) -> str:
        """What to do about the obstacle."""
        if self.obstacle == self._library_obstacle:
            return "Run `pip install nvidia-cublas nvidia-curand`, or install the complete CUDA toolkit."
        if not self.driver:
            return "For a GPU install NVIDIA's driver and CUDA toolkit."
        return "Install a CUDA toolkit that fits the driver and the GPU, and put its nvcc on the PATH."


def find_cuda() -> Cuda:
    """Look for a working CUDA driver, nvcc and cuDNN, without changing anything."""
    usual = Path("/usr/local/cuda/bin/nvcc")
    nvcc = os.environ.get("nvcc_path") or shutil.which("nvcc") or (str(usual) if usual.is_file() else "")
    version = nvcc_version(nvcc)
    cudnn = 8 if _loads("libcudnn_ops_infer.so.8") else 9 if _loads("libcudnn.so.9") else 0
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Cuda(False, "no CUDA driver (libcuda.so.1 does not load)", nvcc, version, cudnn)
    driver, reason, supported, capability = ask_driver(library)
    return Cuda(driver, reason, nvcc, version, cudnn, supported, capability, find_toolkit(nvcc, version[0]))


def ask_driver(library: Any) -> tuple[bool, str, Version, Version]:
    """Whether a driver (loaded by ctypes) works, the reason, its newest CUDA, and the first device's capability."""
    status = library.cuInit(0)
    if status != 0:
        return False, f"the CUDA driver does not initialise (cuInit returned {status})", (0, 0), (0, 0)
    count = ctypes.c_int(0)
    if library.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return False, "the CUDA driver reports no device", (0, 0), (0, 0)
    number, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)  # they stay 0 where the driver fails
    library.cuDriverGetVersion(ctypes.byref(number))
    library.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, 0)
    library.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, 0)
    supported, capability = (number.value // 1000, number.value % 1000 // 10), (major.value, minor.value)
    kind = f", compute capability {_text(capability)}" if capability[0] else ""
    return True, f"the CUDA driver reports {count.value} device(s){kind}", supported, capability


def nvcc_version(nvcc: str) -> Version:
    """The compiler's (major, minor); (0, 0) if unknown."""
    match = re.search(r"release (\d+)\.(\d+)", output_of(nvcc, "--version")[0])
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
