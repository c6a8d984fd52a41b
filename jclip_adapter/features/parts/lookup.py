"""Features of single photos from parts, by their keys."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from jclip_adapter.core.errors import DataError
from jclip_adapter.data.parts import columns, read_manifest, stream
from jclip_adapter.features.encoding import PhotoFeatures


class Lookup:
    """The features of a finished folder of parts.

    Attributes:
        folder: The folder, from which the photos' paths start.
        manifest: What the parts have in common.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)

    @cached_property
    def _about(self) -> dict[str, tuple[int, int, bytes, str]]:
        """Part, row, SHA-256 and error of each photo, by path."""
        found = {}
        for part, values in enumerate(columns(self.folder, ("key", "sha256", "error"))):
            for row, (key, digest, error) in enumerate(zip(*values.values(), strict=True)):
                found[str(self.folder / key)] = (part, row, digest or b"", error or "")
        return found

    def _find(self, path: Path) -> tuple[int, int, bytes, str]:
        if str(path) not in self._about:
            raise DataError(f"{self.folder} has no features of {path}.", "Extract them anew, or train again.")
        return self._about[str(path)]

    def keys(self, paths: Sequence[Path]) -> tuple[list[bytes], dict[int, str]]:
        """SHA-256 of N photos, b"" for an unreadable one or one that is not here; and error messages by index."""
        known = [self._about.get(str(path), (0, 0, b"", "is gone")) for path in paths]
        return [digest for *_, digest, _ in known], {at: why for at, (*_, why) in enumerate(known) if why}

    def photos(self, paths: Sequence[Path]) -> PhotoFeatures:
        """The features of N photos.

        Raises:
            DataError: one is not here.
        """
        known = [self._find(path) for path in paths]
        raw = np.zeros((len(paths), self.manifest["width"]), dtype=np.float32)
        rows_of: dict[int, list[tuple[int, int]]] = {}
        for place, (part, row, *_) in enumerate(known):
            rows_of.setdefault(part, []).append((row, place))
        for part, pairs in sorted(rows_of.items()):
            whole = np.concatenate([rows.features for rows in stream(self.folder, parts=iter([part]))])
            rows, places = map(list, zip(*pairs, strict=True))
            raw[places] = whole[rows]
        bad = {place: why for place, (*_, why) in enumerate(known) if why}
        return PhotoFeatures(raw, bad, 0, tuple(paths), tuple(digest for *_, digest, _ in known))
