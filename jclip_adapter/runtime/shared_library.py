"""Small libraries in C++, compiled once by the machine's compiler and called without the GIL."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import platform
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from .compiled import is_whole
from .jittor_messages import reason

logger = logging.getLogger(__name__)


def load(name: str, source: str, folder: Path, compiler: str, flags: Sequence[str]) -> ctypes.CDLL | None:
    """Load a library, compiled if it is missing or was cut short.

    Args:
        name: Its name, the beginning of its file's.
        source: The C++ code; what is called from Python is `extern "C"`.
        folder: Folder of compiled libraries, created if it is missing. It may be shared by machines: a file is of one
            source, its flags, and the instructions of one kind of processor.
        compiler: Path of the C++ compiler; empty for none.
        flags: The compiler's flags.

    Returns:
        The library; None if it is not there and cannot be compiled.
    """
    made_of = "\n".join([source, compiler, *flags, _instructions()])
    path = folder / f"{name}_{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    try:
        if not path.is_file() or not is_whole(path):
            _compile(source, path, compiler, flags)
        return ctypes.CDLL(str(path))
    except OSError as error:
        level = logging.WARNING if compiler else logging.INFO
        logger.log(level, "the library %s is not used: %s", name, error)
        return None


def _compile(source: str, path: Path, compiler: str, flags: Sequence[str]) -> None:
    """Write the library; raises OSError without a compiler, or if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_native_id()}")
    command = [compiler, "-x", "c++", *flags, "-shared", "-fPIC", "-", "-o", str(fresh)]
    try:
        done = subprocess.run(command, input=source.encode(), capture_output=True, check=False)
        if done.returncode:
            why = reason(done.stderr.decode("utf-8", "replace").splitlines())
            raise OSError(why or f"{compiler} ended with status {done.returncode}")
        fresh.replace(path)
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink()


def _instructions() -> str:
    """The processor's kind and, on Linux, what it can do."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text("utf-8").splitlines() if facts.exists() else []
    flags = {line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))}
    return "\n".join([platform.machine(), *sorted(flags)])
