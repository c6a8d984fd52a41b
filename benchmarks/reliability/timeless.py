"""A benchmark's numbers without its times, which differ whenever it is run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from jclip_adapter.storage import read_checked_json

TIMES = ("fit_seconds", "predict_seconds", "select_seconds", "calibrate_seconds")


def cell(path: Path) -> dict[str, Any]:
    """A finished cell."""
    return {key: value for key, value in read_checked_json(path).items() if key not in TIMES}


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(encoding="utf-8", newline="") as lines:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(lines)]
