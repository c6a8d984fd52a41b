"""Computes the benchmark's cells as Ray tasks, which Ray starts again elsewhere if their process is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from jclip_adapter import runtime
from jclip_adapter.core.errors import DivergedError, SetupError, UsageError
from jclip_adapter.core.task import Labelled
from jclip_adapter.methods import get
from jclip_adapter.runtime import cluster

from .benchmark import Job, Problem, finished_cell

_TRIES = 3  # of a cell whose process is lost, after the first
_AHEAD = 2  # cells handed to Ray per process: those that run, and as many that wait for them

Outcome = dict[str, Any] | DivergedError


def outcomes_on_ray(jobs: Sequence[Job], engine: str, show: Callable[[Job], None]) -> Iterator[tuple[int, Outcome]]:
    """Number and outcome of each job in the order in which they end, finished cells first.

    A cell takes one core, or one GPU: many cells side by side take less time than one on many cores.

    Args:
        jobs: The jobs; those of one problem follow each other.
        engine: As for `cluster.connected`.
        show: Is told of each job that is handed to Ray.

    Raises:
        UsageError: a method trains through CLIP.
        SetupError: Ray is not installed or has no room, or a cell ends every process.
    """
    tuning = next((job.name for job in jobs if "encoder" in get(job.name).meta.needs), None)
    if tuning:
        raise UsageError(f"--engine {engine}: {tuning} trains through CLIP.", "Run it with --engine local.")
    cluster.check_ray()
    waiting = []
    for number, job in enumerate(jobs):
        cell = finished_cell(job.path)
        if cell:
            yield number, cell
        else:
            waiting.append(number)
    if waiting:
        with cluster.connected(engine) as ray:
            yield from _run(ray, jobs, waiting, show)


def _run(
    ray: Any, jobs: Sequence[Job], waiting: list[int], show: Callable[[Job], None]
) -> Iterator[tuple[int, Outcome]]:
    device = runtime.choose()
    what, share = ("GPU", cluster.Share(1, 1)) if device == "cuda" else ("CPU", cluster.Share(1, 0))
    most = _AHEAD * sum(int(node.get(what, 0)) for node in cluster.alive(ray))
    if not most:
        raise SetupError(f"Ray has no node with a {what}.", "`ray status` shows what it has.")
    compute: Any = ray.remote(max_retries=_TRIES, **cluster.options(share))(_compute)
    busy: dict[Any, int] = {}
    problem = held = None
    waiting.reverse()
    while waiting or busy:
        while waiting and len(busy) < most:
            number = waiting.pop()
            job = jobs[number]
            show(job)
            if job.problem is not problem:  # Ray keeps a problem as long as one of its cells is to be computed
                problem, held = job.problem, ray.put(_bare(job.problem))
            arguments = (job.name, job.selection, dict(job.given), job.path)
            busy[compute.remote(os.getcwd(), device, held, *arguments)] = number  # noqa: PTH109  (as in `enter`)
        for answer in ray.wait(list(busy))[0]:
            number = busy.pop(answer)
            try:
                outcome = ray.get(answer)
            except ray.exceptions.RayTaskError as error:
                raise cluster.own_error(error) from error
            except ray.exceptions.RayError as error:
                raise SetupError(f"{jobs[number]}: its process was lost {_TRIES + 1} times.", cluster.LOGS) from error
            yield number, outcome


def _bare(problem: Problem) -> Problem:
    """The problem without the networks behind its features, which stay in this process."""

    def bare(labelled: Labelled) -> Labelled:
        return replace(labelled, queries=replace(labelled.queries, encode=None))

    held = problem.task.validation
    task = replace(problem.task, encoder=None, validation=None if held is None else bare(held))
    return replace(problem, task=task, test=bare(problem.test))


def _compute(place: str, device: str, problem: Problem, *job: Any) -> Outcome:
    """In a process of Ray's: a job's outcome."""
    cluster.enter(place)
    runtime.choose(device)
    return Job(problem, *job).outcome()
