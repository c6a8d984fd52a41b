"""Small tasks that tests of methods share."""

from __future__ import annotations

import numpy as np

from jclip_adapter.core.task import FewShotTask, normalise


def world(classes=12, width=32, shots=4, queries=20, seed=3):
    """Photos lie around a direction of their class: its text's, moved by a common shift and by one of its own.

    Returns:
        The task, (M, d) queries and their (M,) labels.
    """
    rng = np.random.default_rng(seed)
    text = normalise(1.5 * rng.standard_normal(width) + rng.standard_normal((classes, width)))
    own = 0.5 * rng.standard_normal((classes, width))
    centres = text + (0.8 * rng.standard_normal(width) + own) / width**0.5

    def photos(count):
        labels = np.repeat(np.arange(classes), count)
        return normalise(centres[labels] + 0.9 * rng.standard_normal((len(labels), width)) / width**0.5), labels

    features, labels = photos(shots)
    asked, answers = photos(queries)
    return FewShotTask(features, labels, text, tuple(f"class {number}" for number in range(classes))), asked, answers


def without(task, *classes):
    """The task without the shots of some classes."""
    return task.keep(~np.isin(task.support_labels, classes))


def top1(logits, labels):
    return float((logits.argmax(axis=1) == labels).mean())
