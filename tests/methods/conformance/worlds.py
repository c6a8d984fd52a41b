"""Small problems that every method of the conformance suite is run on."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jclip_adapter.core.task import FewShotTask, Labelled, Queries, normalise
from jclip_adapter.methods import Method, create, get

from .tiny_clip import class_texts, tiny_world

CLASSES, WIDTH, SHOTS, QUERIES = 5, 16, 3, 8
FEW = 20  # passes or steps that a method is given where its accuracy does not matter
FEWER = 6  # the same where each goes through CLIP


@dataclasses.dataclass(frozen=True)
class World:
    """A task, and photos with the answers to score it by."""

    task: FewShotTask
    queries: Queries
    answers: np.ndarray


def world(
    name: str, *, seed: int = 0, classes: int = CLASSES, width: int = WIDTH, shots: int = SHOTS, full: bool = False
) -> World:
    """Photos around their classes' texts, which zero-shot mostly gets right.

    Args:
        name: The method it is for: what it needs is there.
        seed: Of the numbers drawn.
        classes: C.
        width: d.
        shots: Per class.
        full: Whether all that a task can carry is there.
    """
    if "encoder" in get(name).meta.needs:
        return _photo_world(seed, shots, classes, width, full)
    rng = np.random.default_rng(seed)
    text = normalise(np.linalg.qr(rng.standard_normal((max(classes, width), max(classes, width))))[0][:classes, :width])
    labels, answers = np.repeat(np.arange(classes), shots), np.repeat(np.arange(classes), QUERIES)

    def photos(of: np.ndarray) -> np.ndarray:
        return normalise(text[of] + 0.9 * rng.standard_normal((len(of), width)) / width**0.5)

    support, queries = photos(labels), photos(answers)
    aux = full or "auxiliary" in get(name).meta.needs
    centres = rng.standard_normal((classes, 2 * width))

    def second(of: np.ndarray) -> np.ndarray | None:
        return centres[of] + 0.5 * rng.standard_normal((len(of), 2 * width)) if aux else None

    further = {}
    if full:
        lengths = rng.uniform(5, 15, (len(labels) + classes, 1))
        further = {
            "support_raw": support * lengths[: len(labels)],
            "text_raw": text * lengths[len(labels) :],
            "support_views": np.stack([support, photos(labels)]),
            "text_views": tuple(normalise(row + 0.1 * rng.standard_normal((2, width))) for row in text),
            "domains": tuple("ab"[number % 2] for number in range(classes)),
            "extra_features": photos(labels),
            "extra_labels": labels,
            "validation": Labelled(Queries(photos(answers), 9 * photos(answers), second(answers)), answers),
        }
    names = tuple(f"class {number}" for number in range(classes))
    task = FewShotTask(support, labels, text, names, auxiliary=second(labels), **further)
    raw = 11 * queries if full else None
    return World(task, Queries(queries, raw, second(answers)), answers)


@functools.cache
def _photo_world(seed: int, shots: int, classes: int, width: int, full: bool) -> World:
    """The same with photos and a tiny CLIP, for methods that train through it."""
    tiny = tiny_world(classes, width)
    rng = np.random.default_rng(seed)
    labels, answers = np.repeat(np.arange(classes), shots), np.repeat(np.arange(classes), QUERIES)
    support, asked = tiny.photos(labels, rng), tiny.photos(answers, rng)
    raw, text = tiny.encode(support), class_texts(tiny)
    further = {}
    if full:
        copies = [tiny.encode(tiny.photos(labels, rng)) for _ in range(2)]
        further = {
            "support_raw": raw,
            "text_raw": text,
            "support_views": normalise(np.stack(copies)),
            "text_views": tuple(normalise(row + 0.1 * rng.standard_normal((2, width))) for row in text),
            "domains": tuple("ab"[number % 2] for number in range(classes)),
        }
    names = tuple(f"class {number}" for number in range(classes))
    task = FewShotTask(normalise(raw), labels, text, names, encoder=tiny.link(support), **further)
    found = tiny.encode(asked)
    queries = Queries(normalise(found), found if full else None, encode=lambda change: tiny.encode(asked, change))
    return World(task, queries, answers)


def permute_classes(task: FewShotTask, order: np.ndarray) -> FewShotTask:
    """The same task with class order[i] at place i."""
    return dataclasses.replace(
        task,
        text_features=task.text_features[order],
        class_names=tuple(task.class_names[number] for number in order),
        support_labels=np.argsort(order)[task.support_labels],
        encoder=task.encoder
        and dataclasses.replace(
            task.encoder,
            names=tuple(task.encoder.names[number] for number in order),
            prompts=tuple(task.encoder.prompts[number] for number in order),
        ),
    )


def quick_values(name: str) -> dict[str, int]:
    """Smaller values for whatever of a method's hyper-parameters counts passes or steps."""
    values = {}
    for item in dataclasses.fields(get(name).Hyper):
        counts = isinstance(item.default, int) and re.search(r"(epochs|iterations|steps|steps_per_shot)$", item.name)
        few = FEW if "encoder" not in get(name).meta.needs else FEWER // 3 if "per_shot" in item.name else FEWER
        if counts and item.default > few and not item.metadata["grid"]:
            values[item.name] = max(few, item.metadata["low"] or 0)
    return values


def quick(name: str, **values) -> Method:
    """A method that does not train for long."""
    return create(name, **{**quick_values(name), **values})


@functools.cache
def fitted(name: str, seed: int = 0) -> tuple[Method, World]:
    """A method fitted on the plain world: to be asked, not to be changed."""
    given = world(name)
    return quick(name, seed=seed).fit(given.task), given


@functools.cache
def trained(name: str) -> Method:
    """A method with its defaults, fitted on the plain world: to be asked, not to be changed."""
    return create(name).fit(world(name).task)


@functools.cache
def predictions(name: str, unseen: int | None = None) -> tuple[np.ndarray, World]:
    """What a method with its defaults predicts; or, with one class's shots left out, what it does at least.

    Methods that train through CLIP are given fewer steps then: as many as there are classes, their trainings would
    take longer than all other checks together.
    """
    given = world(name)
    if unseen is None:
        return trained(name).logits(given.queries).argmax(axis=1), given
    task = given.task.keep(given.task.support_labels != unseen)
    method = quick(name) if "encoder" in get(name).meta.needs else create(name)
    return method.fit(task).logits(given.queries).argmax(axis=1), given


@functools.cache
def varies(name: str) -> bool:
    """Whether a method draws or shuffles: then its results are alike rather than the same."""
    (one, given), (other, _) = fitted(name), fitted(name, 1)
    return bool(one.history_) or not np.array_equal(one.logits(given.queries), other.logits(given.queries))


def assert_close(name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """The same scores up to rounding; of a method that draws or shuffles, at least nearly the same predictions."""
    size = max(1.0, float(np.abs(theirs).max()))
    if varies(name) and not np.allclose(ours, theirs, atol=1e-3 * size):
        agreement = (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()
        assert agreement >= 0.8, f"only {100 * agreement:.0f} % of the predictions agree"
    else:
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * size)


def assert_scores(scores: np.ndarray, rows: int, classes: int) -> None:
    """(rows, classes) float32 without NaN or infinity."""
    assert scores.shape == (rows, classes)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
