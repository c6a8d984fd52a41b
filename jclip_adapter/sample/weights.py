"""The sample's weight file: a CLIP whose token embedding holds only the rows that its captions use.

CLIP's vocabulary has 49,408 rows, nearly all of which never occur in the sample's captions. The file keeps the
rows that do, in half precision; every other token gets their mean, so that any text can be encoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import storage
from jclip_adapter.errors import WeightsError
from jclip_adapter.storage.kinds import sealed_safetensors

SAMPLE_WEIGHTS = Path(__file__).resolve().parents[2] / "data" / "sample" / "clip.safetensors"
VOCABULARY = 49408
_KIND = storage.Kind("a sample's weights", sealed_safetensors())
_EMBEDDING, _ROWS, _IDS = "token_embedding.weight", "token_embedding.rows", "token_embedding.ids"


def write_sample_weights(
    path: str | Path, state: Mapping[str, npt.NDArray[Any]], ids: npt.ArrayLike, facts: Mapping[str, str]
) -> None:
    """Write a CLIP in half precision, with only some rows of its token embedding.

    Args:
        path: Of the file.
        state: Weights by OpenAI's key names, the token embedding with one row per token of `ids`.
        ids: The tokens that its rows stand for, ascending.
        facts: Kept in the file's header.

    Raises:
        ValueError: the tokens are not one per row, ascending, within the vocabulary.
        SetupError: the file cannot be written.
    """
    tokens = np.asarray(ids, dtype=np.int32)
    rising = bool((np.diff(tokens) > 0).all()) and int(tokens[0]) >= 0 and int(tokens[-1]) < VOCABULARY
    if tokens.shape != state[_EMBEDDING].shape[:1] or not rising:
        raise ValueError(f"{len(tokens)} tokens do not stand for {len(state[_EMBEDDING])} rows of {VOCABULARY}")
    arrays = {name: np.asarray(value, dtype=np.float16) for name, value in state.items() if name != _EMBEDDING}
    arrays[_ROWS] = np.asarray(state[_EMBEDDING], dtype=np.float16)
    storage.write_safetensors(path, {**arrays, _IDS: tokens}, facts, _KIND)


def read_sample_weights(path: str | Path = SAMPLE_WEIGHTS) -> dict[str, npt.NDArray[np.float32]]:
    """Read what `write_sample_weights` wrote.

    Args:
        path: Of the file.

    Returns:
        Float32 weights by OpenAI's key names, the token embedding (49408, width) filled up.

    Raises:
        WeightsError: these are no sample's weights.
        DataError: the file is missing or damaged.
    """
    arrays, _ = storage.read_safetensors(path)
    if _ROWS not in arrays or _IDS not in arrays:
        raise WeightsError(f"{path} holds no sample's weights.", "Fetch data/sample/clip.safetensors again.")
    rows, ids = arrays.pop(_ROWS).astype(np.float32), arrays.pop(_IDS)
    table = np.tile(rows.mean(axis=0), (VOCABULARY, 1)).astype(np.float32)
    table[ids] = rows
    return {**{name: value.astype(np.float32) for name, value in arrays.items()}, _EMBEDDING: table}
