"""The white level of a data set whose 16-bit photos use fewer bits and do not declare how many.

Most photos of one source reach near its white, so the numbers of bits used form one group without gaps, whose largest
gives the white level. A few photos far above are defective or from another source, and ignored. Two large groups far
apart are refused, as the lower one may be dark or of another range.
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
_HEAD = 26  # bytes of a PNG, with the bit depth
_PNG, _OTHERS = b"\x89PNG", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"P2", b"P3", b"P5", b"P6")
_MOST = 512  # photos decoded, evenly chosen
_FEW = 0.1  # share of photos that may be far above or below the others
_STRAY = 0.01  # share of photos with a number of bits in a gap
_FAR = 2  # width of a gap between two groups in bits
_LEAST, _MOST_BITS = 8, 16


@dataclass(frozen=True)
class Survey:
    """Values used by the 16-bit photos that do not declare their range.

    Attributes:
        tops: `Samples.top` of each photo, 1 to 65535, and its path.
        decoded: Number of photos decoded.
        candidates: Number of photos that may have 16 bits, by their first bytes.
    """

    tops: tuple[tuple[int, Path], ...]
    decoded: int
    candidates: int

    def level(self) -> int:
        """The white level; 0 if no photo needs one.

        Raises:
            DataError: the photos seem to have two ranges.
        """
        counts = [0] * (_MOST_BITS + 1)
        for top, _ in self.tops:
            counts[_bits(top)] += 1
        for bits in range(_MOST_BITS, _LEAST, -1):  # drops few photos above a gap
            if not counts[bits] and any(counts[:bits]) and sum(counts[bits:]) <= _FEW * sum(counts):
                counts[bits:] = [0] * len(counts[bits:])
        valley = _valley(counts)
        if valley:
            raise self._two_ranges(valley)
        most = max((bits for bits, count in enumerate(counts) if count), default=0)
        return (1 << most) - 1 if most else 0

    def _two_ranges(self, bits: int) -> DataError:
        """The error for two groups with `bits` between them."""
        upper = [item for item in self.tops if _bits(item[0]) > bits]
        low = max(item for item in self.tops if item not in upper)
        high = max(upper)
        return DataError(
            f"16-bit photos of two ranges: {len(self.tops) - len(upper)} use values up to {low[0]} (as {low[1]}), and "
            f"{len(upper)} up to {high[0]} (as {high[1]}); the former may be dark or of another range.",
            f"Give --white-level {full_scale(high[0])} if they are dark, else --white-level {full_scale(low[0])}.",
        )

    def describe(self, level: int) -> str:
        """The photos' values within and beyond a white level, in words."""
        within = [top for top, _ in self.tops if top <= level]
        beyond = [item for item in self.tops if item[0] > level]
        sample = f" of {self.decoded} decoded, out of {self.candidates}" if self.decoded < self.candidates else ""
        text = f"16-bit photos that do not declare their range ({len(self.tops)}{sample})"
        if within:
            text += f": values up to {max(within)} in {len(within)} of them, half of these up to "
            text += f"{statistics.median_low(within)}"
        if beyond:
            text += f"{';' if within else ':'} values up to {max(beyond)[0]} in {len(beyond)}"
            text += f" (as {min(beyond, key=lambda item: item[1])[1]})"
        return text


def _bits(top: int) -> int:
    return max(_LEAST, top.bit_length())


def _valley(counts: Sequence[int]) -> int:
    """The first number of bits of a gap between two large groups; 0 for none.

    Args:
        counts: Number of photos that use 0, 1, 2 … bits.
    """
    total = sum(counts)
    for bits in range(_LEAST + 1, _MOST_BITS + 1 - _FAR):
        between = counts[bits : bits + _FAR]
        sides = (sum(counts[:bits]), sum(counts[bits + _FAR :]))
        if max(between) <= _STRAY * total and min(sides) > _FEW * total:
            return bits
    return 0


def survey(paths: Sequence[Path]) -> Survey:
    """Survey the photos of a data set, at most 512, evenly chosen.

    Args:
        paths: Its photos, in a fixed order. Unreadable photos, and 16-bit photos with another format's suffix such as
            .jpg, are ignored.
    """
    chosen = [path for path in paths if path.name.lower().endswith(_DEEP_SUFFIXES) and _may_be_deep(path)]
    candidates = len(chosen)
    if candidates > _MOST:
        chosen = [chosen[number * candidates // _MOST] for number in range(_MOST)]
    bar = progress(chosen, desc="range of 16-bit photos", unit="photo", leave=False) if chosen else ()
    tops = tuple((top, path) for path in bar if (top := _top(path)))
    return Survey(tops, len(chosen), candidates)


def find_white_level(paths: Sequence[Path]) -> int:
    """Infer the white level of a data set from its photos, and log it.

    Args:
        paths: As for `survey`.

    Returns:
        The white level; 0 if no photo needs one.

    Raises:
        DataError: the photos seem to have two ranges.
    """
    found = survey(paths)
    level = found.level()
    if level:
        inferred = any(top <= FULL >> 1 for top, _ in found.tops)  # the range of others is evident
        beyond = "; photos beyond it are read with white level 65535, or refused" if max(found.tops)[0] > level else ""
        logger.log(
            logging.WARNING if inferred else logging.INFO,
            "%s; inferred white level: %d (%d bits)%s; --white-level sets another",
            found.describe(level),
            level,
            level.bit_length(),
            beyond,
        )
    return level


def compare_white_level(level: int, paths: Sequence[Path], run: str = "") -> None:
    """Warn if photos seem to have another white level than the one used.

    Args:
        level: The white level of a run, or of a data set.
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
            "%s; they seem to have white level %d, but that of %s, %d, is used; if these photos are of another range, "
            "give %s--white-level %d",
            found.describe(level),
            own,
            source,
            level,
            f"--run {run} " if run else "",
            own,
        )


def check_white_level(level: int, paths: Sequence[Path]) -> None:
    """Refuse a white level from the user that no photo needs, or that many photos exceed.

    Args:
        level: The user's.
        paths: As for `survey`, with 16-bit photos of any suffix.

    Raises:
        UsageError: the level is refused.
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
            "--white-level has no effect: all photos have 8 bits per channel, or declare their range.",
            "Leave --white-level out.",
        )


def _top(path: Path) -> int:
    try:
        return unsettled_top(path)
    except PhotoError:
        return 0  # reported when it is encoded


def _may_be_deep(path: Path) -> bool:
    """Whether a photo may have 16 bits per channel, by its first bytes."""
    try:
        head = read_file(path, _HEAD)
    except PhotoError:
        return False  # reported when it is encoded
    return head[24:25] == b"\x10" if head.startswith(_PNG) else head.startswith(_OTHERS)
