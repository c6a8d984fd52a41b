"""Checks of the methods that train through CLIP."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import Queries, normalise
from jclip_adapter.methods import get
from jclip_adapter.methods.training.checkpoint import Checkpoint
from tests.stopping import stop_before

from .tiny_clip import tiny_world
from .worlds import CLASSES, WIDTH, fitted, quick, scratch, trained, world


def state_bytes() -> dict[str, bytes]:
    """The weights of the tiny CLIP as they are now."""
    return {key: value.numpy().tobytes() for key, value in tiny_world(CLASSES, WIDTH).model.state_dict().items()}


class StoppedError(Exception):
    """The process is gone."""


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    """Stops a training before its third step."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(StoppedError):
        stop_before(2, patch, StoppedError)
        yield


def check_clip_is_given_back_as_it_was(name: str) -> None:
    """By `fit` and `logits`, and by a `fit` that is stopped."""
    given, before = world(name), state_bytes()
    quick(name).fit(given.task).logits(given.queries)
    assert state_bytes() == before
    with stopped():
        quick(name).fit(given.task)
    assert state_bytes() == before


def check_a_stopped_training_goes_on(name: str) -> None:
    """With the bytes of an unbroken one, and without the steps that were done."""
    given = world(name)
    with scratch() as folder:
        quick(name).fit(given.task).save(folder / "unbroken")
        for _ in range(2):
            method = quick(name)
            method.checkpoint = Checkpoint(folder / "state", "a training", pause_s=0)
            with stopped():
                method.fit(given.task)
        method.fit(given.task).save(folder / "stopped")
        assert (folder / "stopped").read_bytes() == (folder / "unbroken").read_bytes()


def check_without_clip_it_refuses(name: str) -> None:
    """The error says what to give."""
    task = dataclasses.replace(world(name).task, encoder=None)
    with pytest.raises(DataError, match=f"{name} trains through CLIP.*photos"):
        quick(name).fit(task)


def check_training_lowers_the_loss(name: str) -> None:
    """With the defaults, the last epochs' loss lies below the first ones'."""
    losses = [row["loss"] for row in trained(name).history_]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def check_only_what_was_trained_is_kept(name: str) -> None:
    """Weights of CLIP's, in its shapes, of the towers that the metadata name, and no others."""
    method, _ = fitted(name)
    base = tiny_world(CLASSES, WIDTH).state
    found = method.encoder_weights(base)
    assert all(value.shape == base[key].shape and value.dtype == np.float32 for key, value in found.items())
    assert all((value != base[key]).any() for key, value in found.items())
    towers = {"images" if key.startswith("visual.") else "texts" for key in found}
    assert towers == set(get(name).meta.tunes)
    assert sum(value.size for value in method.encoder_.values()) <= sum(value.size for value in found.values())
    assert bool(method.encoder_) == bool(found)


def check_photos_are_encoded_anew(name: str) -> None:
    """Through the tuned tower, and only where it is tuned: features alone are refused then, and suffice otherwise."""
    method, given = fitted(name)
    scores = method.logits(given.queries)
    if "images" not in get(name).meta.tunes:
        np.testing.assert_array_equal(method.logits(dataclasses.replace(given.queries, encode=None)), scores)
        return
    with pytest.raises(DataError, match="encode their photos anew"):
        method.logits(given.queries.features)
    asked = []
    rows = np.random.default_rng(3).standard_normal((2, WIDTH)).astype(np.float32)

    def encode(change: object) -> np.ndarray:
        asked.append(change)
        return rows

    tuned = method.logits(Queries(given.queries.features[:2], encode=encode))
    assert asked == [method.encoder_weights]
    ours = dataclasses.replace(given.queries[:2], features=normalise(rows), encode=lambda _: 5 * rows)
    np.testing.assert_allclose(method.logits(ours), tuned, atol=1e-3)


def check_prompts_follow_the_names(name: str) -> None:
    """Other words for a class, another score for it."""
    given = world(name)
    link = given.task.encoder
    names = (*link.names[:-1], "yellow boat")
    other = dataclasses.replace(link, names=names, prompts=tuple(f"a photo of a {word}." for word in names))
    scores = [
        quick(name).fit(dataclasses.replace(given.task, encoder=each)).logits(given.queries) for each in (link, other)
    ]
    same = np.allclose(*scores, atol=1e-4)
    assert same == (get(name).meta.tunes == ("images",))


def check_batches_are_cropped_by_its_seed(name: str) -> None:
    """Whatever is random about photos comes from the generator that the method makes of its seed."""
    given, drawn = world(name), []
    pixels = given.task.encoder.pixels

    def watched(rows: np.ndarray, rng: np.random.Generator | None, share: float) -> np.ndarray:
        assert 0 < share <= 1
        drawn.append((rows.tolist(), None if rng is None else rng.bit_generator.state["state"]))
        return pixels(rows, rng, share)

    task = dataclasses.replace(given.task, encoder=dataclasses.replace(given.task.encoder, pixels=watched))
    seen = []
    for seed in (0, 0, 1):
        drawn.clear()
        quick(name, seed=seed).fit(task)
        seen.append(str(drawn))
    assert seen[0] == seen[1]
    random = "None" not in seen[0] and seen[0] != "[]"
    assert (seen[0] != seen[2]) == random
