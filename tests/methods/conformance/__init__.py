"""What every method has to keep: checks that take a method's name and know nothing else about it.

A check is a function `check_…` of one of the modules here, with the method's name as its only argument.
"""

from __future__ import annotations

from collections.abc import Callable

from . import contract, description, invariance, scores

CHECKS: list[Callable[[str], None]] = [
    value
    for module in (scores, invariance, contract, description)
    for key, value in vars(module).items()
    if key.startswith("check_")
]
