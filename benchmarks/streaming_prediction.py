"""Measure the classification of features in parts against numpy's bare matrix product: results/streaming-prediction.*.

    python -m benchmarks.streaming_prediction FOLDER --rows 10000000

FOLDER gets a folder of synthetic features (normal, 512 wide) for each size of its parts; they are kept. The bare
product is of the same rows by the same classes, in float32 and from memory, by numpy with all cores: it reads nothing,
normalises nothing and writes nothing. Each pair of measurements is in one run, one after the other. Memory is that of a
process which classifies everything and does nothing else, memory-mapped pages included.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.turns import peak_mb
from jclip_adapter.core.task import FewShotTask, normalise
from jclip_adapter.data.parts import is_parts, read_manifest
from jclip_adapter.evaluation.report import csv_text, markdown_table
from jclip_adapter.evaluation.streaming import Classifier, classify_parts
from jclip_adapter.features.parts.files import Plan, finish, write_part
from jclip_adapter.methods import create
from jclip_adapter.storage import ANY, read_lines, write_text

RESULTS = ROOT / "results" / "streaming-prediction.csv"
COLUMNS = (
    *("method", "rows", "part", "classes", "width", "stored"),
    *("rows_per_second", "product_rows_per_second", "ratio", "mb"),
)
WIDTH, CLASSES, SHOTS = 512, 374, 4
PARTS = (10_000, 2_000)  # about a tar file of photos; what `extract` makes of a folder
METHODS = ("zero-shot", "jclip-adapter", "tip-adapter", "auto")
_BLOCK = 4096


def make_features(folder: Path, rows: int, part: int, dtype: str) -> None:
    """Write synthetic features in parts; those of a part are a rotation of one block, as drawing takes longer."""
    plan = Plan(folder, WIDTH, dtype, {"dtype": dtype}, {"weights": "synthetic"})
    block = np.random.default_rng(0).standard_normal((part, WIDTH)).astype(np.float32)
    parts = rows // part
    for number in tqdm(range(parts), desc="writing features", unit="part", disable=None):
        names = [f"{number:06d}/{row:05d}.jpg" for row in range(part)]
        columns: dict[str, list[Any]] = {
            "key": names,
            "sha256": [bytes(32)] * part,
            "label": [None] * part,
            "error": [None] * part,
        }
        write_part(plan, number, str(number), columns, np.roll(block, number, axis=1))
    finish(plan, parts)


def classifier(name: str) -> Classifier:
    """A method fitted to synthetic shots."""
    rng = np.random.default_rng(1)
    names = tuple(f"class {number}" for number in range(CLASSES))
    support = normalise(rng.standard_normal((CLASSES * SHOTS, WIDTH)).astype(np.float32))
    texts = normalise(rng.standard_normal((CLASSES, WIDTH)).astype(np.float32))
    labels = np.repeat(np.arange(CLASSES), SHOTS)
    task = FewShotTask(support, labels, texts, names, ("",) * CLASSES, 100.0)
    return Classifier(create(name).fit(task), names, 5)


def product_rate(rows: int) -> float:
    """Rows per second of the bare matrix product."""
    rng = np.random.default_rng(0)
    block = rng.standard_normal((_BLOCK, WIDTH)).astype(np.float32)
    weights = rng.standard_normal((WIDTH, CLASSES)).astype(np.float32)
    block @ weights
    started = time.perf_counter()
    for _ in range(rows // _BLOCK):
        block @ weights
    return (rows // _BLOCK) * _BLOCK / (time.perf_counter() - started)


def classify(folder: Path, name: str) -> tuple[float, float]:
    """Rows per second of a whole pass, and the process's largest memory in MB."""
    found = classifier(name)
    with tempfile.TemporaryDirectory(dir=folder.parent) as target:
        started = time.perf_counter()
        rows = classify_parts(found, folder, Path(target))["rows"]
        seconds = time.perf_counter() - started
    return rows / seconds, peak_mb()


def measure(folder: Path, name: str, part: int, repeats: int) -> dict[str, Any]:
    """A row of the table: a method on a folder of features, each time followed by the bare product."""
    manifest = read_manifest(folder)
    pairs, memory = [], 0.0
    for _ in range(repeats):
        command = [sys.executable, "-m", "benchmarks.streaming_prediction", str(folder), "--child", name]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        rate, mb = map(float, printed.split()[-2:])
        pairs.append((rate, product_rate(min(manifest["rows"], 1_000_000))))
        memory = max(memory, mb)
    ours, bare = (median(values) for values in zip(*pairs, strict=True))
    ratio = median(one / other for one, other in pairs)
    facts = (name, manifest["rows"], part, CLASSES, manifest["width"], manifest["dtype"])
    return dict(zip(COLUMNS, (*facts, f"{ours:.0f}", f"{bare:.0f}", f"{ratio:.2f}", f"{memory:.0f}"), strict=True))


def saved_table() -> str:
    """The table of results/streaming-prediction.csv."""
    head = ["method", "photos", "photos in a part", "per second", "bare matrix product", "ratio", "memory in MB"]
    names = ("rows_per_second", "product_rows_per_second", "ratio", "mb")
    rows = [
        [row["method"], f"{int(row['rows']):,}", f"{int(row['part']):,}", *(row[name] for name in names)]
        for row in csv.DictReader(read_lines(RESULTS))
    ]
    return markdown_table(head, rows)


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--stored", choices=("float16", "float32"), default="float16")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--parts", default=",".join(map(str, PARTS)))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.child:
        print(*classify(given.folder, given.child))
        return 0
    table = []
    for part in map(int, given.parts.split(",")):
        folder = given.folder / f"parts-of-{part}"
        if not is_parts(folder):
            make_features(folder, given.rows, part, given.stored)
        for name in given.methods.split(","):
            table.append(measure(folder, name, part, given.repeats))
            print(table[-1])
    write_text(RESULTS, csv_text(table, COLUMNS), ANY)
    return 0


if __name__ == "__main__":
    sys.exit(main())
