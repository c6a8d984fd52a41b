"""The built-in sample, a toy: a data set of drawings, unpacked on first use, and a small CLIP pretrained on it.

`tools/sample` of the repository draws the photos and pretrains the CLIP, whose weight file has only the rows of CLIP's
vocabulary that its captions use, in float16.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import storage
from jclip_adapter.core.console import progress
from jclip_adapter.core.errors import DataError, WeightsError
from jclip_adapter.core.resources import kept, shipped

SAMPLE_WEIGHTS = shipped("data/sample/clip.safetensors")
PHOTOS = shipped("data/sample/photos.zip")
VOCABULARY = 49408
EMBEDDING, ROWS, IDS = "token_embedding.weight", "token_embedding.rows", "token_embedding.ids"


def sample_root() -> Path:
    """The folder of the unpacked photos."""
    return kept("data/sample/photos")


def ensure_sample(root: Path | None = None) -> Path:
    """Unpack the sample's photos atomically, unless they are up to date.

    Args:
        root: The folder; `sample_root()` by default.

    Returns:
        The folder, in the contest's layout, with `TestSetA_labels.txt`.

    Raises:
        SetupError: the folder cannot be written.
        UsageError: the folder has other files.
        DataError: the archive is missing.
    """
    target = sample_root() if root is None else Path(root)
    if not PHOTOS.is_file():
        raise DataError(f"{PHOTOS} is missing.", "Download it again, or run `python -m tools.sample.painter`.")
    digest = storage.sha256_file(PHOTOS)
    if _archive_of(target) == digest:
        return target
    with storage.replace_folder(target) as fresh, zipfile.ZipFile(PHOTOS) as archive:
        names = archive.namelist()
        for name in progress(names, desc="unpacking the sample", unit="file", leave=False):
            storage.write_bytes(fresh / name, archive.read(name))
        storage.write_manifest(fresh, names, archive=digest)
    return target


def _archive_of(folder: Path) -> str:
    """SHA-256 of the archive that a folder was unpacked from; empty where it is not a complete sample."""
    try:
        return str(storage.check_manifest(folder).get("archive", ""))
    except DataError:
        return ""


def read_sample_weights(path: str | Path = SAMPLE_WEIGHTS) -> dict[str, npt.NDArray[np.float32]]:
    """Read the sample's weight file; missing rows of the token embedding become the mean of the others.

    Args:
        path: The file.

    Returns:
        Float32 weights by OpenAI's key names, with the full token embedding (49408, width).

    Raises:
        WeightsError: they are not the sample's weights.
        DataError: the file is missing or damaged.
    """
    arrays: dict[str, npt.NDArray[Any]] = storage.read_safetensors(path)[0]
    if ROWS not in arrays or IDS not in arrays:
        raise WeightsError(
            f"{path} does not hold the sample's weights.", "Download data/sample/clip.safetensors again."
        )
    rows, ids = arrays.pop(ROWS).astype(np.float32), arrays.pop(IDS)
    table = np.tile(rows.mean(axis=0), (VOCABULARY, 1)).astype(np.float32)
    table[ids] = rows
    return {**{name: value.astype(np.float32) for name, value in arrays.items()}, EMBEDDING: table}
