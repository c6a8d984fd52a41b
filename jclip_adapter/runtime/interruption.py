"""Ctrl-C ends a command within seconds.

Python handles Ctrl-C between bytecodes. While Jittor compiles kernels or computes a large batch it holds the GIL and
none is run. A signal handler in C sets a deadline: if Python has not ended the command by then, the process exits with
the same message and status. It is compiled by Jittor's compiler; without one Python's own handling remains.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import shared_library

DEADLINE_S = 2
_AGAIN_S = 0.05
MESSAGE = "stopped. What is finished is kept: the same command goes on from it."
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
    """The message for Ctrl-C in a list; empty if no command runs."""
    return []


def is_command() -> bool:
    """Whether this process runs the command line, not another program that uses the package."""
    return bool(_running())


@contextlib.contextmanager
def command() -> Iterator[None]:
    """Mark the process as a command within this block: it may be ended and restarted."""
    _running()[:] = [MESSAGE]
    hook = sys.unraisablehook
    sys.unraisablehook = functools.partial(_raise_again, hook)
    try:
        yield
    except KeyboardInterrupt as stop:
        sys.unraisablehook = lambda _: None
        _free(stop)
        raise
    finally:
        sys.unraisablehook = hook
        _running().clear()


def _free(stop: BaseException) -> None:
    """Free what Ctrl-C left half made while nobody hears its complaints: a progress bar without its fields, say."""
    error: BaseException | None = stop
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _raise_again(hook: Callable[[Any], object], unraisable: Any) -> None:
    """Raise a KeyboardInterrupt again that Python ignored in a callback; other errors go to the previous hook."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        again = threading.Timer(_AGAIN_S, _thread.interrupt_main)  # after this function has returned
        again.daemon = True
        try:
            again.start()
        except KeyboardInterrupt:  # on a busy machine the timer was faster than this function
            _raise_again(hook, unraisable)
    else:
        hook(unraisable)


def message() -> str:
    """The message for Ctrl-C."""
    return (_running() or [MESSAGE])[0]


def set_message(text: str) -> None:
    """Change the message for Ctrl-C, such as how to continue; no effect outside of a command."""
    if is_command():
        _running()[:] = [text]
        _update_handler()


@contextlib.contextmanager
def deadline(folder: Path, compiler: str) -> Iterator[None]:
    """Within this block Ctrl-C ends the process after some seconds, if Python has not done so.

    An error after Ctrl-C was caused by it, such as by a killed compiler, and counts as the interrupt.

    Args:
        folder: Folder of the compiled handler.
        compiler: Path of the C++ compiler; empty for none.

    Raises:
        KeyboardInterrupt: instead of an error after Ctrl-C.
    """
    ignored = signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, signal.SIG_DFL, None)
    library = None
    if is_command() and not ignored and threading.current_thread() is threading.main_thread():
        library = _library(folder, compiler)
    if library is None:
        yield
        return
    _update_handler()
    library.begin(DEADLINE_S)
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
    """Raise a Ctrl-C that a library has swallowed.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    if is_command() and any(library.was_pressed() for library in _loaded()):
        raise KeyboardInterrupt(message())


@functools.cache
def _loaded() -> list[Any]:
    return []


def _update_handler() -> None:
    for library in _loaded():
        data = f"\n{message()}\n".encode()
        library.say(data, len(data))


def _library(folder: Path, compiler: str) -> Any:
    """The compiled handler; None if it cannot be compiled."""
    if not _loaded():
        without = "Ctrl-C may take long to end a computation"
        found = shared_library.load("interruption", _SOURCE, folder, compiler, ["-O1"], without)
        _loaded()[:] = [] if found is None else [found]
    return next(iter(_loaded()), None)
