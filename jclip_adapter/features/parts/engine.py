"""Runs the units of a source that are not done: in this process, on Ray, or as a Slurm array."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jclip_adapter.core.console import doing, print_note, progress
from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.problems import done_before
from jclip_adapter.data.parts import MANIFEST
from jclip_adapter.data.photos.decoders import in_threads
from jclip_adapter.features.sharding import Part
from jclip_adapter.models.base import ImageEncoder
from jclip_adapter.runtime import cluster
from jclip_adapter.storage import check_folder_writable

from . import slurm_engine
from .encoding import encoding
from .files import Plan, check_manifest, finish, forget, is_whole, recorded, unfinish
from .ray_engine import on_ray
from .source import Unit, units

Encode = Callable[[Iterable[Unit]], Generator[int, None, None]]


def extract_parts(
    engine: str,
    load: Callable[[], ImageEncoder],
    folder: Path,
    source: str,
    *,
    size: int,
    dtype: str,
    share: Part | None = None,
) -> dict[str, Any] | str:
    """Encode a source's photos part by part; finished parts are kept, and have the same bytes from every engine.

    Args:
        engine: "local", "ray", "ray://HOST:PORT" or "slurm".
        load: Opens the network; picklable.
        folder: The folder of the parts.
        source: As for `source.units`.
        size: Photos per part of a folder or list.
        dtype: Type of the stored features.
        share: One of n processes, which encodes every n-th part; None for all parts.

    Returns:
        The manifest, or a sentence on what is missing: other processes' parts, or a Slurm job that was submitted.

    Raises:
        UsageError: a share on another engine than "local".
        SetupError: Ray or submitit is not installed, or the folder cannot be written.
        DataError: the source cannot be read, or the folder has parts of another network or of other photos.
    """
    if share and engine != "local":
        raise UsageError(f"--shard cannot be combined with --engine {engine}.", "Leave one of them out.")
    if engine == "slurm":
        slurm_engine.check()
    elif engine != "local":
        cluster.check_ray()
    check_folder_writable(folder)
    check_manifest(folder)
    encoder = load()
    work = Work(Plan.of(folder, encoder, dtype), lambda: units(source, size), share)
    if engine == "slurm":
        count = sum(1 for _ in work.missing()) + work.forget_damaged()
        if count:
            return slurm_engine.submit(load, folder, source, size, dtype, count)
    else:
        work.complete(here(encoder, work.plan) if engine == "local" else on_ray(engine, load, work.plan))
    left = work.left()
    if share and left:
        return (
            f"{share} is done; {left} of {work.count} parts are missing: the last process to finish writes "
            f"{folder / MANIFEST}, or this command without --shard."
        )
    return finish(work.plan, work.count, source)


def here(encoder: ImageEncoder, plan: Plan) -> Encode:
    """A function that encodes units in this process and yields numbers of photos as they are done."""
    return lambda units: (count for unit in units for count in encoding(encoder, plan, unit))


@dataclass
class Work:
    """The units of a source, and which are missing.

    Missing units are handed out as the source is read. Whether the tables of the others are damaged is looked up
    afterwards, as reading them may take longer than anything else.

    Attributes:
        plan: The plan.
        units: Gives the units from the first on.
        share: As for `extract_parts`.
        count: Number of units, once all were handed out.
    """

    plan: Plan
    units: Callable[[], Iterator[Unit]]
    share: Part | None = None
    count: int = 0
    _recorded: list[tuple[int, str]] = field(default_factory=list)  # number and SHA-256 of each part that is there
    _others: list[tuple[int, str]] = field(default_factory=list)  # number and unit's digest of other processes' parts

    def complete(self, encode: Encode) -> None:
        """Encode what is missing or damaged."""
        with progress(total=None, desc="encoding parts", unit="photo") as bar:
            self._run(encode, bar)
            there, damaged = len(self._recorded), self.forget_damaged()
            if there and (bar.n or damaged):
                print_note(done_before(there, self.count, "part", damaged, "encoded"))
            if damaged:
                self._run(encode, bar)

    def _run(self, encode: Encode, bar: Any) -> None:
        # Closed at once after an error or Ctrl-C, and with it what it has started.
        with contextlib.closing(encode(self.missing())) as counts:
            for photos in counts:
                bar.update(photos)

    def missing(self) -> Iterator[Unit]:
        """The units of this share that have no part, as the source is read."""
        self.count = 0
        self._recorded.clear()
        self._others.clear()
        for unit in self.units():
            self.count = unit.number + 1
            if self.share and unit.number % self.share.count != self.share.number - 1:
                self._others.append((unit.number, unit.digest))
                continue
            sha256 = recorded(self.plan, unit.number, unit.digest, len(unit.photos))
            if sha256 is None:
                unfinish(self.plan)
                yield unit
            else:
                self._recorded.append((unit.number, sha256))

    def forget_damaged(self) -> int:
        """Remove the facts of damaged parts, so that `missing` hands them out; returns their number."""
        with doing("checking finished parts"):
            whole = in_threads(lambda part: is_whole(self.plan, *part), self._recorded)
            damaged = [number for (number, _), fine in zip(self._recorded, whole, strict=True) if not fine]
        for number in damaged:
            forget(self.plan, number)
        return len(damaged)

    def left(self) -> int:
        """Number of other processes' parts that are missing now."""
        return sum(recorded(self.plan, *other) is None for other in self._others)
