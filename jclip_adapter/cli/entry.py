"""The way into the command line. From here on Ctrl-C ends a command with the same status, whatever it is doing.

This module imports next to nothing, so that its handler is there while everything else is imported.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from . import STOPPED


def run(
    argv: Sequence[str] | None = None, program: str = "runner.py", switches: Mapping[str, str] | None = None
) -> NoReturn:
    """Run a command as a process of its own, and end it.

    Args:
        argv: The arguments; the process's own by default.
        program: The program's name.
        switches: As for `app.build_parser`; the caller has taken them out of `argv`.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else whoever started it ignores Ctrl-C
    if usual:
        signal.signal(signal.SIGINT, leave)
    from .app import main

    try:
        if usual:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        status = main(argv, program, switches)
        if usual:
            signal.signal(signal.SIGINT, leave)
    except KeyboardInterrupt:  # where `main` does not catch it
        leave()
    # What libraries clear up at their end may wait for processes that Ctrl-C has ended too, and Jittor waits for ever
    # for a compile thread that a busy machine has not started yet (it misses the call to end).
    if status != STOPPED and "jittor" not in sys.modules:
        atexit._run_exitfuncs()
    _flush()
    # Python's own end is left out: it gives SIGINT its default back while it still takes Jittor apart.
    os._exit(status)


def main() -> NoReturn:
    """The installed command `jclip-adapter`."""
    run(program="jclip-adapter")


def leave(*_: object) -> NoReturn:
    """End the process at once, as Ctrl-C asks for where there is nothing to finish."""
    try:
        os.write(2, b"\nstopped.\n")
    finally:
        os._exit(STOPPED)


def _flush() -> None:
    import contextlib

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
