"""The training step of a method that trains through CLIP, taken out of its `fit`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from jclip_adapter.core.task import EncoderLink, FewShotTask, normalise
from jclip_adapter.methods import Method
from jclip_adapter.methods.training import loop
from tests.reference_text_tower import healthy_state

NAMES = ("red dog", "blue house", "owl")
SCALE = 20.0  # small enough for no probability to be near 0 or 1


def tiny_task(labels: list[int], width: int = 16, **further: object) -> tuple[FewShotTask, dict[str, np.ndarray]]:
    """Random photos' features, a tiny CLIP that prompts are trained through, and its weights."""
    from jclip_adapter.models.clip.model import build_model

    state = healthy_state(width)
    rng = np.random.default_rng(1)
    link = EncoderLink(build_model(state), NAMES, tuple(f"a {name}." for name in NAMES), lambda rows, *_: rows)
    photos = normalise(rng.standard_normal((len(labels), width)).astype(np.float32))
    texts = normalise(rng.standard_normal((len(NAMES), width)).astype(np.float32))
    task = FewShotTask(
        photos,
        np.array(labels),
        texts,
        tuple("abc"),
        logit_scale=SCALE,
        encoder=link,
        **further,
    )
    return task, state


@dataclass(frozen=True)
class Step:
    """What a method does with all support rows at once.

    Attributes:
        loss: Of the step.
        gradient: By the only parameter.
        at: The parameter, drawn so large that the vectors matter as much as words.
    """

    loss: float
    gradient: np.ndarray
    at: np.ndarray


def captured_step(method: Method, task: FewShotTask, deviation: float = 0.4) -> Step:
    """Run one step of a method's training where the parameter is anew drawn, and nothing else of `fit`'s training."""
    from jclip_adapter.runtime import jt

    found = []

    def instead(step, optimizer, batches, **_):
        (value,) = optimizer.params
        rows = len(task.support_labels)
        at = (deviation * np.random.default_rng(2).standard_normal(tuple(value.shape))).astype(np.float32)
        value.update(jt.array(at))
        loss, (gradient,), *_ = step((np.arange(rows), np.random.default_rng(3)))
        found.append(Step(loss, np.array(gradient.numpy()), at))
        return loop.History([], [])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train", instead)
        method.fit(task)
    return found[0]
