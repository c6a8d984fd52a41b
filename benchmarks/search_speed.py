"""Measure exact search beside an index, and write results/search.csv and .md.

    python -m benchmarks.search_speed FILE.npz …

The rows are the photos of feature files, and synthetic ones of the same network: a random point between two of these
photos, and noise; one in 200 is nearly a copy of another row. Queries are the files' class names, and photos drawn in
the same way as the rows. Recall is the share of the exact search's ten best photos, or of its pairs of near duplicates,
that the index finds. Where comparing all pairs would take hours, the pairs that were made are looked for.
"""

from __future__ import annotations

import argparse
import csv
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from benchmarks.speed_ours import memory_mb
from benchmarks.speed_world import processor
from benchmarks.turns import peak_mb
from jclip_adapter.core.choices import PART_PHOTOS
from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import Array, normalise
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.features.file import read_feature_file
from jclip_adapter.features.overlap import NEAR
from jclip_adapter.features.parts.files import Plan, finish, write_part
from jclip_adapter.features.parts.index import Index, build_index
from jclip_adapter.features.parts.search import Hit, Pair, near_duplicates, search
from jclip_adapter.storage import read_lines

RESULTS = ROOT / "results" / "search"
COLUMNS = ("data", "rows", "what", "by", "value", "unit")
TOP = 10
THRESHOLD = NEAR["clip"]
QUERIES = 200  # photos
SINGLE, EXACT_SINGLE = 20, 3  # queries that are asked one by one
NOISE, COPY_NOISE = 0.02, 0.003  # per number of a feature
COPIES = 200  # one row in so many is nearly a copy
MOST_COMPARED = 50_000  # rows of which all pairs are compared


class Value(NamedTuple):
    """A measurement.

    Attributes:
        data: Of which data.
        rows: Their number.
        what: What was measured.
        by: "exact" or "index".
        value: The value.
        unit: Its unit.
    """

    data: str
    rows: int
    what: str
    by: str
    value: float
    unit: str


class Real(NamedTuple):
    """What feature files hold.

    Attributes:
        photos: (N, d) L2-normalised, each once.
        texts: (C, d) L2-normalised features of class names.
    """

    photos: Array
    texts: Array


def read_real(paths: Sequence[Path]) -> Real:
    """The photos and class names of feature files."""
    photos, texts = [], []
    for path in paths:
        content = read_feature_file(path)
        task = content.tasks[max(content.tasks)]
        photos += [task.support_features, content.test.queries.features]
        texts.append(task.text_features)
    rows = normalise(np.unique(np.concatenate(photos).astype(np.float32), axis=0))
    return Real(rows, normalise(np.unique(np.concatenate(texts).astype(np.float32), axis=0)))


def between(photos: Array, count: int, rng: np.random.Generator) -> Array:
    """(count, d) L2-normalised points between two photos, with noise."""
    one, other = (photos[rng.integers(0, len(photos), count)] for _ in range(2))
    share = rng.random((count, 1), dtype=np.float32)
    noise = NOISE * rng.standard_normal(one.shape, dtype=np.float32)
    return normalise(share * one + (1 - share) * other + noise)


def write_rows(folder: Path, blocks: Iterator[Array]) -> int:
    """Write blocks of rows as the parts of a finished folder; keys are row numbers. Returns the number of rows."""
    first = number = 0
    for block in blocks:
        plan = Plan(folder, block.shape[1], "float32", {"weights_sha256": "0" * 64, "dtype": "float32"})
        columns: dict[str, list[Any]] = {
            "key": [str(first + row) for row in range(len(block))],
            "sha256": [bytes(32)] * len(block),
            "label": [None] * len(block),
            "error": [None] * len(block),
        }
        write_part(plan, number, "", columns, block)
        first, number = first + len(block), number + 1
    finish(plan, number)
    return first


def synthetic(photos: Array, count: int, made: set[tuple[int, int]]) -> Iterator[Array]:
    """Blocks of synthetic rows, of a part each.

    Args:
        photos: To draw between.
        count: Number of rows.
        made: Gets the pairs of rows of which the later one is nearly a copy.
    """
    rng = np.random.default_rng(0)
    originals = between(photos, PART_PHOTOS, rng)
    yield originals[:count]
    for first in range(PART_PHOTOS, count, PART_PHOTOS):
        block = between(photos, min(PART_PHOTOS, count - first), rng)
        for place in range(COPIES - 1, len(block), COPIES):
            source = int(rng.integers(0, len(originals)))
            noise = COPY_NOISE * rng.standard_normal(block.shape[1], dtype=np.float32)
            block[place] = normalise((originals[source] + noise)[None])[0]
            made.add((source, first + place))
        yield block


def seconds(do: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call takes, and what it returns."""
    started = time.perf_counter()
    found = do()
    return time.perf_counter() - started, found


def recall(found: Sequence[Sequence[Hit]], exact: Sequence[Sequence[Hit]]) -> float:
    """Percent of the exact hits that were found."""
    same = sum(
        len({hit.key for hit in ours} & {hit.key for hit in own}) for ours, own in zip(found, exact, strict=True)
    )
    return 100 * same / sum(map(len, exact))


def keys_of(pairs: Iterator[Pair]) -> set[tuple[int, int]]:
    """Pairs by their row numbers."""
    return {(int(pair.first), int(pair.second)) for pair in pairs}


def measure(
    data: str, folder: Path, rows: int, queries: dict[str, Array], made: set[tuple[int, int]]
) -> Iterator[Value]:
    """Everything about a finished folder.

    Args:
        data: Its name.
        folder: The folder.
        rows: Number of its rows.
        queries: L2-normalised, by what they are.
        made: Pairs that were made; none to compare all pairs.
    """
    gc.collect()
    before = forget_peak()
    taken, path = seconds(lambda: build_index(folder))
    yield Value(data, rows, "build", "index", taken, "s")
    yield Value(data, rows, "memory to build", "index", peak_mb() - before, "MB")
    yield Value(data, rows, "bytes per row", "index", path.stat().st_size / rows, "bytes")
    taken, index = seconds(lambda: Index(folder))
    yield Value(data, rows, "open", "index", taken, "s")
    for name, own in queries.items():
        exact = yield from measure_way((data, rows, name, "exact"), partial(search, folder, top=TOP), own, EXACT_SINGLE)
        hits = yield from measure_way((data, rows, name, "index"), partial(index.search, top=TOP), own, SINGLE)
        yield Value(data, rows, f"recall of {name}", "index", recall(hits, exact), "percent")
        yield Value(data, rows, f"largest error of a cosine, {name}", "index", largest_error(hits, exact), "")
    taken, found = seconds(lambda: keys_of(index.near_duplicates(THRESHOLD)))
    yield Value(data, rows, "near duplicates", "index", taken, "s")
    wanted = made
    if rows <= MOST_COMPARED:
        taken, wanted = seconds(lambda: keys_of(near_duplicates(folder, THRESHOLD)))
        yield Value(data, rows, "near duplicates", "exact", taken, "s")
    yield Value(data, rows, "pairs", "exact" if rows <= MOST_COMPARED else "made", len(wanted), "")
    yield Value(data, rows, "recall of pairs", "index", 100 * len(found & wanted) / max(1, len(wanted)), "percent")


def measure_way(
    about: tuple[str, int, str, str], way: Callable[[Array], list[list[Hit]]], queries: Array, single: int
) -> Generator[Value, None, list[list[Hit]]]:
    """Milliseconds per query, asked one by one and all at once; returns the hits.

    Args:
        about: Data, rows, what the queries are, and by what they are answered.
        way: Answers queries.
        queries: L2-normalised.
        single: Number of queries that are asked one by one.
    """
    data, rows, name, by = about
    way(queries[:1])
    taken = [seconds(partial(way, queries[at : at + 1]))[0] for at in range(single)]
    yield Value(data, rows, f"a query of {name}", by, 1e3 * float(np.median(taken)), "ms")
    together, hits = seconds(partial(way, queries))
    yield Value(data, rows, f"one of {len(queries)} queries of {name}", by, 1e3 * together / len(queries), "ms")
    return hits


def largest_error(found: Sequence[Sequence[Hit]], exact: Sequence[Sequence[Hit]]) -> float:
    """The largest difference of a photo's cosines."""
    errors = [0.0]
    for ours, own in zip(found, exact, strict=True):
        scores = {hit.key: hit.score for hit in own}
        errors += [abs(hit.score - scores[hit.key]) for hit in ours if hit.key in scores]
    return max(errors)


def forget_peak() -> float:
    """Set the most memory of this process back to the present; returns that in MB."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    return memory_mb()


def blocks_of(rows: Array) -> Iterator[Array]:
    """Rows in blocks of a part each."""
    yield from (rows[first : first + PART_PHOTOS] for first in range(0, len(rows), PART_PHOTOS))


def measure_all(real: Real, counts: Sequence[int]) -> Iterator[Value]:
    """The real rows, and synthetic ones of each number."""
    queries = {"class names": real.texts, "photos": between(real.photos, QUERIES, np.random.default_rng(1))}
    for count in tqdm([0, *counts], unit="folder"):
        made: set[tuple[int, int]] = set()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            blocks = synthetic(real.photos, count, made) if count else blocks_of(real.photos)
            rows = write_rows(folder, blocks)
            yield from measure("synthetic" if count else "real", folder, rows, queries, made)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The measurements: a row per quantity, a column per data set."""
    sets = list(dict.fromkeys((row["data"], int(row["rows"])) for row in rows))
    cells: dict[tuple[str, str], dict[tuple[str, int], str]] = {}
    for row in rows:
        shown = f"{float(row['value']):.4g} {row['unit']}".strip()
        cells.setdefault((row["what"], row["by"]), {})[row["data"], int(row["rows"])] = shown
    head = ["what", "by", *(f"{data}, {count:,} rows" for data, count in sets)]
    return markdown_table(head, [[*key, *(own.get(each, "–") for each in sets)] for key, own in cells.items()])


def saved_table() -> str:
    """The table of results/search.csv."""
    return table(list(csv.DictReader(read_lines(RESULTS.with_suffix(".csv")))))


def report(rows: Sequence[dict[str, Any]]) -> str:
    """The measurements in words and a table."""
    return (
        f"# Exact search and an index on {processor()}, {os.cpu_count()} cores\n\n"
        f"The {TOP} nearest photos of a query, and pairs with a cosine of at least {THRESHOLD}. Parts have "
        f"{PART_PHOTOS:,} photos, features of 512 numbers in float32; their files are in the system's memory. Other "
        f"work shared the cores. Of more than {MOST_COMPARED:,} rows not all pairs are compared: the recall is that of "
        f"the pairs that were made. `python -m benchmarks.search_speed FILE.npz …` measures this.\n\n{table(rows)}\n"
    )


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_speed", description="Measure search.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.npz", help="feature files of one network")
    parser.add_argument("--rows", default="50000,1000000", help="numbers of synthetic rows (50000,1000000)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where .csv and .md are written")
    options = parser.parse_args(argv)
    counts = [int(count) for count in options.rows.split(",") if count.isdecimal()]
    if not counts or min(counts) < 1:
        raise UsageError(f"--rows expects numbers separated by commas, got {options.rows!r}.")
    values = []
    for each in measure_all(read_real(options.files), counts):
        tqdm.write(f"{each.data}, {each.rows:,} rows: {each.what}, {each.by}: {each.value:.4g} {each.unit}", sys.stderr)
        values.append(each)
    rows = [each._asdict() | {"value": f"{each.value:.6g}"} for each in values]
    write_results(options.out, rows, COLUMNS, report(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
