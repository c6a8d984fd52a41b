"""Parsers of options whose values are neither plain numbers nor words."""

from __future__ import annotations

import re

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.problems import one_line

_SHOWN = 40  # characters of a wrong value in a message


def parse_effective_classes(text: str) -> tuple[int, int]:
    """Parse the value of --effective-classes.

    >>> parse_effective_classes("3-10"), parse_effective_classes("5")
    ((3, 10), (5, 5))

    Raises:
        UsageError: it is neither K nor K-L with 1 <= K <= L.
    """
    match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text, re.ASCII)
    fewest = int(match[1]) if match else 0
    most = int(match[2] or match[1]) if match else 0
    if not 1 <= fewest <= most:
        shown = one_line(text)[:_SHOWN]
        raise UsageError(f"--effective-classes: expected K or K-L with 1 <= K <= L, got {shown}.", "Write 5 or 3-10.")
    return fewest, most


def parse_engine(text: str) -> str:
    """Check the value of --engine: where the parts of a long work are computed.

    >>> parse_engine("local"), parse_engine("ray"), parse_engine("ray://head:6379"), parse_engine("slurm")
    ('local', 'ray', 'ray://head:6379', 'slurm')

    Raises:
        UsageError: it is none of these.
    """
    if text not in ("local", "ray", "slurm") and not re.fullmatch(r"ray://[\w.-]+:\d{1,5}", text, re.ASCII):
        raise UsageError(
            f"--engine: expected local, ray, ray://HOST:PORT or slurm, got {one_line(text)[:_SHOWN]}.",
            "`ray status` on a cluster shows its address.",
        )
    return text


def parse_noise(text: str) -> tuple[float, float]:
    """Parse the value of --noise: one number for the training photos, and a second one for the photos to score.

    >>> parse_noise("0.3"), parse_noise("0.3,0.1")
    ((0.3, 0.0), (0.3, 0.1))

    Raises:
        UsageError: it is not one or two numbers from 0 to 100, or all are 0.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not 1 <= len(values) <= 2 or not any(values) or not all(0 <= value <= 100 for value in values):
        raise UsageError(
            f"--noise: expected a positive number, or two with a comma, got {one_line(text)[:_SHOWN]}.",
            "Write 0.3 for noisy training photos, 0.3,0.3 for noisy test photos too.",
        )
    return values[0], values[1] if len(values) == 2 else 0.0
