"""A feature file of a few classes, for programs that read feature files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from jclip_adapter.core.task import normalise

CLASSES, WIDTH, TESTS, VALIDATION = 5, 16, 6, 2
NOISE = 0.3  # standard deviation of each number around the text's


def write_features(path: Path, shots: Sequence[int] = (3,), classes: int = CLASSES) -> Path:
    """Write rows that lie around their class's text; fewer shots are a part of more.

    Args:
        path: The file.
        shots: Shot counts.
        classes: Number of classes, up to 26.
    """
    rng = np.random.default_rng(0)
    text = normalise(rng.standard_normal((classes, WIDTH)))
    most = max(shots) + TESTS + VALIDATION
    labels = np.repeat(np.arange(classes), most)
    rows = normalise(text[labels] + NOISE * rng.standard_normal((len(labels), WIDTH)))
    place = np.arange(len(labels)) % most
    arrays = {}
    for count in shots:
        arrays[f"train{count}_x"], arrays[f"train{count}_y"] = rows[place < count], labels[place < count]
    arrays["val_x"], arrays["val_y"] = rows[place >= most - VALIDATION], labels[place >= most - VALIDATION]
    test = (place >= max(shots)) & (place < most - VALIDATION)
    np.savez(
        path,
        classnames=np.array(list(ascii_lowercase[:classes])),
        text=text,
        test_x=rows[test],
        test_y=labels[test],
        **arrays,
    )
    return path
