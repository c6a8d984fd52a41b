"""What can be downloaded from the page."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.data.predictions import Predictions, write_predictions
from jclip_adapter.data.submission import write_submission
from jclip_adapter.evaluation.metrics import top_k_ids

from .library import UNREADABLE
from .session import Session

RUN = "run"
NONE, UNSORTED = "_none of these", "_unsorted"
_NOT_YET = "Wait until all photos are classified."


def predictions_file(session: Session) -> Path:
    """Write predictions.csv: a row per photo with its best classes and their probabilities.

    Raises:
        DataError: there are no predictions yet.
    """
    with session.lock:
        table, items = session.table, session.library.items
        rows = [number for number in range(len(items)) if table.has(number)]
        if not rows:
            raise DataError("there are no predictions yet.", _NOT_YET)
        shares = np.zeros((len(rows), len(table.classes)))
        np.put_along_axis(shares, table.best[rows], table.probabilities[rows], axis=1)
        why = {n: session.library.why.get(n, "not classified yet") for n in range(len(items)) if not table.has(n)}
        found = Predictions([item.name for item in items], why, table.classes, table.best[rows], shares)
        method = session.fitted.method.meta.name if session.fitted else "zero-shot"
    return write_predictions(session.project.folder / "predictions.csv", found, {"method": method})[0]


def result_zip(session: Session) -> Path:
    """Write the contest's result.txt and its zip; returns the zip.

    An unreadable photo gets the classes with the largest mean probability.

    Raises:
        UsageError: the data set is not the contest's, or the classes are no longer its.
        DataError: not all test photos are classified yet.
    """
    images = session.images
    if not session.can_submit:
        raise UsageError("the data set is not the contest's.")
    with session.lock:
        table, items = session.table, session.library.items
        tests = [number for number, item in enumerate(items) if item.test]
        known = [table.has(number) for number in tests]
        unread = session.library.state[tests] == UNREADABLE
        if not any(known) or not (np.array(known) | unread).all():
            raise DataError("not all test photos are classified yet.", _NOT_YET)
        best, shares, classes = table.best[tests], table.probabilities[tests], table.classes
    if set(classes) != set(images.class_names):
        raise UsageError("the classes are not the contest's.", "Undo what was changed of them, and train again.")
    prior = np.zeros(len(classes))
    np.add.at(prior, best[known], shares[known])
    best[~np.array(known)] = top_k_ids(prior[None], best.shape[1])
    id_of = {info.name: info.id for info in images.classes}
    ids = np.array([id_of[name] for name in classes])[best]
    return write_submission(session.project.folder / "result.txt", images.test_names, ids)[1]


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
        found: list[tuple[str, Path]] = []
        taken: set[str] = set()
        for number, item in enumerate(session.library.items):
            label = session.label_of(number)
            folder = NONE if label == "" else label or session.table.name(number) or UNSORTED
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
