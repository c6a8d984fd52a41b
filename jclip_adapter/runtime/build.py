"""Jittor's core, compiled in a child process, with a progress bar."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from jclip_adapter.core import console
from jclip_adapter.core.errors import SetupError

from . import compiled
from .jittor_messages import reason
from .planning import Plan, cache_folder, compiled_folder

logger = logging.getLogger(__name__)
_READY = "jittor is ready"
_FIRST_TIME = "Jittor compiles its core: about a minute on 2 cores, once for this machine."
_CRASHES = (signal.SIGBUS, signal.SIGSEGV, signal.SIGILL)
# It has its own session, so that Ctrl-C does not kill running compilers, and ends with its parent.
_CHILD = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
import jittor
from jittor_utils import cache_path
{use}
print({ready!r}, cache_path, flush=True)
os._exit(0)  # at exit Jittor may wait forever for a compile thread that has not started yet
"""
_PROGRESS = re.compile(r"Compiling ([A-Za-z_]+)\w*\((\d+)/(\d+)\)")


def compile_core(plan: Plan) -> str:
    """Import Jittor in a child process, up to three times.

    Jittor exits with status 0 after it rebuilt a part of itself, so success is the line that the child prints after the
    import.

    Returns:
        The folder of Jittor's libraries.

    Raises:
        SetupError: it does not succeed.
    """
    cores = compiled_folder().rglob(compiled.CORE[0])
    first = not any(plan.environment.get("cache_name", "") in path.parts for path in cores)
    if first:
        console.print_note(_FIRST_TIME)
    # On CUDA a kernel is compiled and run too, to test that compiler, driver and GPU fit together.
    use = "jittor.flags.use_cuda = 1; (jittor.ones(2) + 1).numpy(); " if plan.device == "cuda" else ""
    code = _CHILD.format(use=use, ready=_READY)
    output: list[str] = []
    for _ in range(3):
        with _child_process(
            [sys.executable, "-c", code],
            # The verbose log has the progress of the compilation.
            {**os.environ, **plan.environment, "log_silent": "0"},
        ) as child:
            output = list(_show_progress(child))
        ready = [line for line in output if line.startswith(_READY)]
        if ready:
            return ready[-1].removeprefix(_READY).strip()
        if -child.returncode in _CRASHES and compiled.remove_core(compiled_folder()):
            logger.warning("Jittor's compiled core crashes: %s; it is compiled again", _end_of(child.returncode))
        elif child.returncode != 0:
            break
    raise SetupError(
        f"Jittor could not be compiled: {(reason(output) or _end_of(child.returncode)).rstrip('.')}.",
        f"Run `python runner.py --doctor`; if its checks pass, delete {cache_folder()} and run the command again.",
    )


def _end_of(status: int) -> str:
    """How a process ended, in words."""
    return f"its process was killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


@contextlib.contextmanager
def _child_process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A child process with its own session, killed with its children if this block raises."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    ) as child:
        try:
            yield child
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            raise


def _show_progress(child: subprocess.Popen[bytes]) -> Iterator[str]:
    """Turn Jittor's compile counter into a progress bar; yields the other lines."""
    assert child.stdout is not None  # noqa: S101  (for the type checker)
    bar: Any = None
    rest = b""
    while chunk := child.stdout.read1(65536):  # type: ignore[attr-defined]
        *pieces, rest = re.split(rb"[\r\n]", rest + chunk)
        for piece in pieces:
            line = piece.decode("utf-8", "replace")
            match = _PROGRESS.search(line)
            if not match:
                yield line
                continue
            total = int(match[3])
            if bar is None or bar.total != total:
                if bar is not None:
                    bar.close()
                bar = console.progress(total=total, desc=f"compiling {match[1].strip('_')[:24]}", unit="file")
            bar.update(int(match[2]) - bar.n)
    if bar is not None:
        bar.close()
    yield rest.decode("utf-8", "replace")
