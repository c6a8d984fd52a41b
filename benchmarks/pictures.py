"""Redraw the benchmark pictures in results/ from the CSVs beside them.

python -m benchmarks.pictures
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import ROOT, reports_user_errors
from jclip_adapter.core.errors import DataError
from jclip_adapter.evaluation.benchmark_report import benchmark_picture
from jclip_adapter.storage import ANY, read_lines, write_bytes

NAMES = ("benchmark", "resampled")
_ROUNDING = 5.1e-5  # of accuracies in percent, which a CSV has with four decimals
_MOST_QUERIES = 100_000


def count_queries(rows: Sequence[Mapping[str, str]]) -> int:
    """The number of queries of a data set: the smallest of which all accuracies are a whole number in percent.

    >>> count_queries([{"top1": "33.3333", "top5": "50.0000"}])
    6

    Raises:
        DataError: there is no such number.
    """
    values = sorted({float(row[key]) for row in rows for key in ("top1", "top5")})
    for count in range(1, _MOST_QUERIES):
        if all(abs(100 * round(value / 100 * count) / count - value) < _ROUNDING for value in values):
            return count
    raise DataError("the accuracies belong to no number of queries.", "Run the benchmark again.")


def read_cells(name: str) -> list[dict[str, Any]]:
    """The cells of results/NAME.csv, as `benchmark_picture` takes them."""
    rows = list(csv.DictReader(read_lines(ROOT / "results" / f"{name}.csv")))
    by_dataset = {row["dataset"]: [other for other in rows if other["dataset"] == row["dataset"]] for row in rows}
    queries = {dataset: count_queries(own) for dataset, own in by_dataset.items()}
    return [
        {
            "dataset": row["dataset"],
            "method": row["method"],
            "shots": int(row["shots"]),
            "seed": int(row["seed"]),
            "top1": float(row["top1"]),
            "queries": queries[row["dataset"]],
        }
        for row in rows
    ]


@reports_user_errors
def main(_: Sequence[str] | None = None) -> int:
    """Redraw all pictures."""
    for name in NAMES:
        write_bytes(ROOT / "results" / f"{name}.png", benchmark_picture(read_cells(name)), ANY)
    return 0


if __name__ == "__main__":
    sys.exit(main())
