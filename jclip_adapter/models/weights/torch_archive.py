"""PyTorch's files: zip archives (TorchScript and `torch.save`) and the older chain of pickles.

A zip archive holds `<name>/data.pkl`, a pickle whose persistent ids name the storages `<name>/data/<key>`. The
older form is a chain: magic number, protocol, system facts, the object with persistent ids, the list of storage
keys, and per key a 64-bit count and the raw numbers. A torch tensor in a plain pickle holds such a chain.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

from jclip_adapter.core.errors import WeightsError

from .pickles import Budget, Stream, read_pickle
from .symbols import allow_list
from .tensors import BFLOAT16, Storage, StorageKind

MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAX_ENTRIES = 100_000
_MAX_GROWTH = 4  # entries are stored, or trained weights deflated by a few percent
_SLACK = 1 << 24
_DAMAGED = "Download it again: it is damaged or was not written by PyTorch."
_ZIP_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    KeyError,
    ValueError,
    OverflowError,
    NotImplementedError,  # a compression method or version that zipfile does not know
    RuntimeError,  # an encrypted entry
)


def read_zip(path: Path) -> tuple[object, int]:
    """Read the object in a PyTorch zip archive.

    Args:
        path: The archive.

    Returns:
        The object as plain values and stand-ins, and the uncompressed size of the entries in bytes.

    Raises:
        WeightsError: it is damaged, not a PyTorch archive, or expands to far more than its size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = path.stat().st_size
            return _read_archive(archive, size), _check_sizes(archive, size)
    except _ZIP_FAULTS as error:
        raise WeightsError(f"its zip archive is damaged ({error}).", _DAMAGED) from error


def _check_sizes(archive: zipfile.ZipFile, size: int) -> int:
    entries = archive.infolist()
    unfolded = sum(entry.file_size for entry in entries)
    # The compressed sizes of overlapping entries, another kind of zip bomb, exceed the file's size.
    if len(entries) > _MAX_ENTRIES or sum(entry.compress_size for entry in entries) > size:
        raise WeightsError("its zip directory does not match the file's size.", _DAMAGED)
    if unfolded > _MAX_GROWTH * size + _SLACK:
        raise WeightsError(f"its {size} bytes would expand to {unfolded}; weights do not compress that well.", _DAMAGED)
    for entry in entries:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise WeightsError("its zip archive has a compression method that PyTorch does not use.", _DAMAGED)
    return unfolded


def _read_archive(archive: zipfile.ZipFile, size: int) -> object:
    unfolded = _check_sizes(archive, size)
    names = set(archive.namelist())
    roots = sorted(
        name for name in names if name == "data.pkl" or (name.count("/") == 1 and name.endswith("/data.pkl"))
    )
    if len(roots) != 1:
        raise WeightsError("it is a zip archive, but not one of PyTorch's: there is no single data.pkl in it.")
    folder = roots[0][: -len("data.pkl")]
    order = ">" if folder + "byteorder" in names and archive.read(folder + "byteorder").strip() == b"big" else "<"
    storages: dict[str, Storage] = {}

    def persistent(identity: object) -> Storage:
        kind, key, count = _storage_identity(identity)
        if key not in storages:
            if f"{folder}data/{key}" not in names:
                raise WeightsError("the bytes of a tensor are missing from the archive.", _DAMAGED)
            storages[key] = Storage(kind.code, count, archive.read(f"{folder}data/{key}"), order)
        return _same(storages[key], kind, count)

    budget = Budget(unfolded)
    data = archive.read(roots[0])
    stream = Stream(io.BytesIO(data), len(data))
    root = read_pickle(stream, allow_list(budget), persistent)
    _expect_end(stream)
    return root


def read_stream(stream: Stream, budget: Budget) -> object:
    """Read one pickle, possibly with torch tensors, or PyTorch's older chain of pickles.

    Args:
        stream: The file, from its start.
        budget: The file's budget.

    Returns:
        The object as plain values and stand-ins.

    Raises:
        WeightsError: it is malformed or asks for anything that is not allowed.
    """

    def load_from_bytes(*arguments: object) -> Storage:
        match arguments:
            case (bytes() | bytearray() as data,):
                inner = Stream(io.BytesIO(data), len(data))
                root = read_pickle(inner, allow_list(budget))
                storage = _read_chain(inner, budget) if isinstance(root, int) and root == MAGIC else None
                if isinstance(storage, Storage):
                    return storage
        raise WeightsError("a tensor in its pickle is not in PyTorch's format.")

    root = read_pickle(stream, allow_list(budget, load_from_bytes))
    if isinstance(root, int) and root == MAGIC:
        root = _read_chain(stream, budget)
    _expect_end(stream)
    return root


def _expect_end(stream: Stream) -> None:
    if stream.left():
        raise WeightsError(f"{stream.left()} bytes follow after its end.", _DAMAGED)


def _read_chain(stream: Stream, budget: Budget) -> object:
    """Read the older format, after its magic number."""
    plain = allow_list(budget)
    protocol = read_pickle(stream, plain)
    facts = read_pickle(stream, plain)
    if not isinstance(protocol, int) or protocol != _PROTOCOL or not isinstance(facts, dict):
        raise WeightsError("it was written by an unknown version of PyTorch.", _DAMAGED)
    order = ">" if facts.get("little_endian") is False else "<"
    storages: dict[str, Storage] = {}

    def persistent(identity: object) -> Storage:
        kind, key, count = _storage_identity(identity)
        return _same(storages.setdefault(key, Storage(kind.code, count, None, order)), kind, count)

    root = read_pickle(stream, plain, persistent)
    keys = read_pickle(stream, plain)
    if not isinstance(keys, list):
        raise WeightsError("its list of storages is missing.", _DAMAGED)
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or storage.data is not None:
            raise WeightsError("its list of storages does not match its tensors.", _DAMAGED)
        storage.data = _read_storage(stream, storage, budget)
    return root


def _read_storage(stream: Stream, storage: Storage, budget: Budget) -> bytes:
    head = stream.read(8)
    width = 2 if storage.code == BFLOAT16 else int(storage.code[-1])
    if len(head) < 8 or struct.unpack(storage.order + "q", head)[0] != storage.count:
        raise WeightsError("a storage's length does not match its tensors.", _DAMAGED)
    length = storage.count * width
    if not 0 <= length <= stream.left():
        raise WeightsError("the bytes of a tensor are missing: the file is truncated.", _DAMAGED)
    budget.spend(length)
    return stream.read(length)


def _storage_identity(identity: object) -> tuple[StorageKind, str, int]:
    match identity:
        case ("storage", StorageKind() as kind, str(key), str(), int(count), *rest) if rest in ([], [None]):
            return kind, key, count
    raise WeightsError("its pickle refers to an object that is not a storage.", _DAMAGED)


def _same(storage: Storage, kind: StorageKind, count: int) -> Storage:
    if storage.code != kind.code or storage.count != count:
        raise WeightsError("two of its tensors disagree about their storage.", _DAMAGED)
    return storage
