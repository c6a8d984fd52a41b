"""Detection of JPEG damage that the decoder ignores.

For missing data libjpeg fills the rest with mid-grey and sets a warning that Pillow does not read, so a blank image
would be classified. Detected without an own decoder:

- holes: long runs of zero bytes, as left by an interrupted copy;
- an early end: the last block is mid-grey, and appended data change the image;
- missing restart markers, each for a part of the image.

Wrong bytes are detected only if they make the data too short.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a stuffed 0xFF nor a restart marker
_RESTARTS = re.compile(rb"\xff([\xd0-\xd7])")
_HOLE = bytes(32)  # 256 bits: more than a whole macroblock of the usual kinds
_ZEROS = re.compile(rb"\0+")
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a body
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ARITHMETIC_SEQUENTIAL = 0xC9
_ARITHMETIC = frozenset({*range(0xC9, 0xD0)} - {0xCC})
_MORE = b"\x55\xaa\x33\x66" * 16  # data that does not decode to grey
_CUT = 512  # bytes: more than a block takes, less than a hole leaves over
_GREYS = (127, 128)
_PLAIN = 1.5  # most bytes of a block without content; with the usual tables 0.75


@dataclass
class _Scan:
    """One scan's entropy-coded data and header."""

    start: int
    end: int
    components: list[tuple[int, int, int]]  # id, DC table, AC table
    spectral: tuple[int, int]
    high: int
    interval: int
    first_symbols: dict[int, int]  # by 16·class + number: the symbol whose code is all zeros


@dataclass
class Layout:
    """The scans of a JPEG's first image.

    Attributes:
        frame: The frame's marker, 0xC0 and above; 0 if there is none.
        width: In pixels.
        height: In pixels.
        sampling: Horizontal and vertical factor by component.
        scans: In the file's order.
    """

    frame: int = 0
    width: int = 0
    height: int = 0
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    scans: list[_Scan] = field(default_factory=list)


def read_layout(data: bytes) -> Layout:
    """Parse a JPEG's markers, up to the first malformed one."""
    layout = Layout()
    at, interval = 2, 0
    first: dict[int, int] = {}
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 3:
        marker = data[at + 1]
        if marker == 0xD9:
            break
        if marker in _ALONE or marker in (0x00, 0xFF):
            at += 1 if marker == 0xFF else 2
            continue
        body = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
        at += 4 + len(body)
        if marker in _FRAMES and len(body) >= 6 and not layout.frame:
            layout.frame = marker
            layout.height, layout.width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            layout.sampling = {body[i]: (body[i + 1] >> 4, body[i + 1] & 15) for i in range(6, len(body) - 2, 3)}
        elif marker == 0xC4:
            first.update(_first_symbols(body))
        elif marker == 0xDD:
            interval = int.from_bytes(body[:2], "big")
        elif marker == 0xDA and body and len(body) >= 4 + 2 * body[0]:
            found = _SCAN_END.search(data, at)
            end = found.start() if found else len(data)
            parts = [(body[i], body[i + 1] >> 4, body[i + 1] & 15) for i in range(1, 1 + 2 * body[0], 2)]
            tail = body[1 + 2 * body[0] :]
            layout.scans.append(_Scan(at, end, parts, (tail[0], tail[1]), tail[2] >> 4, interval, dict(first)))
            at = end
    return layout


def _first_symbols(body: bytes) -> dict[int, int]:
    """The symbol of each table's first code, which is all zeros."""
    found, at = {}, 0
    while at + 17 < len(body):
        found[body[at]] = body[at + 17]
        at += 17 + sum(body[at + 1 : at + 17])
    return found


def find_damage(data: bytes, layout: Layout, corner: Pixels, decode: Callable[[bytes], Pixels]) -> str:
    """Describe the damage of a decoded JPEG.

    Args:
        data: The file's bytes.
        layout: The file's layout.
        corner: (n, n) or (n, n, bands) uint8, the last decoded pixels.
        decode: Decodes a file, this one or a changed one, possibly reduced, to uint8 pixels.

    Returns:
        The fault in words; empty if none is found.
    """
    fault = _restart_fault(data, layout)
    if fault or not layout.scans:
        return fault
    scan = layout.scans[0]
    if np.isin(corner, _GREYS).all():
        return _grey_end_fault(data, layout, scan, decode)
    if layout.frame == _ARITHMETIC_SEQUENTIAL and scan.end - scan.start > 2 * _CUT:
        # Any bytes decode to an image in this mode.
        return "" if _ends_with_picture(data, scan, decode) else "its data do not end with the image"
    for number, each in enumerate(layout.scans):
        at = data.find(_HOLE, each.start, each.end)  # a regular expression takes 50 times as long
        hole = _ZEROS.match(data, at, each.end) if at >= 0 else None
        if not hole:
            continue
        plain = _zeros_are_plain(layout, each)
        # If zeros encode an even area, a hole shifts the following data, which then do not end with the image.
        whole = plain and (number or layout.frame in _PROGRESSIVE or _ends_with_picture(data, each, decode))
        if not whole:
            return f"{len(hole[0])} bytes of its data are zero"
    return ""


def _grey_end_fault(data: bytes, layout: Layout, scan: _Scan, decode: Callable[[bytes], Pixels]) -> str:
    """The fault of an image that ends in mid-grey, if it has one."""
    small = decode(data)
    if not np.array_equal(small, decode(data[: scan.end] + _MORE + data[scan.end :])):
        return "its data end before the image is complete"
    blocks = 3 * (layout.width // 8 + 1) * (layout.height // 8 + 1)
    if np.isin(small, _GREYS).all() and sum(each.end - each.start for each in layout.scans) > 256 + _PLAIN * blocks:
        return "it has much data, but decodes to plain grey"
    return ""


def _ends_with_picture(data: bytes, scan: _Scan, decode: Callable[[bytes], Pixels]) -> bool:
    """Whether the last bytes of a scan change the image."""
    shorter = data[: max(scan.start, scan.end - _CUT)] + data[scan.end :]
    return not np.array_equal(decode(data), decode(shorter))


def _zeros_are_plain(layout: Layout, scan: _Scan) -> bool:
    """Whether a long run of zeros is valid in a scan: for an even area, or as raw bits."""
    if layout.frame in _ARITHMETIC or scan.high:
        return True
    low, last = scan.spectral
    for _, dc_table, ac_table in scan.components:
        dc, ac = scan.first_symbols.get(dc_table, 0), scan.first_symbols.get(16 + ac_table, 0)
        if low == 0 and dc != 0:  # two blocks differ
            return False
        if last > 0 and (ac & 15 or ac == 0xF0):  # not the end of a block or of a run of blocks
            return False
    return True


def _restart_fault(data: bytes, layout: Layout) -> str:
    """Missing or misplaced restart markers."""
    for scan in layout.scans:
        if not scan.interval:
            continue
        wanted = -(-_units(layout, scan) // scan.interval) - 1
        found = [int(code[0]) & 7 for code in _RESTARTS.findall(data, scan.start, scan.end)]
        # Some encoders write one more after the last part.
        if len(found) not in (wanted, wanted + 1) or any(code != i % 8 for i, code in enumerate(found)):
            return f"{len(found)} of {wanted} restart markers are in place"
    return ""


def _units(layout: Layout, scan: _Scan) -> int:
    """Number of macroblocks of a scan, or of blocks if it has one component."""
    across = max((h for h, _ in layout.sampling.values()), default=1) or 1
    down = max((v for _, v in layout.sampling.values()), default=1) or 1
    if len(scan.components) > 1:
        return -(-layout.width // (8 * across)) * -(-layout.height // (8 * down))
    own_across, own_down = layout.sampling.get(scan.components[0][0], (1, 1))
    return -(-layout.width * own_across // (8 * across)) * -(-layout.height * own_down // (8 * down))
