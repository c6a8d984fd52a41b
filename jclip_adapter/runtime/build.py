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
from .planning import Plan, compiled_folder, jittor_home

logger = logging.getLogger(__name__)
_READY = "jittor is ready"
_FIRST_TIME = "Jittor compiles its core: about 2 minutes on 2 cores, once for this machine."
_CRASHES = (signal.SIGBUS, signal.SIGSEGV, signal.SIGILL)
# Ends with its parent: it has a session of its own, so that Ctrl-C does not end the compilers amid their work.
_CHILD = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
import jittor
from jittor_utils import cache_path
{use}
print({ready!r}, cache_path, flush=True)
os._exit(0)  # at its own end Jittor may wait for ever for a compile thread that has not started yet
"""
_PROGRESS = re.compile(r"Compiling ([A-Za-z_]+)\w*\((\d+)/(\d+)\)")


def compile_core(plan: Plan) -> str:
    """Do the first import in a child process, until it really succeeds.

    Jittor leaves with status 0 after it rebuilt a part of itself, so only the line that the child prints after
    the import counts.

    Returns:
        The folder that Jittor keeps its libraries in.

    Raises:
        SetupError: it does not succeed.
    """
    cores = compiled_folder().rglob(compiled.CORE[0])
    told = not any(plan.environment.get("cache_name", "") in path.parts for path in cores)
    if told:
        console.note(_FIRST_TIME)
    # On CUDA a kernel is compiled and run too: only that shows whether compiler, driver and GPU fit together.
    use = "jittor.flags.use_cuda = 1; (jittor.ones(2) + 1).numpy(); " if plan.device == "cuda" else ""
    code = _CHILD.format(use=use, ready=_READY)
    output: list[str] = []
    for _ in range(3):
        with _child_process(
            [sys.executable, "-c", code],
            # Only the talkative log tells how far the compilation is.
            {**os.environ, **plan.environment, "log_silent": "0"},
        ) as child:
            output = list(_show_progress(child, told))
        ready = [line for line in output if line.startswith(_READY)]
        if ready:
            return ready[-1].removeprefix(_READY).strip()
        if -child.returncode in _CRASHES and compiled.remove_core(compiled_folder()):
            logger.warning("Jittor's compiled core crashes: %s; it is compiled again", _end_of(child.returncode))
        elif child.returncode != 0:
            break
    raise SetupError(
        f"Jittor could not be compiled: {(reason(output) or _end_of(child.returncode)).rstrip('.')}.",
        "Run `python runner.py --doctor`; if its checks pass, delete "
        f"{jittor_home() / '.cache' / 'jittor'} and run the command again.",
    )


def _end_of(status: int) -> str:
    """How a process ended, in words."""
    return f"its process died ({signal.Signals(-status).name})" if status < 0 else f"exit status {status}"


@contextlib.contextmanager
def _child_process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A child with a session of its own, which is killed with all its children where this block is left early."""
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


def _show_progress(child: subprocess.Popen[bytes], told: bool = False) -> Iterator[str]:
    """Turn Jittor's compile counter into a progress bar; yields the lines that are no progress."""
    assert child.stdout is not None  # noqa: S101  (Popen was given a pipe; this tells the type checker)
    bar: Any = None
    rest = b""
    while chunk := child.stdout.read1(65536):  # type: ignore[attr-defined]
        *pieces, rest = re.split(rb"[\r\n]", rest + chunk)
        for piece in pieces:
            line = piece.decode("utf-8", "replace")
            match = _PROGRESS.search(line)
            if not match:
                if line.strip():
                    yield line
                continue
            total = int(match[3])
            if bar is None or bar.total != total:
                if bar is not None:
                    bar.close()
                if bar is None and not told:
                    console.note(_FIRST_TIME)
                bar = console.progress(total=total, desc=f"compiling {match[1].strip('_')[:24]}", unit="file")
            bar.update(int(match[2]) - bar.n)
    if bar is not None:
        bar.close()
    yield rest.decode("utf-8", "replace")
