"""Shorter waits for the kernels that Jittor compiles at first use.

Jittor writes each new combination of operators as a small C++ file and compiles it before it runs. Most of that time
goes into parsing Jittor's own headers, which are the same for each, and into a Python script around the compiler. That
script makes aligned vector stores of some kernels bypass the processor's cache; it found none to change in any kernel
here, and results do not depend on it. With the headers parsed once, and the compiler called directly, a kernel takes
a quarter of the time (0.78 s → 0.20 s on one core).
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from .storage import KEPT, write_text

logger = logging.getLogger(__name__)
# Every kernel defines the first two before it includes anything, so the headers have to be parsed with them.
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
# Stands in for Python where Jittor calls `PYTHON utils/asm_tuner.py --cc_path=COMPILER SOURCE FLAGS`.
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


def shorten_compilation(jittor: Any, folder: Path, compiler: str) -> bool:
    """Let Jittor's CPU kernels start from headers that are parsed already, and be compiled without a detour.

    GCC takes a precompiled header only if the same compiler made it with the same flags, and reads the plain one
    otherwise: a kernel comes out the same in any case.

    Args:
        jittor: The imported module; its flags are changed.
        folder: Where the headers are kept, one pair per compiler and flags.
        compiler: First line of the compiler's version.

    Returns:
        Whether it could be done; False for another compiler than GCC, a folder with a space in its name, or a
        compiler that fails.
    """
    # Jittor splits its commands at spaces.
    if " " in str(folder) or not Path(jittor.flags.cc_path).name.startswith("g++"):
        return False
    # What a header is compiled with: a kernel's flags without those for the linker.
    flags = [flag for flag in shlex.split(jittor.flags.cc_flags) if not flag.startswith(("-l", "-L", "-shared"))]
    facts = [compiler, jittor.__version__, _HEADER, *flags]
    header = folder / f"kernels_{_digest(facts)}.h"
    if not header.with_suffix(".h.gch").is_file() and not _precompile(header, [jittor.flags.cc_path, *flags]):
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


def _precompile(header: Path, command: list[str]) -> bool:
    """Write a header and its parsed form beside it; whether the compiler could."""
    write_text(header, _HEADER, KEPT)
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
