"""Natural order of file names: image_2 before image_10."""

from __future__ import annotations

import re

_DIGITS = re.compile(r"([0-9]+)")

NaturalKey = tuple[tuple[str | tuple[int, str], ...], str]


def natural_key(name: str) -> NaturalKey:
    """The sorting key of natural order: runs of digits compare as numbers, everything else as text.

    Args:
        name: A file or class name.

    Returns:
        A key for `sorted`. Names that differ only in leading zeros are ordered as text, so the order is total.

    >>> sorted(["image_10.jpg", "image_2.png", "image_2.jpg"], key=natural_key)
    ['image_2.jpg', 'image_2.png', 'image_10.jpg']
    """
    # Text and digits alternate in what the split gives, so equal places always hold the same type. Digits are
    # compared as (length, text) and not as int, which refuses numbers of more than 4,300 digits.
    parts = _DIGITS.split(name)
    return tuple((len(part.lstrip("0")), part.lstrip("0")) if at % 2 else part for at, part in enumerate(parts)), name
