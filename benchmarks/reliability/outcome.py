"""What a program of this folder found, and the table of all of them."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks import ROOT
from jclip_adapter.core.errors import DataError
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.storage import ANY, read_json, write_json

FOLDER = ROOT / "results" / "reliability"
# The table's order: what is written, what is read, what is repeated.
NAMES = (
    "kill",
    "failing-writes",
    "damage",
    "hostile-pickles",
    "mutated-headers",
    "odd-images",
    "odd-sounds",
    "eight-processes",
    "cache-keys",
    "paths",
    "finished-benchmark",
    "same-seed",
    "no-network",
)


@dataclass(frozen=True)
class Outcome:
    """A figure.

    Attributes:
        name: One of NAMES.
        tried: What was done, with its count, for the table: "kill -9 at 200 random moments of …".
        wanted: The figure to reach, in words.
        reached: The figure reached, in words, with its counts.
        count: How many trials there were.
        failures: How many of them went otherwise than wanted.
        facts: Further numbers: counts by kind, seconds, sizes.
    """

    name: str
    tried: str
    wanted: str
    reached: str
    count: int
    failures: int
    facts: Mapping[str, Any] = field(default_factory=dict)


def write(outcome: Outcome) -> int:
    """Keep an outcome, print it, and give the program's exit status: 1 if anything failed."""
    if outcome.name not in NAMES:
        raise ValueError(f"{outcome.name} has no place in the table")
    machine = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    write_json(FOLDER / f"{outcome.name}.json", {**asdict(outcome), "machine": machine}, ANY)
    sys.stdout.write(json.dumps(asdict(outcome), indent=2, ensure_ascii=False) + "\n")
    return int(outcome.failures > 0)


def table() -> str:
    """All outcomes, one line each.

    Raises:
        DataError: one is missing.
    """
    rows = []
    for name in NAMES:
        path = FOLDER / f"{name}.json"
        if not path.is_file():
            raise DataError(f"{path} is missing.", f"Run `python -m benchmarks.reliability.{name.replace('-', '_')}`.")
        found = read_json(path)
        rows.append([found["tried"], found["wanted"], found["reached"]])
    return markdown_table(["tried", "wanted", "reached"], rows)
