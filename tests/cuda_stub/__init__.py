"""A machine with a CUDA GPU, as far as that goes without one: stand-ins for the driver, the runtime and cuBLAS.

Jittor starts with CUDA on them, and nvcc compiles every kernel; what is missing is the computing. All results are
zeros, so shapes, types, compilation and the order of calls are rehearsed, and no value is.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

_HERE = Path(__file__).parent
_RUNTIME = {"libcudart.so.13": "runtime", "libcublas.so.13": "cublas", "libcurand.so.10": "curand"}


def toolkit() -> Path | None:
    """The CUDA 13 toolkit that the nvcc on the PATH belongs to; None if there is none."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    told = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True, check=False)
    top = re.search(r"TOP=(\S+)", told.stderr)
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
    return Path(top[1]).resolve() if top and "release 13." in version.stdout else None


def build(folder: Path, root: Path) -> dict[str, str]:
    """Build the stand-ins.

    Args:
        folder: Takes them.
        root: The CUDA toolkit's folder, as `toolkit` finds it.

    Returns:
        The variables to set in the environment of a process that is to find a GPU.
    """
    site, libraries = folder / "site" / "nvidia" / "cu13", folder / "lib"
    include, packaged = site / "include", site / "lib"
    for path in (libraries, packaged):
        path.mkdir(parents=True, exist_ok=True)
    shutil.copytree(_HERE / "include", include, dirs_exist_ok=True)
    headers = [f"-I{include}", f"-I{root / 'include'}"]
    for name, source in _RUNTIME.items():
        target = (libraries if source == "runtime" else packaged) / name
        _compile(_HERE / f"{source}.cpp", target, headers, versioned=True)
    _compile(_HERE / "driver.cpp", libraries / "libcuda.so.1", [], versioned=False)
    (libraries / "libcuda.so").unlink(missing_ok=True)
    (libraries / "libcuda.so").symlink_to("libcuda.so.1")
    preloaded = [libraries / "libcudart.so.13", packaged / "libcublas.so.13", packaged / "libcurand.so.10"]
    return {
        "LD_PRELOAD": ":".join(map(str, preloaded)),
        "LD_LIBRARY_PATH": str(libraries),
        # NVIDIA's own headers, where they are installed, go before those of the stand-ins.
        **({} if importlib.util.find_spec("nvidia") else {"PYTHONPATH": str(folder / "site")}),
        # Jittor's own pool would hand out memory again as it is: numbers of anything, which look like a divergence.
        "use_sfrl_allocator": "0",
    }


def _compile(source: Path, target: Path, flags: list[str], *, versioned: bool) -> None:
    """Compile a library; with its symbols versioned as NVIDIA's are, or the loader would not take them for those."""
    command = ["g++", "-shared", "-fPIC", "-O1", str(source), *flags, f"-Wl,-soname,{target.name}", "-o", str(target)]
    if versioned:
        script = target.with_suffix(".map")
        script.write_text(f"{target.name} {{ global: *; }};\n", "utf-8")
        command.append(f"-Wl,--version-script={script}")
    subprocess.run(command, check=True)
