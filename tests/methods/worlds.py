"""Tasks for the tests of methods: photos that lie beside their class's text, shifted by what they have in common."""

import numpy as np

from jclip_adapter.core.task import FewShotTask, normalise


class World:
    """A task, and queries with their answers.

    Args:
        seed: Of everything drawn.
        classes: C.
        width: d.
        shots: Support photos per class.
        unseen: How many of the last classes have no shots.
        shift: How far the photos lie from the texts in one common direction.
        noise: How much a photo differs from its class.
    """

    def __init__(self, *, seed=3, classes=6, width=32, shots=4, unseen=0, shift=1.2, noise=1.0):
        rng = np.random.default_rng(seed)
        text = normalise(rng.standard_normal((classes, width)))
        common = shift * rng.standard_normal(width) / width**0.5

        def photos(count, labels):
            labels = np.repeat(labels, count)
            raw = text[labels] + common + noise * rng.standard_normal((len(labels), width)) / width**0.5
            return (10 * raw).astype(np.float32), labels

        raw, labels = photos(shots, np.arange(classes - unseen))
        names = tuple(f"class {number}" for number in range(classes))
        self.task = FewShotTask(normalise(raw), labels, text, names, support_raw=raw)
        self.raw, self.answers = photos(20, np.arange(classes))
        self.queries = normalise(self.raw)

    def accuracy(self, logits):
        """Share of right first choices over all queries."""
        return float((np.asarray(logits).argmax(axis=1) == self.answers).mean())

    def accuracy_on(self, logits, classes):
        """The same over the queries of some classes."""
        chosen = np.isin(self.answers, classes)
        return float((np.asarray(logits).argmax(axis=1) == self.answers)[chosen].mean())
