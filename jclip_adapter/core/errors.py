"""The program's own errors.

Every error that a user can cause is an `AdapterError`: its message says what is wrong and where, its `hint` what to do.
The command line prints both in one line and exits with status 2. Each also derives from the matching built-in error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AdapterError(Exception):
    """Base of all errors that the user can fix.

    Args:
        message: What is wrong, with the file or the value.
        hint: What to do, as a sentence; empty for nothing.
        details: Further lines, such as every malformed line of a list; shown below the error, not part of its text.
    """

    def __init__(self, message: str, hint: str = "", details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = list(details)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class UsageError(AdapterError, ValueError):
    """An unknown or invalid flag, key, name or value."""


class DataError(AdapterError, ValueError):
    """Missing, damaged or inconsistent photos, class lists, label files or feature files."""


class PhotoError(DataError):
    """A photo that cannot be read."""


class SoundError(DataError):
    """A sound that cannot be read."""


class MissingError(DataError, FileNotFoundError):
    """A data set, feature file or run that does not exist."""


class WeightsError(AdapterError, ValueError):
    """Weights that are missing, unsafe to read, damaged or of another shape than the model."""


class MissingWeightsError(WeightsError, FileNotFoundError):
    """A weight file that does not exist."""


class DivergedError(AdapterError, ArithmeticError):
    """A training whose loss or weights became NaN or infinite."""


class SetupError(AdapterError, RuntimeError):
    """A missing compiler, package, driver, disk space or permission."""


class OutOfMemoryError(AdapterError, MemoryError):
    """Work that needs more memory than is free."""


class SubmissionError(AdapterError, ValueError):
    """A result file that the contest would refuse."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest known name, or list all.

    Args:
        name: The unknown name.
        known: The known names.

    Returns:
        A sentence for an error's hint.

    >>> suggest("jclip-adaptor", ["jclip-adapter", "zero-shot"])
    "Did you mean 'jclip-adapter'?"
    >>> suggest("x", ["b", "a"])
    'Known are: a, b.'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{near[0]}'?"
    if len(names) > 20:
        names = [*names[:20], f"… and {len(names) - 20} more"]
    return f"Known are: {', '.join(names)}."
