"""The white level of a data set whose photos have 16 bits per channel, use fewer, and do not say how many."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from .bit_depth import FULL
from .console import progress
from .decode import read_file, unsettled_peak
from .errors import PhotoError

logger = logging.getLogger(__name__)
_DEEP_SUFFIXES = (".png", ".apng", ".tif", ".tiff", ".pgm", ".ppm", ".pnm")
_PNG_HEAD = 26  # bytes, the last but one being the depth
_MOST = 512  # photos that are decoded for it; they lie evenly among all


def may_need_level(name: str) -> bool:
    """Whether a photo may have 16 bits per channel, by its name; those named otherwise than they are do not count."""
    return name.lower().endswith(_DEEP_SUFFIXES)


def find_white_level(paths: Sequence[Path]) -> int:
    """Find the number of bits that a data set's photos use.

    Photos whose file tells their range do not count, nor do those of 8 bits. The level is 2^n − 1 for the smallest n
    from 8 that holds the largest value, so that it does not hang on a single bright photo.

    Args:
        paths: All photos of the data set, in a fixed order.

    Returns:
        The white level; 0 where no photo needs one.
    """
    chosen = [path for path in paths if may_need_level(path.name) and _may_be_deep(path)]
    if len(chosen) > _MOST:
        chosen = [chosen[number * len(chosen) // _MOST] for number in range(_MOST)]
    if not chosen:
        return 0
    largest = count = 0
    for path in progress(chosen, desc="range of 16-bit photos", unit="photo", leave=False):
        try:
            peak = unsettled_peak(path)
        except PhotoError:
            continue  # named where it is needed
        largest, count = max(largest, peak), count + bool(peak)
        if largest > FULL >> 1:
            break
    if not count:
        return 0
    level = (1 << max(8, largest.bit_length())) - 1
    logger.log(
        logging.WARNING if level < FULL else logging.INFO,
        "photos of 16 bits: values up to %d in %d of them, so %d is white (%d bits); --white-level sets another",
        largest,
        count,
        level,
        level.bit_length(),
    )
    return level


def _may_be_deep(path: Path) -> bool:
    """Whether a photo may have 16 bits per channel, by its first bytes."""
    try:
        head = read_file(path, _PNG_HEAD)
    except PhotoError:
        return False  # named where it is needed
    return not head.startswith(b"\x89PNG") or head[24:25] == b"\x10"
