"""The duplicates command: photos that are nearly the same, in features in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jclip_adapter.cli.app import Invocation
from jclip_adapter.core.console import print_note, print_result
from jclip_adapter.core.problems import counted, one_line
from jclip_adapter.features.parts.index import open_index
from jclip_adapter.features.parts.search import near_duplicates

from .reports import found_page, report_found


def run(invocation: Invocation) -> None:
    """Print the cosine and the keys of each pair, and write the page if one is asked for."""
    page = found_page(invocation.settings)
    folder, least = Path(invocation.operands["duplicates"]), invocation.settings.least
    pairs = open_index(folder).near_duplicates(least) if invocation.settings.index else near_duplicates(folder, least)
    count, entries = 0, list[Any]()
    for pair in pairs:
        print_result(f"{pair.score:.3f}\t{one_line(pair.first)}\t{one_line(pair.second)}")
        count += 1
        if page:
            entries.append((pair.score, (pair.first, pair.second), ""))
    print_note(f"{counted(count, 'pair')} with a cosine of {least:g} or more")
    if page:
        from jclip_adapter.web.found import nearly_same

        report_found(page, invocation.settings, folder, nearly_same(least, invocation.settings.language), entries)
