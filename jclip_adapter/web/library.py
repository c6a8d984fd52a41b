"""The photos of the page and their features: from the store, or encoded in parts while the page is used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.problems import Problems
from jclip_adapter.core.task import Array
from jclip_adapter.data.sets import Photo
from jclip_adapter.data.sets.paths import check_links
from jclip_adapter.data.sets.tree import scan
from jclip_adapter.features.encoding import PhotoFeatures, encode_missing, image_store, photo_keys
from jclip_adapter.models.base import ImageEncoder
from jclip_adapter.storage import Kind, npz_bytes, read_npz, write_bytes
from jclip_adapter.storage.kinds import unchanged_npz

KEYS = "keys.npz"
WAITING, READY, UNREADABLE = 0, 1, 2
_KEYS = Kind("the keys of a project's photos", unchanged_npz("names", "states", "keys"))
_PART = 128  # photos encoded before the page is served again


@dataclass(frozen=True, slots=True)
class Item:
    """One photo.

    Attributes:
        name: Its path in the project folder, such as "data/Cat/1.jpg".
        path: The file.
        test: Whether it is a test photo of the data set, which has no label and gets none.
    """

    name: str
    path: Path
    test: bool = False


class Library:
    """N photos, in the order in which they came; a photo keeps its number.

    Args:
        encoder: The network.
        cache: Folder of all feature stores.
        folder: The project folder, which gets KEYS: the SHA-256 of files whose size and time of change are the same
            need not be computed again.
        workers: Decoding processes, as for `decoders.decode`.

    Attributes:
        items: The photos.
        numbers: Number of a photo by name.
        raw: (N, d) un-normalised features; zeros where there are none.
        state: (N,) WAITING, READY or UNREADABLE.
        why: Error message of unreadable photos, by number.
        keys: N SHA-256 of the files' bytes; b"" where unknown.
    """

    def __init__(self, encoder: ImageEncoder, cache: Path, folder: Path, workers: int = -1) -> None:
        self._encoder, self._file, self._workers = encoder, folder / KEYS, workers
        self._store = image_store(encoder, cache)
        self.items: list[Item] = []
        self.numbers: dict[str, int] = {}
        self.raw: Array = np.zeros((0, encoder.width), dtype=np.float32)
        self.state: npt.NDArray[np.int8] = np.zeros(0, dtype=np.int8)
        self.why: dict[int, str] = {}
        self.keys: list[bytes] = []
        self._states: dict[str, tuple[int, int]] = {}

    def add(self, items: Iterable[Item]) -> list[int]:
        """Add photos that are not there yet; features in the store are taken at once.

        Returns:
            Their numbers.
        """
        fresh = [item for item in items if item.name not in self.numbers]
        first = len(self.items)
        self.numbers.update((item.name, first + place) for place, item in enumerate(fresh))
        self.items += fresh
        self.keys += [b""] * len(fresh)
        self.raw = np.concatenate([self.raw, np.zeros((len(fresh), self._encoder.width), dtype=np.float32)])
        self.state = np.concatenate([self.state, np.zeros(len(fresh), dtype=np.int8)])
        self._take_known(range(first, len(self.items)))
        return list(range(first, len(self.items)))

    def _take_known(self, numbers: Sequence[int]) -> None:
        """Take the stored features of files that have not changed since their SHA-256 was computed."""
        try:
            known = read_npz(self._file.read_bytes())
            digests = dict(zip(known["names"].tolist(), known["keys"], strict=True))
            states = dict(zip(known["names"].tolist(), map(tuple, known["states"].tolist()), strict=True))
        except (OSError, DataError, KeyError, ValueError):
            return
        found = []
        for number in numbers:
            name = self.items[number].name
            if name in digests and states[name] == self._state_of(number):
                key = digests[name].tobytes()
                if key in self._store:
                    self.keys[number] = key
                    self._states[name] = states[name]
                    found.append(number)
        if found:
            self.raw[found] = self._store.get([self.keys[number] for number in found])
            self.state[found] = READY

    def _state_of(self, number: int) -> tuple[int, int]:
        """Size and time of change of a file; zeros if it cannot be read."""
        try:
            state = self.items[number].path.stat()
        except OSError:
            return 0, 0
        return state.st_size, state.st_mtime_ns

    @property
    def waiting(self) -> int:
        """Number of photos without features."""
        return int((self.state == WAITING).sum())

    def encode_part(self, first: Sequence[int] = ()) -> list[int]:
        """Encode the next photos.

        Args:
            first: Numbers of waiting photos that are encoded before others.

        Returns:
            The numbers of those that could be read; all others are UNREADABLE.
        """
        part = list(first)[:_PART] or np.flatnonzero(self.state == WAITING)[:_PART].tolist()
        paths = [self.items[number].path for number in part]
        before = [self._state_of(number) for number in part]
        keys, bad = photo_keys(paths)
        encode_missing(self._encoder, self._store, paths, keys, bad, self._workers)
        ready = []
        for place, number in enumerate(part):
            if place in bad or keys[place] not in self._store:
                self.why[number] = bad.get(place, "it has the bytes of a photo that cannot be read.")
                self.state[number] = UNREADABLE
                continue
            self.keys[number] = keys[place]
            self.raw[number] = self._store.get([keys[place]])[0]
            self.state[number] = READY
            if before[place] == self._state_of(number):
                self._states[self.items[number].name] = before[place]
            ready.append(number)
        if not self.waiting:
            self._write_keys()
        return ready

    def _write_keys(self) -> None:
        names = list(self._states)
        keys = b"".join(self.keys[self.numbers[name]] for name in names)
        arrays = {
            "names": np.array(names, dtype=str),
            "states": np.array([self._states[name] for name in names], dtype=np.int64).reshape((-1, 2)),
            "keys": np.frombuffer(keys, dtype=np.uint8).reshape((-1, 32)),
        }
        write_bytes(self._file, npz_bytes(arrays), _KEYS)

    def features(self, numbers: Sequence[int]) -> PhotoFeatures:
        """The features of photos that are READY."""
        paths, keys = [self.items[number].path for number in numbers], [self.keys[number] for number in numbers]
        return PhotoFeatures(self.raw[list(numbers)], {}, 0, tuple(paths), tuple(keys))


def folder_items(place: Path, folder: Path) -> list[Item]:
    """The photos in a folder, at any depth; links out of it are refused.

    Args:
        place: Its link in the project folder.
        folder: The folder.

    Raises:
        DataError: it cannot be read, or there is no photo.
    """
    problems = Problems(folder)
    names = list(scan(folder, problems).all_photos())
    check_links([Photo(folder, name, None) for name in names], folder, problems)
    problems.raise_if_any("Remove or rename them.")
    if not names:
        raise DataError(f"{folder} has no photo at any depth.")
    return [Item(f"{place.name}/{name}", folder / name) for name in names]
