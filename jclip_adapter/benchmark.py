"""The benchmark: methods × data sets × shots × seeds under one protocol, one cell at a time.

A method is given a task and later queries; their labels stay with the scorer in this module. Hyper-parameters
come from the shots (or a given validation set) by `selection`. Each finished cell is a small JSON file, so a
stopped run goes on and a finished one computes nothing; tables and pictures are derived from the cells.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from . import __version__
from .errors import DataError, UsageError
from .feature_file import read_feature_file
from .methods import available, create, get
from .metrics import accuracy, seen_and_unseen
from .provenance import code_digest
from .selection import SELECTIONS, choose
from .storage import read_sealed_json, write_sealed_json
from .task import FewShotTask, Labelled

logger = logging.getLogger(__name__)
COLUMNS = (
    "dataset",
    "method",
    "shots",
    "seed",
    "top1",
    "top5",
    "fit_seconds",
    "predict_seconds",
    "hyperparameters",
)


@dataclass(frozen=True)
class Problem:
    """One data set at one shot count and seed.

    Attributes:
        dataset: Its name.
        shots: Photos per class.
        seed: For everything random.
        fingerprint: Of all that its features depend on.
        task: What methods are given.
        test: The queries and their labels, which are the scorer's alone.
        unseen: Share of the classes, the last ones, whose shots are taken away.
    """

    dataset: str
    shots: int
    seed: int
    fingerprint: str
    task: FewShotTask
    test: Labelled
    unseen: float = 0.0


def feature_problems(
    paths: Sequence[str], shots: Sequence[int], seeds: Sequence[int], *, resample: bool = False
) -> list[Problem]:
    """The problems that feature files hold.

    Args:
        paths: Of the files.
        shots: Shot counts wanted; empty for all that a file has.
        seeds: Seeds, for everything random in a method.
        resample: Whether each seed draws its own shots from the file's largest training set; else the file's are
            taken as they are.

    Raises:
        DataError: a file is faulty, or has none of the shot counts wanted.
    """
    problems = []
    for path in paths:
        content = read_feature_file(path)
        counts = [count for count in content.tasks if not shots or count in shots]
        if not counts:
            raise DataError(
                f"{path} has no task of {', '.join(map(str, shots))} shots.",
                f"It has {', '.join(map(str, content.tasks))}.",
            )
        for count in counts:
            for seed in seeds:
                task = _draw(content.tasks, count, seed) if resample else content.tasks[count]
                task = replace(task, validation=content.validation)
                fingerprint = content.sha256 + (" resampled" if resample else "")
                problems.append(Problem(content.name, count, seed, fingerprint, task, content.test))
    return problems


def _draw(tasks: Mapping[int, FewShotTask], shots: int, seed: int) -> FewShotTask:
    """So many shots per class, drawn from the largest training set."""
    pool = tasks[max(tasks)]
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(pool.support_labels == label))[:shots] for label in pool.seen]
    return pool.keep(np.sort(np.concatenate(rows)))


def without_shots(task: FewShotTask, share: float) -> FewShotTask:
    """The task without the shots of the last classes: a share of them, rounded down, but one at least has some."""
    first = max(1, task.num_classes - int(share * task.num_classes))
    return task.keep(task.support_labels < first)


def choose_methods(names: str, task: FewShotTask) -> list[str]:
    """The methods that a list names.

    Args:
        names: Names separated by commas. "all" stands for the methods that work on features, "encoder" for those that
            train through CLIP and take far longer.
        task: Decides which of "all" can run: those that need what the task lacks are left out, and logged.

    Raises:
        UsageError: an unknown name.
    """
    chosen = []
    for name in names.split(","):
        if name.strip() == "all":
            chosen += _on_features(task)
        elif name.strip() == "encoder":
            chosen += [each for each in available() if "encoder" in get(each).meta.needs]
        else:
            chosen.append(get(name.strip()).meta.name)
    return list(dict.fromkeys(chosen))


def _on_features(task: FewShotTask) -> list[str]:
    """The methods on features that have what they need."""
    chosen = []
    for name in available():
        needs = get(name).meta.needs
        if "auxiliary" in needs and task.auxiliary is None:
            logger.info("%s is left out: it needs a second backbone's features", name)
        elif "text" in needs and not task.has_text:
            logger.info("%s is left out: it needs texts", name)
        elif "encoder" not in needs:
            chosen.append(name)
    return chosen


def run_cell(name: str, problem: Problem, selection: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Choose, fit, score one method on one problem.

    Args:
        name: Of the method.
        problem: The problem.
        selection: One of SELECTIONS.
        given: Hyper-parameters that are fixed.

    Returns:
        The cell: COLUMNS and how the hyper-parameters came about.
    """
    task, test = problem.task, problem.test
    if problem.unseen:
        task = without_shots(task, problem.unseen)
    started = time.perf_counter()
    choice = choose(selection, name, task, seed=problem.seed, given=given)
    chosen = time.perf_counter()
    if selection != "validation":  # some methods look at it by themselves
        task = replace(task, validation=None)
    method = create(name, seed=problem.seed, **choice.values).fit(task)
    fitted = time.perf_counter()
    logits = method.logits(test.queries)
    predicted = time.perf_counter()
    groups = seen_and_unseen(logits, test.labels, task.seen) if problem.unseen else {}
    return {
        "dataset": problem.dataset,
        "method": name,
        "shots": problem.shots,
        "seed": problem.seed,
        "top1": 100 * accuracy(logits, test.labels, 1),
        "top5": 100 * accuracy(logits, test.labels, min(5, logits.shape[1])),
        "fit_seconds": fitted - chosen,
        "predict_seconds": predicted - fitted,
        "hyperparameters": method.hyper.as_dict(),
        "select_seconds": chosen - started,
        "selected_on": choice.source,
        "selection_accuracy": None if choice.candidates == 0 else 100 * choice.accuracy,
        "candidates": choice.candidates,
        "transductive": method.meta.transductive,
        "queries": len(test.labels),
        **groups,
    }


def run_benchmark(
    problems: Iterable[Problem], methods: str, cells: Path, *, selection: str, given: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Run every method on every problem, taking finished cells from their files.

    Args:
        problems: The problems.
        methods: As `choose_methods` takes them; "all" may be fewer on one problem than on another.
        cells: Folder of the cells' JSON files.
        selection: One of SELECTIONS.
        given: Hyper-parameters that are fixed, for every method that has them.

    Returns:
        The cells, in the order of the problems and methods.
    """
    if selection not in SELECTIONS:
        raise UsageError(f"--select {selection} is not known.", f"Known are: {', '.join(SELECTIONS)}.")
    jobs = [(problem, name) for problem in problems for name in choose_methods(methods, problem.task)]
    results = []
    with tqdm(jobs, desc="benchmark", unit="cell") as bar:
        for problem, name in bar:
            bar.set_postfix_str(f"{problem.dataset} {problem.shots}-shot {name}")
            fixed = {key: value for key, value in given.items() if key in get(name).Hyper.__dataclass_fields__}
            path = cells / f"{_key(problem, name, selection, fixed)}.json"
            results.append(finished_cell(path) or _computed(path, run_cell(name, problem, selection, fixed)))
    return results


def finished_cell(path: Path) -> dict[str, Any]:
    """A finished cell; empty where there is none, or only a damaged one, which is logged.

    Args:
        path: Of its file.
    """
    if not path.is_file():
        return {}
    try:
        return read_sealed_json(path)
    except DataError:
        logger.warning("%s is damaged: its cell is computed again", path)
        return {}


def _computed(path: Path, cell: dict[str, Any]) -> dict[str, Any]:
    write_sealed_json(path, cell)
    return read_sealed_json(path)


def _key(problem: Problem, name: str, selection: str, given: Mapping[str, Any]) -> str:
    """A cell's file name: readable, and ending in a digest of all that its numbers depend on."""
    code = code_digest(get(name).__module__)
    values = json.dumps(given, sort_keys=True, default=str)
    facts = [problem.fingerprint, str(problem.unseen), code, selection, values, __version__]
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    return f"{problem.dataset}-{problem.shots}shot-seed{problem.seed}-{name}-{digest}"
