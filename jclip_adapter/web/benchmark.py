"""The report of a benchmark: a sortable table per data set, and the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from jclip_adapter.evaluation.benchmark_report import interval_of, kind_of, mean_and_half, quantities_of

from .parts import png_uri
from .report import render, texts_of


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What is shown.
        value: What a column of numbers is sorted by; None for text.
        interval: Ends and mean, drawn as a bar: 0 is the lowest end of the table's intervals, 100 the highest.
    """

    text: str = ""
    value: float | None = None
    interval: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Table:
    """The table of a data set.

    Attributes:
        name: The data set.
        columns: Heading of each column, and whether it has numbers; empty for bars.
        rows: Its rows.
    """

    name: str
    columns: list[tuple[str, bool]]
    rows: list[list[Cell]]


def benchmark_part(
    cells: Sequence[Mapping[str, Any]], picture: bytes, language: str, command: str, files: str = "photos"
) -> str:
    """The report of a benchmark.

    Args:
        cells: As `evaluation.benchmark.run_benchmark` returns them, or rows of ImageNet-ESC.
        picture: A PNG; empty for none.
        language: A key of `texts.LANGUAGES`.
        command: The command line that makes it again.
        files: "photos" or "sounds".

    Returns:
        HTML.
    """
    plain, markup = texts_of(language, files)
    if "method" in cells[0]:
        tables = [
            _table([cell for cell in cells if cell["dataset"] == name], name, plain)
            for name in sorted({cell["dataset"] for cell in cells})
        ]
        methods, lines = len({cell["method"] for cell in cells}), _lines(cells, markup)
    else:
        tables, methods, lines = _esc_tables(cells), len({(cell["rows"], cell["start"]) for cell in cells}), []
    return render(
        "benchmark",
        language,
        files,
        methods=methods,
        lines=lines,
        tables=tables,
        picture=png_uri(picture) if picture else "",
        command=command,
    )


def _lines(cells: Sequence[Mapping[str, Any]], text: Any) -> list[Markup]:
    """What the intervals are of, and what a star means."""
    seeds = len({cell["seed"] for cell in cells})
    of = "seeds" if seeds > 1 else "tasks" if "tasks" in cells[0] else "queries"
    lines = [text(f"interval_of_{of}", seeds=seeds)]
    if any(cell["transductive"] for cell in cells):
        lines.append(text("transductive_note"))
    return lines


def _table(cells: Sequence[Mapping[str, Any]], name: str, text: Any) -> Table:
    """A data set's table: a row per method, shots and share of classes without shots."""
    quantities = [key for key in quantities_of(cells[0]) if key != "top1"]
    shares = sorted({cell.get("unseen", 0.0) for cell in cells})
    several = len(shares) > 1
    columns = [(text("method"), False), (text("kind"), False), (text("shots"), True)]
    columns += [(text("unseen"), True)] if several else []
    columns += [(text("top1"), True), (text("interval"), True), ("", False)]
    columns += [(text(key), True) for key in (*quantities, "ece")]
    groups: dict[tuple[str, int, float], list[Mapping[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["method"], cell["shots"], cell.get("unseen", 0.0)), []).append(cell)
    found = {place: interval_of(group) for place, group in groups.items()}
    left, right = (end([values[at] for values in found.values()]) for end, at in ((min, 1), (max, 2)))
    rows = []
    for (method, shots, share), group in groups.items():
        mean, low, high = found[method, shots, share]
        row = [Cell(f"{method}{' *' if group[0]['transductive'] else ''}"), Cell(kind_of(method))]
        row.append(Cell(str(shots), shots))
        row += [Cell(f"{100 * share:g} %", share)] if several else []
        row += [Cell(f"{mean:.1f} %", mean), Cell(f"{low:.1f}–{high:.1f} %", low)]
        ends = [100 * (end - left) / max(right - left, 1e-9) for end in (low, high, mean)]
        row.append(Cell(interval=(ends[0], ends[1], ends[2])))
        row += [_mean(group, key) for key in (*quantities, "ece")]
        rows.append((mean, row))
    return Table(name, columns, [row for _, row in sorted(rows, key=lambda pair: -pair[0])])


def _mean(group: Sequence[Mapping[str, Any]], key: str) -> Cell:
    """Mean of a quantity with the half-width of its interval; a dash where a cell of an older version lacks it."""
    if not all(key in cell for cell in group):
        return Cell("–", -np.inf)
    mean, half = mean_and_half(group, key)
    return Cell(f"{mean:.1f} %" if np.isnan(half) else f"{mean:.1f} ± {half:.1f} %", mean)


def _esc_tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The tables of ImageNet-ESC: one per number of classes and task."""
    places = dict.fromkeys((row["classes"], row["task"]) for row in rows)
    keys = [key for key in rows[0] if key not in ("classes", "task")]
    tables = []
    for classes, task in places:
        here = [row for row in rows if (row["classes"], row["task"]) == (classes, task)]
        columns = [(key, all(_is_number(row[key]) for row in here)) for key in keys]
        tables.append(
            Table(f"ImageNet-ESC-{classes}, {task}", columns, [[_cell(row[key]) for key in keys] for row in here])
        )
    return tables


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _cell(value: Any) -> Cell:
    if isinstance(value, float):
        return Cell(f"{value:.2f}", value)
    return Cell(str(value), value) if isinstance(value, int) else Cell("–" if value is None else str(value))
