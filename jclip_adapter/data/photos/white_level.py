"""The white level of a data set whose photos have 16 bits per channel, use fewer, and do not say how many.

Most photos of one source come near its white. So the numbers of bits that a data set's photos use form one group
without gaps, and the white level is the largest value of the most bits among them. A few photos far above the others
are defective or of another source, and decide nothing. Where two groups lie far apart and both are large, nothing tells
whether the lower one is dark or of another range, and the data set is refused.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jclip_adapter.core.console import progress
from jclip_adapter.core.errors import DataError, PhotoError, UsageError

from .bit_depth import FULL, full_scale
from .decode import read_file, unsettled_top

logger = logging.getLogger(__name__)
_DEEP_SUFFIXES = (".png", ".apng", ".tif", ".tiff", ".pgm", ".ppm", ".pnm")
_HEAD = 26  # bytes of a PNG, the last but one being the depth
_PNG, _OTHERS = b"\x89PNG", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"P2", b"P3", b"P5", b"P6")
_MOST = 512  # photos that are decoded for it; they lie evenly among all
_FEW = 0.1  # share of the photos that may lie far above or below the others
_STRAY = 0.01  # share of the photos that a number of bits may have between two groups
_FAR = 2  # numbers of bits between two groups that are not one
_LEAST, _MOST_BITS = 8, 16


@dataclass(frozen=True)
class Survey:
    """What the photos of 16 bits use of them, those whose files do not tell their range.

    Attributes:
        tops: By photo, the value that all but one in a thousand of its values stay at or below (`Samples.top`), 1 to
            65535, and its path.
        decoded: How many photos were decoded.
        candidates: How many may have 16 bits, by their first bytes.
    """

    tops: tuple[tuple[int, Path], ...]
    decoded: int
    candidates: int

    def level(self) -> int:
        """The white level that the photos have; 0 where none needs one.

        Raises:
            DataError: they are of two ranges, as far as can be told.
        """
        counts = [0] * (_MOST_BITS + 1)
        for top, _ in self.tops:
            counts[_bits(top)] += 1
        for bits in range(_MOST_BITS, _LEAST, -1):  # from the top: what lies above a gap is left out where it is little
            if not counts[bits] and any(counts[:bits]) and sum(counts[bits:]) <= _FEW * sum(counts):
                counts[bits:] = [0] * len(counts[bits:])
        valley = _valley(counts)
        if valley:
            raise self._two_ranges(valley)
        most = max((bits for bits, count in enumerate(counts) if count), default=0)
        return (1 << most) - 1 if most else 0

    def _two_ranges(self, bits: int) -> DataError:
        """What is wrong with two groups; `bits` lies between them."""
        upper = [item for item in self.tops if _bits(item[0]) > bits]
        low = max(item for item in self.tops if item not in upper)
        high = max(upper)
        return DataError(
            f"16-bit photos of two ranges: {len(self.tops) - len(upper)} use values up to {low[0]} (as {low[1]}), and "
            f"{len(upper)} up to {high[0]} (as {high[1]}); nothing tells whether the former are dark.",
            f"Give --white-level {full_scale(high[0])} if they are dark, or --white-level {full_scale(low[0])} if that "
            "is their white.",
        )

    def describe(self, level: int) -> str:
        """What the photos use, in words: those within a white level, and how many lie beyond it."""
        within = [top for top, _ in self.tops if top <= level]
        beyond = [item for item in self.tops if item[0] > level]
        sample = f" of {self.decoded} decoded, out of {self.candidates}" if self.decoded < self.candidates else ""
        told = f"16-bit photos that do not tell their range ({len(self.tops)}{sample})"
        if within:
            told += f": values up to {max(within)} in {len(within)} of them, half of these up to "
            told += f"{statistics.median_low(within)}"
        if beyond:
            told += f"{';' if within else ':'} values up to {max(beyond)[0]} in {len(beyond)}"
            told += f" (as {min(beyond, key=lambda item: item[1])[1]})"
        return told


def _bits(top: int) -> int:
    return max(_LEAST, top.bit_length())


def _valley(counts: Sequence[int]) -> int:
    """A number of bits that hardly a photo uses, nor one beside it, many using fewer and many more; 0 for none.

    Args:
        counts: How many photos use 0, 1, 2 … bits.
    """
    total = sum(counts)
    for bits in range(_LEAST + 1, _MOST_BITS + 1 - _FAR):
        between = counts[bits : bits + _FAR]
        sides = (sum(counts[:bits]), sum(counts[bits + _FAR :]))
        if max(between) <= _STRAY * total and min(sides) > _FEW * total:
            return bits
    return 0


def survey(paths: Sequence[Path]) -> Survey:
    """Look at the photos of a data set, or at 512 of them, evenly chosen.

    Args:
        paths: Its photos, in a fixed order. Photos of 16 bits under another format's ending, such as .jpg, do not
            count, nor do unreadable ones.
    """
    chosen = [path for path in paths if path.name.lower().endswith(_DEEP_SUFFIXES) and _may_be_deep(path)]
    candidates = len(chosen)
    if candidates > _MOST:
        chosen = [chosen[number * candidates // _MOST] for number in range(_MOST)]
    bar = progress(chosen, desc="range of 16-bit photos", unit="photo", leave=False) if chosen else ()
    tops = tuple((top, path) for path in bar if (top := _top(path)))
    return Survey(tops, len(chosen), candidates)


def find_white_level(paths: Sequence[Path]) -> int:
    """Settle the white level of a data set by its photos, and tell it.

    Args:
        paths: As for `survey`.

    Returns:
        The white level; 0 where no photo needs one.

    Raises:
        DataError: the photos are of two ranges, as far as can be told.
    """
    found = survey(paths)
    level = found.level()
    if level:
        inferred = any(top <= FULL >> 1 for top, _ in found.tops)  # others tell their own range by using it
        beyond = "; those beyond it are read with 65535 as white, or refused" if max(found.tops)[0] > level else ""
        logger.log(
            logging.WARNING if inferred else logging.INFO,
            "%s; so %d is white (%d bits)%s; --white-level sets another",
            found.describe(level),
            level,
            level.bit_length(),
            beyond,
        )
    return level


def compare_white_level(level: int, paths: Sequence[Path], run: str = "") -> None:
    """Warn where a white level that was settled on other photos is not what these have.

    Args:
        level: That of a run, or of a data set.
        paths: As for `survey`.
        run: The run's folder; empty for a data set's level.
    """
    found = survey(paths)
    source = run or "the data set"
    try:
        own = found.level()
    except DataError as error:
        logger.warning("%s They are read with the white level of %s, %d.", error.message, source, level)
        return
    if own and own != level:
        logger.warning(
            "%s; that suits a white level of %d, but that of %s, %d, is used; if these photos are of another range, "
            "give %s--white-level %d",
            found.describe(level),
            own,
            source,
            level,
            f"--run {run} " if run else "",
            own,
        )


def check_white_level(level: int, paths: Sequence[Path]) -> None:
    """Refuse a white level that the user gives and no photo needs, or that many photos exceed.

    Args:
        level: The user's.
        paths: As for `survey`; here photos of 16 bits count under any ending.

    Raises:
        UsageError: it is such a level.
    """
    found = survey(paths)
    beyond = [item for item in found.tops if item[0] > level]
    if len(beyond) > _FEW * len(found.tops):
        raise UsageError(
            f"--white-level {level} is too low: {found.describe(level)}.",
            f"Give --white-level {full_scale(max(beyond)[0])}, or leave --white-level out.",
        )
    if beyond:
        logger.warning("--white-level %d: %s", level, found.describe(level))
    if found.tops or found.decoded < found.candidates:
        return
    others = (path for path in paths if not path.name.lower().endswith(_DEEP_SUFFIXES))
    if not any(_may_be_deep(path) and _top(path) for path in others):
        raise UsageError(
            "--white-level has no effect: each of the photos has 8 bits per channel, or tells its own range.",
            "Leave --white-level out.",
        )


def _top(path: Path) -> int:
    try:
        return unsettled_top(path)
    except PhotoError:
        return 0  # named where it is needed


def _may_be_deep(path: Path) -> bool:
    """Whether a photo may have 16 bits per channel, by its first bytes."""
    try:
        head = read_file(path, _HEAD)
    except PhotoError:
        return False  # named where it is needed
    return head[24:25] == b"\x10" if head.startswith(_PNG) else head.startswith(_OTHERS)
