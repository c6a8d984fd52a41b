"""Compare Ray with the local engine on the same cores, and measure its driver: results/scale-engines.csv and .md.

    python -m benchmarks.engine_overhead PHOTOS

The photos of the folder are repeated in tar files. Both engines encode them with all cores of this machine (Ray: one
process), in turn, each in a process of its own: by the sample's CLIP, so fast that it shows what the engines cost, and
by a CLIP of ViT-B/32's shapes with random weights. Rates are from the end of the first part to that of the last, by the
times of their files. The driver gets 100,000 empty tar files, whose parts a stand-in writes: a table of some bytes and
its facts, which say 10,000 rows. Then it gets them again, when all are done. Memory is the largest of its process.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks import ROOT, reports_user_errors
from benchmarks.kill_extraction import make_shards
from benchmarks.results import write_results
from benchmarks.turns import peak_mb
from jclip_adapter.core.version import __version__
from jclip_adapter.data.parts import part_paths
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.features.parts import source
from jclip_adapter.features.parts.engine import Work, extract_parts
from jclip_adapter.features.parts.files import Plan, finish
from jclip_adapter.features.parts.ray_engine import on_ray
from jclip_adapter.models.base import ImageEncoder
from jclip_adapter.models.clip.config import VIT_B_32
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.storage.checksums import json_bytes

RESULTS = ROOT / "results" / "scale-engines"
COLUMNS = ("what", "unit", "local", "ray", "ray_to_local")
PAIRS, UNITS, ROWS = 3, 100_000, 10_000
ENGINES = ("local", "ray")


NOTE = f"""Medians of {PAIRS} runs of each engine, in turn; the last column is the median of the pairs' ratios.
Other programs used the machine at the same time."""


class Load(NamedTuple):
    """What both engines encode.

    Attributes:
        network: Its name in the table.
        parts: Number of parts.
        photos: Photos of a part.
    """

    network: str
    parts: int
    photos: int


LOADS = (Load("sample", 4, 2_000), Load("ViT-B/32", 3, 300))


def extract(engine: str, shards: str, folder: str, weights: str) -> dict[str, float]:
    """Seconds of an extraction, and those from its first part to its last."""
    started = time.perf_counter()
    load = functools.partial(load_encoder, weights, "cpu")
    extract_parts(engine, load, Path(folder), shards, size=1, dtype="float32")
    whole = time.perf_counter() - started
    ends = sorted(path.stat().st_mtime for path in Path(folder).glob("part-*.json"))
    return {"whole": whole, "between": ends[-1] - ends[0]}


def open_sample() -> ImageEncoder:
    """The sample's CLIP, which encodes nothing."""
    return load_encoder("sample", "cpu")


def stand_in(_: ImageEncoder, plan: Plan, unit: source.Unit) -> int:
    """In place of encoding a unit: writes files that pass for its part."""
    table, facts = part_paths(plan.folder, unit.number)
    data = b"%d" % unit.number
    table.write_bytes(data)
    whole = {"rows": ROWS, "errors": 0, "part_sha256": hashlib.sha256(data).hexdigest(), "unit": unit.digest}
    facts.write_bytes(json_bytes({**whole, "version": __version__, **plan.facts}))
    return ROWS


def drive(shards: str, folder: str) -> dict[str, float]:
    """Largest memory in MB of a driver."""
    plan = Plan.of(Path(folder), open_sample())
    work = Work(plan, lambda: source.units(shards))
    work.complete(on_ray("ray", open_sample, plan, stand_in))
    finish(plan, work.count)
    return {"mb": peak_mb()}


def in_child(*words: object) -> dict[str, float]:
    """What `extract` or `drive` returns in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.engine_overhead", "--child", *map(str, words)]
    environment = dict(os.environ)
    if words[0] == "extract":
        # Ray's workers have a niceness of 15, which would compare priorities where others use the machine too.
        environment["RAY_worker_niceness"] = "0"
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def row(what: str, unit: str, ray: str, local: str = "", ratio: str = "") -> dict[str, str]:
    """A row of the table."""
    return dict(zip(COLUMNS, (what, unit, local, ray, ratio), strict=True))


def compare(photos: Path, root: Path, load: Load) -> Iterator[dict[str, str]]:
    """Rows of both engines."""
    from tests.random_weights import write_safe

    weights, shards = "sample", root / load.network.replace("/", "-")
    if load.network != "sample":
        weights = str(write_safe(root / "weights.safetensors", config=VIT_B_32))
    make_shards(photos, shards, load.parts * load.photos, load.photos)
    taken: dict[tuple[str, str], list[float]] = {}
    for pair in range(PAIRS):
        for engine in ENGINES[:: -1 if pair % 2 else 1]:
            found = in_child("extract", engine, shards / "*.tar", shards / f"{engine}-{pair}", weights)
            print(load.network, engine, found, flush=True)
            for what, seconds in found.items():
                taken.setdefault((what, engine), []).append(seconds)
    for what, text, parts in (("whole", "start included", load.parts), ("between", "once started", load.parts - 1)):
        local, ray = (taken[what, engine] for engine in ENGINES)
        ratio = median(one / other for one, other in zip(ray, local, strict=True))
        ms = {engine: f"{1000 * median(taken[what, engine]) / (parts * load.photos):.2f}" for engine in ENGINES}
        name = f"{load.network}, {load.parts} parts of {load.photos:,} photos, {text}"
        yield row(name, "ms per photo", ms["ray"], ms["local"], f"{ratio:.3f}")


def drivers(root: Path, count: int) -> Iterator[dict[str, str]]:
    """Rows of a driver with new parts, and with those that are done."""
    shards, folder = root / "empty", root / "driver"
    for place in (shards, folder):
        place.mkdir()
    for number in range(count):
        (shards / f"shard-{number:06d}.tar").touch()
    for state in ("new", "done"):
        started = time.time()
        memory = in_child("drive", shards / "*.tar", folder)["mb"]
        seconds, what = time.time() - started, f"driver, {count:,} {state} parts"
        print(state, memory, seconds, flush=True)
        if state == "new":
            ends = sorted(path.stat().st_mtime for path in folder.glob("part-*.json"))
            yield row(f"{what}: until the first part is there", "s", f"{ends[0] - started:.1f}")
            yield row(f"{what}: parts written", "parts/s", f"{(count - 1) / (ends[-1] - ends[0]):.0f}")
        yield row(f"{what}: all", "s", f"{seconds:.1f}")
        yield row(f"{what}: memory", "MB", f"{memory:.0f}")


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="PHOTOS", nargs="?")
    parser.add_argument("--units", type=int, default=UNITS, help="parts of the driver")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where .csv and .md are written")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.child:
        what, *words = given.child
        print(json.dumps(extract(*words) if what == "extract" else drive(*words)))
        return 0
    if given.folder is None:
        parser.error("a folder of photos is needed")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        rows += drivers(Path(place), given.units)
        for load in LOADS:
            rows += compare(given.folder, Path(place), load)
    text = markdown_table(list(COLUMNS), [list(each.values()) for each in rows])
    write_results(given.out, rows, COLUMNS, f"{NOTE}\n\n{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
