"""Calibration of a fitted method on photos that it was not fitted on: one temperature, which changes no ranking.

Held-out shots come from fits to the other shots, in folds as for the selection of hyper-parameters.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.calibration import Calibration, certainty
from jclip_adapter.core.console import doing
from jclip_adapter.core.errors import DivergedError
from jclip_adapter.core.problems import counted
from jclip_adapter.core.task import Array, FewShotTask, Labelled, Queries, softmax
from jclip_adapter.methods import Method
from jclip_adapter.methods.training.folds import folds, shots_as_queries

from .metrics import wilson_interval

logger = logging.getLogger(__name__)
ENOUGH = 250
"""Held-out photos after which no further fold is fitted."""
ENOUGH_THROUGH_CLIP = 25
"""The same for methods that train through CLIP, each of whose fits may take hours."""
_RANGE = 12.0  # of the logarithm of the temperature, above its smallest value


@dataclass(frozen=True)
class HeldOut:
    """Logits of n photos that their method was not fitted on.

    Attributes:
        logits: (n, C).
        labels: (n,) class indices.
        source: What the photos are.
        alike: Whether new photos would be classified like them; shots of classes without shots are not.
        share: Mean share of the shots that the fits had.
    """

    logits: Array
    labels: npt.NDArray[np.int64]
    source: str
    alike: bool = True
    share: float = 1.0


class Estimate(NamedTuple):
    """Top-1 on new photos, from held-out shots.

    Attributes:
        top1: Share of the held-out shots whose class was predicted.
        low: Lower end of the interval.
        high: Its upper end.
        held_out: Number of these shots.
    """

    top1: float
    low: float
    high: float
    held_out: int


def estimate(known: Calibration) -> Estimate | None:
    """Estimate a method's top-1 on new photos, with an interval of at least 95 %.

    The interval is for top-1 on as many new photos, which vary as the held-out ones do: Wilson's interval of half the
    photos. Fits to fewer shots scored the held-out ones, so the method is at least as good as these. Errors are taken
    to fall with the number of shots at most as its inverse, which the upper end allows for: 1 − s·(1 − high), with the
    share s of the shots that the fits had.

    Args:
        known: The method's calibration.

    Returns:
        The estimate; None without held-out photos that stand for new ones.
    """
    if not known.tested:
        return None
    low, high = wilson_interval(known.correct / 2, known.tested / 2)
    return Estimate(known.correct / known.tested, low, 1 - known.share * (1 - high), known.tested)


def calibrate(method: Method, task: FewShotTask) -> Method:
    """Set a fitted method's `calibration_`.

    Args:
        method: The method, fitted to the task.
        task: The task.

    Returns:
        The method.
    """
    found = held_out(method, task)
    if found is not None:
        method.calibration_ = calibration_on(found)
    return method


def calibration_on(held: HeldOut) -> Calibration:
    """The calibration by held-out photos.

    A photo's certainty without its own class stands for that of a photo of an unknown class: the class has no column,
    as if the method had never had it.
    """
    scale = temperature(held.logits, held.labels)
    others = held.logits.astype(np.float64) / scale
    known = certainty(softmax(others))
    others[np.arange(len(others)), held.labels] = -np.inf
    unknown = certainty(softmax(others)) if others.shape[1] > 2 else np.zeros(0)  # one class left says nothing
    correct, tested = int((held.logits.argmax(axis=1) == held.labels).sum()), len(held.labels)
    return Calibration(
        scale,
        held.source,
        known.astype(np.float32),
        unknown.astype(np.float32),
        *((correct, tested, held.share) if held.alike else ()),
    )


def held_out(method: Method, task: FewShotTask) -> HeldOut | None:
    """Logits of shots by fits to the other shots, in the unit of the method's own logits.

    The scale of some methods' logits depends on the number of shots or on a penalty found in each fit. So the logits of
    a fit are multiplied by the ratio of the method's spread to its own, on the shots that both were fitted to.

    A method that uses no shots is not fitted again: all shots are held out. Otherwise folds of `folds.folds` are held
    out until there are `ENOUGH` photos. With one shot per class no fold exists: the shots of every second class are
    held out instead, and compete as classes without shots. For a transductive method a few shots do not stand for the
    photos that it classifies together.

    Args:
        method: The method, fitted to the task.
        task: The task.

    Returns:
        The logits; None without shots, if nothing can be held out, or for a transductive method.
    """
    if not len(task.support_labels) or method.meta.transductive:
        return None
    if not method.uses_shots:
        source = f"{counted(len(task.support_labels), 'photo')}: the shots, which the method does not use"
        return HeldOut(method.logits(_shots(task)), task.support_labels, source)
    parts, source = folds(task), "held-out shots"
    alike = bool(parts)
    if not parts:
        parts, source = list(_half_of_the_classes(task)), "shots of held-out classes, as there is one shot per class"
    logits: list[Array] = []
    labels: list[npt.NDArray[np.int64]] = []
    shares: list[float] = []
    enough = ENOUGH_THROUGH_CLIP if "encoder" in method.meta.needs else ENOUGH
    for part, held in parts:
        if sum(len(each) for each in labels) >= enough:
            break
        try:
            with doing(f"calibrating {method.meta.name}"):
                fitted = type(method)(seed=method.seed, **method.hyper.as_dict()).fit(part)
        except DivergedError as error:
            logger.warning("%s (without the held-out shots)", error.message)
            continue
        own = _shots(part)
        logits.append(fitted.logits(held.queries) * (_spread(method, own) / _spread(fitted, own)))
        labels.append(held.labels)
        shares.append(len(part.support_labels) / len(task.support_labels))
    if not logits:
        return None
    every = np.concatenate(labels)
    return HeldOut(np.concatenate(logits), every, f"{counted(len(every), 'photo')}: {source}", alike, fmean(shares))


def _shots(task: FewShotTask) -> Queries:
    return shots_as_queries(task, np.ones(len(task.support_labels), dtype=bool))


def _spread(method: Method, queries: Queries) -> np.float32:
    """Mean standard deviation of a photo's logits; a small number if they are equal."""
    return method.logits(queries).std(axis=1).mean() + np.finfo(np.float32).tiny


def _half_of_the_classes(task: FewShotTask) -> Iterator[tuple[FewShotTask, Labelled]]:
    """The task without the shots of every second class, and these shots; twice, or not at all."""
    seen = task.seen
    if not task.has_text or len(seen) < 4:  # without texts nothing is known of a class without shots
        return
    for half in (seen[::2], seen[1::2]):
        held = np.isin(task.support_labels, half)
        yield task.keep(~held), Labelled(shots_as_queries(task, held), task.support_labels[held])


def temperature(logits: npt.ArrayLike, labels: npt.NDArray[np.int64]) -> float:
    """The temperature that makes the labels most likely (Guo et al., ICML 2017, section 4.2).

    Minimises Σ −log softmax(z/T)_y, which is convex in 1/T. n photos that are all predicted correctly would give T = 0.
    So T is at least the temperature at which the mean probability of the predicted class is (n + 1)/(n + 2), Laplace's
    estimate of the accuracy after n correct photos of n.

    Args:
        logits: (n, C).
        labels: (n,) class indices.

    Returns:
        T > 0; 1 if all logits of each photo are equal.
    """
    from scipy.optimize import brentq, minimize_scalar

    scores = np.asarray(logits, dtype=np.float64)
    scores = scores - scores.max(axis=1, keepdims=True)
    size = -float(scores.mean())
    if size == 0:
        return 1.0
    scores /= size
    count = len(scores)
    truth = scores[np.arange(count), labels]

    def confidence(log_scale: float) -> float:
        return float(softmax(np.exp(log_scale) * scores).max(axis=1).mean()) - (count + 1) / (count + 2)

    def loss(log_scale: float) -> float:
        scale = np.exp(log_scale)
        return float(np.mean(np.log(np.exp(scale * scores).sum(axis=1)) - scale * truth))

    most = brentq(confidence, -_RANGE, _RANGE) if confidence(-_RANGE) < 0 < confidence(_RANGE) else _RANGE
    best = minimize_scalar(loss, bounds=(most - _RANGE, most), method="bounded", options={"xatol": 1e-4})
    return float(size / np.exp(best.x))
