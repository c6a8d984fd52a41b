"""Checks of what a method says of itself, and of whether that is so."""

from __future__ import annotations

import contextlib
import dataclasses
import doctest
import functools
import inspect
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jclip_adapter.cli.app import main
from jclip_adapter.cli.commands.list import describe_method
from jclip_adapter.core.errors import UsageError
from jclip_adapter.evaluation.selection import grids, select
from jclip_adapter.methods import create, get

from .worlds import (
    fitted,
    predictions,
    quick,
    quick_values,
    world,
)

NEEDS = {"support", "auxiliary", "encoder", "text"}
USES = {"support", "raw", "views", "text_views", "validation", "extra"}


# Hyper-parameters


def check_hyperparameters_are_described(name: str) -> None:
    """Each has a line of help, and a range or choices that its default keeps; `fit` refuses unsuitable free text."""
    method = get(name)
    fields = dataclasses.fields(method.Hyper)
    assert not fields or inspect.getdoc(method.Hyper)
    for item in fields:
        facts = item.metadata
        assert len(facts["help"].split()) > 1, item.name
        assert "\n" not in facts["help"], item.name
        if isinstance(item.default, str) and not facts["choices"]:
            with pytest.raises(UsageError):
                quick(name, **{item.name: "\N{SNOWMAN}" * 99}).fit(world(name).task)
        elif not isinstance(item.default, str | bool):
            assert facts["low"] is not None, item.name
            assert facts["high"] is not None, item.name
        assert getattr(create(name, **{item.name: item.default}).hyper, item.name) == item.default


def check_hyperparameters_can_be_typed(name: str) -> None:
    """As the command line passes them: strings."""
    typed = {item.name: str(item.default) for item in dataclasses.fields(get(name).Hyper)}
    assert create(name, **typed).hyper == create(name).hyper


def check_grids_lie_in_their_ranges(name: str) -> None:
    """Every value that selection tries is allowed, and there are several."""
    tried = [item for item in dataclasses.fields(get(name).Hyper) if item.metadata["grid"]]
    assert tried
    for item in tried:
        grid = item.metadata["grid"]
        assert len(set(grid)) == len(grid) != 1, item.name
        for value in grid:
            assert getattr(create(name, **{item.name: value}).hyper, item.name) == value


def check_selection_stays_in_the_grids(name: str) -> None:
    """What is chosen on left-out shots comes from the grids, and nothing else is changed."""
    refit, free = grids(get(name), {})
    task = world(name, shots=2).task
    given = quick_values(name)
    choice = select(name, task, given=given)
    assert given.items() <= choice.values.items()
    assert set(choice.values) == {*given, *refit, *free}
    assert all(choice.values[key] in values for key, values in {**refit, **free}.items())
    assert choice.source == ("support" if refit or free else "given" if given else "defaults")
    create(name, **choice.values)


def check_values_that_need_no_fit(name: str) -> None:
    """Those marked so take effect without `fit`, as if fitted with them; the others are refused."""
    method, given = fitted(name)
    refit, free = grids(type(method), {})
    assert refit or free
    for key, values in free.items():
        fresh = quick(name, **{key: values[-1]}).fit(given.task)
        np.testing.assert_array_equal(
            method.with_values(**{key: values[-1]}).logits(given.queries), fresh.logits(given.queries)
        )
    for key, values in refit.items():
        with pytest.raises(UsageError, match="fitted again"):
            method.with_values(**{key: values[-1]})


# What it says of itself


def check_metadata_are_complete(name: str) -> None:
    """Name, summary, paper, year, what it trains, needs and uses, in the forms that tables and links want."""
    meta = get(name).meta
    file = Path(inspect.getsourcefile(get(name)) or "")
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert meta.name == name
    assert file.stem == name.replace("-", "_")
    for text in (meta.summary, meta.paper, meta.trains):
        assert text.strip() == text != ""
        assert "\n" not in text
    assert len(meta.summary) <= 120
    assert not meta.summary.endswith(".")
    assert 2015 <= meta.year <= 2026
    assert re.fullmatch(r"(\d{4}\.\d{4,5})?", meta.arxiv)
    assert re.fullmatch(r"([\w.-]+/[\w.-]+)?", meta.code)
    assert set(meta.needs) <= NEEDS
    assert set(meta.uses) <= USES


def check_the_docstring_is_complete(name: str) -> None:
    """The paper, what is learnt, unseen classes, siblings, and an example."""
    method = get(name)
    text = inspect.cleandoc(method.__doc__ or "")
    source = re.split(r",| et al", method.meta.paper)[0]
    assert source.lower() in text.lower()
    assert "Learnt arrays:" in text
    assert "See Also:" in text
    assert re.search(r"unseen|without\s+(any\s+|support\s+)?(shots|photos)", text)
    examples = doctest.DocTestFinder(recurse=False).find(method, name, globs={})
    assert any(example.want for test in examples for example in test.examples)
    assert inspect.getdoc(inspect.getmodule(method))


@functools.cache
def listing(names: tuple[str, ...]) -> str:
    """What `runner.py --list` prints while these methods are there."""
    assert names
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main(["--list"]) == 0
    return output.getvalue()


def check_the_runner_lists_it(name: str) -> None:
    """Once with its idea; and by itself with year, needs, and each hyper-parameter, within 80 columns."""
    from jclip_adapter.methods import available

    method = get(name)
    meta = method.meta
    everything = listing(tuple(available()))
    assert len(re.findall(rf"^{name} ", everything, re.MULTILINE)) == 1
    assert meta.summary in " ".join(everything.split())
    alone = describe_method(method)
    assert str(meta.year) in alone
    assert ("transductive" in alone) == meta.transductive
    for key in method(seed=0).hyper.as_dict():
        assert f"  {key}=" in alone
    assert max(map(len, (everything + alone).splitlines())) <= 80


@functools.cache
def modules_after(module: str, folders: tuple[str, ...]) -> set[str]:
    """What is loaded after a method's module is."""
    program = (
        f"import jclip_adapter.methods as m, sys; m.__path__[:] = {list(folders)}; import {module}; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def check_listing_it_starts_no_jittor(name: str) -> None:
    """Jittor compiles when it is imported; only `fit` may do that."""
    import jclip_adapter.methods as package

    loaded = modules_after(get(name).__module__, tuple(package.__path__))
    assert get(name).__module__ in loaded
    assert "jittor" not in loaded


def check_an_easy_task_is_solved(name: str) -> None:
    """With its defaults, not below zero-shot where zero-shot is good, but for a little."""
    ours, given = predictions(name)
    zero_shot = (create("zero-shot").fit(given.task).logits(given.queries).argmax(axis=1) == given.answers).mean()
    assert zero_shot > 0.7
    assert (ours == given.answers).mean() >= zero_shot - 0.1
