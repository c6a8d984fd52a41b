"""Programs that measure, and that put what was measured into results/ and the READMEs."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jclip_adapter.core.errors import AdapterError

ROOT = Path(__file__).resolve().parent.parent  # of the repository


def reports_user_errors(main: Callable[..., int]) -> Callable[..., int]:
    """A program's `main` that prints a user's mistake as one line on stderr, with exit status 2."""

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except AdapterError as error:
            sys.stderr.write(f"error: {error}\n")
            return 2

    return wrapped
