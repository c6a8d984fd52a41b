"""Faster compilation of Jittor's core and CPU kernels.

A third of the core's time goes into parsing the standard library and Jittor's own headers, in each of 150 files, and a
fifth into optimising code that only builds graphs. With a precompiled header and -O1 the core takes half the time.

The same header makes Jittor's memory begin where the processor's cache lines do (Jittor asks for half a line). Where
each load touches two lines, bfloat16 products on AMX take up to three times as long, float32 ones a fifth longer.

Jittor compiles each new combination of operators as a C++ file. Most of the time goes into parsing the same headers of
Jittor, and into a Python script around the compiler, which makes aligned vector stores of some kernels bypass the
processor's cache (it changes none of the kernels here, and never their results). With precompiled headers and a direct
call of the compiler a kernel takes a quarter of the time (0.78 s → 0.20 s on one core).
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from jclip_adapter.storage import KEPT, write_text

logger = logging.getLogger(__name__)
CORE_LEVEL = "-O1"
# Of the flags that Jittor compiles its core with, those that a precompiled header has to share.
_CORE_FLAGS = ("-std=c++14", "-fPIC", "-march=native", CORE_LEVEL)
_CORE_HEADER = """\
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iostream>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <queue>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>
#include "common.h"
#include "var.h"
#include "op.h"
#include "executor.h"
#include "fused_op.h"
#include "ops/op_register.h"
#define aligned_alloc(alignment, size) aligned_alloc(64, size)
"""
# Every kernel defines the first two before its includes, so the precompiled header must too.
_HEADER = """\
#define JIT 1
#define JIT_cpu 1
#include <cmath>
#include <algorithm>
#include <limits>
#include <assert.h>
#include "fused_op.h"
#include "executor.h"
#include "var.h"
#include "misc/cpu_math.h"
#include "ops/op_register.h"
#include "ops/array_op.h"
#include "ops/binary_op.h"
#include "ops/broadcast_to_op.h"
#include "ops/reduce_op.h"
#include "ops/unary_op.h"
#if __has_include(<dnnl.hpp>)
#include <dnnl.hpp>
#endif
"""
# Replaces Python in Jittor's call `PYTHON utils/asm_tuner.py --cc_path=COMPILER SOURCE FLAGS`.
_DIRECTLY = """\
case "$1" in
*/asm_tuner.py) ;;
*) exec {python} "$@" ;;
esac
compiler="${{2#--cc_path=}}"
shift 2
# The library gets its name when it is whole: another process may load it at any time.
count=$# output= next=
for word; do
  if [ "$next" ]; then output=$word word=$word.$$ next=; elif [ "$word" = -o ]; then next=1; fi
  set -- "$@" "$word"
done
shift "$count"
"$compiler" "$@" || exit
[ -z "$output" ] || mv -f "$output.$$" "$output"
"""


def core_flags(folder: Path, compiler: str, version: str, sources: Path) -> str:
    """Flags by which Jittor's core is compiled faster; empty for a compiler other than GCC, or without success.

    Args:
        folder: Folder of the header, which is precompiled if that was not done.
        compiler: Path of the compiler.
        version: First line of its version.
        sources: Folder of Jittor's sources.
    """
    if not _suits(folder, compiler):
        return ""
    flags = [*_CORE_FLAGS, f"-I{sources}"]
    header = folder / f"core_{_digest([version, _CORE_HEADER, *flags])}.h"
    return f"{CORE_LEVEL} -include {header}" if _precompiled(header, _CORE_HEADER, [compiler, *flags]) else CORE_LEVEL


def shorten_compilation(jittor: Any, folder: Path, compiler: str) -> bool:
    """Compile Jittor's CPU kernels with precompiled headers and without Jittor's script.

    GCC uses a precompiled header only from the same compiler and flags, and the plain one otherwise: the kernels are
    the same in any case.

    Args:
        jittor: The imported module; its flags are changed.
        folder: Folder of the headers, one pair per compiler and flags.
        compiler: First line of the compiler's version.

    Returns:
        Whether it succeeded; False for a compiler other than GCC, a folder with a space in its name, or a compiler
        error.
    """
    if not _suits(folder, jittor.flags.cc_path):
        return False
    # GCC takes one precompiled header, the first.
    jittor.flags.cc_flags = re.sub(r" -include \S+/core_\w+\.h", "", jittor.flags.cc_flags)
    # A kernel's flags without those for the linker.
    flags = [flag for flag in shlex.split(jittor.flags.cc_flags) if not flag.startswith(("-l", "-L", "-shared"))]
    facts = [compiler, jittor.__version__, _HEADER, *flags]
    header = folder / f"kernels_{_digest(facts)}.h"
    if not _precompiled(header, _HEADER, [jittor.flags.cc_path, *flags]):
        return False
    script = _DIRECTLY.format(python=shlex.quote(sys.executable))
    shim = folder / f"compile_{_digest([script])}.sh"
    if not shim.is_file():
        write_text(shim, script, KEPT)
    jittor.flags.cc_flags += f" -include {header} "
    jittor.flags.python_path = f"sh {shim}"
    return True


def _digest(facts: list[str]) -> str:
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _suits(folder: Path, compiler: str) -> bool:
    """Whether the compiler is GCC and takes headers from the folder: Jittor splits its commands at spaces."""
    return " " not in str(folder) and Path(compiler).name.startswith("g++")


def _precompiled(header: Path, text: str, command: list[str]) -> bool:
    """Write a header and its precompiled form if that was not done; whether the compiler succeeded."""
    if header.with_suffix(".h.gch").is_file():
        return True
    write_text(header, text, KEPT)
    fresh = header.with_name(f"{header.name}.gch.{os.getpid()}")
    done = subprocess.run(
        [*command, "-x", "c++-header", str(header), "-o", str(fresh)], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        fresh.replace(header.with_suffix(".h.gch"))
        return True
    fresh.unlink(missing_ok=True)
    logger.debug("no precompiled headers: %s", done.stderr[-400:])
    return False
