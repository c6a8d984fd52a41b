"""Simulate the encoding of many photos in parts, and write results/scale-simulation.csv, .md and .png.

    python -m benchmarks.scale_simulation

A discrete-event simulation: workers take parts one by one, some workers are slow, nodes are preempted or lost and come
back later, and a part in flight on such a node is encoded again by another worker. Seconds per part are drawn from what
results/part-times.csv has measured. No GPU was measured here; its rate is the published one of clip-retrieval, 1,500
photos per second on an RTX 3080 (https://github.com/rom1504/clip-retrieval), an assumption that `--gpu-rate` changes.

The other assumptions, each an argument:

- A node of 8 GPUs fails every 47 days (Kokolis et al., arXiv:2410.21680, table for jobs of one node as quoted by
  https://www.crusoe.ai/resources/blog/autoclusters-minimizing-hardware-failures-in-large-gpu-clusters). The same is
  taken for nodes without GPU. It is back after an hour.
- A preemptible node is lost twice a day and replaced after five minutes. Google's preemptible machines live 24 hours at
  most, and many less (Kadupitiya et al., arXiv:1911.05160, whose bathtub-shaped lifetimes are exponential here).
- One worker in twenty takes twice as long for everything. This is ours: published shares of slow tasks differ widely.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import ROOT, part_times, reports_user_errors
from benchmarks.part_times import NETWORK, Value
from benchmarks.results import write_results
from benchmarks.scale_events import Loss, Work, simulate
from jclip_adapter.core.choices import PART_PHOTOS
from jclip_adapter.core.errors import UsageError
from jclip_adapter.evaluation.report import BLUE, GREY, ORANGE, markdown_table, png
from jclip_adapter.storage import ANY, read_lines, write_bytes

RESULTS = ROOT / "results" / "scale-simulation"
SIZES = (100, 300, 1_000, 2_000, 5_000, 10_000, 30_000, 100_000)
SEEDS = 4
HOUR = 3600.0
CORES = 2  # of a worker without GPU
NODES = {"2 cores": 16, "GPU": 8}  # workers per node
PLANS = (
    *((10**6, "2 cores", 1), (10**6, "2 cores", 16), (10**6, "2 cores", 128), (10**6, "GPU", 1), (10**6, "GPU", 8)),
    *((10**8, "2 cores", 512), (10**8, "GPU", 8), (10**8, "GPU", 64)),
    *((10**9, "2 cores", 4096), (10**9, "GPU", 64), (10**9, "GPU", 512)),
)
"""Photos, kind of worker, number of workers."""
NODE_LOSSES = ("none", "failures and preemptions")
COLUMNS = (
    *("photos", "worker", "workers", "losses", "part_photos", "parts", "files", "hours", "worker_hours"),
    *("wasted_percent", "idle_percent", "repeated_parts", "driver_hours", "units_in_flight_mb", "worker_mb"),
)


@dataclass(frozen=True)
class Assumptions:
    """What was not measured here; the module's text has the sources."""

    gpu_rate: float = 1500.0
    failure_days: float = 47.0
    repair_hours: float = 1.0
    preemptions_per_day: float = 2.0
    replace_minutes: float = 5.0
    slow_share: float = 0.05
    slow_factor: float = 2.0

    def losses(self, kind: str, rng: np.random.Generator) -> Callable[[int, float], Loss | None]:
        """A function that draws a node's next loss.

        Args:
            kind: One of NODE_LOSSES.
            rng: To draw by.
        """

        def next_loss(node: int, now: float) -> Loss | None:
            if kind == "none":
                return None
            failed = now + rng.exponential(self.failure_days * 24 * HOUR)
            preempted = now + rng.exponential(24 * HOUR / self.preemptions_per_day)
            return min(
                Loss(failed, failed + self.repair_hours * HOUR), Loss(preempted, preempted + self.replace_minutes * 60)
            )

        return next_loss


@dataclass(frozen=True)
class Measured:
    """What results/part-times.csv says.

    Attributes:
        photo_seconds: Of a worker of two cores, to draw from: the core-seconds of a photo, which other work on the
            machine hardly changes, times the spread of the seconds of parts, which it causes.
        write_seconds: Per part, by its photos.
        list_seconds: The driver's, per photo.
        start_seconds: Of a worker.
        unit_mb: Memory of a unit, by its photos.
        part_mb: Memory of a worker for a part, by its photos.
    """

    photo_seconds: npt.NDArray[np.float64]
    write_seconds: Callable[[float], float]
    list_seconds: float
    start_seconds: float
    unit_mb: Callable[[float], float]
    part_mb: Callable[[float], float]

    @classmethod
    def of(cls, values: Sequence[Value]) -> Measured:
        """Out of the measurements. What was measured for a few sizes of parts is interpolated between them."""

        def by_size(what: str, case: str) -> Callable[[float], float]:
            medians = [median(part_times.chosen(values, what, case, size)) for size in part_times.SIZES]
            return lambda size: float(np.interp(size, part_times.SIZES, medians))

        passed = np.array(part_times.chosen(values, "encode a part", NETWORK))
        return cls(
            passed / np.median(passed) * part_times.core_seconds(values) / CORES,
            by_size("write a part", "float32"),
            median(part_times.chosen(values, "list a photo", "list", part_times.SIZES[-1])),
            median(part_times.chosen(values, "start a worker", NETWORK)),
            by_size("memory of a unit", "list"),
            by_size("memory of a part", "float32"),
        )


def work_of(
    plan: tuple[int, str, int], size: int, losses: str, measured: Measured, given: Assumptions, seed: int
) -> Work:
    """The work of a plan.

    The measured seconds of small parts vary by what else the machine did. Those of large parts are taken to vary by the
    same share, which is pessimistic, as such things even out.
    """
    photos, kind, workers = plan
    rng = np.random.default_rng(seed)
    per_photo = measured.photo_seconds
    if kind == "GPU":
        per_photo = per_photo / per_photo.mean() / given.gpu_rate
    slow = rng.random(workers) < given.slow_share
    return Work(
        parts=-(-photos // size),
        speeds=np.where(slow, given.slow_factor, 1.0).tolist(),
        per_node=NODES[kind],
        part_seconds=size * per_photo + measured.write_seconds(size),
        start_seconds=measured.start_seconds,
        next_loss=given.losses(losses, rng),
    )


def rows_of(plan: tuple[int, str, int], losses: str, measured: Measured, given: Assumptions) -> list[dict[str, Any]]:
    """Means over the seeds; a row per size of parts."""
    photos, kind, workers = plan
    rows = []
    for size in SIZES:
        found = [simulate(work_of(plan, size, losses, measured, given, seed), seed) for seed in range(SEEDS)]
        seconds, busy, wasted = (fmean(getattr(each, name) for each in found) for name in ("seconds", "busy", "wasted"))
        parts = -(-photos // size)
        rows.append(
            {
                "photos": photos,
                "worker": kind,
                "workers": workers,
                "losses": losses,
                "part_photos": size,
                "parts": parts,
                "files": 2 * parts + 1,
                "hours": f"{seconds / HOUR:.4f}",
                "worker_hours": f"{busy / HOUR:.2f}",
                "wasted_percent": f"{100 * wasted / busy:.3f}",
                "idle_percent": f"{100 * (1 - busy / (seconds * workers)):.2f}",
                "repeated_parts": f"{fmean(each.repeated for each in found):.1f}",
                "driver_hours": f"{photos * measured.list_seconds / HOUR:.4f}",
                "units_in_flight_mb": f"{workers * measured.unit_mb(size):.2f}",
                "worker_mb": f"{measured.part_mb(size):.0f}",
            }
        )
    return rows


def plan_name(row: dict[str, Any]) -> str:
    """A plan in words.

    >>> plan_name({"photos": "1000000", "worker": "GPU", "workers": "8"})
    '10⁶ photos, 8 × GPU'
    """
    power = str(round(math.log10(int(row["photos"])))).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{power} photos, {int(row['workers']):,} × {row['worker']}"


def by_plan(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The rows of each plan and kind of losses, by size of parts."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((plan_name(row), row["losses"]), []).append(row)
    return found


def excesses(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], dict[int, float]]:
    """By how many percent each size of parts takes longer than the best one, per plan and kind of losses."""
    found = {}
    for key, own in by_plan(rows).items():
        best = min(float(row["hours"]) for row in own)
        found[key] = {int(row["part_photos"]): 100 * (float(row["hours"]) / best - 1) for row in own}
    return found


def excess_table(rows: Sequence[dict[str, Any]]) -> str:
    """Percent longer than with the best size of parts: without or with losses, whichever is worse."""
    worst: dict[str, dict[int, float]] = {}
    for (plan, _), own in excesses(rows).items():
        for size, value in own.items():
            worst.setdefault(plan, {})[size] = max(value, worst.get(plan, {}).get(size, 0.0))
    cells = [[plan, *(f"{own[size]:.1f}" for size in SIZES)] for plan, own in worst.items()]
    return markdown_table(["percent longer than the best", *(f"{size:,}" for size in SIZES)], cells)


def waste_table(rows: Sequence[dict[str, Any]]) -> str:
    """Percent of the work that losses of nodes make be done twice."""
    cells = [
        [plan, *(f"{float(row['wasted_percent']):.2f}" for row in own)]
        for (plan, losses), own in by_plan(rows).items()
        if losses != "none"
    ]
    return markdown_table(["percent of the work done twice", *(f"{size:,}" for size in SIZES)], cells)


def hours_table(rows: Sequence[dict[str, Any]]) -> str:
    """Hours and more of every plan with parts of the default size."""
    head = [
        "plan",
        "hours",
        "with losses",
        "worker hours",
        "files",
        "driver hours",
        "units in MB",
    ]
    cells = []
    found = by_plan([row for row in rows if int(row["part_photos"]) == PART_PHOTOS])
    for plan in dict.fromkeys(plan for plan, _ in found):
        (row,) = found[plan, "none"]
        hours = [f"{float(found[plan, losses][0]['hours']):.2f}" for losses in NODE_LOSSES]
        cells.append([plan, *hours, f"{float(row['worker_hours']):,.0f}", f"{int(row['files']):,}"])
        cells[-1] += [f"{float(row['driver_hours']):.3f}", f"{float(row['units_in_flight_mb']):,.0f}"]
    return markdown_table(head, cells)


def saved_rows() -> list[dict[str, Any]]:
    """The rows of results/scale-simulation.csv."""
    return list(csv.DictReader(read_lines(RESULTS.with_suffix(".csv"))))


def picture(rows: Sequence[dict[str, Any]]) -> bytes:
    """Completion time and wasted work over the size of parts, where nodes are lost."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    excess = excesses(rows)
    for (plan, losses), own in by_plan(rows).items():
        if losses != "none":
            style = {"color": ORANGE if "GPU" in plan else BLUE, "marker": ".", "linewidth": 0.8}
            left.plot(SIZES, list(excess[plan, losses].values()), **style)
            right.plot(SIZES, [float(row["wasted_percent"]) or math.nan for row in own], **style)
    for axes, label in ((left, "percent longer than the best size"), (right, "percent of the work done twice")):
        axes.set_xscale("log")
        axes.set_xlabel("photos of a part")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.axvline(PART_PHOTOS, color=GREY, linestyle="--")
    left.set_ylim(0, 100)
    right.set_yscale("log")
    figure.suptitle("Nodes are lost; blue: workers of two cores, orange: GPUs; dashed: the default")
    return png(figure)


def report(rows: Sequence[dict[str, Any]], given: Assumptions) -> str:
    """The results in words and tables."""
    return (
        "# Parts of which size\n\n"
        f"Means of {SEEDS} simulations (`python -m benchmarks.scale_simulation`). A worker is two cores or a GPU, "
        "encoding ViT-B/32 in float32. Seconds of parts, of writing and of starts are measured "
        f"([part-times.md](part-times.md)). Assumed: a GPU encodes {given.gpu_rate:,.0f} photos per second; "
        f"{given.slow_share:.0%} of the workers take {given.slow_factor:g} times as long; a node ({NODES['2 cores']} "
        f"workers of two cores, or {NODES['GPU']} GPUs) fails every {given.failure_days:g} days and is back after "
        f"{given.repair_hours:g} h; a preemptible one is lost {given.preemptions_per_day:g} times a day beside that "
        f"and back after {given.replace_minutes:g} minutes. The program's text has the sources.\n\n"
        f"## By size of parts, the worse of no losses of nodes and all of them\n\n{excess_table(rows)}\n\n"
        f"## By size of parts, with losses of nodes\n\n{waste_table(rows)}\n\n"
        f"## Parts of {PART_PHOTOS:,} photos\n\n{hours_table(rows)}\n"
    )


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Simulate and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale_simulation", description="Simulate the encoding of many photos in parts."
    )
    default = Assumptions()
    parser.add_argument("--gpu-rate", type=float, default=default.gpu_rate, help="photos per second of a GPU (1500)")
    parser.add_argument("--failure-days", type=float, default=default.failure_days, help="between a node's (47)")
    parser.add_argument("--repair-hours", type=float, default=default.repair_hours, help="of a failed node (1)")
    parser.add_argument("--preemptions-per-day", type=float, default=default.preemptions_per_day, help="of a node (2)")
    parser.add_argument("--replace-minutes", type=float, default=default.replace_minutes, help="a preempted node's (5)")
    parser.add_argument("--slow-share", type=float, default=default.slow_share, help="share of slow workers (0.05)")
    parser.add_argument("--slow-factor", type=float, default=default.slow_factor, help="how much longer they take (2)")
    given = Assumptions(**vars(parser.parse_args(argv)))
    if not (0 <= given.slow_share <= 1 <= given.slow_factor) or given.repair_hours < 0 or given.replace_minutes < 0:
        raise UsageError("--slow-share is from 0 to 1, --slow-factor at least 1, and no time is negative.")
    if min(given.gpu_rate, given.failure_days, given.preemptions_per_day) <= 0:
        raise UsageError("--gpu-rate, --failure-days and --preemptions-per-day are above 0.")
    measured = Measured.of(part_times.read_values())
    rows = [row for plan in PLANS for losses in NODE_LOSSES for row in rows_of(plan, losses, measured, given)]
    write_results(RESULTS, rows, COLUMNS, report(rows, given))
    write_bytes(RESULTS.with_suffix(".png"), picture(rows), ANY)
    return 0


if __name__ == "__main__":
    sys.exit(main())
