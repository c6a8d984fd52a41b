"""Kill workers, nodes and drivers of an extraction on Ray, and check what is left: results/scale-kills.csv and .md.

    python -m benchmarks.kill_extraction PHOTOS

The photos of the folder are repeated under different names, in tar files, until there are 20,000. The sample's CLIP
(`--weights sample`) encodes them on two Ray nodes of this machine, each with a core and a folder of its own. At 30
random moments of the run, a process that encodes, a node's raylet or the driver gets SIGKILL, in turn. A killed node is
replaced, and the driver is started again. Then every photo must have one row, all files must have the bytes that the
local engine writes, and a part may have been begun more than once only if a kill ended the process that encoded it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import io
import itertools
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from jclip_adapter.core.console import streams
from jclip_adapter.core.errors import DataError, SetupError
from jclip_adapter.data.parts import columns
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.features.parts import source
from jclip_adapter.features.parts.encoding import encode_unit
from jclip_adapter.features.parts.engine import Work, here
from jclip_adapter.features.parts.files import Plan, finish
from jclip_adapter.features.parts.ray_engine import on_ray
from jclip_adapter.models.base import ImageEncoder
from jclip_adapter.models.clip.encoder import load_encoder

RESULTS = ROOT / "results" / "scale-kills"
COLUMNS = ("kill", "second", "kind", "parts_done", "parts_in_flight", "outcome")
KINDS = ("worker", "node", "driver")
PHOTOS, PART, KILLS = 20_000, 200, 30
COMMAND = [sys.executable, "-m", "benchmarks.kill_extraction", "--child"]
_WAIT_S = 300.0


class Event(NamedTuple):
    """A process has begun or finished a part."""

    process: int
    raylet: int
    part: int
    what: str


class Kill(NamedTuple):
    """What was killed.

    Attributes:
        second: When, from the first part on.
        kind: One of `KINDS`.
        events: Number of events until then.
        processes: The encoding processes that ended by it.
        outcome: What was done afterwards.
    """

    second: float
    kind: str
    events: int
    processes: frozenset[int]
    outcome: str


def make_shards(photos: Path, folder: Path, count: int, size: int) -> None:
    """Write tar files of `size` photos each, repeated under different names until there are `count`.

    Raises:
        DataError: the folder has no .jpg.
    """
    data = [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))]
    if not data:
        raise DataError(f"{photos} has no .jpg.", "Give a folder with photos.")
    folder.mkdir()
    for first in range(0, count, size):
        with tarfile.open(folder / f"shard-{first // size:05d}.tar", "w") as archive:
            for number in range(first, min(first + size, count)):
                content = data[number % len(data)]
                entry = tarfile.TarInfo(f"{number:07d}.jpg")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def noted(log: Path, encoder: ImageEncoder, plan: Plan, unit: source.Unit) -> int:
    """Encode a unit, and note in a file when it begins and when it is done."""

    def note(what: str) -> None:
        with log.open("a") as handle:  # short lines of several processes do not mix
            handle.write(f"{os.getpid()} {os.getppid()} {unit.number} {what}\n")

    note("begun")
    count = encode_unit(encoder, plan, unit)
    note("done")
    return count


def drive(engine: str, photos: str, folder: Path, log: Path) -> None:
    """Extract as the command does, with `noted` in place of `encode_unit` on Ray."""
    load = functools.partial(load_encoder, "sample", "cpu")
    encoder = load()
    plan = Plan.of(folder, encoder)
    work = Work(plan, lambda: source.units(photos))
    with streams():
        do = functools.partial(noted, log)
        work.complete(here(encoder, plan) if engine == "local" else on_ray(engine, load, plan, do))
        finish(plan, work.count)


def events(log: Path) -> list[Event]:
    """What was noted so far."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.is_file() else []
    return [Event(int(process), int(raylet), int(part), what) for process, raylet, part, what in lines]


def is_alive(event: Event) -> bool:
    """Whether the process of an event still runs, as a child of the same raylet."""
    try:
        text = Path(f"/proc/{event.process}/status").read_text()
    except OSError:
        return False
    return f"PPid:\t{event.raylet}\n" in text and "State:\tZ" not in text


def lost_parts(kill: Kill, found: Sequence[Event]) -> set[int]:
    """Parts that were in flight at a kill in the processes that it ended, or that these have begun since."""
    of_them = [(number, event) for number, event in enumerate(found) if event.process in kill.processes]
    before = {event.process: event for number, event in of_them if number < kill.events}
    since = {event.part for number, event in of_them if number >= kill.events and event.what == "begun"}
    return since | {event.part for event in before.values() if event.what == "begun"}


def finished(found: Sequence[Event]) -> int:
    """Number of different parts that are done."""
    return len({event.part for event in found if event.what == "done"})


def raylet_of(node: Any) -> int:
    """The process of a node's raylet."""
    return int(node.all_processes["raylet"][0].process.pid)


class Attack:
    """An extraction on two nodes, whose processes are killed.

    Args:
        photos: The tar files.
        folder: Where the extraction writes.
        log: What `noted` writes.
    """

    def __init__(self, photos: str, folder: Path, log: Path) -> None:
        from ray.cluster_utils import Cluster

        self.log = log
        self._command = [*COMMAND, "ray", photos, str(folder), str(log)]
        quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_failure_threshold": 3}
        head = {"num_cpus": 0, "_system_config": quick, "include_dashboard": False}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self._places = (folder.with_name(f"node-{number}") for number in itertools.count())
        self._nodes = [self._add_node() for _ in range(2)]
        self._environment = {**os.environ, "RAY_ADDRESS": self._cluster.address}
        self.begin()

    def _add_node(self) -> Any:
        return self._cluster.add_node(num_cpus=1, temp_dir=str(next(self._places)))

    def begin(self) -> None:
        """Start the driver."""
        self.driver = subprocess.Popen(self._command, cwd=ROOT, env=self._environment)

    def close(self) -> None:
        """End the driver and the nodes."""
        self.driver.kill()
        self.driver.wait()
        self._cluster.shutdown()

    def until(self, done: int) -> tuple[int, list[Event]]:
        """Wait until so many parts are done and one is in flight.

        Returns:
            The number of events, and the last one of each process that is alive on a node that is alive.

        Raises:
            SetupError: the driver has ended, or nothing happens.
        """
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            if self.driver.poll() is not None:
                raise SetupError(f"the driver ended with status {self.driver.returncode} before the last kill.")
            found = events(self.log)
            raylets = {raylet_of(node) for node in self._nodes}
            last = {event.process: event for event in found if event.raylet in raylets}
            there = [event for event in last.values() if is_alive(event)]
            if finished(found) >= done and any(event.what == "begun" for event in there):
                return len(found), there
            time.sleep(0.01)
        raise SetupError(f"nothing was encoded for {_WAIT_S:.0f} s.")

    def kill(self, kind: str, victim: Event) -> str:
        """Kill a worker, its node, or the driver; returns what was done afterwards."""
        if kind == "worker":
            os.kill(victim.process, signal.SIGKILL)
            return "left to the engine"
        if kind == "driver":
            self.driver.kill()
            self.driver.wait()
            self.begin()
            return "driver started again"
        node = next(node for node in self._nodes if raylet_of(node) == victim.raylet)
        os.kill(victim.raylet, signal.SIGKILL)
        self._nodes.remove(node)
        self._cluster.remove_node(node)
        self._nodes.append(self._add_node())
        return "node replaced"

    def run(self, parts: int, kills: int, seed: int) -> Iterator[Kill]:
        """Kill at random moments, and yield what was killed; ends with the extraction.

        Raises:
            SetupError: the extraction failed.
        """
        draw = random.Random(seed)  # noqa: S311  (no secret)
        moments = sorted(draw.randrange(int(0.95 * parts)) for _ in range(kills))  # parts that are done by then
        self.until(0)
        begun = time.monotonic()
        for moment, kind in zip(moments, itertools.cycle(KINDS), strict=False):
            self.until(moment)
            time.sleep(draw.uniform(0, 0.5))
            count, there = self.until(moment)
            victim = draw.choice([event for event in there if event.what == "begun"])
            ended = frozenset(
                event.process
                for event in there
                if kind == "driver" or (event.raylet if kind == "node" else event.process) in victim[:2]
            )
            yield Kill(time.monotonic() - begun, kind, count, ended, self.kill(kind, victim))
        if self.driver.wait():
            raise SetupError(f"the last driver ended with status {self.driver.returncode}.")


def table(kills: Sequence[Kill], found: Sequence[Event]) -> list[dict[str, Any]]:
    """A row per kill."""
    rows = []
    for number, kill in enumerate(kills, 1):
        done = finished(found[: kill.events])
        parts = " ".join(map(str, sorted(lost_parts(kill, found))))
        facts = (number, f"{kill.second:.1f}", kill.kind, done, parts, kill.outcome)
        rows.append(dict(zip(COLUMNS, facts, strict=True)))
    return rows


def check(kills: Sequence[Kill], found: Sequence[Event], here: Path, there: Path, photos: int) -> list[list[Any]]:
    """Rows of what was found, what was expected."""
    keys = [key for part in columns(there, ("key",)) for key in part["key"]]
    names = sorted(path.name for path in here.iterdir() if path.is_file())
    same = sum((there / name).is_file() and (here / name).read_bytes() == (there / name).read_bytes() for name in names)
    times = collections.Counter(event.part for event in found if event.what == "begun")
    lost = collections.Counter(part for kill in kills for part in lost_parts(kill, found))
    return [
        ["rows", len(keys), photos],
        ["different photos", len(set(keys)), photos],
        ["files with the bytes that the local engine writes", same, len(names)],
        ["parts", len(times), len(names) // 2],
        [
            "parts encoded again that no kill had interrupted",
            sum(count - 1 > lost[part] for part, count in times.items()),
            0,
        ],
    ]


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Extract, kill, compare and write; the exit status is 1 if anything is not as expected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="PHOTOS", nargs="?")
    parser.add_argument("--photos", type=int, default=PHOTOS, help="number of photos")
    parser.add_argument("--kills", type=int, default=KILLS, help="number of kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where .csv and .md are written")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.child:
        engine, photos, folder, log = given.child
        drive(engine, photos, Path(folder), Path(log))
        return 0
    if given.folder is None:
        parser.error("a folder of photos is needed")
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        make_shards(given.folder, root / "shards", given.photos, PART)
        tars = str(root / "shards" / "*.tar")
        subprocess.run([*COMMAND, "local", tars, root / "here", root / "-"], cwd=ROOT, check=True)
        kills = []
        with contextlib.closing(Attack(tars, root / "there", root / "log")) as attack:
            for kill in attack.run(-(-given.photos // PART), given.kills, given.seed):
                kills.append(kill)
                print(kill, flush=True)
        found = events(root / "log")
        checks = check(kills, found, root / "here", root / "there", given.photos)
    rows = table(kills, found)
    counts = collections.Counter(kill.kind for kill in kills)
    again = sum(event.what == "begun" for event in found) - (parts := -(-given.photos // PART))
    text = (
        f"{given.photos:,} photos in {parts} tar files, encoded by `--weights sample` on two Ray nodes, a core each.\n"
        f"Killed by SIGKILL: {', '.join(f'{count} × {kind}' for kind, count in counts.items())}; "
        f"encodings of a part that were begun again: {again}.\n\n"
        f"{markdown_table(['what', 'found', 'expected'], checks)}\n\n"
        f"{markdown_table(list(COLUMNS), [list(row.values()) for row in rows])}\n"
    )
    write_results(given.out, rows, COLUMNS, text)
    return int(any(value != expected for _, value, expected in checks))


if __name__ == "__main__":
    sys.exit(main())
