"""Entry point of the command line; Ctrl-C ends the process with the same status from here on.

It imports almost nothing, so that its signal handler is installed before the other imports.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from . import STOPPED


def run(
    argv: Sequence[str] | None = None, program: str = "runner.py", switches: Mapping[str, str] | None = None
) -> NoReturn:
    """Run a command and exit the process.

    Args:
        argv: The arguments; the process's own by default.
        program: The program's name.
        switches: As for `app.build_parser`; the caller has taken them out of `argv`.
    """
    _on_ctrl_c(leave)
    from .app import main

    try:
        _on_ctrl_c(signal.default_int_handler)
        status = main(argv, program, switches)
        _on_ctrl_c(leave)
    except KeyboardInterrupt:  # where `main` does not catch it
        leave()
    # Exit handlers of libraries may wait for processes that Ctrl-C has ended too, and Jittor's may wait forever for a
    # compile thread that a busy machine has not started yet.
    if status != STOPPED and "jittor" not in sys.modules:
        atexit._run_exitfuncs()
    _flush()
    # Not sys.exit: Python resets SIGINT to its default while it still finalises Jittor.
    os._exit(status)


def main() -> NoReturn:
    """The installed command `jclip-adapter`."""
    run(program="jclip-adapter")


def _on_ctrl_c(handler: Callable[..., Any]) -> None:
    """Set the handler of Ctrl-C, unless the parent process ignores it."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def leave(*_: object) -> NoReturn:
    """End the process immediately after Ctrl-C."""
    try:
        os.write(2, b"\nstopped.\n")
    finally:
        os._exit(STOPPED)


def _flush() -> None:
    import contextlib

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
