"""What the page shows and does: predictions of all photos, training on the labelled ones, what that gained.

One thread computes (`step`), as Jittor needs the main one; requests of the page are answered by others.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.calibration import Calibration, certainty
from jclip_adapter.core.errors import AdapterError, UsageError
from jclip_adapter.core.problems import counted
from jclip_adapter.core.task import Array, FewShotTask, chunks
from jclip_adapter.data.sets import ImageSet
from jclip_adapter.evaluation.calibration import ENOUGH, calibration_on, estimate, held_out
from jclip_adapter.evaluation.metrics import top_k_ids
from jclip_adapter.features.task_encoder import TaskEncoder
from jclip_adapter.methods import Method, available, create, get
from jclip_adapter.methods.training.folds import folds

from .library import READY, UNREADABLE, WAITING, Library
from .project import Project

TOP = 5
SHOTS = 20
"""Photos per class that a training takes at most, unless --shots says otherwise."""
_ROWS = 4096  # photos whose probabilities are computed at once


@dataclass(frozen=True)
class Fitted:
    """A trained method.

    Attributes:
        method: The fitted method.
        tasks: Networks and classes.
        task: The task that it was fitted to.
        shots: The numbers of its N shots.
        labels: (N,) their class indices.
    """

    method: Method
    tasks: TaskEncoder
    task: FewShotTask
    shots: tuple[int, ...]
    labels: npt.NDArray[np.int64]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that it tells apart."""
        return self.tasks.class_names


@dataclass
class Table:
    """Predictions of N photos; rows without a prediction have NaN as certainty.

    Attributes:
        classes: The classes that `best` counts.
        best: (N, k) class indices, best first.
        probabilities: (N, k) of these classes.
        certainty: (N,) as `core.calibration.certainty`.
        old: (N,) whether the row has to be computed again.
    """

    classes: tuple[str, ...]
    best: npt.NDArray[np.int64]
    probabilities: Array
    certainty: Array
    old: npt.NDArray[np.bool_]


def _no_predictions(rows: int, classes: tuple[str, ...] = ()) -> Table:
    top = min(TOP, len(classes))
    return Table(
        classes,
        np.zeros((rows, top), dtype=np.int64),
        np.zeros((rows, top), dtype=np.float32),
        np.full(rows, np.nan, dtype=np.float32),
        np.ones(rows, dtype=bool),
    )


class Session:
    """The state of the page.

    Args:
        project: Classes and labels.
        library: Photos and features.
        tasks: Networks and prompts; its classes are replaced by the project's.
        images: The data set.
        method: The method to train.
        shots: Photos per class that a training takes at most.
        seed: Seed of the choice of the shots, and of the training.
        save: Writes the run folder of a trained method, or says why it cannot.

    Attributes:
        lock: Held while the state is read or changed.
        version: Counts the changes of the state.
        doing: What is computed, in words; empty for nothing.
        error: Why the last step failed; empty for no failure.
        method: The method to train.
        fitted: The trained method; None before.
        report: What the training gained, as numbers.
        table: The predictions.
    """

    def __init__(
        self,
        project: Project,
        library: Library,
        tasks: TaskEncoder,
        images: ImageSet,
        *,
        method: str = "auto",
        shots: int = SHOTS,
        seed: int = 0,
        save: Callable[[Fitted], str] | None = None,
    ) -> None:
        self.project, self.library, self.images = project, library, images
        self._tasks, self._shots, self._seed, self._save = tasks, shots, seed, save
        self._domains = {info.name: info.domain for info in images.classes}
        self.lock = threading.RLock()
        self._wake = threading.Event()
        self.version, self.doing, self.error = 1, "", ""
        self.method = method
        self.fitted: Fitted | None = None
        self.report: dict[str, Any] = {}
        self.table = _no_predictions(0)
        self._wanted = self._uncalibrated = False

    # What the threads of the page call.

    def changed(self) -> None:
        """Note that photos, classes or labels were changed."""
        with self.lock:
            self.version += 1
            self.error = ""
        self._wake.set()

    def train(self, method: str) -> None:
        """Ask for a training.

        Raises:
            UsageError: there is no such method, or it needs what the page does not have.
        """
        if method not in self.methods():
            get(method)
            raise UsageError(f"{method} needs more than the page has.", "Use `jclip-adapter train`.")
        with self.lock:
            if not self._counts()[0]:
                raise UsageError("no photo has a label yet.", "Select photos and assign them to a class first.")
            self.project.note_training(method)
            self.method, self._wanted = method, True
        self.changed()

    def take_up(self) -> None:
        """Train again what was trained when the project was last open."""
        if self.project.trained and self._counts()[0]:
            self.method, self._wanted = self.project.trained, True
            self.changed()

    def methods(self) -> list[str]:
        """Names of the methods that `train` takes."""
        offered = {"support", *(["text"] if self._tasks.encoder.has_text else [])}
        return [name for name in available() if set(get(name).meta.needs) <= offered]

    def label_of(self, number: int) -> str | None:
        """Class name of a photo, "" for none of the classes, None without a label."""
        return self.project.labels.get(self.library.items[number].name)

    def state(self) -> dict[str, Any]:
        """What the page shows beside the photos."""
        with self.lock:
            labelled, none = self._counts()
            per_class = self._per_class()
            photos = self.library
            return {
                "version": self.version,
                "classes": [{"name": name, "count": per_class.get(name, 0)} for name in self.project.classes],
                "photos": len(photos.items),
                "labelled": labelled,
                "none": none,
                "unlabelled": sum(not item.test and item.name not in self.project.labels for item in photos.items),
                "waiting": photos.waiting,
                "unreadable": int((photos.state == UNREADABLE).sum()),
                "test": sum(item.test for item in photos.items),
                "doing": self.doing,
                "error": self.error,
                "method": self.method,
                "report": self.report,
                "undo": self.project.last,
                "text": self._tasks.encoder.has_text,
                "trained": self.fitted is not None,
                "result": self.can_submit,
            }

    @property
    def can_submit(self) -> bool:
        """Whether the data set is the contest's, so that its result file can be written."""
        return self.images.layout == "contest" and bool(self.images.test)

    def order(self, show: str, sort: str) -> list[int]:
        """Numbers of the photos to show.

        Args:
            show: "all", "unlabelled", "none", "test", "unreadable", "differs" (label and prediction), or "class:NAME".
            sort: "uncertain", least certain first; "class", by label or prediction; or "name".
        """
        with self.lock:
            self._grow()
            items, labels = self.library.items, self.project.labels
            if show.startswith("class:"):
                wanted = [n for n, item in enumerate(items) if labels.get(item.name) == show.removeprefix("class:")]
            else:
                wanted = [n for n in range(len(items)) if self._shown(n, show)]
            if sort == "name":
                return wanted
            sure = np.nan_to_num(self.table.certainty.astype(np.float64), nan=1.0)
            if sort == "class":
                return sorted(wanted, key=lambda n: (self._class_key(n), -sure[n], n))
            return sorted(wanted, key=lambda n: (sure[n], n))

    def _shown(self, number: int, show: str) -> bool:
        item, label = self.library.items[number], self.label_of(number)
        return {
            "all": True,
            "unlabelled": not item.test and label is None,
            "none": label == "",
            "test": item.test,
            "unreadable": bool(self.library.state[number] == UNREADABLE),
            "differs": bool(label) and bool(self.predicted(number)) and label != self.predicted(number),
        }.get(show, False)

    def _class_key(self, number: int) -> int:
        label = self.label_of(number)
        name = self.predicted(number) if label is None else label
        return self.project.classes.index(name) if name in self.project.classes else len(self.project.classes)

    def predicted(self, number: int) -> str:
        """The class predicted for a photo; empty without a prediction."""
        if number >= len(self.table.certainty) or np.isnan(self.table.certainty[number]):
            return ""
        return self.table.classes[self.table.best[number, 0]]

    def details(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """What the page shows of some photos."""
        with self.lock:
            self._grow()
            return [self._detail(number) for number in numbers if 0 <= number < len(self.library.items)]

    def _detail(self, number: int) -> dict[str, Any]:
        table, item = self.table, self.library.items[number]
        known = not np.isnan(table.certainty[number])
        best = [
            [table.classes[index], round(float(share), 4)]
            for index, share in zip(table.best[number].tolist(), table.probabilities[number], strict=True)
        ]
        return {
            "id": number,
            "name": item.name,
            "test": item.test,
            "label": self.label_of(number),
            "best": best if known else [],
            "why": self.library.why.get(number, ""),
        }

    def _counts(self) -> tuple[int, int]:
        """Number of photos with a class, and of those of none of the classes."""
        there = [label for name, label in self.project.labels.items() if name in self.library.numbers]
        return sum(map(bool, there)), sum(not label for label in there)

    def _per_class(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for name, label in self.project.labels.items():
            if name in self.library.numbers:
                found[label] = found.get(label, 0) + 1
        return found

    # What the computing thread calls.

    def wait(self) -> None:
        """Wait until there may be something to compute."""
        self._wake.wait()
        self._wake.clear()

    def step(self) -> bool:
        """Compute the next part: a training, predictions, its estimate, or features.

        Returns:
            Whether there was something to do.
        """
        try:
            return self._step()
        except AdapterError as error:
            with self.lock:
                self.error, self._wanted, self._uncalibrated = str(error), False, False
                self.version += 1
            return False
        finally:
            self.doing = ""

    def _step(self) -> bool:
        missing = self._labelled_waiting() if self._wanted else []
        if self._wanted and not missing:
            self._wanted = False
            self._train()
        elif self._predict():
            pass
        elif self._uncalibrated:
            self._uncalibrated = False
            self._estimate()
        elif self.library.waiting:
            self.doing = f"encoding: {counted(self.library.waiting, 'photo')} left"
            ready = self.library.encode_part(missing)
            with self.lock:
                self._grow()
                self.table.old[ready] = True
        else:
            return False
        with self.lock:
            self.version += 1
        return True

    def _labelled_waiting(self) -> list[int]:
        """Numbers of the photos with a class that have no features yet."""
        with self.lock:
            numbers = np.flatnonzero(self.library.state == WAITING).tolist()
            return [number for number in numbers if self.label_of(number)]

    def _train(self) -> None:
        """Fit the method to the labelled photos."""
        self.doing = f"training {self.method}"
        with self.lock:
            tasks, (shots, labels) = self._with_classes(), self._support()
        if not len(shots):
            raise UsageError("no labelled photo can be read yet.", "Wait until they are encoded.")
        task = tasks.task_of(self.library.features(shots), labels, seed=self._seed)
        method = create(self.method, seed=self._seed).fit(task)
        if self.fitted is not None and not method.meta.transductive:
            method.calibration_ = Calibration(self.fitted.method.calibration_.temperature)  # until the estimate
        with self.lock:
            self.fitted = Fitted(method, tasks, task, tuple(shots), labels)
            self.table = _no_predictions(len(self.library.items), tasks.class_names)
            self._uncalibrated = True
            before = self.report.get("after")
            self.report = {"method": self.method, "shots": len(shots), "classes": len(np.unique(labels))}
            if before:
                self.report["last"] = before

    def _estimate(self) -> None:
        """Accuracy on held-out shots before and after the training, and calibrated probabilities."""
        fitted = self.fitted
        assert fitted is not None  # noqa: S101  (for the type checker)
        self.doing = "estimating the accuracy on held-out shots"
        found: dict[str, Any] = {}
        held = held_out(fitted.method, fitted.task)
        if held is not None:
            fitted.method.calibration_ = calibration_on(held)
            known = estimate(fitted.method.calibration_)
            if known is not None:
                found["after"] = 100 * known.top1
                found["interval"] = [100 * known.low, 100 * known.high]
                found["held_out"] = known.held_out
                found["before"] = 100 * _baseline_top1(fitted.task)
                found["baseline"] = fitted.tasks.baseline
        self.doing = "writing the run folder"
        found["run"] = self._save(fitted) if self._save else "this session writes no run folder"
        with self.lock:
            self.report = {**self.report, **found}
            self.table.old[:] = True

    def _support(self) -> tuple[list[int], npt.NDArray[np.int64]]:
        """The shots: of each class those labelled on the page first, then others in an order drawn by the seed."""
        items, labels = self.library.items, self.project.labels
        place = {name: index for index, name in enumerate(self.project.classes)}
        groups: dict[int, list[int]] = {}
        for number in np.flatnonzero(self.library.state == READY).tolist():
            index = place.get(labels.get(items[number].name, ""))
            if index is not None and not items[number].test:
                groups.setdefault(index, []).append(number)
        shots: list[int] = []
        found: list[int] = []
        for index in sorted(groups):
            drawn = np.random.default_rng([self._seed, index]).permutation(groups[index]).tolist()
            chosen = sorted(drawn, key=lambda n: items[n].name not in self.project.touched)[: self._shots]
            shots += sorted(chosen)
            found += [index] * len(chosen)
        return shots, np.array(found, dtype=np.int64)

    def _with_classes(self) -> TaskEncoder:
        """The networks with the project's classes."""
        names = self.project.classes
        return dataclasses.replace(
            self._tasks, class_names=names, domains=tuple(self._domains.get(name, "") for name in names)
        )

    def _grow(self) -> None:
        """Add rows for new photos to the predictions."""
        more = len(self.library.items) - len(self.table.old)
        if more > 0:
            old, fresh = self.table, _no_predictions(more, self.table.classes)
            self.table = Table(
                old.classes,
                np.concatenate([old.best, fresh.best]),
                np.concatenate([old.probabilities, fresh.probabilities]),
                np.concatenate([old.certainty, fresh.certainty]),
                np.concatenate([old.old, fresh.old]),
            )

    def _predict(self) -> bool:
        """Predict the photos whose features or method are new; returns whether there were any."""
        with self.lock:
            self._grow()
            if self.fitted is None and not self._begin_baseline():
                return False
            table, fitted = self.table, self.fitted
            ready = self.library.state == READY
            rows = np.flatnonzero(ready & table.old)
            if fitted is not None and fitted.method.meta.transductive and len(rows):
                if self.library.waiting and not np.isnan(table.certainty).all():
                    return False  # it takes all photos together: once, when the last is encoded
                rows = np.flatnonzero(ready)
        if not len(rows):
            return False
        self.doing = f"classifying {counted(len(rows), 'photo')}"
        logits = self.scores(rows)
        found = (Calibration() if fitted is None else fitted.method.calibration_).probabilities
        top = table.best.shape[1]
        with self.lock:
            for part in chunks(np.arange(len(rows)), _ROWS):
                shares = found(logits[part])
                best = top_k_ids(logits[part], top)
                at = rows[part]
                table.best[at] = best
                table.probabilities[at] = np.take_along_axis(shares, best, axis=1)
                table.certainty[at] = certainty(shares)
                table.old[at] = False
        return True

    def _begin_baseline(self) -> bool:
        """Before a training: set up the classes' texts, or the means of their photos; False without either."""
        classes = self.project.classes
        shots: tuple[list[int], npt.NDArray[np.int64]] = ([], np.zeros(0, dtype=np.int64))
        if not self._tasks.encoder.has_text:
            shots = self._support()
        depends = (classes, tuple(shots[0]), tuple(shots[1].tolist()))
        if len(classes) < 2 or not (self._tasks.encoder.has_text or shots[0]):
            self._baseline_of: Any = None
            self.table = _no_predictions(len(self.library.items))
            return False
        if getattr(self, "_baseline_of", None) != depends:
            self._baseline_of = depends
            task = self._with_classes().task_of(self.library.features(shots[0]), shots[1])
            self._baseline: FewShotTask = task
            self.table = _no_predictions(len(self.library.items), classes)
        return True

    def scores(self, rows: npt.NDArray[np.int64]) -> Array:
        """(n, C) logits of photos by the trained method, or by the baseline before a training."""
        photos = self.library.features(rows.tolist())
        if self.fitted is None:
            return _baseline_logits(self._baseline, photos.normalised)
        return self.fitted.method.logits(self.fitted.tasks.queries(photos))


def _baseline_logits(task: FewShotTask, features: Array) -> Array:
    """(M, C) logits of zero-shot, or of the nearest class mean where the network has no texts."""
    return np.asarray(task.logit_scale * (features @ task.text_features.T), dtype=np.float32)


def _baseline_top1(task: FewShotTask) -> float:
    """Top-1 of the baseline on the shots that `held_out` holds out."""
    hits: list[bool] = []
    for part, held in folds(task):
        if len(hits) >= ENOUGH:
            break
        found = _baseline_logits(part, held.queries.features).argmax(axis=1)
        hits += (found == held.labels).tolist()
    return float(np.mean(hits)) if hits else 0.0
