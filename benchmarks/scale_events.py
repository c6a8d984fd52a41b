"""A discrete-event simulation of workers that encode parts, on nodes that come and go."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_AHEAD = 4  # a worker's parts are drawn together, while there are so many more of them per worker
_MANY = 30  # parts whose seconds together are a normal number


class Loss(NamedTuple):
    """A loss of a node.

    Attributes:
        at: When, in seconds.
        back: When it is there again, in seconds.
    """

    at: float
    back: float


@dataclass(frozen=True)
class Work:
    """What has to be done, by whom.

    Attributes:
        parts: Number of parts.
        speeds: Per worker, what its seconds are multiplied by.
        per_node: Workers of a node.
        part_seconds: Seconds of a part, to draw from.
        start_seconds: Seconds until a worker encodes its first photo.
        next_loss: The next loss of a node after a time; None for never.
    """

    parts: int
    speeds: Sequence[float]
    per_node: int
    part_seconds: npt.NDArray[np.float64]
    start_seconds: float = 0.0
    next_loss: Callable[[int, float], Loss | None] = lambda node, now: None


@dataclass
class Outcome:
    """What came of it, in seconds.

    Attributes:
        seconds: Until the last part was done.
        busy: Of all workers together, on parts.
        wasted: Of those, on parts that were lost in flight.
        repeated: Number of these parts.
    """

    seconds: float = 0.0
    busy: float = 0.0
    wasted: float = 0.0
    repeated: int = 0


@dataclass
class _Simulation:
    """The state of a simulation.

    While many parts are left, a worker gets several at once, whose seconds are drawn as one sum; a loss costs only the
    one that it was at. Towards the end it gets one at a time, as it would from the start.
    """

    work: Work
    rng: random.Random
    out: Outcome = field(default_factory=Outcome)

    def __post_init__(self) -> None:
        self.waiting, self.done = self.work.parts, 0
        workers = len(self.work.speeds)
        self.doing: list[tuple[float, float, int] | None] = [None] * workers  # since when, until when, how many
        self.turn = [0] * workers  # an event of an earlier turn no longer holds
        self.idle: set[int] = set()
        self.events: list[tuple[float, int, str, int, int]] = []
        self.order = itertools.count()
        self.times = self.work.part_seconds.tolist()
        self.mean, self.deviation = float(self.work.part_seconds.mean()), float(self.work.part_seconds.std())

    def at(self, time: float, what: str, who: int, turn: int = 0) -> None:
        """Note an event."""
        heapq.heappush(self.events, (time, next(self.order), what, who, turn))

    def run(self) -> Outcome:
        """Simulate until all parts are done."""
        per_node, workers = self.work.per_node, len(self.work.speeds)
        for node in range(-(-workers // per_node)):
            self.up(0.0, node)
        while self.done < self.work.parts:
            now, _, what, who, turn = heapq.heappop(self.events)
            if what == "lost":
                self.lost(now, who)
            elif what == "up":
                self.up(now, who)
            elif turn == self.turn[who]:
                self.free(now, who)
        return self.out

    def of_node(self, node: int) -> range:
        """The workers of a node."""
        return range(node * self.work.per_node, min((node + 1) * self.work.per_node, len(self.work.speeds)))

    def up(self, now: float, node: int) -> None:
        """A node begins; its workers start."""
        for worker in self.of_node(node):
            self.at(now + self.work.start_seconds, "free", worker, self.turn[worker])
        loss = self.work.next_loss(node, now)
        if loss is not None:
            self.at(loss.at, "lost", node)
            self.at(loss.back, "up", node)

    def free(self, now: float, worker: int) -> None:
        """A worker has started, or has done what it had."""
        doing = self.doing[worker]
        if doing is not None:
            self.doing[worker] = None
            self.done += doing[2]
            self.out.busy += now - doing[0]
            self.out.seconds = now
        if not self.waiting:
            self.idle.add(worker)
            return
        count = max(1, self.waiting // (_AHEAD * len(self.work.speeds)))
        self.waiting -= count
        until = now + self.drawn(count) * self.work.speeds[worker]
        self.doing[worker] = (now, until, count)
        self.at(until, "free", worker, self.turn[worker])

    def drawn(self, count: int) -> float:
        """Seconds of some parts together: a normal number if there are many."""
        if count > _MANY:
            return max(0.0, self.rng.gauss(count * self.mean, math.sqrt(count) * self.deviation))
        return sum(self.rng.choices(self.times, k=count))

    def lost(self, now: float, node: int) -> None:
        """A node is gone, with the parts that were in flight on it."""
        for worker in self.of_node(node):
            self.turn[worker] += 1
            self.idle.discard(worker)
            doing, self.doing[worker] = self.doing[worker], None
            if doing is None:
                continue
            since, until, count = doing
            progress = count * (now - since) / (until - since)
            finished = min(int(progress), count - 1)
            self.done += finished
            self.waiting += count - finished
            self.out.busy += now - since
            self.out.wasted += (progress - finished) / count * (until - since)
            self.out.repeated += 1
        for worker in sorted(self.idle):
            if not self.waiting:
                break
            self.idle.discard(worker)
            self.free(now, worker)


def simulate(work: Work, seed: int) -> Outcome:
    """Simulate the encoding of all parts once.

    Args:
        work: What has to be done, by whom.
        seed: For the seconds that are drawn.
    """
    return _Simulation(work, random.Random(seed)).run()  # noqa: S311  (not for secrets)
