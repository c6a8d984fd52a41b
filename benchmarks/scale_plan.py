"""The tables of docs/scale.md: what was measured, scaled up to 10⁶, 10⁸ and 10⁹ photos.

`python -m benchmarks.readme` puts them there, out of results/part-times.csv and results/search.csv.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from statistics import median

from benchmarks import ROOT
from benchmarks.part_times import NETWORK, Value, chosen, core_seconds, read_values
from benchmarks.scale_simulation import HOUR, Assumptions
from benchmarks.search_speed import MOST_COMPARED
from jclip_adapter.core.choices import PART_PHOTOS
from jclip_adapter.core.errors import DataError
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.storage import read_lines

PHOTOS = {"10⁶": 10**6, "10⁸": 10**8, "10⁹": 10**9}
PRODUCT_QUANTISED = 64  # bytes of a row: 64 sub-vectors of 8 numbers, one of 256 centres each


def figure(value: float) -> str:
    """A number with three digits, and commas.

    >>> figure(0.01234), figure(1234.5), figure(12), figure(0)
    ('0.0123', '1,230', '12', '0')
    """
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:.3g}"


def step_seconds(values: Sequence[Value], *steps: str) -> float:
    """Core-seconds per photo of some steps together, for ViT-B/32."""
    return sum(median(chosen(values, f"{step} a photo", NETWORK)) for step in steps)


def searched(what: str, by: str, rows: int) -> float:
    """A value of results/search.csv, of synthetic rows.

    Raises:
        DataError: there is none.
    """
    path = ROOT / "results" / "search.csv"
    for row in csv.DictReader(read_lines(path)):
        if (row["data"], row["what"], row["by"], int(row["rows"])) == ("synthetic", what, by, rows):
            return float(row["value"])
    raise DataError(f"{path} has no {what!r} of {rows} rows.", "Run `python -m benchmarks.search_speed FILE.npz …`.")


def scaled(rows: Sequence[tuple[str, Callable[[int], float]]]) -> str:
    """A table with a column per number of photos."""
    cells = [[name, *(figure(value(count)) for count in PHOTOS.values())] for name, value in rows]
    return markdown_table(["", *(f"{name} photos" for name in PHOTOS)], cells)


def rates_table() -> str:
    """Core-milliseconds per photo of each step, and photos per second and core."""
    values = read_values()
    steps = {step: step_seconds(values, step) for step in ("read", "hash", "decode", "encode")}
    steps["a whole part"] = core_seconds(values)
    cells = [[name, figure(1e3 * each), figure(1 / each)] for name, each in steps.items()]
    return markdown_table(["step", "core-ms per photo", "photos per second and core"], cells)


def work_table() -> str:
    """Hours of cores and GPUs, and bytes read and written."""
    values, rate = read_values(), Assumptions().gpu_rate
    cores = core_seconds(values)
    decode = step_seconds(values, "read", "hash", "decode")
    size = median(chosen(values, "bytes of a photo", NETWORK))
    return scaled(
        [
            ("core-hours, ViT-B/32 in float32 (measured)", lambda count: count * cores / HOUR),
            (f"GPU-hours at {rate:,.0f} photos per second (assumed)", lambda count: count / rate / HOUR),
            ("core-hours to read, hash and decode for GPUs (measured)", lambda count: count * decode / HOUR),
            (f"TB of photos, {size / 1e3:.0f} kB each (measured)", lambda count: count * size / 1e12),
        ]
    )


def storage_table() -> str:
    """Gigabytes of features."""
    values = read_values()
    part = {dtype: median(chosen(values, "bytes of a row", dtype, PART_PHOTOS)) for dtype in ("float32", "float16")}
    index = searched("bytes per row", "index", 10**6)
    return scaled(
        [
            *(
                (f"GB of parts, {dtype} ({size:,.0f} bytes a row)", lambda count, size=size: count * size / 1e9)
                for dtype, size in part.items()
            ),
            (f"GB of the index ({index:,.0f} bytes a row)", lambda count: count * index / 1e9),
            (
                f"GB, product-quantised ({PRODUCT_QUANTISED} bytes a row, not implemented)",
                lambda count: count * PRODUCT_QUANTISED / 1e9,
            ),
        ]
    )


def limits_table() -> str:
    """What one process or one core has to do with all photos."""
    values = read_values()
    folder = median(chosen(values, "list a photo", "folder"))
    listed = median(chosen(values, "list a photo", "list", PART_PHOTOS))
    check, read = (
        median(chosen(values, f"{what} a part", "float32", PART_PHOTOS)) / PART_PHOTOS for what in ("check", "stream")
    )
    exact = searched("a query of photos", "exact", 10**6) / 1e3 / 10**6
    pairs = searched("near duplicates", "exact", MOST_COMPARED) / MOST_COMPARED**2
    return scaled(
        [
            ("hours to list a folder, local disk", lambda count: count * folder / HOUR),
            ("hours to read a list of paths", lambda count: count * listed / HOUR),
            (f"files of parts of {PART_PHOTOS:,}", lambda count: 2 * -(-count // PART_PHOTOS) + 1),
            ("core-hours to check all parts when a run goes on", lambda count: count * check / HOUR),
            ("core-hours to read all features", lambda count: count * read / HOUR),
            ("seconds of an exact search, one query", lambda count: count * exact),
            ("hours to compare all pairs", lambda count: count**2 * pairs / HOUR),
        ]
    )


def index_worth() -> str:
    """After how many searches an index has paid off."""
    lines = []
    for rows in (MOST_COMPARED, 10**6):
        build, once = searched("build", "index", rows), searched("open", "index", rows)
        exact, index = (searched("a query of photos", by, rows) / 1e3 for by in ("exact", "index"))
        lines.append(
            f"- {rows:,} photos: building takes {figure(build)} s and opening {figure(once)} s. A query takes "
            f"{figure(1e3 * index)} ms instead of {figure(1e3 * exact)} ms, so building has paid off after "
            f"{math.ceil(build / (exact - index)):,} queries of a process that keeps the index open."
        )
    return "\n".join(lines)


def memory_table() -> str:
    """Memory by the size of parts."""
    values = read_values()
    sizes = sorted({each.photos for each in values if each.what == "memory of a part"})
    cells = [
        [
            f"{size:,}",
            figure(median(chosen(values, "memory of a unit", "list", size))),
            *(figure(median(chosen(values, "memory of a part", dtype, size))) for dtype in ("float32", "float16")),
        ]
        for size in sizes
    ]
    return markdown_table(["photos of a part", "driver, MB", "worker, float32, MB", "worker, float16, MB"], cells)
