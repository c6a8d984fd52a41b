"""The CUDA toolkit as Jittor wants it: nvcc, the headers and the libraries below one folder.

Jittor takes the folder above the one that nvcc lies in for the toolkit, and looks there for CUDA's headers, cuBLAS and
cuRAND. That fails where the nvcc on the PATH is a wrapper script, and where cuBLAS and cuRAND come from PyPI. nvcc
itself tells where its own parts are; a folder of links joins them with the packages.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jclip_adapter.core.errors import SetupError
from jclip_adapter.storage import KEPT, write_text

LIBRARIES = ("cublas", "curand")  # those that Jittor does not start without
# PyPI packages call the 64-bit cuRAND of CUDA 11, 12 and 13 by the same number.
_CURAND = "10"
# Where Jittor looks for the libraries of the nvcc that Debian and Ubuntu package.
_DEBIANS = ("/usr/bin/nvcc", Path("/usr/lib/x86_64-linux-gnu"))
_FOLDERS = re.compile(r"^#\$ (INCLUDES|LIBRARIES)=(.*)$", re.MULTILINE)
# Each kernel of Jittor's includes NPP's main header, for the limits of whole numbers alone.
_NPP = """\
#pragma once
#include <climits>
#define NPP_MIN_32U 0
#define NPP_MAX_32U UINT_MAX
#define NPP_MIN_32S INT_MIN
#define NPP_MAX_32S INT_MAX
#define NPP_MIN_64U 0
#define NPP_MAX_64U ULLONG_MAX
#define NPP_MIN_64S LLONG_MIN
#define NPP_MAX_64S LLONG_MAX
"""
_SHIM = '#!/bin/sh\nexec {nvcc} "$@"\n'


@dataclass(frozen=True)
class Toolkit:
    """Where the parts of a CUDA toolkit are.

    Attributes:
        nvcc: The compiler's path; empty if there is none.
        include: Folders of headers, the first one first.
        lib: Folders of libraries.
        missing: Which of `LIBRARIES` have no header or no library in them.
    """

    nvcc: str = ""
    include: tuple[Path, ...] = ()
    lib: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether Jittor finds everything by itself: all parts lie where it looks for them, around nvcc."""
        root = Path(os.path.realpath(self.nvcc)).parent.parent
        headers = [root / "include" / f"{name}.h" for name in ("cuda_runtime", "npp", *LIBRARIES)]
        below = _DEBIANS[1] if self.nvcc == _DEBIANS[0] else root / "lib64"
        libraries = [below / f"lib{name}.so" for name in ("cudart", *LIBRARIES)]
        return all(path.exists() for path in (*headers, *libraries))

    def folder(self, cache: Path) -> Path:
        """The folder of links that belongs to these parts.

        Args:
            cache: The folder that `planning.cache_folder` names.
        """
        parts = "\n".join([self.nvcc, *map(str, self.include), *map(str, self.lib)])
        return cache / f"jclip_adapter_cuda_{hashlib.sha256(parts.encode()).hexdigest()[:16]}"

    def compiler(self, cache: Path) -> str:
        """Path of the nvcc to name to Jittor: this one, or the one that `link` puts among the links."""
        return self.nvcc if self.is_whole else str(self.folder(cache) / "bin" / "nvcc")

    def link(self, cache: Path) -> None:
        """Join the parts in a folder of links, unless Jittor finds them as they are.

        Raises:
            SetupError: the folder cannot be written.
        """
        there = self.folder(cache)
        if self.is_whole or (there / "bin" / "nvcc").exists():
            return
        fresh = there.with_name(f"{there.name}.{os.getpid()}")
        try:
            for name, folders in (("include", self.include), ("lib64", self.lib)):
                (fresh / name).mkdir(parents=True, exist_ok=True)
                for link, source in _entries(folders):
                    (fresh / name / link).symlink_to(source)
            if not (fresh / "include" / "npp.h").exists():
                write_text(fresh / "include" / "npp.h", _NPP, KEPT)
            shim = fresh / "bin" / "nvcc"
            write_text(shim, _SHIM.format(nvcc=shlex.quote(self.nvcc)), KEPT)
            shim.chmod(0o755)
            fresh.replace(there)
        except OSError as error:
            if (there / "bin" / "nvcc").exists():  # another process was quicker
                return
            raise SetupError(
                f"cannot prepare {there}: {error.strerror or error}.",
                "Point JITTOR_HOME at a folder that can be written.",
            ) from error


def find_toolkit(nvcc: str, major: int) -> Toolkit:
    """Ask nvcc where its headers and libraries are, and look for cuBLAS and cuRAND there and among PyPI's packages.

    Args:
        nvcc: The compiler's path; empty for none.
        major: CUDA's major version.

    Returns:
        The toolkit. Packages are in it only where something is missing without them.
    """
    if not nvcc:
        return Toolkit()
    try:
        done = subprocess.run(
            [nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return Toolkit(nvcc, missing=LIBRARIES)
    told = {name: _named(text) for name, text in _FOLDERS.findall(done.stderr)}
    own = Toolkit(nvcc, tuple(told.get("INCLUDES", ())), tuple(told.get("LIBRARIES", ())))
    if own.is_whole:
        return own
    missing = [name for name in LIBRARIES if not _has(own, name)]
    include, lib = list(own.include), list(own.lib)
    for name in list(missing):
        for headers, libraries in _packages(major):
            version = major if name == "cublas" else _CURAND
            if (headers / f"{name}.h").is_file() and (libraries / f"lib{name}.so.{version}").is_file():
                missing.remove(name)
                include += [headers] * (headers not in include)
                lib += [libraries] * (libraries not in lib)
                break
    return Toolkit(nvcc, tuple(include), tuple(lib), tuple(missing))


def _named(text: str) -> list[Path]:
    """The folders that flags name: `-IFOLDER`, `-LFOLDER`. Stubs are for linking on machines without a driver."""
    folders = [Path(os.path.realpath(flag[2:])) for flag in shlex.split(text) if flag[:2] in ("-I", "-L")]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir() and folder.name != "stubs"]


def _has(toolkit: Toolkit, name: str) -> bool:
    headers = any((folder / f"{name}.h").is_file() for folder in toolkit.include)
    return headers and any((folder / f"lib{name}.so").exists() for folder in toolkit.lib)


def _packages(major: int) -> Iterator[tuple[Path, Path]]:
    """Folders of headers and libraries of NVIDIA's PyPI packages: nvidia/cu13, or nvidia/cublas and nvidia/curand."""
    spec = importlib.util.find_spec("nvidia")
    for root in spec.submodule_search_locations or () if spec else ():
        for name in (f"cu{major}", *LIBRARIES):
            folder = Path(root) / name
            if (folder / "include").is_dir() and (folder / "lib").is_dir():
                yield folder / "include", folder / "lib"


def _entries(folders: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Names and targets of the links to what lies in some folders; the first folder that has a name counts.

    A library that has no name without a version, as in PyPI's packages, gets one: that is what linking looks for.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.iterdir()):
            found.setdefault(path.name, path)
    for name in list(found):
        match = re.fullmatch(r"(lib\w+\.so)\.\d+", name)
        if match:
            found.setdefault(match[1], found[name])
    yield from found.items()
