"""Write the sample's weight file: a CLIP whose token embedding holds only the rows that its captions use.

CLIP's vocabulary has 49,408 rows, nearly all of which never occur in the sample's captions. The file keeps the
rows that do, in half precision; `jclip_adapter.data.sample` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import storage
from jclip_adapter.data.sample import EMBEDDING, IDS, ROWS, VOCABULARY
from jclip_adapter.storage.kinds import unchanged_safetensors

_KIND = storage.Kind("a sample's weights", unchanged_safetensors())


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
    if tokens.shape != state[EMBEDDING].shape[:1] or not rising:
        raise ValueError(f"{len(tokens)} tokens do not stand for {len(state[EMBEDDING])} rows of {VOCABULARY}")
    arrays = {name: np.asarray(value, dtype=np.float16) for name, value in state.items() if name != EMBEDDING}
    arrays[ROWS] = np.asarray(state[EMBEDDING], dtype=np.float16)
    storage.write_safetensors(path, {**arrays, IDS: tokens}, facts, _KIND)
