"""Encoding of sounds whose features depend on the others of their batch; they are not stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jclip_adapter.core.console import progress
from jclip_adapter.core.task import Array, chunks
from jclip_adapter.data.photos.decoders import in_threads
from jclip_adapter.data.sounds import read_sound
from jclip_adapter.models.audioclip.encoder import AudioEncoder


def encode_in_batches(audio: AudioEncoder, paths: Sequence[Path]) -> Array:
    """Encode sounds in batches of the encoder's size, in their order.

    Args:
        audio: The encoder, in either mode.
        paths: N sound files.

    Returns:
        (N, d) un-normalised features.

    Raises:
        SoundError: a sound cannot be read.
        UsageError: a batch of "published" mode has a single sound.
    """
    found = []
    with progress(total=len(paths), desc="encoding sounds", unit="sound") as bar:
        for rows in chunks(np.arange(len(paths)), audio.batch_size):
            waves = np.stack(list(in_threads(read_sound, [paths[row] for row in rows])))
            found.append(audio.sounds(waves))
            bar.update(len(rows))
    return np.concatenate(found)
