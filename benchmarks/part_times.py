"""Measure what a plan for many photos needs, and write results/part-times.csv and .md.

    python -m benchmarks.part_times PHOTOS

Seconds to list, read, hash, decode and encode a photo, to encode and write a whole part, to write and check its file,
and to start a worker; bytes per photo and per row; memory of the driver and of a worker. The networks are the sample's
CLIP, and one of ViT-B/32's shapes with random weights: seconds do not depend on the values. Photos are read once before
they are timed, so the disk is not. `benchmarks.scale_simulation` and docs/scale.md start from these figures.
"""

from __future__ import annotations

import argparse
import csv
import gc
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from benchmarks.speed_ours import memory_mb
from benchmarks.speed_world import processor
from benchmarks.turns import peak_mb
from jclip_adapter.core.errors import DataError
from jclip_adapter.data.parts import DTYPES, part_paths, stream
from jclip_adapter.data.photos.decode import pixels_of, read_file
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.features.parts.encoding import encode_unit
from jclip_adapter.features.parts.files import Plan, finish, is_whole, recorded, write_part
from jclip_adapter.features.parts.source import units
from jclip_adapter.models.base import ImageEncoder
from jclip_adapter.models.clip.config import VIT_B_32
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.storage import read_lines

RESULTS = ROOT / "results" / "part-times"
COLUMNS = ("what", "case", "photos", "value", "unit")
SIZES = (100, 300, 1_000, 2_000, 5_000, 10_000, 30_000, 100_000)  # photos of a part
WIDTH = 512  # of ViT-B/32's features
CHUNK = 32  # photos that are timed together
ROWS = 16_384  # that a search reads at once
NETWORK = "ViT-B/32"


class Value(NamedTuple):
    """A measurement.

    Attributes:
        what: What was measured.
        case: Of which network or type of features; empty for all.
        photos: Photos that were measured together.
        value: Of one photo, part or worker, as `what` says.
        unit: "s", "core-s" (of all cores together, which other work on the machine hardly changes), "bytes", or "MB".
    """

    what: str
    case: str
    photos: int
    value: float
    unit: str


def seconds(do: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def photo_steps(encoder: ImageEncoder, name: str, paths: Sequence[Path]) -> Iterator[Value]:
    """Core-seconds per photo of reading, hashing, decoding and encoding."""

    def decode(files: Sequence[bytes]) -> list[Any]:
        return [pixels_of(data, "", encoder.image_size, encoder.transform) for data in files]

    def encode(pixels: Any) -> None:
        for first in range(0, len(pixels), encoder.batch_size):
            encoder.images(pixels[first : first + encoder.batch_size])

    encode(np.stack(decode([read_file(paths[0])])))  # compiles
    for first in range(0, len(paths) - CHUNK + 1, CHUNK):
        own = paths[first : first + CHUNK]
        files = [read_file(path) for path in own]
        pixels = np.stack(decode(files))
        steps: dict[str, Callable[[], object]] = {
            "read": partial(list, map(read_file, own)),
            "hash": partial(list, map(hashlib.sha256, files)),
            "decode": partial(decode, files),
            "encode": partial(encode, pixels),
        }
        for step, do in steps.items():
            busy = time.process_time()
            do()
            yield Value(f"{step} a photo", name, CHUNK, (time.process_time() - busy) / CHUNK, "core-s")
        yield Value("bytes of a photo", name, CHUNK, sum(map(len, files)) / CHUNK, "bytes")


def whole_parts(encoder: ImageEncoder, name: str, photos: Path, size: int, count: int) -> Iterator[Value]:
    """Seconds and core-seconds per part of the real thing: read, hash, decode, encode and write."""
    found = list(units(str(photos), size))[:-1]  # the last one is not full
    if not found:
        raise DataError(f"{photos} has fewer than {2 * size} photos.", "Give a folder with more, or a smaller --size.")
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan.of(Path(folder), encoder)
        for number in tqdm(range(count), desc=name, unit="part"):
            unit = replace(found[number % len(found)], number=number)
            busy = time.process_time()
            yield Value("encode a part", name, size, seconds(partial(encode_unit, encoder, plan, unit)), "s")
            yield Value("encode a part, all cores", name, size, time.process_time() - busy, "core-s")


def part_files(size: int, dtype: str) -> Iterator[Value]:
    """Seconds to write and to check the file of a part, its bytes, and the memory that this takes."""
    for _ in range(3):
        answer = in_child("part", str(size), dtype)
        for what, (value, unit) in answer.items():
            yield Value(what, dtype, size, value, unit)


def write_a_part(size: str, dtype: str) -> dict[str, tuple[float, str]]:
    """What a part of `size` photos takes in this process, which has written none before."""
    rng, count = np.random.default_rng(0), int(size)
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(Path(folder), WIDTH, dtype, {"weights_sha256": "0" * 64, "encoder": "", "dtype": dtype})

        def write(number: int, rows: list[Any]) -> None:
            columns: dict[str, list[Any]] = {
                "key": [photo_name(row) for row in range(len(rows))],
                "sha256": [row.to_bytes(32, "big") for row in range(len(rows))],
                "label": [None] * len(rows),
                "error": [None] * len(rows),
            }
            write_part(plan, number, "", columns, np.stack(rows))

        write(1, [np.zeros(WIDTH, dtype=np.float32)])  # imports what is needed
        before = memory_mb()
        rows = [rng.standard_normal(WIDTH, dtype=np.float32) for _ in range(count)]  # as `encode_unit` collects them
        wrote = seconds(lambda: write(0, rows))
        finish(plan, 2)
        table, facts = part_paths(plan.folder, 0)
        return {
            "memory of a part": (peak_mb() - before, "MB"),
            "write a part": (wrote, "s"),
            "check a part": (seconds(lambda: is_whole(plan, 0, recorded(plan, 0, "") or "")), "s"),
            "stream a part": (seconds(lambda: list(stream(plan.folder, ROWS, iter([0])))), "s"),
            "bytes of a row": (table.stat().st_size / count, "bytes"),
            "bytes of a part's facts": (facts.stat().st_size, "bytes"),
        }


def in_child(*words: str) -> dict[str, tuple[float, str]]:
    """What another process of this program answers."""
    command = [sys.executable, "-m", "benchmarks.part_times", "--child", *words]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, tuple[float, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def photo_name(row: int) -> str:
    """The path of a photo as photo collections have it.

    >>> photo_name(1234567)
    '00001/23/000001234567.jpg'
    """
    return f"{row // 1_000_000:05d}/{row // 10_000 % 100:02d}/{row:012d}.jpg"


def driver_units(size: int) -> Iterator[Value]:
    """Seconds per photo to make units of a list and to know their digests, and the memory of a unit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.txt"
        with path.open("w", encoding="ascii") as lines:
            lines.writelines(f"{photo_name(row)}\n" for row in range(max(size, 10_000)))
        for _ in range(3):
            taken = seconds(lambda: [unit.digest for unit in units(str(path), size)])
            yield Value("list a photo", "list", size, taken / max(size, 10_000), "s")
        gc.collect()
        tracemalloc.start()
        unit = next(units(str(path), size))
        yield Value("memory of a unit", "list", len(unit.photos), tracemalloc.get_traced_memory()[0] / 1e6, "MB")
        tracemalloc.stop()


def folder_units(photos: Path) -> Iterator[Value]:
    """Seconds per photo to find a folder's photos."""
    count = sum(len(unit.photos) for unit in units(str(photos)))
    for _ in range(3):
        taken = seconds(lambda: [unit.digest for unit in units(str(photos))])
        yield Value("list a photo", "folder", count, taken / count, "s")


def open_network(weights: str, precision: str) -> dict[str, tuple[float, str]]:
    """Open a network and encode a photo, as a worker does at first."""
    encoder = load_encoder(weights, "cpu", precision=precision)
    encoder.images(np.zeros((1, encoder.image_size, encoder.image_size, 3), dtype=np.uint8))
    return {}


def measure(photos: Path, *, size: int, parts: int, count: int) -> list[Value]:
    """Everything.

    Args:
        photos: A folder of photos.
        size: Photos of a part that is encoded.
        parts: Number of such parts.
        count: Photos whose steps are timed one by one.
    """
    from tests.random_weights import write_safe

    keys = [key for unit in units(str(photos)) for key, _ in unit.photos]
    chosen = np.linspace(0, len(keys) - 1, min(count, len(keys))).astype(int)
    paths = [photos / keys[place] for place in chosen]
    for key in keys:
        read_file(photos / key)  # so that the system has it in memory
    values = list(folder_units(photos))
    for part in SIZES:
        values += driver_units(part)
        for dtype in DTYPES:
            values += part_files(part, dtype)
    with tempfile.TemporaryDirectory() as folder:
        weights = write_safe(Path(folder) / "weights.safetensors", config=VIT_B_32)
        networks = {"sample": load_encoder("sample", "cpu")}
        networks[NETWORK] = load_encoder(str(weights), "cpu", precision="float32")
        for name, encoder in networks.items():
            values += photo_steps(encoder, name, paths)
            values += whole_parts(encoder, name, photos, size, parts)
        for _ in range(3):
            taken = seconds(lambda: in_child("network", str(weights), "float32"))
            values.append(Value("start a worker", NETWORK, 1, taken, "s"))
    return values


def read_values() -> list[Value]:
    """The measurements of results/part-times.csv.

    Raises:
        DataError: it is missing.
    """
    rows = csv.DictReader(read_lines(RESULTS.with_suffix(".csv")))
    return [Value(row["what"], row["case"], int(row["photos"]), float(row["value"]), row["unit"]) for row in rows]


def chosen(values: Sequence[Value], what: str, case: str | None = None, photos: int | None = None) -> list[float]:
    """The values of one kind.

    Args:
        values: All.
        what: As in `Value`.
        case: As in `Value`; None for any.
        photos: As in `Value`; None for any.

    Raises:
        DataError: there are none.
    """
    found = [
        each.value
        for each in values
        if each.what == what and case in (None, each.case) and photos in (None, each.photos)
    ]
    if not found:
        raise DataError(
            f"{RESULTS.name}.csv has no {what!r} of {case or photos}.", "Run `python -m benchmarks.part_times PHOTOS`."
        )
    return found


def core_seconds(values: Sequence[Value]) -> float:
    """Core-seconds per photo of whole parts, for ViT-B/32."""
    what = "encode a part, all cores"
    return median(each.value / each.photos for each in values if (each.what, each.case) == (what, NETWORK))


def report(values: Sequence[Value]) -> str:
    """The measurements in words and a table: medians, and percentiles between which nine of ten lie."""
    kinds = dict.fromkeys((each.what, each.case, each.photos, each.unit) for each in values)
    rows = []
    for what, case, photos, unit in kinds:
        own = chosen(values, what, case, photos)
        low, high = np.percentile(own, (5, 95))
        factor, shown = (1e3, unit.replace("s", "ms")) if unit in ("s", "core-s") else (1.0, unit)
        figures = [f"{factor * each:.4g} {shown}" for each in (median(own), low, high)]
        rows.append([what, case, photos, len(own), *figures])
    head = ["what", "of", "photos", "measured", "median", "5 %", "95 %"]
    return (
        f"# What a part costs on {processor()}, {os.cpu_count()} cores\n\n"
        "ViT-B/32 has random weights of its shapes; seconds do not depend on the values. Core-ms are those of all "
        "cores together; ms are what passed, while other work shared the cores. Photos came from the system's memory, "
        "not from a disk. Features are 512 wide. `python -m benchmarks.part_times PHOTOS` measures this.\n\n"
        f"{markdown_table(head, rows)}\n"
    )


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.part_times", description="Measure what a part costs.")
    parser.add_argument("photos", nargs="?", type=Path, metavar="PHOTOS", help="a folder of photos")
    parser.add_argument("--size", type=int, default=128, help="photos of each part that is encoded (128)")
    parser.add_argument("--parts", type=int, default=40, help="parts that each network encodes (40)")
    parser.add_argument("--count", type=int, default=256, help="photos that are timed step by step (256)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where .csv and .md are written")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        do, *words = options.child
        print(json.dumps({"part": write_a_part, "network": open_network}[do](*words)))
        return 0
    if options.photos is None:
        parser.error("the following arguments are required: PHOTOS")
    values = measure(options.photos, size=options.size, parts=options.parts, count=options.count)
    rows = [each._asdict() | {"value": f"{each.value:.6g}"} for each in values]
    write_results(options.out, rows, COLUMNS, report(values))
    return 0


if __name__ == "__main__":
    sys.exit(main())
