"""Writes features in parts: a table per unit, then its facts, which say that it is done, and the manifest last."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import storage
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.problems import counted
from jclip_adapter.core.version import __version__
from jclip_adapter.data.parts import DTYPES, MANIFEST, arrow, crc32, digest_of_parts, feature_type, part_paths
from jclip_adapter.data.predictions import as_text
from jclip_adapter.models.base import ImageEncoder
from jclip_adapter.storage.checksums import json_bytes
from jclip_adapter.storage.kinds import unchanged_json

_PAGE = 2**30  # bytes; Parquet's pages can have twice as many
_OPTIONAL = ("sha256", "label", "error")


def _is_table(path: Path) -> bool:
    """Whether a file is a part's table, also one that was damaged: of zeros, cut short, or with faults at one end."""
    import pyarrow.parquet as pq

    data = path.read_bytes()
    if not (data.startswith(b"PAR1") or data.endswith(b"PAR1")):
        return len(data) < len(b"PAR1") or not any(data)
    try:
        return {"key", "sha256", "feature"} <= set(pq.read_schema(path).names)
    except (OSError, ValueError, arrow().ArrowException):
        return True


_TABLE = storage.Kind("the table of a part", _is_table)
_FACTS = storage.Kind("the facts of a part", unchanged_json("rows", "part_sha256", "unit", damaged=True))
_WHOLE = storage.Kind("the manifest of parts", unchanged_json("parts", "rows", damaged=True))


@dataclass(frozen=True)
class Plan:
    """What all parts of a folder have in common.

    Attributes:
        folder: The folder.
        width: Width of the features.
        dtype: "float32" or "float16".
        facts: What determines the features: the weights' digest, the fingerprint of network and preprocessing.
        network: What opens the same network again: its weights, precision and reading of photos.
    """

    folder: Path
    width: int
    dtype: str
    facts: Mapping[str, Any]
    network: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, encoder: ImageEncoder, dtype: str = DTYPES[0]) -> Plan:
        """The plan for a network."""
        facts = {"weights_sha256": encoder.sha256, "encoder": encoder.image_key(), "dtype": dtype}
        network = {
            "weights": encoder.reference,
            "precision": encoder.precision,
            "reading": encoder.reading._asdict(),
        }
        return cls(folder, encoder.width, dtype, facts, network)


def recorded(plan: Plan, number: int, unit: str, photos: int = 0) -> str | None:
    """The SHA-256 of a part's table by its facts; None if there are none. `is_whole` compares the table with it.

    Args:
        plan: The plan.
        number: The part's number.
        unit: The unit's digest.
        photos: The unit's number of photos, for the error; 0 if that is not known.

    Raises:
        DataError: the folder has this part of another network or other photos.
    """
    _, facts = part_paths(plan.folder, number)
    if not facts.is_file() or not facts.stat().st_size:
        return None
    try:
        found = storage.read_checked_json(facts)
    except DataError:  # damaged: the part is made again
        return None
    _refuse_others(plan, facts, found)
    if found["unit"] != unit and photos and found["rows"] != photos:
        raise DataError(
            f"{facts} has {counted(found['rows'], 'photo')}, and part {number} of the source has {photos:,}.",
            "Give the same --part-size and source, or another folder.",
        )
    if found["unit"] != unit:
        raise DataError(
            f"{facts} is of other photos or labels: the source has changed.",
            "Give another folder. New photos can have one of their own.",
        )
    return str(found["part_sha256"])


def _refuse_others(plan: Plan, path: Path, found: Mapping[str, Any]) -> None:
    """Refuse a part's facts that are of another network.

    Raises:
        DataError: so they are.
    """
    others = [name for name, value in plan.facts.items() if found.get(name) != value]
    if others == ["dtype"]:
        stored = found["dtype"]
        raise DataError(f"{path} has features in {stored}, not {plan.dtype}.", f"Give --stored {stored}.")
    if others:
        raise DataError(f"{path} is of another network or precision.", "Give another folder, or delete this one.")


def unfinish(plan: Plan) -> None:
    """Remove the manifest, as long as a part is missing."""
    storage.discard(plan.folder / MANIFEST, _WHOLE)


def check_manifest(folder: Path) -> None:
    """Refuse a folder whose manifest is another program's.

    Raises:
        UsageError: so it is.
        SetupError: the folder cannot be written.
    """
    storage.check_place(folder / MANIFEST, _WHOLE)


def is_whole(plan: Plan, number: int, sha256: str) -> bool:
    """Whether a part's table is there and has this SHA-256."""
    table, _ = part_paths(plan.folder, number)
    return table.is_file() and storage.sha256_file(table) == sha256


def forget(plan: Plan, number: int) -> None:
    """Remove the facts of a part whose table is damaged, so that it is missing."""
    storage.discard(part_paths(plan.folder, number)[1], _FACTS)


def write_part(
    plan: Plan,
    number: int,
    unit: str,
    columns: Mapping[str, list[Any]],
    features: npt.NDArray[np.float32],
) -> None:
    """Write a part: its table first, then the facts that say that it is done.

    Args:
        plan: The plan.
        number: The part's number.
        unit: The unit's digest.
        columns: N values each: key, sha256 (32 bytes), label, error; None where there is none.
        features: (N, d), rows of zeros where there is an error.
    """
    table, facts = part_paths(plan.folder, number)
    data = _table_bytes(plan, columns, features)
    done = {
        "rows": len(features),
        "errors": sum(error is not None for error in columns["error"]),
        "part_sha256": hashlib.sha256(data).hexdigest(),
        "crc32": crc32(data),  # `data.parts` compares it whenever the features are read
        "unit": unit,
        "version": __version__,
        **plan.facts,
    }
    storage.write_bytes(table, data, _TABLE)
    storage.write_bytes(facts, json_bytes(done), _FACTS)


def _table_bytes(plan: Plan, columns: Mapping[str, list[Any]], features: npt.NDArray[np.float32]) -> bytes:
    """The bytes of a part's table, which depend on nothing else than its content and pyarrow's version."""
    pa = arrow()
    import pyarrow.parquet as pq

    flat = pa.array(np.ascontiguousarray(features, dtype=plan.dtype).ravel())
    arrays = {
        "key": pa.array([as_text(key) for key in columns["key"]], pa.string()),
        "sha256": pa.array(columns["sha256"], pa.binary(32)),
        "feature": pa.FixedSizeListArray.from_arrays(flat, type=feature_type(flat.type, plan.width)),
        **{
            name: pa.array([None if text is None else as_text(text) for text in columns[name]], pa.string())
            for name in ("label", "error")
        },
    }
    buffer = io.BytesIO()
    # Features do not compress; a dictionary of them would only cost time.
    schema = pa.schema([pa.field(name, array.type, name in _OPTIONAL) for name, array in arrays.items()])
    # In one page the features lie side by side, and are read where they are (`data.parts`).
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False, "data_page_size": _PAGE}
    pq.write_table(pa.table(arrays, schema), buffer, **plain)
    return buffer.getvalue()


def finish(plan: Plan, parts: int, source: str = "") -> dict[str, Any]:
    """Write the manifest, once all parts are done.

    Args:
        plan: The plan.
        parts: Number of parts.
        source: Where the photos are, as `source.units` takes it.

    Raises:
        DataError: a part is of another network.

    Returns:
        Its content: the numbers of parts, rows and errors, and what all parts have in common.
    """
    rows = errors = 0
    digests = []
    for number in range(parts):
        path = part_paths(plan.folder, number)[1]
        found = storage.read_checked_json(path)
        _refuse_others(plan, path, found)  # another process may have written it meanwhile
        rows, errors = rows + found["rows"], errors + found["errors"]
        digests.append(found["part_sha256"])
    whole: dict[str, Any] = {"parts": parts, "rows": rows, "errors": errors, "width": plan.width}
    whole |= {"parts_sha256": digest_of_parts(digests), **plan.facts, **plan.network, "source": source}
    storage.write_checked_json(plan.folder / MANIFEST, whole, _WHOLE)
    return whole
