"""An approximate index of the features of parts, for many searches in the same photos.

k-means divides the photos into lists (an inverted file, IVF, of the package FAISS, arXiv:2401.08281); a search compares
the query with the photos of those lists whose centres are nearest to it. The index is a file beside the parts with all
features in float16, so its cosines differ from `search.search`'s in the fourth digit. docs/scale.md says from how many
photos and searches on it is worth building.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import storage
from jclip_adapter.core.console import doing, progress
from jclip_adapter.core.errors import DataError, SetupError
from jclip_adapter.core.problems import one_line
from jclip_adapter.core.task import Array
from jclip_adapter.data.parts import MANIFEST, read_manifest, stream
from jclip_adapter.data.parts import columns as read_columns
from jclip_adapter.storage.kinds import head, unchanged_json

from .search import Hit, Pair

logger = logging.getLogger(__name__)
INDEX, FACTS = "index.faiss", "index.json"
_FACTS = storage.Kind("the facts of an index", unchanged_json("manifest_sha256", "index_sha256", "firsts"))
_LISTS = storage.Kind("an index", lambda path: head(path, 4) == b"IwSq")
_ROWS = 16_384  # added or looked up at once
_MOST_LISTS = 16_384
_PER_LIST = 50  # rows that k-means is trained on, per list
_PROBED, _PROBED_FOR_PAIRS = 64, 4  # lists per query; results/search.md has the recall
_ERROR = 2e-4  # of a cosine of two features in float16
_REBUILD = "It is built with --index."


def build_index(folder: Path) -> Path:
    """Build an index of all photos that could be read; an older one is replaced. Equal parts give equal bytes.

    It is built in memory: two bytes per number of each feature, and eight per photo.

    Args:
        folder: A finished folder of parts.

    Returns:
        The index's file.

    Raises:
        DataError: the folder is not finished, or has no photo that could be read.
        SetupError: FAISS is not installed, or the folder cannot be written.
    """
    faiss = _faiss()
    whole = read_manifest(folder)
    count = whole["rows"] - whole["errors"]
    if not count:
        raise DataError(f"{folder} has no photo that could be read.", "See the errors in its parts.")
    storage.check_place(folder / INDEX, _LISTS)
    storage.check_place(folder / FACTS, _FACTS)
    lists = max(1, min(round(2 * count**0.5), count // _PER_LIST, _MOST_LISTS))
    index = faiss.index_factory(whole["width"], f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    every = max(1, count // (_PER_LIST * lists))
    with doing("dividing the photos into lists"):
        index.train(np.concatenate(list(_sample(folder, every))))
    firsts: list[int] = []
    with progress(total=count, desc="indexing", unit="photo") as bar:
        for part, first, rows, features in _readable(folder):
            firsts += [first] * (part + 1 - len(firsts))  # a part may have no rows
            index.add_with_ids(features, rows)
            bar.update(len(rows))
    path = folder / INDEX
    storage.discard(folder / FACTS, _FACTS)  # until the file is whole
    with storage.atomic_write(path, _LISTS) as handle:
        try:
            faiss.write_index(index, handle.name)
        except RuntimeError as error:
            raise SetupError(f"{path} cannot be written ({one_line(str(error))}).", "Check the free space.") from error
    facts = {"manifest_sha256": _digest(folder), "index_sha256": storage.sha256_file(path), "firsts": firsts}
    storage.write_checked_json(folder / FACTS, facts, _FACTS)
    return path


class Index:
    """An index that is open, memory-mapped.

    Opening reads the file once, to compare its SHA-256: FAISS does not check what it reads.

    Args:
        folder: A finished folder of parts.

    Raises:
        DataError: there is no index, or it is damaged or of other features.
        SetupError: FAISS is not installed.
    """

    def __init__(self, folder: Path) -> None:
        faiss = _faiss()
        path, facts = folder / INDEX, folder / FACTS
        read_manifest(folder)
        if not path.is_file() or not facts.is_file():
            raise DataError(f"{folder} has no index yet.", _REBUILD)
        known: Mapping[str, Any] = storage.read_checked_json(facts)
        if known["manifest_sha256"] != _digest(folder):
            raise DataError(f"{path} is of other features than {folder / MANIFEST}.", _REBUILD)
        if known["index_sha256"] != storage.sha256_file(path):
            raise DataError(f"{path} is damaged.", _REBUILD)
        self._folder, self._firsts = folder, np.array(known["firsts"], dtype=np.int64)
        self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)

    def search(self, queries: Array, top: int) -> list[list[Hit]]:
        """The photos nearest to each query, or nearly all of them.

        Args:
            queries: (Q, d) L2-normalised, of the same network.
            top: Photos per query.

        Returns:
            Q lists of at most `top` hits, best first.
        """
        self._index.nprobe = _PROBED
        cosines, rows = self._index.search(queries, min(top, self._index.ntotal))
        names = self._names(rows[rows >= 0], ("key", "label"))
        return [
            [Hit(cosine, *names[row]) for cosine, row in zip(scores, own, strict=True) if row >= 0]
            for scores, own in zip(cosines.tolist(), rows.tolist(), strict=True)
        ]

    def near_duplicates(self, threshold: float) -> Iterator[Pair]:
        """Pairs of photos whose features are nearly the same, or nearly all of them.

        Each photo is compared with those of the nearest lists only. All pairs are held in memory. A pair counts
        whose cosine is below the threshold by no more than the error of float16.

        Args:
            threshold: Least cosine.

        Yields:
            The pairs, by the later photo.
        """
        self._index.nprobe = _PROBED_FOR_PAIRS
        scores: dict[tuple[int, int], float] = {}
        for _, _, numbers, features in _readable(self._folder):
            ends, cosines, rows = self._index.range_search(features, threshold - _ERROR)
            later = np.repeat(numbers, np.diff(ends.astype(np.int64)))
            keep = later != rows
            pairs = zip(np.maximum(later, rows)[keep].tolist(), np.minimum(later, rows)[keep].tolist(), strict=True)
            scores.update(zip(pairs, cosines[keep].tolist(), strict=True))
        names = self._names(np.array(list(scores), dtype=np.int64).ravel(), ("key",))
        for pair in sorted(scores):
            yield Pair(scores[pair], *names[pair[1]], *names[pair[0]])

    def _names(self, rows: npt.NDArray[np.int64], columns: tuple[str, ...]) -> dict[int, list[str]]:
        """Some columns of some rows, by row number, empty for no value; a part is read once."""
        names: dict[int, list[str]] = {}
        wanted = np.unique(rows)
        parts = np.searchsorted(self._firsts, wanted, side="right") - 1
        for part in np.unique(parts).tolist():
            own = wanted[parts == part]
            table = next(read_columns(self._folder, columns, iter([part])))
            values = ([table[name][row] for name in columns] for row in (own - self._firsts[part]).tolist())
            names.update(zip(own.tolist(), ([text or "" for text in row] for row in values), strict=True))
        return names


def open_index(folder: Path) -> Index:
    """The index of a finished folder of parts; built if there is none, or if it is damaged or of other features."""
    try:
        return Index(folder)
    except DataError as error:
        logger.info("%s", error.message)
    build_index(folder)
    return Index(folder)


def _readable(folder: Path) -> Iterator[tuple[int, int, npt.NDArray[np.int64], Array]]:
    """Some rows at a time: their part, the number of the first, and number and feature of those that could be read."""
    first = 0
    for each in stream(folder, _ROWS):
        fine = np.flatnonzero(each.readable)
        yield each.part, first, first + fine, each.normalised()[fine]
        first += len(each.features)


def _sample(folder: Path, every: int) -> Iterator[Array]:
    """Every n-th feature of those that could be read."""
    seen = 0
    for *_, features in _readable(folder):
        yield features[-seen % every :: every]
        seen += len(features)


def _digest(folder: Path) -> str:
    """The SHA-256 of the manifest, which has those of all parts."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def _faiss() -> Any:
    """The module faiss.

    Raises:
        SetupError: it is not installed.
    """
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it tells at length which file it loads
    try:
        import faiss
    except ImportError as error:
        raise SetupError("an index needs FAISS.", "Run `pip install faiss-cpu`, or leave --index out.") from error
    return faiss
