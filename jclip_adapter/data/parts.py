"""Features of photos in parts, for reading: part-00000.parquet with a row per photo, part-00000.json, manifest.json.

A row has the photo's key, the SHA-256 of its bytes, its feature as stored (not normalised), its label and, if it could
not be read, its error and a feature of zeros.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import storage
from jclip_adapter.core.errors import DataError, SetupError
from jclip_adapter.core.task import Array
from jclip_adapter.runtime.row_loops import normalised

MANIFEST = "manifest.json"
DTYPES = ("float32", "float16")
"""How features may be stored."""
_ABOUT = ("key", "label", "error")  # what is read beside the feature
_HEADER = 64  # most bytes of a page's header without statistics
_AGAIN = "Run its extraction again: it makes what is missing."
_SAME = ("weights_sha256", "encoder", "dtype")  # the facts that all parts have in common


def part_paths(folder: Path, number: int) -> tuple[Path, Path]:
    """The table of a part, and its facts."""
    name = f"part-{number:05d}"
    return folder / f"{name}.parquet", folder / f"{name}.json"


def is_parts(folder: Path) -> bool:
    """Whether a folder has features in parts, finished or not."""
    return part_paths(folder, 0)[1].is_file() or (
        (folder / MANIFEST).is_file() and any(folder.glob("part-*.json"))  # the first part was lost
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished folder.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / MANIFEST
    if not is_parts(folder):
        raise DataError(f"{folder} has no features in parts.", "Make them: `extract DIR --photos SOURCE`.")
    if not path.is_file():
        raise DataError(f"{folder} is not finished: it has no {MANIFEST}.", "Run its extraction again: it goes on.")
    found: dict[str, Any] = storage.read_checked_json(path)
    return found


def part_digests(folder: Path, whole: Mapping[str, Any]) -> list[str]:
    """The SHA-256 of each part, by the facts; they must be those that the manifest was written for.

    Raises:
        DataError: a part has been exchanged together with its facts, or is missing.
    """
    digests = [facts_of(folder, number)["part_sha256"] for number in range(whole["parts"])]
    if digest_of_parts(digests) != whole["parts_sha256"]:
        raise DataError(f"{folder} has parts of other photos than {MANIFEST} says.", "Make the folder again.")
    return digests


def digest_of_parts(digests: Iterable[str]) -> str:
    """The manifest's SHA-256 of all parts: that of theirs, in order."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def facts_of(folder: Path, number: int) -> dict[str, Any]:
    """The facts of a part.

    Raises:
        DataError: they are missing or damaged.
    """
    path = part_paths(folder, number)[1]
    if not path.is_file():
        raise DataError(f"{path} is missing.", _AGAIN)
    found: dict[str, Any] = storage.read_checked_json(path)
    return found


@dataclass(frozen=True)
class Rows:
    """Some rows of a part.

    Attributes:
        part: The part's number.
        features: (M, d) as stored, perhaps not aligned; zeros where there is an error.
        about: Key, label and error: a pyarrow RecordBatch of M rows.
    """

    part: int
    features: npt.NDArray[Any]
    about: Any

    @functools.cached_property
    def readable(self) -> npt.NDArray[np.bool_]:
        """(M,) whether the photo could be read."""
        return np.asarray(self.about.column("error").is_null())

    def normalised(self, chosen: slice = slice(None)) -> Array:
        """(M, d) L2-normalised features, of some of the rows; zeros for photos that could not be read.

        Raises:
            DataError: NaN, infinity, or a norm that a float32 cannot hold.
        """
        readable = self.readable[chosen]
        features, finite = normalised(self.features[chosen])
        broken = np.flatnonzero(readable & ~finite)
        if len(broken):
            name = self.text("key", int(broken[0]) + (chosen.start or 0))
            raise DataError(
                f"the feature of {name} in part {self.part} has NaN, infinity, or numbers too large to be squared.",
                "Extract it again into another folder.",
            )
        features[~readable] = 0
        return features

    def text(self, column: str, row: int) -> str:
        """A row's key, label or error; empty for none."""
        return self.about.column(column)[row].as_py() or ""


def stream(folder: Path, rows: int = 4096, parts: Iterator[int] | None = None) -> Iterator[Rows]:
    """The rows of a finished folder in order, some at a time, memory-mapped.

    Args:
        folder: The folder.
        rows: Most rows at a time.
        parts: Numbers of the parts; None for all.

    Raises:
        DataError: the folder is not finished, or a part is missing, damaged or exchanged.
    """
    whole = read_manifest(folder)
    if parts is None:
        part_digests(folder, whole)
    for number in range(whole["parts"]) if parts is None else parts:
        with _opened(folder, number, whole) as (mapped, table):
            features, first = _features_in_place(mapped, table, whole), 0
            wanted = [*_ABOUT, *(["feature"] if features is None else [])]
            for batch in table.iter_batches(rows, columns=wanted, use_threads=False):
                if features is None:
                    column = batch.column("feature")
                    flat = column.flatten()
                    if column.null_count or flat.null_count:
                        raise DataError(f"part {number} of {folder} lacks features.", "Make the folder again.")
                    own = flat.to_numpy(zero_copy_only=False)
                else:
                    own = features[first : first + len(batch)]
                yield Rows(number, own.reshape((len(batch), whole["width"])), batch.select(list(_ABOUT)))
                first += len(batch)


def columns(folder: Path, names: Sequence[str], parts: Iterator[int] | None = None) -> Iterator[dict[str, list[Any]]]:
    """Some columns beside the features, a part at a time; None for no value.

    Args:
        folder: A finished folder.
        names: The columns.
        parts: Numbers of the parts; None for all.

    Raises:
        DataError: as `stream`.
    """
    whole = read_manifest(folder)
    if parts is None:
        part_digests(folder, whole)
    for number in range(whole["parts"]) if parts is None else parts:
        found: dict[str, list[Any]] = {name: [] for name in names}
        with _opened(folder, number, whole) as (_, table):
            for batch in table.iter_batches(65_536, columns=list(names)):
                for name in names:
                    found[name] += batch.column(name).to_pylist()
        yield found


def first_error(folder: Path) -> tuple[str, str]:
    """Key and error of the first photo of a finished folder that could not be read; empty if all could."""
    for found in columns(folder, ("key", "error")):
        for key, error in zip(found["key"], found["error"], strict=True):
            if error:
                return key, error
    return "", ""


@contextmanager
def _opened(folder: Path, number: int, whole: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """A part's table, which has to be as its facts and the manifest say: the mapped file and the ParquetFile."""
    pa = arrow()
    import pyarrow.parquet as pq

    path, facts = part_paths(folder, number)
    known = facts_of(folder, number)
    if not path.is_file():
        raise DataError(f"{path} is missing.", _AGAIN)
    if any(known.get(name) != whole.get(name) for name in _SAME):
        raise DataError(f"{facts} is of another network than {folder / MANIFEST}.", "Make the folder again.")
    try:
        with pa.memory_map(str(path)) as mapped:
            if not _is_unchanged(mapped, known):  # before anything reads a damaged list of contents
                raise DataError(f"{path} is not the table that {facts.name} describes.", _AGAIN)
            with pq.ParquetFile(mapped) as table:
                if table.metadata.num_rows != known["rows"] or not _has_columns(table.schema_arrow, whole):
                    raise DataError(f"{path} is not the table that {facts.name} describes.", _AGAIN)
                yield mapped, table
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {path}: {error}.", _AGAIN) from error


def _has_columns(schema: Any, whole: Mapping[str, Any]) -> bool:
    """Whether a table has the columns of a part, and features as the manifest says."""
    pa = arrow()
    if not {*_ABOUT, "sha256", "feature"} <= set(schema.names) or whole["dtype"] not in DTYPES:
        return False
    kind = schema.field("feature").type
    element = pa.from_numpy_dtype(np.dtype(whole["dtype"]))
    return pa.types.is_fixed_size_list(kind) and (kind.list_size, kind.value_type) == (whole["width"], element)


def _is_unchanged(mapped: Any, known: Mapping[str, Any]) -> bool:
    """Whether a part's bytes have the checksum in its facts: CRC-32, or SHA-256 in a third of the speed."""
    data = mapped.read_buffer()
    if "crc32" in known:
        return crc32(data) == known["crc32"]
    return hashlib.sha256(data).hexdigest() == known["part_sha256"]


def crc32(data: Any) -> int:
    """The CRC-32 of a buffer: by zlib-ng, as fast as memory is read, or where that is missing by Python's zlib."""
    try:
        from zlib_ng.zlib_ng import crc32 as computed
    except ImportError:
        from zlib import crc32 as computed
    return computed(data)


def _features_in_place(mapped: Any, table: Any, whole: Mapping[str, Any]) -> npt.NDArray[Any] | None:
    """(M, d) a part's features, memory-mapped; None if they do not lie side by side in its file.

    Parquet decodes a list element by element, which takes as long as half of the product with 374 classes. In a column
    of one uncompressed page without a dictionary the last bytes are its values, as they are in memory.
    """
    pa = arrow()
    dtype = np.dtype(whole["dtype"])
    field = table.schema_arrow.field("feature")
    plain = field.type == feature_type(pa.from_numpy_dtype(dtype), whole["width"]) and not field.nullable
    if table.metadata.num_row_groups != 1 or not plain:
        return None
    group = table.metadata.row_group(0)
    every = (group.column(number) for number in range(group.num_columns))
    (column,) = (each for each in every if each.path_in_schema.partition(".")[0] == "feature")
    if column.compression != "UNCOMPRESSED" or column.has_dictionary_page or "PLAIN" not in column.encodings:
        return None
    start, length = column.data_page_offset, column.total_compressed_size
    size = group.num_rows * whole["width"] * dtype.itemsize
    if not 0 < length - _page_length(mapped.read_at(_HEADER, start)) <= _HEADER:
        return None
    mapped.seek(start + length - size)
    return np.frombuffer(mapped.read_buffer(size), dtype).reshape(group.num_rows, whole["width"])


def _page_length(head: bytes) -> int:
    """Bytes of a data page without its header; 0 for a page of another kind.

    A header is Parquet's PageHeader in Thrift's compact protocol: field 1, the kind (0); field 2, the length; … Before
    each value a byte tells its field and type; numbers are zigzag, 7 bits to a byte, the lowest first.
    """
    if head[:3] != b"\x15\x00\x15":
        return 0
    number = 0
    for place, byte in enumerate(head[3:8]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            break
    return number >> 1


def feature_type(element: Any, width: int) -> Any:
    """The type of the features' column: lists of `width` pyarrow `element`s, of which none can be missing."""
    pa = arrow()
    return pa.list_(pa.field("item", element, nullable=False), width)


def arrow() -> Any:
    """The module pyarrow.

    Raises:
        SetupError: it is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise SetupError("features in parts need pyarrow.", "Run `pip install pyarrow`.") from error
    return pa
