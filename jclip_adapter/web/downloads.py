"""What can be downloaded from the page."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.task import Array, softmax
from jclip_adapter.data.predictions import Predictions, write_predictions
from jclip_adapter.data.submission import write_submission
from jclip_adapter.evaluation.metrics import top_k_ids

from .library import READY, UNREADABLE
from .session import TOP, Session

RUN = "run"
NONE, UNSORTED = "_none of these", "_unsorted"
_NOT_YET = "Wait until all photos are classified."


def predictions_file(session: Session) -> Path:
    """Write predictions.csv: a row per photo with its best classes and their probabilities.

    Raises:
        DataError: there are no predictions yet.
    """
    rows, logits, classes = _scores(session)
    items = session.library.items
    with session.lock:
        why = {n: session.library.why.get(n, "not encoded yet") for n in range(len(items)) if n not in set(rows)}
        fitted = session.fitted
    shares = softmax(logits) if fitted is None else fitted.method.calibration_.probabilities(logits)
    found = Predictions([item.name for item in items], why, classes, top_k_ids(logits, TOP), shares)
    facts = {"method": "zero-shot" if fitted is None else fitted.method.meta.name, "photos": len(items)}
    return write_predictions(session.project.folder / "predictions.csv", found, facts)[0]


def result_zip(session: Session) -> Path:
    """Write the contest's result.txt and its zip; returns the zip.

    An unreadable photo gets the classes with the largest mean probability, as with `predict`.

    Raises:
        UsageError: the data set is not the contest's, or the classes are no longer its.
        DataError: not all test photos are classified yet.
    """
    images = session.images
    if not session.can_submit:
        raise UsageError("the data set is not the contest's.")
    rows, logits, classes = _scores(session)
    if set(classes) != set(images.class_names):
        raise UsageError("the classes are not the contest's.", "Undo what was changed of them, and train again.")
    ids = [images.classes[images.class_names.index(name)].id for name in classes]
    place = {number: row for row, number in enumerate(rows)}
    numbers = [number for number, item in enumerate(session.library.items) if item.test]
    if any(n not in place and session.library.state[n] != UNREADABLE for n in numbers) or not place:
        raise DataError("not all test photos are classified yet.", _NOT_YET)
    tests = np.array([place[number] for number in numbers if number in place], dtype=np.int64)
    top = min(TOP, len(ids))
    prior = softmax(logits[tests]).mean(axis=0, keepdims=True)
    found = np.repeat(top_k_ids(prior, top, ids), len(numbers), axis=0)
    found[[number in place for number in numbers]] = top_k_ids(logits[tests], top, ids)
    return write_submission(session.project.folder / "result.txt", images.test_names, found)[1]


def _scores(session: Session) -> tuple[list[int], Array, tuple[str, ...]]:
    """Numbers of the photos that are encoded, their logits, and the classes."""
    with session.lock:
        rows = np.flatnonzero(session.library.state == READY)
        if not len(rows) or np.isnan(session.table.certainty).all():
            raise DataError("there are no predictions yet.", _NOT_YET)
        return rows.tolist(), session.scores(rows), session.table.classes


def run_files(session: Session) -> list[tuple[str, Path]]:
    """Names and files of the trained run.

    Raises:
        DataError: there is none.
    """
    folder = session.project.folder / RUN
    files = sorted(path for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))
    if not files:
        raise DataError("there is no run folder yet.", session.report.get("run") or "Train first.")
    return [(f"{RUN}/{path.name}", path) for path in files]


def sorted_files(session: Session) -> list[tuple[str, Path]]:
    """All photos in a folder per class: of their label, or of the predicted class where they have none."""
    with session.lock:
        session.details([])
        found: list[tuple[str, Path]] = []
        taken: set[str] = set()
        for number, item in enumerate(session.library.items):
            label = session.label_of(number)
            folder = NONE if label == "" else label or session.predicted(number) or UNSORTED
            stem, suffix = Path(item.name).stem, Path(item.name).suffix
            name, count = f"{folder}/{stem}{suffix}", 1
            while name in taken:
                count += 1
                name = f"{folder}/{stem}-{count}{suffix}"
            taken.add(name)
            found.append((name, item.path))
        return found


class _Pipe(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(data)  # type: ignore[call-overload]
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def zip_of(files: list[tuple[str, Path]]) -> Iterator[bytes]:
    """The bytes of a zip of files, made while it is sent; a file that is gone meanwhile is left out."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for name, path in files:
            try:
                data = path.read_bytes()
            except OSError:
                continue
            archive.writestr(zipfile.ZipInfo(name), data)
            yield pipe.take()
    yield pipe.take()
