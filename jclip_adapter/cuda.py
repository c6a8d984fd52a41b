"""What of CUDA a machine has, found without changing anything."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cuda:
    """What of CUDA was found.

    Attributes:
        driver: A driver initialised and reported at least one device.
        reason: Why not, or what was found.
        nvcc: The compiler's path, empty if there is none.
        version: nvcc's (major, minor), (0, 0) if unknown.
        cudnn8: Whether cuDNN 8, the newest that Jittor can use, is there.
    """

    driver: bool
    reason: str
    nvcc: str = ""
    version: tuple[int, int] = (0, 0)
    cudnn8: bool = False


def find_cuda() -> Cuda:
    """Look for a CUDA driver that works, for nvcc and for cuDNN 8. Nothing is changed."""
    nvcc = os.environ.get("nvcc_path") or shutil.which("nvcc") or ""
    if not nvcc and Path("/usr/local/cuda/bin/nvcc").is_file():
        nvcc = "/usr/local/cuda/bin/nvcc"
    driver, reason = _initialise_driver()
    return Cuda(driver, reason, nvcc, _nvcc_version(nvcc), _loads("libcudnn_ops_infer.so.8"))


def _initialise_driver() -> tuple[bool, str]:
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False, "no CUDA driver (libcuda.so.1 does not load)"
    status = library.cuInit(0)
    if status != 0:
        return False, f"the CUDA driver does not initialise (cuInit returned {status})"
    count = ctypes.c_int(0)
    if library.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return False, "the CUDA driver reports no device"
    return True, f"the CUDA driver reports {count.value} device(s)"


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _nvcc_version(nvcc: str) -> tuple[int, int]:
    if not nvcc:
        return (0, 0)
    try:
        done = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.search(r"release (\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)
