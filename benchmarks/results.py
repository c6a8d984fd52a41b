"""What the programs leave in results/: a CSV, and the same as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jclip_adapter.evaluation.report import csv_text
from jclip_adapter.storage import ANY, write_text


def write_results(base: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], text: str) -> None:
    """Write `base`.csv and `base`.md, and print the text.

    Args:
        base: Path; its suffix, if any, is replaced.
        rows: The measurements.
        columns: Their names, in the CSV's order.
        text: Them in Markdown.
    """
    write_text(base.with_suffix(".csv"), csv_text(rows, columns), ANY)
    write_text(base.with_suffix(".md"), text, ANY)
    print(text)
