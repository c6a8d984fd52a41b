"""What may be expected of refusing photos of which a method is not sure enough ("none of these")."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.calibration import Calibration

from .metrics import wilson_interval


def expected_of(calibration: Calibration, reject: float) -> dict[str, Any]:
    """What the held-out shots say, in percent.

    Args:
        calibration: Of a fitted method.
        reject: Share of photos of the classes that may be refused, between 0 and 1.

    Returns:
        "rate"; "threshold" of the certainty; "held_out" photos; "expected_kept_interval", the 95 % interval of the
        share of photos of the classes that are kept; "passing" and "passing_interval", the share of photos of unknown
        classes that are not refused, with its Wilson interval, None with fewer than three classes.

    Raises:
        UsageError: as `Calibration.threshold`.
    """
    count, through = len(calibration.unknown), calibration.passing(reject)
    return {
        "rate": 100 * reject,
        "threshold": calibration.threshold(reject),
        "held_out": len(calibration.known),
        "expected_kept_interval": [100 * end for end in calibration.kept_interval(reject)],
        "passing": 100 * through / count if count else None,
        "passing_interval": [100 * end for end in wilson_interval(through, count)] if count else None,
    }


def in_words(calibration: Calibration, reject: float) -> list[str]:
    """The values of `expected_of` in two lines."""
    found = expected_of(calibration, reject)
    kept = "expected from {} held-out shots: {:.1f}–{:.1f} % of the photos of the classes are kept"
    lines = [kept.format(found["held_out"], *found["expected_kept_interval"])]
    if found["passing"] is None:
        return [*lines, "with fewer than three classes nothing is known about photos of others"]
    through = "expected by leaving classes out: {:.1f} % ({:.1f}–{:.1f} %) of photos of similar unknown classes pass"
    return [*lines, through.format(found["passing"], *found["passing_interval"])]


def measured(
    calibration: Calibration, logits: npt.ArrayLike, labels: npt.NDArray[np.int64], reject: float
) -> dict[str, Any]:
    """What refusing does to labelled photos of the classes, in percent.

    Args:
        calibration: Of a fitted method.
        logits: (M, C).
        labels: (M,) class indices.
        reject: As for `expected_of`.

    Returns:
        "kept" and "kept_interval", the share that is kept with its Wilson interval; "top1_of_kept", None if none is.
    """
    known = calibration.is_known(logits, reject)
    right = np.asarray(logits).argmax(axis=1) == labels
    return {
        "kept": 100 * float(known.mean()),
        "kept_interval": [100 * end for end in wilson_interval(int(known.sum()), len(known))],
        "top1_of_kept": 100 * float(right[known].mean()) if known.any() else None,
    }
