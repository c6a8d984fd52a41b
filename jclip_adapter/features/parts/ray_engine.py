"""Encodes units on Ray: one actor per GPU or group of cores, each with a network and one unit at a time.

Ray places the actors, and tells when one is lost. Here its unit goes to another one, where Ray's own retries would
keep it waiting until the same actor finds a place again, which after the loss of a node may be never.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from jclip_adapter.core.errors import DataError, SetupError
from jclip_adapter.models.base import ImageEncoder
from jclip_adapter.runtime import cluster

from .encoding import encode_unit
from .files import Plan
from .source import Unit

logger = logging.getLogger(__name__)
Load = Callable[[], ImageEncoder]
Do = Callable[[ImageEncoder, Plan, Unit], int]
_TRIES = 5  # of a unit whose actors are lost, and of actors that are lost before they are ready
_LOOK_S = 10.0  # between two looks for new nodes


def on_ray(
    engine: str, load: Load, plan: Plan, do: Do = encode_unit
) -> Callable[[Iterable[Unit]], Generator[int, None, None]]:
    """A function that encodes units on Ray and yields the number of photos of each, in the order in which they end.

    No more units are read than there are actors. Ray is not started if there is none.

    Args:
        engine: As for `cluster.connected`.
        load: Opens the network; picklable.
        plan: The plan, which the networks of all actors have to agree with.
        do: What an actor does with a unit.
    """

    def encode(units: Iterable[Unit]) -> Generator[int, None, None]:
        waiting = iter(units)
        for first in waiting:
            with cluster.connected(engine) as ray, contextlib.closing(_Actors(ray, load, plan, do)) as actors:
                yield from actors.run(itertools.chain([first], waiting))

    return encode


class _Worker:
    """An actor: encodes units by a network of its own."""

    def __init__(self, place: str, load: Load, plan: Plan, do: Do) -> None:
        self._place, self._load, self._plan, self._do = place, load, plan, do

    def open(self) -> int:
        """Open the network, not in the constructor, whose errors Ray would take for a loss; returns 0 photos."""
        cluster.enter(self._place)
        self._encoder = self._load()
        if Plan.of(self._plan.folder, self._encoder, self._plan.dtype) != self._plan:
            raise DataError(f"the weights on {os.uname().nodename} are others than here.", "Update that node.")
        return 0

    def run(self, unit: Unit) -> int:
        """Encode a unit; returns the number of photos."""
        return self._do(self._encoder, self._plan, unit)


class _Actors:
    """The actors, and what each of them does."""

    def __init__(self, ray: Any, load: Load, plan: Plan, do: Do) -> None:
        self._ray = ray
        self._share = cluster.share_of(cluster.alive(ray))[0]
        make: Any = ray.remote(**cluster.options(self._share))(_Worker)
        self._start: Callable[[], Any] = lambda: make.remote(os.getcwd(), load, plan, do)  # noqa: PTH109  (a string, as in `enter`)
        self._busy: dict[Any, tuple[Any, Unit | None]] = {}  # by what Ray will answer; None: it opens its network
        self._idle: list[Any] = []
        self._lost: list[Unit] = []
        self._tries: collections.Counter[int] = collections.Counter()
        self._unready = 0  # actors lost before they were ready, since one was
        self._looked = -_LOOK_S

    def close(self) -> None:
        """End all actors."""
        for actor in [*self._idle, *(actor for actor, _ in self._busy.values())]:
            self._ray.kill(actor)

    def run(self, units: Iterator[Unit]) -> Iterator[int]:
        """Give each unit to an actor, a lost one's to another; yields as `on_ray`."""
        while True:
            self._fill_nodes()
            while self._idle and (unit := self._next(units)) is not None:
                actor = self._idle.pop()
                self._busy[actor.run.remote(unit)] = (actor, unit)
            # Idle actors are left over only when there is no more to do; those that are not ready are not waited for.
            if self._idle and not any(unit for _, unit in self._busy.values()):
                return
            yield from self._finished()

    def _next(self, units: Iterator[Unit]) -> Unit | None:
        return self._lost.pop() if self._lost else next(units, None)

    def _fill_nodes(self) -> None:
        """Start as many actors as the nodes that are alive now have room for."""
        if time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        _, most = cluster.share_of(cluster.alive(self._ray))
        if not most:
            logger.warning("Ray has no node with cores at the moment; waiting for one")
        for _ in range(most - len(self._busy) - len(self._idle)):
            actor = self._start()
            self._busy[actor.open.remote()] = (actor, None)

    def _finished(self) -> Iterator[int]:
        """Wait until something has ended; yields the number of photos of each finished unit."""
        if not self._busy:
            time.sleep(_LOOK_S)
            return
        lost = (self._ray.exceptions.RayActorError, self._ray.exceptions.OutOfMemoryError)
        ready, _ = self._ray.wait(list(self._busy), timeout=_LOOK_S)
        for answer in ready:
            actor, unit = self._busy.pop(answer)
            try:
                count = self._ray.get(answer)
            except lost as error:
                self._lose(actor, unit, error)
                continue
            except self._ray.exceptions.RayTaskError as error:
                self._idle.append(actor)
                raise cluster.own_error(error) from error
            self._idle.append(actor)
            self._unready = 0
            if unit is not None:
                yield count

    def _lose(self, actor: Any, unit: Unit | None, error: Exception) -> None:
        """Note that an actor was lost, with its unit.

        Raises:
            SetupError: too many are lost.
        """
        self._ray.kill(actor)  # it may have been out of reach only
        self._looked = -_LOOK_S
        if unit is None:
            self._unready += 1
            if self._unready > _TRIES + len(self._busy):
                raise SetupError(
                    f"{self._unready} processes ended while they opened the network.", cluster.LOGS
                ) from error
            return
        logger.warning("part %d: its process was lost; another one encodes it", unit.number)
        self._tries[unit.number] += 1
        self._lost.append(unit)
        if self._tries[unit.number] == _TRIES:
            raise SetupError(f"part {unit.number} has ended {_TRIES} processes.", cluster.LOGS) from error
