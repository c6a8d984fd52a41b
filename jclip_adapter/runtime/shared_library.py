"""Small libraries in C++, compiled once by the machine's compiler and called without the GIL."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import platform
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from jclip_adapter.core.errors import SetupError

from .jittor_messages import reason

logger = logging.getLogger(__name__)
_DIGEST = 32  # bytes of SHA-256


def load(name: str, source: str, folder: Path, compiler: str, flags: Sequence[str], without: str) -> ctypes.CDLL | None:
    """Load a library, compiled if it is missing or damaged.

    Args:
        name: Its name, the beginning of its file's.
        source: The C++ code; what is called from Python is `extern "C"`.
        folder: Folder of compiled libraries, created if it is missing. It may be shared by machines: a file is of one
            source, its flags, and the instructions of one kind of processor.
        compiler: Path of the C++ compiler; empty for none.
        flags: The compiler's flags.
        without: What it means to have none, for the warning.

    Returns:
        The library; None, with a warning, if it is not there and cannot be compiled.
    """
    try:
        made_of = "\n".join([source, compiler, *flags, _instructions()]).encode("utf-8", "surrogateescape")
        path = folder / f"{name}_{hashlib.sha256(made_of).hexdigest()[:16]}.so"
        if not _is_whole(path):
            _compile(source, path, compiler, flags)
        return ctypes.CDLL(str(path))
    except (OSError, SetupError) as error:
        logger.warning("%s, as its C++ cannot be used: %s", without, str(error).rstrip("."))
        return None


def _is_whole(path: Path) -> bool:
    """Whether a library is there and ends in its SHA-256: a damaged one would kill the process."""
    data = path.read_bytes() if path.is_file() else b""
    return len(data) > _DIGEST and hashlib.sha256(data[:-_DIGEST]).digest() == data[-_DIGEST:]


def _compile(source: str, path: Path, compiler: str, flags: Sequence[str]) -> None:
    """Write the library and its SHA-256; raises OSError or SetupError if that fails."""
    program = shutil.which(compiler)
    if not program:
        raise SetupError(f"there is no {compiler or 'g++'}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes of containers that share the folder may have the same number.
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    fresh.touch()  # raises where the folder cannot be written, of which the linker only says that it failed
    command = [program, "-x", "c++", *flags, "-shared", "-fPIC", "-", "-o", str(fresh)]
    # A service may have no PATH or one of its own; the compiler looks there for the assembler and the linker.
    places = [os.environ.get("PATH"), str(Path(program).parent), os.defpath]
    environment = {**os.environ, "PATH": os.pathsep.join(filter(None, places))}
    try:
        done = subprocess.run(command, input=source.encode(), capture_output=True, check=False, env=environment)
        if done.returncode:
            why = reason(done.stderr.decode("utf-8", "replace").splitlines())
            raise SetupError(why or f"{compiler} ended with status {done.returncode}.")
        with fresh.open("ab") as file:  # loaders ignore what follows a library
            file.write(hashlib.sha256(fresh.read_bytes()).digest())
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
