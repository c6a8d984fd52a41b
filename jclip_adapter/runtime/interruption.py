"""Ctrl-C ends a command within seconds, whatever it is doing.

Python acts on Ctrl-C between two of its own steps. While Jittor compiles kernels or computes a large batch there are
none, and Jittor keeps Python's lock, so no thread can help either. A signal handler in C sets a deadline: where
Python has not ended the command by then, the process leaves with the same message and status. It is compiled by the
compiler that Jittor needs anyway; without it Ctrl-C works as Python makes it work.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import functools
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DEADLINE_S = 2
_AGAIN_S = 0.05
MESSAGE = "stopped. Finished features and benchmark cells are kept: the same command goes on from them."
_SOURCE = """\
#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct sigaction python;
static volatile sig_atomic_t pressed;
static char text[2048];
static unsigned length, seconds;

static void leave(int number) {
    (void)number;
    if (write(2, text, length) < 0) {}
    _exit(130);
}

static void interrupted(int number, siginfo_t *info, void *context) {
    if (pressed) leave(number);
    pressed = 1;
    alarm(seconds);
    if (python.sa_flags & SA_SIGINFO) python.sa_sigaction(number, info, context);
    else if (python.sa_handler != SIG_DFL && python.sa_handler != SIG_IGN) python.sa_handler(number);
}

extern "C" void say(const char *message, unsigned count) {
    if (count > sizeof text) count = sizeof text;
    memcpy(text, message, count);
    length = count;
}

extern "C" void begin(unsigned deadline) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = leave;
    sigaction(SIGALRM, &action, 0);
    action.sa_sigaction = interrupted;
    action.sa_flags = SA_SIGINFO;
    seconds = deadline;
    pressed = 0;
    sigaction(SIGINT, &action, &python);
}

extern "C" int was_pressed(void) {
    return pressed;
}

extern "C" void end(void) {
    alarm(0);
    pressed = 0;
    signal(SIGALRM, SIG_DFL);
    sigaction(SIGINT, &python, 0);
}
"""


@functools.cache
def _running() -> list[str]:
    """What to say on Ctrl-C, while a command runs; a list, because it changes."""
    return []


def is_command() -> bool:
    """Whether the command line is running, and not another program that uses this package."""
    return bool(_running())


@contextlib.contextmanager
def command() -> Iterator[None]:
    """Within this block the process is a command's: it may be ended and started anew."""
    _running()[:] = [MESSAGE]
    told = sys.unraisablehook
    sys.unraisablehook = functools.partial(_raise_again, told)
    try:
        yield
    finally:
        sys.unraisablehook = told
        _running().clear()


def _raise_again(told: Callable[[Any], object], unraisable: Any) -> None:
    """Ctrl-C in a callback, where Python ignores errors, counts behind it; other errors are told as ever."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        again = threading.Timer(_AGAIN_S, _thread.interrupt_main)  # at once it would come amid this function
        again.daemon = True
        again.start()
    else:
        told(unraisable)


def message() -> str:
    """What to say when a command is stopped now."""
    return (_running() or [MESSAGE])[0]


def say(text: str) -> None:
    """Change what is said when this command is stopped, such as how to go on; nothing outside of a command."""
    if is_command():
        _running()[:] = [text]
        _tell_handler()


@contextlib.contextmanager
def deadline(folder: Path, compiler: str, seconds: int = DEADLINE_S) -> Iterator[None]:
    """Within this block Ctrl-C ends the process after some seconds, where Python has not done so by then.

    An error that comes after Ctrl-C is one that it caused, such as a compiler that it ended: it is a stop too.

    Args:
        folder: Where the compiled handler is kept.
        compiler: Path of the C++ compiler; empty for none.
        seconds: How long Python may take.

    Raises:
        KeyboardInterrupt: in place of an error after Ctrl-C.
    """
    ignored = signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, signal.SIG_DFL, None)
    library = None
    if is_command() and not ignored and threading.current_thread() is threading.main_thread():
        library = _library(folder, compiler)
    if library is None:
        yield
        return
    _tell_handler()
    library.begin(seconds)
    whole = False
    try:
        yield
        whole = True
    finally:
        pressed = library.was_pressed()
        library.end()
        if pressed and not whole:
            raise KeyboardInterrupt(message())


def check() -> None:
    """Stop where Ctrl-C was pressed and a library has swallowed it, as one does that excepts everything.

    Raises:
        KeyboardInterrupt: it was.
    """
    if is_command() and any(library.was_pressed() for library in _loaded()):
        raise KeyboardInterrupt(message())


@functools.cache
def _loaded() -> list[Any]:
    return []


def _tell_handler() -> None:
    for library in _loaded():
        data = f"\n{message()}\n".encode()
        library.say(data, len(data))


def _library(folder: Path, compiler: str) -> Any:
    """The compiled handler; None where it cannot be had."""
    if _loaded():
        return _loaded()[0]
    path = folder / f"interruption_{hashlib.sha256(_SOURCE.encode()).hexdigest()[:16]}.so"
    with contextlib.suppress(OSError):
        if not path.is_file():
            if not compiler:
                return None
            fresh = path.with_name(f"{path.name}.{os.getpid()}")
            path.parent.mkdir(parents=True, exist_ok=True)
            command = [compiler, "-x", "c++", "-O1", "-shared", "-fPIC", "-", "-o", str(fresh)]
            done = subprocess.run(command, input=_SOURCE.encode(), capture_output=True, check=False)
            if done.returncode:
                fresh.unlink(missing_ok=True)
                return None
            fresh.replace(path)
        _loaded().append(ctypes.CDLL(str(path)))
        return _loaded()[0]
    return None
