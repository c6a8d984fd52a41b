"""What every method has to keep: checks that take a method's name and know nothing else about it.

A check is a function `check_…` of one of the modules here, with the method's name as its only argument. Those of
`through_clip` are for methods that train through CLIP.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import ModuleType

from jclip_adapter.methods import get

from . import contract, description, invariance, scores, through_clip

Check = Callable[[str], None]


def _checks(*modules: ModuleType) -> list[Check]:
    return [value for module in modules for key, value in vars(module).items() if key.startswith("check_")]


CHECKS = _checks(scores, invariance, contract, description)
THROUGH_CLIP = _checks(through_clip)
# Features that are typed in say nothing to a method whose own image tower has to see the photos: `through_clip` checks
# that they are refused, and that the photos are encoded anew.
HAS_GRID = [description.check_grids_lie_in_their_ranges, description.check_values_that_need_no_fit]
FEATURES_ONLY = [scores.check_any_real_dtype_is_taken, scores.check_plain_rows_are_queries]


def checks_for(name: str) -> list[Check]:
    """The checks of one method."""
    meta, fields = get(name).meta, dataclasses.fields(get(name).Hyper)
    without = [] if any(item.metadata["grid"] for item in fields) else HAS_GRID
    if "images" in meta.tunes:
        without = [*without, *FEATURES_ONLY]
    checks = [check for check in CHECKS if check not in without]
    return [*checks, *THROUGH_CLIP] if "encoder" in meta.needs else checks


def rooms_for(name: str) -> dict[str, list[Check]]:
    """The checks of one method, by the module that they stand in."""
    rooms: dict[str, list[Check]] = {}
    for check in checks_for(name):
        rooms.setdefault(check.__module__.rpartition(".")[2], []).append(check)
    return rooms
