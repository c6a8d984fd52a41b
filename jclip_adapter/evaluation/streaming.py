"""Classifies features in parts, part by part: any number of photos in memory that their number does not change."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import storage
from jclip_adapter.core.console import print_note, progress
from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.problems import done_before
from jclip_adapter.core.task import Array, Queries
from jclip_adapter.data.parts import MANIFEST, Rows, arrow, part_digests, part_paths, read_manifest, stream
from jclip_adapter.data.photos.decoders import in_threads
from jclip_adapter.data.predictions import as_text
from jclip_adapter.methods import Method
from jclip_adapter.runtime.row_loops import MOST, loops
from jclip_adapter.storage.kinds import head, unchanged_json

from .metrics import top_k_ids

SUMMARY = f"_{MANIFEST}"  # readers of a folder of tables skip names that begin with a line
_ROWS = 16_384  # read at once
_BLOCK = 1024  # classified at once: scores and features fit a core's cache
_OURS = b"jclip_adapter"  # in a table's metadata
_SEAL = "seal"
_NAME = re.compile(r"part-\d{5,}\.parquet")
_COUNTS = ("rows", "unreadable", "unknown")
_Counts = dict[str, int]
_SUMMARY = storage.Kind("the summary of predictions in parts", unchanged_json("rows", "parts", "classifier"))


@dataclass(frozen=True)
class Classifier:
    """What turns features into predictions.

    Attributes:
        method: Fitted.
        class_names: C names.
        top: Classes per photo.
        reject: Share of photos of the classes that may be refused; None to refuse none.
    """

    method: Method
    class_names: Sequence[str]
    top: int
    reject: float | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the predictions depend on, besides the features."""
        known = self.method.calibration_
        facts = [self.method.meta.name, self.method.hyper.as_dict(), list(self.class_names), self.top, self.reject]
        digest = hashlib.sha256(json.dumps([*facts, known.temperature], sort_keys=True, default=str).encode())
        for name, array in sorted({**self.method.learnt(), "known": known.known}.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def named(self) -> Any:
        """The classes' names as a pyarrow array."""
        return arrow().array([as_text(name) for name in self.class_names])

    def classify(self, rows: Rows) -> dict[str, npt.NDArray[Any]]:
        """Predict some rows.

        Returns:
            "best" (M, k) class indices, "probabilities" (M, k), and with `reject` "unknown" (M,); of unreadable photos
            without meaning.
        """
        found: dict[str, list[npt.NDArray[Any]]] = {}
        for first in range(0, len(rows.features), _BLOCK):
            block = slice(first, first + _BLOCK)
            features = rows.normalised(block)
            features.setflags(write=False)  # so that nobody copies them
            raw = rows.features[block] if self.method.raw_ and self.method.uses_raw else None
            logits = self.method.logits(Queries.of_normalised(features, raw))
            best, shares = self._best(logits)
            parts: dict[str, npt.NDArray[Any]] = {"best": best, "probabilities": shares}
            if self.reject is not None:
                parts["unknown"] = ~self.method.calibration_.is_known(logits, self.reject)
            for name, part in parts.items():
                found.setdefault(name, []).append(part)
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def _best(self, logits: Array) -> tuple[npt.NDArray[np.int64], Array]:
        """(M, k) best classes and their calibrated probabilities, these in float32: six digits at half the time."""
        temperature, compiled = self.method.calibration_.temperature, loops()
        top = min(self.top, logits.shape[1])
        if compiled is not None and top <= MOST:
            return compiled.best(logits, top, temperature)
        best = top_k_ids(logits, top)
        scaled = np.float32(1 / temperature) * logits
        scaled -= np.take_along_axis(scaled, best[:, :1], axis=1)
        np.exp(scaled, out=scaled)
        shares: Array = np.take_along_axis(scaled, best, axis=1) / scaled.sum(axis=1, keepdims=True)
        return best, shares


def classify_parts(
    classifier: Classifier, source: Path, target: Path, about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Predict all photos of a folder of features, into a folder of tables; finished tables are kept.

    A core works on a part at a time. A table is part-00000.parquet, of the same number as its features, with the
    columns path, name_1, probability_1, …, unknown (if asked) and error.

    Args:
        classifier: What predicts.
        source: A finished folder of features.
        target: The folder of the tables; created if it is missing.
        about: Further facts for the summary.

    Returns:
        The summary: numbers of rows, unreadable and unknown photos, and what they were predicted with.

    Raises:
        DataError: the features are not finished, or damaged.
        UsageError: the method needs all photos at once, the target has other files of these names, or another command
            changed its tables meanwhile.
    """
    from threadpoolctl import threadpool_limits

    method = classifier.method
    if method.meta.transductive:
        raise UsageError(f"{method.meta.name} is transductive: it needs all photos at once.", "Choose another run.")
    whole, digest = read_manifest(source), classifier.digest
    facts = {"classifier": digest, "parts_sha256": whole["parts_sha256"]}
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file; predictions of parts become a folder of tables.", "Give another name.")
    storage.check_place(target / SUMMARY, _SUMMARY)
    storage.check_folder_writable(target)
    own = [{"classifier": digest, "features": features} for features in part_digests(source, whole)]
    tables = [part_paths(target, number)[0] for number in range(whole["parts"])]
    made: list[int] = []

    def predict(number: int) -> _Counts:
        counts = _done(tables[number], own[number], classifier)
        if counts is None:
            made.append(number)
            storage.discard(target / SUMMARY, _SUMMARY)  # another command may have written one meanwhile
            counts = _predict_part(classifier, source, number, target, own[number])
        return counts

    others = [path for path, known in zip(tables, own, strict=True) if path.exists() and not _fits(path, known)]
    _replace([*others, *set(target.glob("*.parquet")).difference(tables)], target)
    there = {number for number, path in enumerate(tables) if path.exists()}
    loops()  # a warning that they are missing comes before the progress bar
    totals = dict.fromkeys(_COUNTS, 0)
    numbers = range(whole["parts"])
    # Methods that train through CLIP may compute in Jittor, which one thread uses at a time.
    several = "encoder" not in method.meta.needs
    with (
        progress(total=whole["rows"], desc="classifying", unit="photo") as bar,
        threadpool_limits(1, "blas") if several else contextlib.nullcontext(),
    ):
        for counts in in_threads(predict, numbers, waiting=1) if several else map(predict, numbers):
            totals = {name: totals[name] + counts[name] for name in totals}
            bar.update(counts["rows"])
    if not all(path.exists() and _fits(path, known) for path, known in zip(tables, own, strict=True)):
        storage.discard(target / SUMMARY, _SUMMARY)
        raise UsageError(
            f"another command has changed the tables in {target} meanwhile.",
            "Run this one again: it makes them anew. Or give each a folder of its own.",
        )
    if there:
        damaged = len(there.intersection(made))
        print_note(done_before(len(there) - damaged, len(tables), "table", damaged, "made"))
    summary = {"parts": whole["parts"], **totals, **facts, **(about or {})}
    storage.write_checked_json(target / SUMMARY, summary, _SUMMARY)
    return summary


def _predict_part(classifier: Classifier, source: Path, number: int, target: Path, facts: dict[str, str]) -> _Counts:
    """Predict a part and write its table; returns the counts."""
    pa = arrow()
    import pyarrow.parquet as pq

    schema = _schema(classifier, pa.dictionary(pa.int32(), pa.string()))
    batches = []
    counts = dict.fromkeys(_COUNTS, 0)
    for rows in stream(source, _ROWS, iter([number])):
        found, missing = classifier.classify(rows), ~rows.readable
        columns = [rows.about.column("key")]
        for best, share in zip(found["best"].T, found["probabilities"].T, strict=True):
            index = pa.array(best.astype(np.int32), mask=missing)
            columns += [pa.DictionaryArray.from_arrays(index, classifier.named), pa.array(share, mask=missing)]
        if "unknown" in found:
            columns.append(pa.array(found["unknown"], mask=missing))
            counts["unknown"] += int((found["unknown"] & ~missing).sum())
        batches.append(pa.record_batch([*columns, rows.about.column("error")], schema))
        counts["rows"] += len(missing)
        counts["unreadable"] += int(missing.sum())
    table = pa.Table.from_batches(batches, schema)
    buffer = io.BytesIO()
    how = {
        "store_schema": False,  # names are read as texts
        "use_dictionary": [name for name in schema.names if name.startswith("name_")],
        "write_statistics": ["path"],  # no other column is in an order by which a reader could skip rows
        "compression": {name: "zstd" if name in ("path", "error") else "none" for name in schema.names},
        "write_page_checksum": True,
    }
    with pq.ParquetWriter(buffer, schema, **how) as writer:
        writer.write_table(table)
        seal = hashlib.sha256(buffer.getvalue()).hexdigest()  # of all but the list of contents at the end
        writer.add_key_value_metadata({_OURS: json.dumps({**counts, **facts, _SEAL: seal})})
    storage.write_bytes(part_paths(target, number)[0], buffer.getvalue(), TABLE)
    return counts


def _schema(classifier: Classifier, named: Any = None) -> Any:
    """The columns of a table and their types; with `named` another one of the names, in which they are written."""
    pa = arrow()
    named = named or pa.string()
    ranks = range(1, min(classifier.top, len(classifier.class_names)) + 1)
    answers = [pair for k in ranks for pair in ((f"name_{k}", named), (f"probability_{k}", pa.float32()))]
    asked = [] if classifier.reject is None else [("unknown", pa.bool_())]
    return pa.schema([("path", pa.string()), *answers, *asked, ("error", pa.string())])


def _replace(others: Sequence[Path], target: Path) -> None:
    """Remove tables of other features or predictions first of all, so that a stop never leaves a mixture.

    Raises:
        UsageError: one is another program's, or was edited; then none is removed.
    """
    for path in sorted(others):
        if not _NAME.fullmatch(path.name):
            raise UsageError(f"{path} would be read as one of the tables.", "Give another folder, or move it away.")
        TABLE.check(path)
    if others:
        print_note(f"{target} has predictions of other features, or otherwise made: they are replaced")
        storage.discard(target / SUMMARY, _SUMMARY)
    for path in others:
        storage.discard(path, TABLE)


def _fits(path: Path, facts: Mapping[str, str]) -> bool:
    """Whether a table says these facts of itself; True for a damaged one, which is made again in any case."""
    try:
        found = _facts_in(path)
    except _faults():
        return True
    return all(found.get(name) == value for name, value in facts.items())


def _faults() -> tuple[type[Exception], ...]:
    """What reading a damaged table may raise."""
    return OSError, ValueError, KeyError, arrow().ArrowException


def _facts_in(path: Path) -> dict[str, Any]:
    """What a table says of itself; empty for a table of another program. Raises one of `_faults`."""
    import pyarrow.parquet as pq

    found = json.loads((pq.read_metadata(path).metadata or {}).get(_OURS, b"{}"))
    return found if isinstance(found, dict) else {}


def _is_unchanged(path: Path, facts: Mapping[str, Any]) -> bool:
    """Whether the bytes before a table's footer are those that were written; the footer's length is at its end."""
    data = path.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    return hashlib.sha256(data[:-footer]).hexdigest() == facts.get(_SEAL)


def _is_ours(path: Path) -> bool:
    import pyarrow.parquet as pq

    try:
        facts = _facts_in(path)
        if not facts or _is_unchanged(path, facts):
            return bool(facts)
        with pq.ParquetFile(path, page_checksum_verification=True) as table:
            for _ in table.iter_batches(_ROWS):
                pass
    except _faults():  # ours: another program's would be whole
        return head(path, 4) == b"PAR1"
    return False  # whole, but edited


TABLE = storage.Kind("a table of predictions", _is_ours)


def _done(path: Path, facts: dict[str, str], classifier: Classifier) -> _Counts | None:
    """The counts of a table that was written whole, of the same features and predictions; None without."""
    import pyarrow.parquet as pq

    try:
        found = _facts_in(path) if path.is_file() else {}
        if any(found.get(name) != value for name, value in facts.items()) or not _is_unchanged(path, found):
            return None
        # The seal does not cover the footer.
        if not pq.read_schema(path).equals(_schema(classifier)) or pq.read_metadata(path).num_rows != found["rows"]:
            return None
        return {name: found[name] for name in _COUNTS}
    except _faults():
        return None
