"""What a person sees: results on stdout, messages on stderr, also where one of these is closed or full."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator

from .errors import SetupError, UsageError


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """Make ready for messages and results; at the end, also behind --help, a full disk does not pass for success.

    Raises:
        UsageError: stdout is closed.
        SetupError: stdout cannot be written.
    """
    if sys.stderr is None:  # closed: progress bars would fail, and nobody wants the messages
        sys.stderr = io.StringIO()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    if sys.stdout is None:
        raise UsageError("stdout is closed, so there is no place for the results.", "Leave it open, or use a file.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to fail
    try:
        yield
    finally:
        tell(end="")


def tell(text: str = "", end: str = "\n") -> None:
    """Print a result.

    Raises:
        BrokenPipeError: nobody reads on.
        SetupError: stdout cannot be written.
    """
    try:
        print(text, end=end, flush=not text)
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = None  # or Python would try once more at its end, and complain in lines of its own
        raise SetupError(
            f"cannot write to stdout: {error.strerror or error}.", "Check the free space where it is redirected to."
        ) from error


def complain(text: str) -> None:
    """Write to stderr."""
    with contextlib.suppress(OSError):  # where it is full, the exit status has to do
        sys.stderr.write(text)
        sys.stderr.flush()
