"""The ImageNet-ESC benchmark: photos classified with the help of sounds, and sounds with the help of photos.

Lin et al., "Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models", CVPR 2023
(arXiv:2301.06267), section 6. Linear classifiers are trained on frozen features: AdamW for 12,800 iterations on batches
of 8, a grid of learning rates and weight decays, and the iteration and the grid's point with the best validation
accuracy, of equals the first.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jclip_adapter.core.console import progress
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import Array, class_means, normalise
from jclip_adapter.data.texts.imagenet_esc import SIZES
from jclip_adapter.features.imagenet_esc import FOLDS, EscFeatures, Rows, Split
from jclip_adapter.storage import KEPT, write_checked_json

from .benchmark import finished_cell
from .provenance import code_digest
from .report import markdown_table

logger = logging.getLogger(__name__)
ITERATIONS = 12_800
SHOTS = (1, 2, 4)
TASKS = ("image", "audio")
GRID = tuple(itertools.product((0.1, 0.01, 0.001, 0.0001), (0.0, 0.01, 0.0001)))  # learning rates and weight decays
COLUMNS = ("classes", "task", "rows", "start", "shots", "top1", "std", "runs", "published")
_SCALE = float(np.exp(4.60517))
_BATCH = 8
_EVERY = 100  # iterations from one validation to the next
_CODE = ("jclip_adapter.evaluation.imagenet_esc", "jclip_adapter.methods.training.many_heads")
# Published means in percent, by classes, task and training rows, for 1, 2 and 4 shots.
PUBLISHED = {
    (19, "image", "own"): (68.0, 75.7, 83.1),
    (19, "image", "own, other"): (69.3, 76.7, 83.2),
    (27, "image", "own"): (60.1, 71.8, 79.0),
    (27, "image", "own, other"): (60.9, 73.3, 78.9),
    (19, "audio", "own"): (31.2, 41.1, 48.5),
    (19, "audio", "own, other"): (35.7, 45.9, 51.6),
    (27, "audio", "own"): (28.2, 39.0, 47.1),
    (27, "audio", "own, other"): (35.0, 43.5, 48.5),
}


class Way(NamedTuple):
    """A way to train.

    Attributes:
        rows: "own" for shots alone, else the modalities in a batch, half of which are shots.
        start: Initial weights: "random", or class means of the named rows.
    """

    rows: str
    start: str

    @property
    def varies(self) -> bool:
        """Whether its runs on one split differ: by the random start, or by the other modality's rows."""
        return self.start == "random" or "other" in self.rows


WAYS = (
    Way("own", "random"),
    Way("own", "text"),
    Way("own, other", "other"),
    Way("own, text", "text"),
    Way("own, other, text", "other, text"),
)


class Run(NamedTuple):
    """One run of a way on a split, with the rows that it may use.

    Attributes:
        way: The way.
        number: 1 to 5, the seed of the photos or the fold of the sounds that are the other modality's.
        other: One row per class of the other modality.
        text: One row per class.
    """

    way: Way
    number: int
    other: Rows
    text: Rows


UNTRAINED = ("text", "own", "other")  # class means as classifiers


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        shots: Shot counts.
        iterations: Training steps.
        grid: Pairs of learning rate and weight decay, in the order of preference among equals.
        seed: Seed of the batches and random starts.
    """

    shots: tuple[int, ...] = SHOTS
    iterations: int = ITERATIONS
    grid: tuple[tuple[float, float], ...] = GRID
    seed: int = 1


class Cell(NamedTuple):
    """The trainings of one split: classes, task, shots and number of the split."""

    classes: int
    task: str
    shots: int
    split: int

    def __str__(self) -> str:
        return f"{self.classes} classes, {self.task}, {self.shots}-shot, split {self.split}"


def run_protocol(features: EscFeatures, plan: Plan, cells: Path) -> list[dict[str, Any]]:
    """Run the benchmark; finished cells are read from their files.

    Args:
        features: The features.
        plan: What is run.
        cells: Folder of the cells' JSON files.

    Returns:
        A row per number of classes, task, way and shot count, with COLUMNS; accuracies in percent, their mean and
        population standard deviation over splits and runs.

    Raises:
        DataError: there are no photos for a shot count, or too few sounds in a fold.
    """
    _check(features, plan)
    jobs = [Cell(*job) for job in itertools.product(SIZES, TASKS, plan.shots, FOLDS)]
    outcomes: dict[tuple[int, str, int], list[dict[str, Any]]] = {}
    facts = [features.sha256, plan.iterations, plan.grid, plan.seed, code_digest(*_CODE)]
    with progress(jobs, desc="ImageNet-ESC", unit="split") as bar:
        for job in bar:
            bar.set_postfix_str(str(job))
            digest = hashlib.sha256(json.dumps([*facts, job]).encode()).hexdigest()[:16]
            path = cells / f"imagenet-esc-{job.classes}-{job.task}-{job.shots}shot-split{job.split}-{digest}.json"
            cell = finished_cell(path)
            if not cell:
                cell = run_cell(features.of_classes(job.classes), job, plan)
                write_checked_json(path, cell, KEPT)
            outcomes.setdefault(job[:3], []).append(cell)
    return _table_rows(outcomes)


def _check(features: EscFeatures, plan: Plan) -> None:
    for shots in plan.shots:
        if f"image_train{shots}_seed1" not in features.parts:
            raise DataError(f"there are no photos of {shots} shots.", "Give other --shots.")
        for fold in FOLDS:
            least = int(np.bincount(features.parts[f"audio_fold{fold}"].labels).min())
            if least < 2 * shots:
                raise DataError(
                    f"fold {fold} has a class of {least} sounds, expected {shots} to train and {shots} to validate.",
                    "Give fewer --shots.",
                )


def run_cell(features: EscFeatures, cell: Cell, plan: Plan) -> dict[str, Any]:
    """Train all ways of a split, with every run and point of the grid.

    Args:
        features: The features of the cell's classes.
        cell: The split.
        plan: What is run.

    Returns:
        "trained": the test accuracy of each way's runs, by "ROWS from START"; "untrained": that of class means;
        "trainings": every training with its rows, start, run, rate, decay, best iteration and accuracies.
    """
    split = features.split(cell.task, cell.split, cell.shots)
    others = {number: features.beside(cell.task, number) for number in FOLDS}
    text = Rows(features.text, np.arange(cell.classes))
    runs = [Run(way, number, others[number], text) for way in WAYS for number in (FOLDS if way.varies else FOLDS[:1])]
    trainings = _train(split, runs, cell, plan)
    trained: dict[str, list[float]] = {}
    for place, (way, *_) in enumerate(runs):
        of_run = trainings[place * len(plan.grid) :][: len(plan.grid)]
        best = max(of_run, key=lambda each: float(each["val"]))  # the first of equals
        trained.setdefault(f"{way.rows} from {way.start}", []).append(best["test"])
    untrained = {
        "text": [_accuracy(text.features, split.test)],
        "own": [_accuracy(_means(split.train, cell.classes), split.test)],
        "other": [_accuracy(_means(rows, cell.classes), split.test) for rows in others.values()],
    }
    return {"trained": trained, "untrained": untrained, "trainings": trainings}


def _named(names: str, other: Rows, text: Rows) -> Rows | None:
    """The rows of "other" and "text" among names; None for neither."""
    parts = [rows for name, rows in (("other", other), ("text", text)) if name in names]
    return Rows(*(np.concatenate(each) for each in zip(*parts, strict=True))) if parts else None


def _train(split: Split, runs: Sequence[Run], cell: Cell, plan: Plan) -> list[dict[str, Any]]:
    """Train each run at every point of the grid, all at once."""
    from jclip_adapter.methods.training.layers import linear_weight
    from jclip_adapter.methods.training.many_heads import ManyHeads, seeded_order, train_heads
    from jclip_adapter.methods.training.optimizers import warmup_cosine

    own, steps, width = split.train, plan.iterations, split.train.features.shape[1]
    starts, orders, pools, place = [], [], [], len(own.labels)
    for run in runs:
        known = _named(run.way.start, run.other, run.text)
        rng = np.random.default_rng([plan.seed, cell.split, run.number])
        starts.append(_means(known, cell.classes) if known else linear_weight(rng, width, cell.classes))
        pool = _named(run.way.rows, run.other, run.text)
        order = seeded_order(len(own.labels), _BATCH // 2 if pool else _BATCH, steps, plan.seed, 1)
        if pool:
            second = place + seeded_order(len(pool.labels), _BATCH // 2, steps, plan.seed, 2)
            order = np.concatenate([order, second], axis=1)
            place += len(pool.labels)
            pools.append(pool)
        orders.append(order.astype(np.int32))
    rows, labels = (np.concatenate(parts) for parts in zip(own, *pools, strict=True))
    points = len(plan.grid)
    rates = np.array([[warmup_cosine(step, lr, steps) for step in range(steps)] for lr, _ in plan.grid], np.float32)
    heads = ManyHeads(
        np.repeat(np.stack(starts), points, axis=0),
        rows,
        labels,
        np.tile([decay for _, decay in plan.grid], len(runs)),
        _SCALE,
    )
    orders_of_all = np.repeat(np.stack(orders), points, axis=0)
    curves = train_heads(heads, orders_of_all, np.tile(rates, (len(runs), 1)), split.val, split.test, _EVERY)
    facts = zip(itertools.product(runs, plan.grid), curves.iteration, curves.val, curves.test, strict=True)
    return [
        {
            "rows": run.way.rows,
            "start": run.way.start,
            "run": run.number,
            "lr": lr,
            "weight_decay": decay,
            "iteration": int(iteration),
            "val": float(val),
            "test": float(test),
        }
        for (run, (lr, decay)), iteration, val, test in facts
    ]


def _means(rows: Rows, classes: int) -> Array:
    """(C, d) normalised class means."""
    return normalise(class_means(rows.features, rows.labels, classes))


def _accuracy(weights: Array, test: Rows) -> float:
    return float(((test.features @ weights.T).argmax(axis=1) == test.labels).mean())


def _table_rows(outcomes: dict[tuple[int, str, int], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    found = []
    for (classes, task, shots), cells in outcomes.items():
        names = [*(("none", name) for name in UNTRAINED), *WAYS]
        for rows, start in names:
            part, key = ("untrained", start) if rows == "none" else ("trained", f"{rows} from {start}")
            # Where the runs of a split do not differ, one of them stands for all.
            values = 100 * np.concatenate([cell[part][key] for cell in cells])
            known = PUBLISHED.get((classes, task, rows)) if start in ("random", "other") and shots in SHOTS else None
            found.append(
                {
                    "classes": classes,
                    "task": task,
                    "rows": rows,
                    "start": start,
                    "shots": shots,
                    "top1": float(values.mean()),
                    "std": float(values.std()),
                    "runs": len(values),
                    "published": known[SHOTS.index(shots)] if known else "",
                }
            )
    return found


def protocol_tables(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of `run_protocol` as Markdown: a table per task and number of classes, shot counts as columns."""
    texts = []
    for task, classes in itertools.product(TASKS, SIZES):
        mine = [row for row in rows if (row["task"], row["classes"]) == (task, classes)]
        counts = sorted({row["shots"] for row in mine})
        own, other = ("photos", "sounds") if task == "image" else ("sounds", "photos")
        header = ["trained on", "starts at", *(f"{count}-shot" for count in counts), "published"]
        lines = []
        for rows_, start in dict.fromkeys((row["rows"], row["start"]) for row in mine):
            cells = [row for row in mine if (row["rows"], row["start"]) == (rows_, start)]
            known = " / ".join(f"{row['published']:.1f}" for row in cells if row["published"] != "")
            words = [text.replace("own", own).replace("other", other) for text in (rows_, start)]
            figures = [f"{row['top1']:.1f} ± {row['std']:.1f}" for row in cells]
            lines.append([words[0].replace("none", "–"), words[1], *figures, known or "–"])
        texts.append(f"### {own.capitalize()}, {classes} classes\n\n{markdown_table(header, lines)}")
    return "\n\n".join(texts)
