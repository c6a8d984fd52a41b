"""oneDNN, which multiplies matrices on the CPU: the PyPI packages, linked to where Jittor looks for it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from jclip_adapter.core.errors import SetupError

FOLDER = "dnnl_lnx_2.2.0_cpu_gomp"  # the name that Jittor looks for, whatever the version
NEEDED = (2, 6)  # the first whose products of bfloat16 use the processor's own
_VERSION = re.compile(r"#define DNNL_VERSION_(MAJOR|MINOR) (\d+)")
_BFLOAT16 = ("avx512_bf16", "amx_bf16")


def place(home: Path) -> Path:
    """Where Jittor looks for oneDNN's lib and include.

    Args:
        home: The folder that `planning.jittor_home` names.
    """
    return home / ".cache" / "jittor" / "mkl" / FOLDER


def folders() -> tuple[Path, Path] | None:
    """Where the PyPI packages onednn-cpu-gomp and onednn-devel-cpu-gomp put lib and include; None without them."""
    lib, include = Path(sys.prefix) / "lib", Path(sys.prefix) / "include"
    return (lib, include) if (lib / "libdnnl.so").exists() and (include / "dnnl.hpp").is_file() else None


def version(include: Path) -> tuple[int, int]:
    """Which oneDNN a folder's headers belong to; (0, 0) for none."""
    path = include / "oneapi" / "dnnl" / "dnnl_version.h"
    found = dict(_VERSION.findall(path.read_text("utf-8"))) if path.is_file() else {}
    return int(found.get("MAJOR", 0)), int(found.get("MINOR", 0))


def link(home: Path) -> bool:
    """Put oneDNN where Jittor looks for it, as links to the installed packages.

    A working copy that Jittor has downloaded is left alone. Links to an older version, or into an environment that is
    gone, are renewed.

    Args:
        home: The folder that `planning.jittor_home` names.

    Returns:
        Whether oneDNN is in place.

    Raises:
        SetupError: the folder cannot be written.
    """
    there, packages = place(home), folders()
    works = (there / "lib" / "libmkldnn.so").exists() and (there / "include" / "dnnl.hpp").exists()
    ours = (there / "include").is_symlink()
    if packages is None:
        return works
    if works and not (ours and version(there / "include") < version(packages[1])):
        return True
    lib, include = packages
    names = {path.name: path for path in lib.glob("libdnnl.so*")}
    try:
        there.mkdir(parents=True, exist_ok=True)
        fresh = there / f"lib.{os.getpid()}"
        fresh.mkdir()
        for name, source in {**names, "libmkldnn.so": lib / "libdnnl.so"}.items():  # its former name
            (fresh / name).symlink_to(source)
        _put(fresh, there / "lib")
        fresh = there / f"include.{os.getpid()}"
        fresh.symlink_to(include, target_is_directory=True)
        fresh.replace(there / "include")
    except OSError as error:
        raise SetupError(
            f"cannot prepare {there}: {error.strerror or error}.", "Point JITTOR_HOME at a folder that can be written."
        ) from error
    return True


def _put(fresh: Path, target: Path) -> None:
    """Put a folder of links in place of another, or of a link."""
    if target.is_symlink():
        target.unlink()
    for name in [path.name for path in target.iterdir()] if target.is_dir() else []:
        (target / name).unlink()
    fresh.replace(target)


def has_products(home: Path) -> bool:
    """Whether the oneDNN in place is one that kernels of ours can call."""
    return version(place(home) / "include") >= NEEDED


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 numbers by itself."""
    try:
        facts = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return any(flag in facts for flag in _BFLOAT16)
