"""oneDNN, for matmuls on the CPU: PyPI packages, linked to the place that Jittor searches."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from jclip_adapter.core.errors import SetupError

FOLDER = "dnnl_lnx_2.2.0_cpu_gomp"  # the name that Jittor searches, whatever the version
NEEDED = (2, 6)  # the first version that uses the processor's bfloat16 instructions
_VERSION = re.compile(r"#define DNNL_VERSION_(MAJOR|MINOR) (\d+)")
_BFLOAT16 = ("avx512_bf16", "amx_bf16")


def place(home: Path) -> Path:
    """The folder that Jittor searches for oneDNN, for the folder `home` of `planning.jittor_home`."""
    return home / ".cache" / "jittor" / "mkl" / FOLDER


def folders() -> tuple[Path, Path] | None:
    """Folders lib and include of the PyPI packages onednn-cpu-gomp and onednn-devel-cpu-gomp; None without them."""
    lib, include = Path(sys.prefix) / "lib", Path(sys.prefix) / "include"
    return (lib, include) if (lib / "libdnnl.so").exists() and (include / "dnnl.hpp").is_file() else None


def version(include: Path) -> tuple[int, int]:
    """Version of the oneDNN headers in a folder; (0, 0) for none."""
    path = include / "oneapi" / "dnnl" / "dnnl_version.h"
    found = dict(_VERSION.findall(path.read_text("utf-8"))) if path.is_file() else {}
    return int(found.get("MAJOR", 0)), int(found.get("MINOR", 0))


def link(home: Path) -> bool:
    """Link the installed packages to the place that Jittor searches.

    A working copy downloaded by Jittor is kept. Links to an older version or a removed environment are renewed.

    Args:
        home: The folder of `planning.jittor_home`.

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
            f"cannot write {there}: {error.strerror or error}.", "Set JITTOR_HOME to a writable folder."
        ) from error
    return True


def _put(fresh: Path, target: Path) -> None:
    """Replace a folder of links, or a link, by another folder."""
    if target.is_symlink():
        target.unlink()
    for name in [path.name for path in target.iterdir()] if target.is_dir() else []:
        (target / name).unlink()
    fresh.replace(target)


def has_matmul(home: Path) -> bool:
    """Whether this program's kernels can call the linked oneDNN."""
    return version(place(home) / "include") >= NEEDED


def has_bfloat16() -> bool:
    """Whether the processor has bfloat16 instructions."""
    facts = Path("/proc/cpuinfo")  # on Linux only
    return facts.exists() and any(flag in facts.read_text("utf-8") for flag in _BFLOAT16)
