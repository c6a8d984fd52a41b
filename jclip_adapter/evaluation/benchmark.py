"""The benchmark: methods × data sets × shots × seeds under one protocol, one cell at a time.

A method gets a task, then queries without labels. Hyper-parameters are chosen by `selection` on the shots or a
validation set. Each finished cell is a JSON file, so a stopped benchmark continues; tables and pictures are derived
from the cells.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import runtime
from jclip_adapter.core.choices import PROTOCOLS
from jclip_adapter.core.console import doing, progress
from jclip_adapter.core.errors import DataError, DivergedError, UsageError, suggest
from jclip_adapter.core.task import FewShotTask, Labelled
from jclip_adapter.features.file import FeatureFile, read_feature_file
from jclip_adapter.methods import Method, available, create, get
from jclip_adapter.storage import KEPT, read_checked_json, write_checked_json

from .calibration import calibrate
from .metrics import accuracy, calibration_error, mean_interval, seen_and_unseen
from .provenance import code_digest
from .query_tasks import QueryTasks
from .selection import choose

logger = logging.getLogger(__name__)
_SCORING = (  # code that every cell depends on
    "jclip_adapter.evaluation.metrics",
    "jclip_adapter.evaluation.query_tasks",
    "jclip_adapter.core.task",
    "jclip_adapter.evaluation.calibration",
)
_SELECTING = "jclip_adapter.evaluation.selection"
_SHOWN = 3  # methods named in a message
COLUMNS = (
    "dataset",
    "method",
    "shots",
    "seed",
    "top1",
    "ece",
    "top5",
    "fit_seconds",
    "predict_seconds",
    "hyperparameters",
)


@dataclass(frozen=True)
class Problem:
    """One data set at one shot count and seed.

    Attributes:
        dataset: Name of the data set.
        shots: Photos per class.
        seed: Seed of everything random.
        fingerprint: Digest of everything that the features depend on.
        task: The methods' input.
        test: The queries with their labels, for the scorer alone.
        unseen: Share of the (last) classes whose shots are removed.
        protocol: One of `choices.PROTOCOLS`: which classes compete if some have no shots.
        unreadable: (k,) class indices of unreadable queries, which count as wrong.
        tasks: Tasks of few classes to which the queries are divided; None for all queries at once.
    """

    dataset: str
    shots: int
    seed: int
    fingerprint: str
    task: FewShotTask
    test: Labelled
    unseen: float = 0.0
    protocol: str = PROTOCOLS[0]
    unreadable: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    tasks: QueryTasks | None = None


def _read(path: str) -> FeatureFile:
    with doing(f"reading {path}"):
        return read_feature_file(path)


def feature_problems(
    paths: Sequence[str], shots: Sequence[int], seeds: Sequence[int], *, resample: bool = False
) -> list[Problem]:
    """The problems in feature files.

    Args:
        paths: The files.
        shots: Shot counts, 0 for a task without shots; empty for all in a file.
        seeds: Seeds of everything random in a method.
        resample: Whether each seed draws its own shots from the file's largest training set, instead of using the
            file's shots.

    Raises:
        DataError: a file is malformed, or has none of the shot counts.
        UsageError: a file is given twice, or several seeds without `resample`.
    """
    if len(seeds) > 1 and not resample:
        raise UsageError(
            f"--seed {','.join(map(str, seeds))}: a feature file's shots are the same for every seed.",
            "Add --resample to draw them by seed, or give one seed.",
        )
    problems = []
    contents = [_read(path) for path in paths]
    for path, content, name in zip(paths, contents, _distinct_names(paths, contents), strict=True):
        counts = [count for count in (0, *content.tasks) if (count in shots if shots else count)]
        if not counts:
            raise DataError(
                f"{path} has no task with {', '.join(map(str, shots))} shots.",
                f"It has tasks with {', '.join(map(str, content.tasks))} shots.",
            )
        lacking = [str(count) for count in shots if count and count not in content.tasks]
        if lacking:
            has = ", ".join(map(str, content.tasks))
            logger.warning("%s has no task with %s shots, only with %s", path, ", ".join(lacking), has)
        _warn_of_overlap(name, content)
        for count in counts:
            for seed in seeds:
                task = _draw(content.tasks, count, seed) if resample or not count else content.tasks[count]
                task = replace(task, validation=content.validation)
                fingerprint = content.sha256 + (" resampled" if resample else "")
                problems.append(Problem(name, count, seed, fingerprint, task, content.test))
    return problems


def _warn_of_overlap(name: str, content: FeatureFile) -> None:
    """Log how many test rows are also training rows."""
    known = {row.tobytes() for task in content.tasks.values() for row in task.raw}
    rows = content.test.queries.features if content.test.queries.raw is None else content.test.queries.raw
    same = sum(row.tobytes() in known for row in rows)
    if same:
        logger.warning("%s: %d of %d test rows are also training rows", name, same, len(rows))


def _distinct_names(paths: Sequence[str], contents: Sequence[FeatureFile]) -> list[str]:
    """A unique name for each feature file: its stem, with parent folders where stems are equal."""
    first: dict[str, str] = {}
    for path, content in zip(paths, contents, strict=True):
        if content.sha256 in first:
            raise UsageError(f"{path} has the same content as {first[content.sha256]}.", "Give each file once.")
        first[content.sha256] = path
    parts = [Path(path).absolute().with_suffix("").parts for path in paths]
    counts = [1] * len(paths)
    while True:
        names = ["/".join(part[-count:]).lstrip("/") for part, count in zip(parts, counts, strict=True)]
        repeated = [names.count(name) > 1 for name in names]
        if not any(repeated):
            return names
        counts = [count + more for count, more in zip(counts, repeated, strict=True)]


def _draw(tasks: Mapping[int, FewShotTask], shots: int, seed: int) -> FewShotTask:
    """A task with `shots` rows per class, drawn from the largest training set."""
    pool = tasks[max(tasks)]
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(pool.support_labels == label))[:shots] for label in pool.seen]
    return pool.keep(np.sort(np.concatenate(rows)))


def without_shots(task: FewShotTask, share: float) -> FewShotTask:
    """The task without the shots of a share of its classes, the last ones, rounded down; at least one keeps them.

    Their validation photos and their rows of further modalities are removed too.

    Raises:
        UsageError: the share is less than one class.
    """
    count = min(int(share * task.num_classes), task.num_classes - 1)
    if not count:
        raise UsageError(
            f"--unseen {share} is less than one of {task.num_classes} classes.",
            f"Give {-(-1000 // task.num_classes) / 1000:g} or more.",
        )
    first = task.num_classes - count
    held = task.validation
    if held is not None:
        known = held.labels < first
        held = Labelled(held.queries[known], held.labels[known]) if known.any() else None
    kept = task.keep(task.support_labels < first)
    if kept.extra_labels is not None:
        kept = kept.keep_extra(kept.extra_labels < first)
    return replace(kept, validation=held)


def choose_methods(names: str) -> list[str]:
    """Method names from a list.

    Args:
        names: Names separated by commas; "all" for the methods on features, "encoder" for those that train through
            CLIP and take far longer.

    Raises:
        UsageError: an unknown name.
    """
    chosen: list[str] = []
    for name in map(str.strip, names.split(",")):
        if name in ("all", "encoder"):
            chosen += [each for each in available() if ("encoder" in get(each).meta.needs) == (name == "encoder")]
        else:
            chosen.append(get(name).meta.name)
    return list(dict.fromkeys(chosen))


def values_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters in `given` that a method has."""
    return {key: value for key, value in given.items() if key in get(name).Hyper.__dataclass_fields__}


def _refuse_unknown(given: Mapping[str, Any], methods: Sequence[str]) -> None:
    """Refuse a hyper-parameter that no method has, and a value that is invalid for a method."""
    known = {field for name in methods for field in get(name).Hyper.__dataclass_fields__}
    for key in given:
        if key not in known:
            shown = ", ".join(methods) if len(methods) <= _SHOWN else f"any of the {len(methods)} methods"
            raise UsageError(f"--set {key}: {shown} has no such hyper-parameter.", suggest(key, known))
    for name in methods:
        create(name, **values_of(name, given))


def plan_cells(
    problems: Sequence[Problem], methods: Sequence[str], given: Mapping[str, Any], selection: str
) -> list[tuple[Problem, str]]:
    """Pairs of problem and method to run; a method whose needs a problem does not meet is skipped and logged once.

    Raises:
        UsageError: an unknown hyper-parameter, or no method can run.
        DataError: there is no validation set for `selection`.
    """
    _refuse_unknown(given, methods)
    if selection == "validation" and any(problem.task.validation is None for problem in problems):
        raise DataError(
            "--select validation: there is no validation set.", "Use --select support, or files with val_x."
        )
    jobs = []
    obstacles: dict[str, str] = {}
    for problem in problems:
        task = without_shots(problem.task, problem.unseen) if problem.unseen else problem.task
        for name in methods:
            try:
                create(name, **values_of(name, given)).check_needs(task)
            except DataError as error:
                obstacles.setdefault(f"{problem.dataset}: {name} is skipped", str(error))
            else:
                jobs.append((problem, name))
    for method, obstacle in obstacles.items():
        logger.warning("%s: %s", method, obstacle)
    if not jobs:
        raise UsageError("no method can run.", next(iter(obstacles.values()), "Give --method."))
    return jobs


def run_cell(name: str, problem: Problem, selection: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Select hyper-parameters, fit and score one method on one problem.

    Args:
        name: The method.
        problem: The problem.
        selection: As for `choose`.
        given: Fixed hyper-parameters.

    Returns:
        The cell: COLUMNS and how the hyper-parameters were chosen.
    """
    task = problem.task
    if problem.unseen:
        task = without_shots(task, problem.unseen)
    started = time.perf_counter()
    choice = choose(selection, name, task, seed=problem.seed, given=given)
    chosen = time.perf_counter()
    if selection != "validation":  # some methods use it by themselves
        task = replace(task, validation=None)
    with doing(f"fitting {name}"):
        method = create(name, seed=problem.seed, **choice.values).fit(task)
    fitted = time.perf_counter()
    calibrate(method, task)
    calibrated = time.perf_counter()
    if problem.tasks is None:
        scores = _on_all_queries(method, problem, task)
    else:
        scores = _on_tasks(method, problem.test, problem.tasks, problem.seed)
    predicted = time.perf_counter()
    return {
        "dataset": problem.dataset,
        "method": name,
        "shots": problem.shots,
        "seed": problem.seed,
        "fit_seconds": fitted - chosen,
        "predict_seconds": predicted - calibrated,
        "hyperparameters": method.hyper.as_dict(),
        "select_seconds": chosen - started,
        "calibrate_seconds": calibrated - fitted,
        "temperature": method.calibration_.temperature,
        "calibrated_on": method.calibration_.source,
        "selected_on": choice.source,
        "selection_accuracy": None if choice.candidates == 0 else 100 * choice.accuracy,
        "candidates": choice.candidates,
        "transductive": method.meta.transductive,
        **({"unseen": problem.unseen, "protocol": problem.protocol} if problem.unseen else {}),
        **scores,
    }


def _on_all_queries(method: Method, problem: Problem, task: FewShotTask) -> dict[str, Any]:
    """Accuracies in percent on all queries, and on classes with and without shots if some have none."""
    queries, lost = problem.test.queries, np.zeros((len(problem.unreadable), task.num_classes), dtype=np.float32)
    logits = np.concatenate([method.logits(queries), lost])
    labels = np.concatenate([problem.test.labels, problem.unreadable])
    readable = np.arange(len(labels)) < len(problem.test.labels)
    found: dict[str, Any] = {
        "top1": 100 * accuracy(logits, labels, 1, readable),
        "ece": 100 * calibration_error(method.calibration_.probabilities(logits[readable]), problem.test.labels),
        "top5": 100 * accuracy(logits, labels, min(5, logits.shape[1]), readable),
        "queries": len(labels),
    }
    if problem.unseen and problem.protocol == "base-to-new":
        logits = np.concatenate([_within_groups(method, problem.test, task), lost])
    if problem.unseen:
        found |= seen_and_unseen(logits, labels, task.seen, readable)
        if problem.protocol == "base-to-new":
            found["difference"] = found["base"] - found["new"]
    return found


def _within_groups(method: Method, test: Labelled, task: FewShotTask) -> npt.NDArray[np.float32]:
    """(M, C) scores where classes with and without shots compete among themselves (Zhou et al., CVPR 2022)."""
    scores = np.full((len(test.labels), task.num_classes), -np.inf, dtype=np.float32)
    for classes in (task.seen, np.setdiff1d(np.arange(task.num_classes), task.seen)):
        rows = np.flatnonzero(np.isin(test.labels, classes))
        scores[np.ix_(rows, classes)] = method.logits_among(test.queries[rows], classes)
    return scores


def _on_tasks(method: Method, test: Labelled, tasks: QueryTasks, seed: int) -> dict[str, Any]:
    """Mean accuracies in percent over tasks of few classes, with half-widths of their 95 % intervals."""
    queries, labels = test.queries, test.labels
    whole = None if method.meta.transductive else method.logits(queries)
    draws = list(tasks.draw(labels, seed))
    found: dict[str, list[float]] = {"top1": [], "same_size": [], "resampled": []}
    top5, shares, truth = [], [], []
    for drawn in progress(draws, desc="tasks", unit="task", leave=False, delay=2):
        scores = [method.logits(queries[rows]) if whole is None else whole[rows] for rows in drawn]
        for values, each, rows in zip(found.values(), scores, drawn, strict=True):
            values.append(100 * accuracy(each, labels[rows]))
        top5.append(100 * accuracy(scores[0], labels[drawn.pooled], min(5, scores[0].shape[1])))
        shares.append(method.calibration_.probabilities(scores[0]))
        truth.append(labels[drawn.pooled])
    means = {key: mean_interval(values) for key, values in found.items()}
    return {
        **{key: mean for key, (mean, _) in means.items()},
        **{f"{key}_interval": half for key, (_, half) in means.items()},
        "ece": 100 * calibration_error(np.concatenate(shares), np.concatenate(truth)),
        "top5": fmean(top5),
        "tasks": tasks.count,
        "effective_classes": str(tasks),
        "queries": fmean(len(drawn.pooled) for drawn in draws),
        "resampled_queries": fmean(len(drawn.resampled) for drawn in draws),
    }


@dataclass(frozen=True)
class Job:
    """A cell to compute.

    Attributes:
        problem: The problem.
        name: The method.
        selection: As for `choose`.
        given: Fixed hyper-parameters.
        path: The cell's file.
    """

    problem: Problem
    name: str
    selection: str
    given: Mapping[str, Any]
    path: Path

    def __str__(self) -> str:
        return f"{self.problem.dataset} {self.problem.shots}-shot {self.name}"

    def outcome(self) -> dict[str, Any] | DivergedError:
        """The cell, read from its file or computed; or the error if its training diverges."""
        try:
            return finished_cell(self.path) or self._computed()
        except DivergedError as error:
            return error

    def _computed(self) -> dict[str, Any]:
        write_checked_json(self.path, run_cell(self.name, self.problem, self.selection, self.given), KEPT)
        return read_checked_json(self.path)


def run_benchmark(
    problems: Iterable[Problem],
    methods: str,
    cells: Path,
    *,
    selection: str,
    given: Mapping[str, Any],
    engine: str = "local",
) -> list[dict[str, Any]]:
    """Run every method on every problem; finished cells are read from their files.

    Args:
        problems: The problems.
        methods: For `choose_methods`; "all" may be fewer on one problem than on another.
        cells: Folder of the cells' JSON files.
        selection: As for `choose`.
        given: Fixed hyper-parameters, for every method that has them.
        engine: "local" computes in this process; others as for `runtime.cluster.connected`.

    Returns:
        The cells, in the order of the problems and methods, without those whose training diverged, which are logged.

    Raises:
        UsageError: as `plan_cells`, or every training diverges; or on Ray, a method trains through CLIP.
    """
    jobs = []
    for problem, name in plan_cells(list(problems), choose_methods(methods), given, selection):
        fixed = values_of(name, given)
        path = cells / f"{_key(problem, name, selection, fixed)}.json"
        jobs.append(Job(problem, name, selection, fixed, path))
    outcomes: dict[int, dict[str, Any] | DivergedError] = {}
    with progress(total=len(jobs), desc="benchmark", unit="cell") as bar:
        for number, outcome in _outcomes(jobs, engine, lambda job: bar.set_postfix_str(str(job))):
            outcomes[number] = outcome
            bar.update()
    results = []
    diverged = []
    for number, job in enumerate(jobs):
        outcome = outcomes[number]
        if isinstance(outcome, DivergedError):
            problem = job.problem
            diverged.append(f"{problem.dataset}, {problem.shots}-shot, seed {problem.seed}: {outcome}")
        else:
            results.append(outcome)
    for line in diverged:
        logger.warning("skipped: %s", line)
    if not results:
        raise DivergedError("every training diverged.", "Change the hyper-parameters.", diverged)
    return results


def _outcomes(
    jobs: Sequence[Job], engine: str, show: Callable[[Job], None]
) -> Iterator[tuple[int, dict[str, Any] | DivergedError]]:
    """Number and outcome of each job, in any order; `show` is told of those that begin."""
    if engine != "local":
        from .benchmark_on_ray import outcomes_on_ray

        yield from outcomes_on_ray(jobs, engine, show)
        return
    for number, job in enumerate(jobs):
        show(job)
        yield number, job.outcome()


def finished_cell(path: Path) -> dict[str, Any]:
    """A finished cell; empty if its file is missing or damaged."""
    if not path.is_file():
        return {}
    try:
        return read_checked_json(path)
    except DataError:
        logger.warning("%s is damaged; its cell is recomputed", path)
        return {}


def _key(problem: Problem, name: str, selection: str, given: Mapping[str, Any]) -> str:
    """A cell's file name: readable, ending in a digest of everything that the cell depends on."""
    code = code_digest(get(name).__module__, *_SCORING, *([] if selection == "none" else [_SELECTING]))
    values = json.dumps(given, sort_keys=True, default=str)
    protocol = f"{problem.unseen} {problem.protocol if problem.unseen else None} {problem.tasks!r}"
    facts = [problem.fingerprint, protocol, code, selection, values, runtime.current_device()]
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    dataset = re.sub(r"[^\w.@+-]+", "-", problem.dataset)
    return f"{dataset}-{problem.shots}shot-seed{problem.seed}-{name}-{digest}"
