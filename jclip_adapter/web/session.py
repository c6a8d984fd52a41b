"""What the page shows and does: predictions of all photos, training on the labelled ones, what that gained.

One thread computes (`step`), as Jittor needs the main one; requests of the page are answered by others.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.calibration import Calibration
from jclip_adapter.core.errors import AdapterError, UsageError
from jclip_adapter.core.problems import counted
from jclip_adapter.core.task import Array, FewShotTask
from jclip_adapter.data.sets import ImageSet
from jclip_adapter.evaluation.calibration import ENOUGH, calibration_on, estimate, held_out
from jclip_adapter.features.task_encoder import TaskEncoder
from jclip_adapter.methods import Method, available, create, get
from jclip_adapter.methods.training.folds import folds

from .library import READY, WAITING, Library
from .project import Project
from .table import Table

SHOTS = 20
"""Photos per class that a training takes at most, unless --shots says otherwise."""
_MOST_KEPT = 200_000_000  # bytes of logits that are kept until the calibration is there


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
        shown: The last `view.state`.
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
        self.shown: dict[str, Any] = {}
        self.table = Table.empty(0)
        self._wanted = self._uncalibrated = False
        self._kept: tuple[Fitted | None, npt.NDArray[np.int64], Array] | None = None
        self._baseline: FewShotTask | None = None
        self._baseline_of: object = None

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
            if not self._has_shots():
                raise UsageError("no photo has a label yet.", "Select photos and assign them to a class first.")
            self.project.note_training(method)
            self.method, self._wanted = method, True
        self.changed()

    def take_up(self) -> None:
        """Train again what was trained when the project was last open."""
        if self.project.trained and self._has_shots():
            self.method, self._wanted = self.project.trained, True
            self.changed()

    def methods(self) -> list[str]:
        """Names of the methods that `train` takes."""
        offered = {"support", *(["text"] if self._tasks.encoder.has_text else [])}
        return [name for name in available() if set(get(name).meta.needs) <= offered]

    def label_of(self, number: int) -> str | None:
        """Class name of a photo, "" for none of the classes, None without a label."""
        return self.project.labels.get(self.library.items[number].name)

    def _has_shots(self) -> bool:
        """Whether a photo has a class."""
        return any(label and name in self.library.numbers for name, label in self.project.labels.items())

    @property
    def can_submit(self) -> bool:
        """Whether the data set is the contest's, so that its result file can be written."""
        return self.images.layout == "contest" and bool(self.images.test)

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
                self.table.grow(len(self.library.items))
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
            self._begin_table(tasks.class_names)
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

    def _begin_table(self, classes: tuple[str, ...]) -> None:
        """Have all photos predicted again; their older predictions stay meanwhile if the classes are the same."""
        if self.table.classes == classes:
            self.table.old[:] = True
        else:
            self.table = Table.empty(len(self.library.items), classes)

    def _predict(self) -> bool:
        """Predict the photos whose features or method are new; returns whether there were any."""
        if self.fitted is None and not self._begin_baseline():
            return False
        with self.lock:
            self.table.grow(len(self.library.items))
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
        logits = self._logits_again(rows)
        with self.lock:
            table.fill(rows, logits, Calibration() if fitted is None else fitted.method.calibration_)
        return True

    def _logits_again(self, rows: npt.NDArray[np.int64]) -> Array:
        """As `_scores`; those of the last call if only the calibration is new, for which they are kept."""
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] is self.fitted and np.array_equal(kept[1], rows):
            return kept[2]
        logits = self._scores(rows)
        if self._uncalibrated and logits.nbytes < _MOST_KEPT:
            self._kept = (self.fitted, rows, logits)
        return logits

    def _begin_baseline(self) -> bool:
        """Before a training: set up the classes' texts, or the means of their photos; False without either."""
        text = self._tasks.encoder.has_text
        with self.lock:
            tasks, (shots, labels) = self._with_classes(), self._support()
        if text:
            shots, labels = [], labels[:0]
        depends: object = (tasks.class_names, shots, labels.tolist())
        found: FewShotTask | None = None
        if len(tasks.class_names) < 2 or not (text or shots):
            depends = None
        elif self._baseline_of == depends:
            return True
        else:  # not with the lock: the first texts wait for Jittor and for CLIP's weights
            self.doing = "classifying by the names" if text else "classifying by the labelled photos"
            found = tasks.task_of(self.library.features(shots), labels)
        with self.lock:
            if self._baseline_of != depends or not depends:
                self._begin_table(tasks.class_names if found else ())
            self._baseline, self._baseline_of = found, depends
        return found is not None

    def _scores(self, rows: npt.NDArray[np.int64]) -> Array:
        """(n, C) logits of photos by the trained method, or by the baseline before a training."""
        photos = self.library.features(rows.tolist())
        if self.fitted is None:
            assert self._baseline is not None  # noqa: S101  (for the type checker)
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
