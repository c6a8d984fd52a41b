"""Checks of fit, seeds, files and refusals."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re

import numpy as np
import pytest

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.evaluation.calibration import calibrate
from jclip_adapter.evaluation.report import training_curves
from jclip_adapter.methods import create, get, load

from .worlds import (
    CLASSES,
    WIDTH,
    assert_close,
    assert_scores,
    fitted,
    quick,
    scratch,
    world,
)

# The contract of fit, seeds and files


def check_fit_returns_self(name: str) -> None:
    """As scikit-learn's does."""
    method = quick(name)
    assert method.fit(world(name).task) is method


def check_fit_remembers_the_task(name: str) -> None:
    """Class names and width."""
    method, given = fitted(name)
    assert (method.classes_, method.width_) == (given.task.class_names, WIDTH)


def check_learnt_arrays_are_numpy(name: str) -> None:
    """Arrays are named with an underscore behind, real numbers, and nothing of Jittor's is kept."""
    method, _ = fitted(name)
    assert method.learnt()
    for key, value in vars(method).items():
        assert not type(value).__module__.startswith("jittor"), key
        if isinstance(value, np.ndarray):
            assert key.endswith("_"), key
            assert value.dtype.kind in "biuf", key
            if value.dtype.kind == "f":
                assert np.isfinite(value).all(), key


def check_history_is_numbers_and_can_be_drawn(name: str) -> None:
    """A method that trains in passes or steps reports rows of numbers, as the reports and plots read them; no other."""
    method, _ = fitted(name)
    counts = {"epochs", "iterations", "steps_per_shot"} & {item.name for item in dataclasses.fields(method.Hyper)}
    assert bool(method.history_) == (bool(counts) and not method.meta.transductive)
    for row in method.history_:
        assert row
        assert all(isinstance(key, str) and np.isfinite(value) for key, value in row.items())
    if method.history_:
        assert training_curves(method.history_, name).startswith(b"\x89PNG")


def check_hyperparameters_stay(name: str) -> None:
    """`fit` leaves them as they were given."""
    method = quick(name)
    before = method.hyper.as_dict()
    method.fit(world(name).task)
    assert method.hyper.as_dict() == before
    assert method.hyper == quick(name).hyper


def check_same_seed_same_bytes(name: str) -> None:
    """Two fits with one seed write the same file."""
    given = world(name)
    with scratch() as folder:
        for file in ("a", "b"):
            quick(name, seed=11).fit(given.task).save(folder / file)
        assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


def check_other_seeds_work(name: str) -> None:
    """Another seed finds much the same."""
    (one, given), (other, _) = fitted(name), fitted(name, 1)
    assert_close(name, other.logits(given.queries), one.logits(given.queries))


def check_saved_and_loaded_it_scores_the_same(name: str) -> None:
    """What is learnt is all that `logits` needs."""
    method, given = fitted(name)
    with scratch() as folder:
        method.save(folder / "method")
        back = load(folder / "method")
    back.attach(given.task.encoder)
    assert (type(back), back.hyper, back.classes_) == (get(name), method.hyper, method.classes_)
    np.testing.assert_array_equal(back.logits(given.queries), method.logits(given.queries))


def check_calibration_changes_no_score(name: str) -> None:
    """Every method but the transductive ones gets a temperature from held-out shots, which its file keeps."""
    given = world(name)
    method = quick(name).fit(given.task)
    before = method.logits(given.queries)
    known = calibrate(method, given.task).calibration_
    assert bool(known.source) is not method.meta.transductive
    np.testing.assert_array_equal(method.logits(given.queries), before)
    with scratch() as folder:
        method.save(folder / "x")
        again = load(folder / "x").calibration_
    assert (again.temperature, again.source) == (known.temperature, known.source)
    np.testing.assert_array_equal(again.known, known.known)


def check_the_file_is_data_only(name: str) -> None:
    """A safetensors file: a JSON header, numbers, and nothing that could be executed."""
    method, _ = fitted(name)
    with scratch() as folder:
        method.save(folder / "method")
        content = (folder / "method").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert header.pop("__metadata__")["method"] == name
    assert set(header) == set(method.learnt())
    assert len(content) == 8 + length + sum(value.nbytes for value in method.learnt().values())
    assert not re.search(
        r"\b(pickle|jt\.save|jt\.load|allow_pickle)\b", inspect.getsource(inspect.getmodule(get(name)))
    )


# What is refused


def check_nan_is_refused(name: str) -> None:
    """In queries and in shots, at once and by name."""
    method, given = fitted(name)
    rows = given.queries.features.copy()
    rows[3, 2] = np.nan
    with pytest.raises(DataError, match="NaN"):
        method.logits(rows)
    shots = given.task.support_features.copy()
    shots[0, 0] = np.inf
    with pytest.raises(DataError, match="infinity"):
        quick(name).fit(dataclasses.replace(given.task, support_features=shots))


def check_another_width_is_refused(name: str) -> None:
    """The error names both widths."""
    method, _ = fitted(name)
    with pytest.raises(DataError, match=f"width {WIDTH + 1}, expected {WIDTH}"):
        method.logits(np.zeros((2, WIDTH + 1)))


def check_unfitted_it_refuses(name: str) -> None:
    """To score and to save; the error says what to do."""
    given = world(name)
    with pytest.raises(DataError, match=f"{name} is not fitted.*fit"):
        create(name).logits(given.queries)
    with scratch() as folder, pytest.raises(DataError, match=f"{name} is not fitted"):
        create(name).save(folder / "method")


def check_what_it_needs_is_named(name: str) -> None:
    """Without what `meta.needs` lists, the error names the method and the need; without the rest it works."""
    given = world(name)
    empty = given.task.keep(np.zeros(0, dtype=np.int64))
    if "support" in get(name).meta.needs:
        with pytest.raises(DataError, match=f"{name} needs support photos"):
            quick(name).fit(empty)
    else:
        assert_scores(quick(name).fit(empty).logits(given.queries), len(given.queries), CLASSES)
    plain = dataclasses.replace(given.task, auxiliary=None)
    if "auxiliary" in get(name).meta.needs:
        with pytest.raises(DataError, match=f"{name} needs a second network's features"):
            quick(name).fit(plain)
    else:
        quick(name).fit(plain)


def check_unknown_hyperparameters_are_refused(name: str) -> None:
    """With the method's name."""
    with pytest.raises(UsageError, match=f"{name} has no hyper-parameter 'no_such_thing'"):
        create(name, no_such_thing=1)


def check_values_out_of_range_are_refused(name: str) -> None:
    """Below the lowest, above the highest, not among the choices."""
    for item in dataclasses.fields(get(name).Hyper):
        facts = item.metadata
        wrong = [facts["low"] - 1] if facts["low"] is not None else []
        wrong += [facts["high"] + 1] if facts["high"] is not None else []
        wrong += ["no such thing"] if facts["choices"] else []
        for value in wrong:
            with pytest.raises(UsageError, match=item.name):
                create(name, **{item.name: value})
