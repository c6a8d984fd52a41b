"""Files of predictions for any data set: a row per photo, as CSV, JSON lines or Parquet."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import storage
from jclip_adapter.core.choices import TABLES
from jclip_adapter.core.errors import SetupError, UsageError
from jclip_adapter.core.problems import one_line
from jclip_adapter.storage.checksums import json_bytes
from jclip_adapter.storage.kinds import unchanged_json

if TYPE_CHECKING:
    import pandas as pd

_DECIMALS = 6  # of a probability
FACTS = storage.Kind("the facts of predictions", unchanged_json("predictions_sha256"))


def _is_table(path: Path) -> bool:
    """Whether the facts beside a table are this program's and belong to exactly this content."""
    facts = facts_path(path)
    return FACTS.owns(facts) and storage.read_checked_json(facts)["predictions_sha256"] == storage.sha256_file(path)


def _no_facts(path: Path) -> str:
    """Why a table is not recognised."""
    return f"{facts_path(path).name} beside it, which would show that, is missing or belongs to another content"


TABLE = storage.Kind("a file of predictions", _is_table, _no_facts)


def is_table(path: Path) -> bool:
    """Whether a result's suffix asks for a table instead of the contest's lines."""
    return path.suffix.lower() in TABLES


def facts_path(path: Path) -> Path:
    """The facts beside a table: predictions.csv.json for predictions.csv."""
    return path.with_name(f"{path.name}.json")


def check_table(path: Path) -> None:
    """Refuse a table that cannot be written, before the long computation.

    Raises:
        UsageError: its folder is missing, it is a folder, or it or the facts beside it were not written by this
            program.
        SetupError: its folder cannot be written, or the package for its format is missing.
    """
    if path.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise SetupError(f"{path.name}: Parquet needs pyarrow.", "Run `pip install pyarrow`, or write .csv or .jsonl.")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for {path.name}.", "Create it, or give another path.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", f"Give a file, such as {path / 'predictions.csv'}.")
    storage.check_place(path, TABLE)
    storage.check_place(facts_path(path), FACTS)


@dataclass(frozen=True)
class Predictions:
    """Predictions for N photos, M of which could be read.

    Attributes:
        paths: N paths.
        errors: Why a photo could not be read, by index.
        class_names: C names.
        best: (M, k) class indices of the readable photos, best first.
        probabilities: (M, C).
        known: (M,) whether a photo is of one of the classes; None if that was not asked.
        truth: N names of the photos' classes; None if they are not known.
    """

    paths: Sequence[str]
    errors: Mapping[int, str]
    class_names: Sequence[str]
    best: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    known: npt.NDArray[np.bool_] | None = None
    truth: Sequence[str] | None = None

    def rows(self) -> list[dict[str, Any]]:
        """N rows: path, truth (if known), name_1, probability_1, …, unknown (if asked), error; None for no value."""
        readable = iter(range(len(self.best)))
        found = []
        for number, path in enumerate(self.paths):
            place = None if number in self.errors else next(readable)
            row: dict[str, Any] = {"path": as_text(path)}
            if self.truth is not None:
                row["truth"] = as_text(self.truth[number])
            for rank in range(self.best.shape[1]):
                index = None if place is None else self.best[place, rank]
                row[f"name_{rank + 1}"] = None if index is None else as_text(self.class_names[index])
                row[f"probability_{rank + 1}"] = (
                    None if index is None else round(float(self.probabilities[place, index]), _DECIMALS)
                )
            if self.known is not None:
                row["unknown"] = None if place is None else not self.known[place]
            row["error"] = one_line(self.errors[number]) if place is None else None
            found.append(row)
        return found


def as_text(name: str) -> str:
    """A name as valid Unicode: bytes of a file name that are not UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def write_predictions(path: Path, predictions: Predictions, facts: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write a table and the facts beside it, which the table is recognised by later.

    Args:
        path: The table; its suffix is one of `choices.TABLES`.
        predictions: The rows.
        facts: What the predictions were made with.

    Returns:
        The paths of both files.

    Raises:
        UsageError: one of them exists and is not as this program wrote it.
        SetupError: they cannot be written.
    """
    data = table_bytes(predictions, path.suffix.lower())
    beside = json_bytes({"predictions_sha256": hashlib.sha256(data).hexdigest(), **facts})
    # The table is replaced last: if it is new, so are its facts, even after a power failure.
    storage.write_files([(facts_path(path), beside, FACTS), (path, data, TABLE)])
    return path, facts_path(path)


def table_bytes(predictions: Predictions, suffix: str) -> bytes:
    """The content of a table.

    Args:
        predictions: The rows.
        suffix: One of `choices.TABLES`.
    """
    rows = predictions.rows()
    if suffix == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
    frame = _frame(rows)
    if suffix == ".csv":
        return frame.to_csv(index=False, lineterminator="\n").encode("utf-8")
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, engine="pyarrow")
    return buffer.getvalue()


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows with one type per column, also where all values are missing."""
    import pandas as pd

    frame = pd.DataFrame(list(rows))
    kinds = {name: "Float64" if name.startswith("probability_") else "string" for name in frame.columns}
    return frame.astype({**kinds, **({"unknown": "boolean"} if "unknown" in kinds else {})})
