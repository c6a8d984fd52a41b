"""What the project's three sources publish, and our figures beside it: the tables of docs/seeds.md.

benchmarks/seeds.yaml lists the tables, figures, claims and methods of the sources with the command that reproduces each
one. It says which cells of the tables in results/ are ours; none of our figures is typed.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks import ROOT
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.strict_yaml import read_yaml_mapping
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.storage import read_lines

SEEDS = ROOT / "benchmarks" / "seeds.yaml"
HEADER = ("what", "theirs", "ours", "command", "notes")
NONE = "–"


@functools.cache
def sections() -> Mapping[str, Mapping[str, Any]]:
    """The sections of seeds.yaml by name."""
    return read_yaml_mapping(SEEDS)


def entries() -> dict[str, Mapping[str, Any]]:
    """The rows of all sections by name."""
    return {name: row for section in sections().values() for name, row in section["rows"].items()}


def theirs(name: str) -> list[str]:
    """The published figures of a row, as the source prints them."""
    return list(entries()[name]["theirs"])


def ours(source: Mapping[str, Any]) -> list[str]:
    """Our figures that an entry of `ours` names, each the mean of the rows that it selects.

    Args:
        source: The entry, as seeds.yaml describes it.

    Raises:
        DataError: no row is selected.
    """
    path = ROOT / "results" / source["file"]
    where = source.get("where", {})
    rows = [row for row in csv.DictReader(read_lines(path)) if where.items() <= row.items()]
    if not rows:
        raise DataError(f"{path} has no row with {where}.", "Check benchmarks/seeds.yaml, or measure again.")
    columns = [source["value"]] if isinstance(source["value"], str) else source["value"]
    over = source.get("over")
    groups = list(dict.fromkeys(row[over] for row in rows)) if over else [None]
    digits = source.get("digits", 1)
    means = (
        fmean(float(row[column]) for row in rows if over is None or row[over] == group)
        for group in groups
        for column in columns
    )
    return [f"{round(mean, digits) + 0.0:.{digits}f}" for mean in means]  # + 0.0: no "-0.0"


def _figures(values: str | Sequence[str]) -> str:
    return values if isinstance(values, str) else " / ".join(values)


def _cells(row: Mapping[str, Any]) -> list[str]:
    found = "; ".join(f"{source['label']}: {_figures(ours(source))}" for source in row.get("ours", []))
    seen = ", ".join([*row.get("see", []), *([row["note"]] if "note" in row else [])])
    command = f"`{row['command']}`" if "command" in row else NONE
    return [row["what"], _figures(row.get("theirs", NONE)), found or NONE, command, seen or NONE]


def page() -> str:
    """A section per source, with a table of its rows."""
    return "\n\n".join(
        f"## {section['title']}\n\n{section['about']}\n\n{_table(section['rows'].values())}"
        for section in sections().values()
    )


def _table(rows: Iterable[Mapping[str, Any]]) -> str:
    return markdown_table(HEADER, [_cells(row) for row in rows])
