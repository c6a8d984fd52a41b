"""The feature store: a folder of shards with checksums, which several processes may write at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import Array
from jclip_adapter.storage import KEPT, discard, npz_bytes, read_npz, sweep_strays, write_bytes

logger = logging.getLogger(__name__)


class FeatureStore:
    """Features on disk, by key.

    Args:
        folder: Folder of the shards; created when features are added.
        width: Width of the features.

    Attributes:
        unreadable: Keys of photos that a process could not read.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self.width = width
        self.unreadable: set[bytes] = set()
        self._rows: dict[bytes, Array] = {}
        self._known: set[str] = set()
        sweep_strays(folder)
        self.refresh()

    def refresh(self) -> None:
        """Read the shards that other processes have added since."""
        for path in sorted(self.folder.glob("*.npz")):
            if path.name not in self._known:
                self._read(path)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def _read(self, path: Path) -> None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # removed by another process as damaged
            return
        if not KEPT.owns(path):
            logger.warning("%s is not a file of the feature store and is ignored", path)
            self._known.add(path.name)
            return
        try:
            shard = read_npz(data)
        except DataError:
            logger.warning("%s is damaged; its features are recomputed", path)
            discard(path, KEPT)
            return
        self._known.add(path.name)
        try:
            keys, features = shard["keys"], shard["features"]
        except KeyError:
            logger.warning("%s holds no features and is ignored", path)
            return
        if keys.shape != (*features.shape[:1], 32) or keys.dtype != np.uint8 or features.dtype != np.float32:
            return
        if features.shape[1:] == (self.width,):
            self._rows.update((key.tobytes(), row) for key, row in zip(keys, features, strict=True))
        elif features.shape[1:] == (0,):
            self.unreadable.update(key.tobytes() for key in keys)

    def add(self, keys: Sequence[bytes], features: Array) -> None:
        """Add features as one new shard.

        Args:
            keys: n SHA-256 digests.
            features: (n, width) float32.
        """
        self._write(keys, features)
        self._rows.update(zip(keys, features, strict=True))

    def add_unreadable(self, keys: Sequence[bytes]) -> None:
        """Record n SHA-256 digests of unreadable photos, so that other processes do not wait for them."""
        self._write(keys, np.zeros((len(keys), 0), dtype=np.float32))
        self.unreadable.update(keys)

    def _write(self, keys: Sequence[bytes], features: Array) -> None:
        table = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape((len(keys), 32))
        data = npz_bytes({"keys": table, "features": features})
        name = f"{data[-64:-32].decode()}.npz"  # the start of its checksum, which is at its end
        write_bytes(self.folder / name, data, KEPT)
        self._known.add(name)

    def get(self, keys: Sequence[bytes]) -> Array:
        """(n, width) features of n stored keys."""
        if not keys:
            return np.zeros((0, self.width), dtype=np.float32)
        return np.stack([self._rows[key] for key in keys])
