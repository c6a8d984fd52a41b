"""Measure how fit, prediction, selection and memory of every method grow: results/growth.csv, .md and .png.

    python -m benchmarks.growth

Features are synthetic: normal around a mean per class, 512 wide. There are three axes: classes at 4 shots, shots at 100
classes, and photos to classify at 100 classes. Each method takes an axis in a process of its own, which runs a small
task first, so that its kernels are compiled. A size that takes more than the seconds or the memory allowed ends the
axis; a size is not tried if the one before shows that the seconds would not suffice by far. Methods that train through
CLIP are left out. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import resource
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from benchmarks.turns import peak_mb
from jclip_adapter.core.errors import AdapterError
from jclip_adapter.core.task import FewShotTask, Queries, normalise
from jclip_adapter.evaluation.benchmark import choose_methods
from jclip_adapter.evaluation.report import csv_text, markdown_table, png
from jclip_adapter.evaluation.selection import select as choose
from jclip_adapter.methods import create, get
from jclip_adapter.storage import ANY, read_lines, write_bytes, write_text

RESULTS = ROOT / "results" / "growth"
AXES = {
    "classes": [(size, 4, 1000) for size in (100, 1000, 10_000, 100_000)],
    "shots": [(100, size, 1000) for size in (1, 4, 16, 64)],
    "photos": [(100, 4, size) for size in (1000, 10_000, 100_000, 1_000_000)],
}
MEASURES = {"fit_s": "fit", "predict_s": "prediction", "select_s": "selection", "mb": "memory"}
COLUMNS = ("method", "axis", "classes", "shots", "photos", *MEASURES, "outcome")
WIDTH, CHUNK = 512, 1000
SELECTED = 1000  # classes up to which the search of hyper-parameters is measured
_START_S, _DONE = 300.0, "done"


def task_of(classes: int, shots: int, photos: int) -> tuple[FewShotTask, Queries]:
    """A task of synthetic features and the photos to classify."""
    rng = np.random.default_rng(0)

    def rows(count: int) -> Any:
        return rng.standard_normal((count, WIDTH), dtype=np.float32)

    means = rows(classes)
    labels = np.repeat(np.arange(classes), shots)
    raw = means[labels] + rows(len(labels))
    names = tuple(f"class {number}" for number in range(classes))
    text = normalise(means + rows(classes))
    task = FewShotTask(normalise(raw), labels, text, names, support_raw=raw, auxiliary=raw[:, : WIDTH // 2].copy())
    asked = means[rng.integers(classes, size=photos)] + rows(photos)
    return task, Queries(normalise(asked), asked, asked[:, : WIDTH // 2].copy())


def measure(name: str, sizes: tuple[int, int, int]) -> dict[str, Any]:
    """Seconds of one fit and of the prediction of all photos, and the process's largest memory so far."""
    classes, shots, photos = sizes
    # Others than transductive methods get the photos in chunks, and here it is always the same chunk.
    chunk = photos if get(name).meta.transductive else min(photos, CHUNK)
    task, queries = task_of(classes, shots, chunk)
    started = time.perf_counter()
    method = create(name).fit(task)
    fitted = time.perf_counter()
    for _ in range(0, photos, chunk):
        method.logits(queries)
    asked = time.perf_counter()
    return {"fit_s": round(fitted - started, 3), "predict_s": round(asked - fitted, 3), "mb": round(peak_mb())}


def measure_selection(name: str, sizes: tuple[int, int, int]) -> dict[str, Any]:
    """Seconds of the search of hyper-parameters on the shots."""
    task, _ = task_of(*sizes)
    started = time.perf_counter()
    choose(name, task)
    return {"select_s": round(time.perf_counter() - started, 3)}


def serve(name: str, memory_gb: float) -> None:
    """The child: measures a small task, then what each line of standard input asks for; answers in JSON."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory_gb * 2**30),) * 2)
    functions = {"measure": measure, "select": measure_selection}

    def answer(question: str, sizes: tuple[int, int, int]) -> None:
        try:
            found = functions[question](name, sizes) | {"outcome": _DONE}
        except AdapterError as error:  # also where a method refuses what does not fit
            found = {"outcome": error.message}
        except MemoryError:
            found = {"outcome": f"over {memory_gb:g} GB"}
        print(json.dumps(found), flush=True)

    answer("measure", (20, 2, 50))
    for line in sys.stdin:
        question, *numbers = line.split()
        answer(question, tuple(map(int, numbers)))  # type: ignore[arg-type]


@dataclass
class Child:
    """A process that measures one method."""

    process: subprocess.Popen[str]

    def answer(self, seconds: float) -> dict[str, Any]:
        """Its next answer, or what happened instead."""
        assert self.process.stdout is not None  # noqa: S101  (for the type checker)
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return {"outcome": f"over {seconds:g} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"outcome": f"ended with status {self.process.wait()}"}

    def ask(self, question: str, sizes: Sequence[int], seconds: float) -> dict[str, Any]:
        """Let it measure something."""
        assert self.process.stdin is not None  # noqa: S101
        self.process.stdin.write(f"{question} {' '.join(map(str, sizes))}\n")
        self.process.stdin.flush()
        return self.answer(seconds)


def measured(name: str, axis: str, seconds: float, memory_gb: float) -> Iterator[dict[str, Any]]:
    """The rows of a method along an axis."""
    command = [sys.executable, "-m", "benchmarks.growth", "--child", name, "--memory", str(memory_gb)]
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    child = Child(process)
    try:
        answer, before = child.answer(_START_S), math.nan
        for place, sizes in enumerate(AXES[axis]):
            facts = {"method": name, "axis": axis} | dict(zip(("classes", "shots", "photos"), sizes, strict=True))
            if answer["outcome"] == _DONE and place:
                grown = math.prod(sizes) / math.prod(AXES[axis][place - 1])
                if before * grown > 3 * seconds:
                    answer = {"outcome": f"not tried: {before:.0f} s before"}
            if answer["outcome"] == _DONE:
                answer = child.ask("measure", sizes, seconds)
            if answer["outcome"] == _DONE and axis != "photos" and sizes[0] <= SELECTED and sizes[1] > 1:
                chosen = child.ask("select", sizes, seconds)
                yield facts | answer | {"select_s": chosen.get("select_s", "")}
                if chosen["outcome"] != _DONE:
                    return
            else:
                yield facts | answer
            if answer["outcome"] != _DONE:
                return
            before = answer["fit_s"] + answer["predict_s"]
    finally:
        process.kill()
        process.communicate()


def exponent(rows: Sequence[dict[str, Any]], axis: str, measure: str) -> float:
    """Slope of log measure over log size between the two largest sizes that took at least 0.1 s; NaN without two."""
    points = [(int(row[axis]), float(row[measure])) for row in rows if row["outcome"] == _DONE and row.get(measure)]
    if measure != "mb":
        points = [point for point in points if point[1] >= 0.1]
    if len(points) < 2:
        return math.nan
    (size, value), (larger, more) = points[-2:]
    return math.log(more / value) / math.log(larger / size)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """In Markdown: for each axis, every method's figures at its largest size, and how they grow."""
    parts = []
    for axis in AXES:
        cells = []
        for name in dict.fromkeys(row["method"] for row in rows):
            own = [row for row in rows if (row["method"], row["axis"]) == (name, axis)]
            done = [row for row in own if row["outcome"] == _DONE]
            if not done:
                continue
            largest = done[-1]
            slopes = [exponent(own, axis, measure) for measure in ("fit_s", "predict_s", "mb")]
            cells.append(
                [name, f"{int(largest[axis]):,}", *(largest[measure] for measure in ("fit_s", "predict_s", "mb"))]
                + ["–" if math.isnan(slope) else f"{slope:.1f}" for slope in slopes]
                + ["" if own[-1] is largest else f"{int(own[-1][axis]):,}: {own[-1]['outcome']}"]
            )
        head = [axis, "fit, s", "prediction, s", "MB", "fit grows", "prediction", "memory", "then"]
        parts.append(f"## {axis.capitalize()}\n\n{markdown_table(['method', *head], cells)}\n")
    intro = (
        "# Growth\n\nThe largest size of each axis that a method finished, and the exponent of its growth between its "
        "two largest sizes (1: ten times the size takes ten times as long). Synthetic features, 512 wide. A method's "
        "axis was measured in one process; not all axes on the same machine.\n"
        "`python -m benchmarks.growth`\n\n"
    )
    return intro + "\n".join(parts)


def picture(rows: Sequence[dict[str, Any]]) -> bytes:
    """Seconds and memory over each axis, a line per method."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["method"] for row in rows))
    figure = Figure(figsize=(10, 11), layout="constrained")
    for place, (measure, title) in enumerate(MEASURES.items()):
        for column, axis in enumerate(AXES):
            axes = figure.add_subplot(len(MEASURES), len(AXES), place * len(AXES) + column + 1)
            for number, name in enumerate(names):
                points = [
                    (int(row[axis]), float(row[measure]))  # a time of zero has no logarithm
                    for row in rows
                    if (row["method"], row["axis"]) == (name, axis) and float(row.get(measure) or 0)
                ]
                if points:
                    line = ("-", "--", ":", "-.")[number // 10 % 4]
                    axes.plot(
                        *zip(*points, strict=True), marker=".", label=name, color=f"C{number % 10}", linestyle=line
                    )
            if not axes.lines:  # the search of hyper-parameters does not depend on the photos
                axes.remove()
                continue
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_title(f"{title} over {axis}", fontsize=10)
            axes.set_ylabel("MB" if measure == "mb" else "seconds")
            axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    return png(figure)


def finish(rows: Sequence[dict[str, Any]]) -> None:
    """Write the CSV, the table and the picture."""
    write_results(RESULTS, rows, COLUMNS, table(rows))
    write_bytes(RESULTS.with_suffix(".png"), picture(rows), ANY)


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description="Measure how every method's time and memory grow."
    )
    parser.add_argument("--method", default="all", help="only these methods, separated by commas")
    parser.add_argument("--axis", default=",".join(AXES), help="only these axes")
    parser.add_argument("--seconds", type=float, default=60, help="that a size may take")
    parser.add_argument("--memory", type=float, default=16, metavar="GB", help="that a method may take")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.child:
        serve(given.child, given.memory)
        return 0
    path = RESULTS.with_suffix(".csv")
    rows: list[dict[str, Any]] = [dict(row) for row in csv.DictReader(read_lines(path))] if path.exists() else []
    names = [name for name in choose_methods(given.method) if "encoder" not in get(name).meta.needs]
    known = {(row["method"], row["axis"]) for row in rows}
    missing = [(name, axis) for name in names for axis in given.axis.split(",") if (name, axis) not in known]
    for name, axis in tqdm(missing, unit="axis"):
        rows += measured(name, axis, given.seconds, given.memory)
        write_text(path, csv_text(rows, COLUMNS), ANY)
    rows.sort(key=lambda row: (row["method"], list(AXES).index(row["axis"]), int(row["classes"]) * int(row["photos"])))
    finish(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
