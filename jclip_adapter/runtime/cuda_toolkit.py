"""The CUDA toolkit in the layout that Jittor needs: nvcc, headers and libraries below one folder.

Jittor looks for CUDA's headers, cuBLAS and cuRAND in the parent of nvcc's folder. That fails if the nvcc on the PATH is
a wrapper script, or if cuBLAS and cuRAND come from PyPI. nvcc reports the paths of its parts; a folder of links joins
them with the packages.
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

LIBRARIES = ("cublas", "curand")  # required by Jittor
# The PyPI packages of CUDA 11, 12 and 13 use the same number for cuRAND.
_CURAND = "10"
# Where Jittor looks for the libraries of the nvcc that Debian and Ubuntu package.
_DEBIANS = ("/usr/bin/nvcc", Path("/usr/lib/x86_64-linux-gnu"))
_FOLDERS = re.compile(r"^#\$ (INCLUDES|LIBRARIES)=(.*)$", re.MULTILINE)
# Every kernel of Jittor includes NPP's main header, only for these limits.
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
    """Paths of a CUDA toolkit.

    Attributes:
        nvcc: The compiler's path; empty if there is none.
        include: Folders of headers, in order of precedence.
        lib: Folders of libraries.
        missing: Those of `LIBRARIES` without header or library.
    """

    nvcc: str = ""
    include: tuple[Path, ...] = ()
    lib: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether Jittor finds all parts around nvcc."""
        root = Path(os.path.realpath(self.nvcc)).parent.parent
        headers = [root / "include" / f"{name}.h" for name in ("cuda_runtime", "npp", *LIBRARIES)]
        below = _DEBIANS[1] if self.nvcc == _DEBIANS[0] else root / "lib64"
        libraries = [below / f"lib{name}.so" for name in ("cudart", *LIBRARIES)]
        return all(path.exists() for path in (*headers, *libraries))

    def folder(self, cache: Path) -> Path:
        """The folder of links to these parts, in the folder `cache` of `planning.cache_folder`."""
        parts = "\n".join([self.nvcc, *map(str, self.include), *map(str, self.lib)])
        return cache / f"jclip_adapter_cuda_{hashlib.sha256(parts.encode()).hexdigest()[:16]}"

    def compiler(self, cache: Path) -> str:
        """Path of the nvcc for Jittor: this one, or the one that `link` creates."""
        return self.nvcc if self.is_whole else str(self.folder(cache) / "bin" / "nvcc")

    def link(self, cache: Path) -> None:
        """Create the folder of links, unless Jittor finds all parts without it.

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
            if (there / "bin" / "nvcc").exists():  # created by another process
                return
            raise SetupError(
                f"cannot write {there}: {error.strerror or error}.",
                "Set JITTOR_HOME to a writable folder.",
            ) from error


def output_of(*command: str) -> tuple[str, str]:
    """What a compiler prints to stdout and stderr; empty if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "", ""
    return done.stdout, done.stderr


def find_toolkit(nvcc: str, major: int) -> Toolkit:
    """Find the headers and libraries of nvcc, with cuBLAS and cuRAND from PyPI packages if they are missing there.

    Args:
        nvcc: The compiler's path; empty for none.
        major: CUDA's major version.
    """
    told = output_of(nvcc, "--dryrun", "-x", "cu", os.devnull)[1]
    folders = {name: _named(text) for name, text in _FOLDERS.findall(told)}
    own = Toolkit(nvcc, tuple(folders.get("INCLUDES", ())), tuple(folders.get("LIBRARIES", ())))
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
    """The folders in flags `-IFOLDER`, `-LFOLDER`, without stubs (for linking without a driver)."""
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
    """Names and targets of the links to the entries of some folders, earlier folders first.

    A library with only a versioned name, as in PyPI's packages, also gets an unversioned one for the linker.
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
