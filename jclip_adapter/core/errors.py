"""The program's own errors.

Every error that a user can cause is an `AdapterError`: its message says what is wrong and in which file, its
`hint` says what to do. The command line prints both in one line and leaves with exit status 2. Each derives from the
built-in error that a user of the library expects too.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AdapterError(Exception):
    """Base of all errors that have a cure on the user's side.

    Args:
        message: What is wrong, naming the file or the value.
        hint: What to do about it, as a full sentence; empty where there is nothing to suggest.
        details: Further lines, where one error stands for many (every bad line of a list, say). They are shown
            below the error and are not part of its text, which stays one line.
    """

    def __init__(self, message: str, hint: str = "", details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = list(details)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class UsageError(AdapterError, ValueError):
    """A flag, key, name or value that the program does not know or cannot take."""


class DataError(AdapterError, ValueError):
    """Photos, class lists, label files or feature files that are missing or contradict each other."""


class PhotoError(DataError):
    """A photo that cannot be read."""


class MissingError(DataError, FileNotFoundError):
    """A data set, feature file or run that does not exist."""


class WeightsError(AdapterError, ValueError):
    """Weights that are missing, unsafe to read, damaged or of another shape than the model."""


class MissingWeightsError(WeightsError, FileNotFoundError):
    """A weight file that does not exist."""


class DivergedError(AdapterError, ArithmeticError):
    """A training whose loss or weights became NaN or infinite."""


class SetupError(AdapterError, RuntimeError):
    """The machine lacks something: a compiler, a package, a driver, space or a permission."""


class SubmissionError(AdapterError, ValueError):
    """A result file that the contest would refuse."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, or list them.

    Args:
        name: The name that is unknown.
        known: The names that would have been right.

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
