"""A new method is one new file: put into a folder of the package, it is listed, created and checked."""

import csv
import importlib
import json
import sys
from textwrap import dedent

import numpy as np
import pytest

import jclip_adapter.methods as package
from jclip_adapter.cli.app import main
from jclip_adapter.core.errors import UsageError
from jclip_adapter.evaluation.benchmark import choose_methods
from jclip_adapter.methods import available, create

from .conformance import CHECKS
from .conformance.worlds import fitted, predictions, trained, varies, world

NAME = "nearest-mean"
METHOD = '''
"""Nearest mean: a class is the mean of its text and its photos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jclip_adapter.methods.base import Hyperparameters, Meta, Method, hyper
from jclip_adapter.core.task import Array, FewShotTask, Queries, normalise


class NearestMean(Method):
    """Nobody et al., "Nearest Mean, Dropped In", 2024.

    The text and the photos of a class are averaged: logits = s·Q·normalise(T + share·mean(F))ᵀ. A class without
    photos keeps its text.

    Learnt arrays: `rows_` (C, d), `scale_` ().

    See Also:
        ZeroShot: share 0.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [0, 1], np.eye(2), ("cat", "dog"))
    >>> NearestMean().fit(task).logits([[1.0, 0.0]]).argmax()
    0
    """

    meta = Meta(
        name="nearest-mean",
        summary="mean of a class's text and photos",
        paper="Nobody et al., Nearest Mean, Dropped In",
        year=2024,
        trains="nothing",
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of the nearest mean."""

        share: float = hyper(0.5, "weight of the photos", low=0, high=10, grid=(0.0, 0.5, 1.0))

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        rows = np.zeros_like(task.text_features)
        for label in task.seen:
            rows[label] = task.support_features[task.support_labels == label].mean(axis=0)
        self.rows_ = normalise(task.text_features + self.hyper.share * rows)
        self.scale_ = np.array(task.logit_scale, dtype=np.float32)

    def _logits(self, queries: Queries) -> Array:
        return self.scale_ * (queries.features @ self.rows_.T)
'''
BY_NAME = {check.__name__.removeprefix("check_"): check for check in CHECKS}

# What is broken in the file, and the check that has to notice: (check, text, its replacement).
FAULTS = [
    ("the_scores_tell_photos_apart", "queries.features @ self.rows_.T", "0 * queries.features @ self.rows_.T"),
    (
        "asking_twice_is_asking_once",
        "return self.scale_ * (",
        "self.scale_ = self.scale_ * 2\n        return self.scale_ * (",
    ),
    ("unseen_classes_do_not_collapse", "rows = np.zeros_like(task.text_features)", "rows = -task.text_features * 4"),
    ("the_order_of_the_classes", "rows[label] = ", "rows[0] = "),
    ("the_order_of_the_photos", ".mean(axis=0)\n", "[0]\n"),
    ("the_order_of_the_queries", "self.scale_ * (queries", "np.arange(len(queries))[:, None] * (queries"),
    ("transductive_or_not_is_the_truth", "queries.features @", "(queries.features - queries.features.mean(axis=0)) @"),
    ("transductive_or_not_is_the_truth", 'trains="nothing"', 'trains="nothing", transductive=True'),
    ("numpys_random_state_stays", "self.rows_ = ", "np.random.rand()\n        self.rows_ = "),
    ("learnt_arrays_are_numpy", "self.scale_", "self.scale"),
    ("saved_and_loaded_it_scores_the_same", "self.scale_", "self.scale"),
    ("same_seed_same_bytes", "self.rows_ = ", "self.rows_ = np.random.rand() * "),
    ("hyperparameters_stay", "self.rows_ = ", "self.hyper = self.Hyper(share=9)\n        self.rows_ = "),
    ("the_first_task_is_forgotten", "self.rows_ = ", "self.rows_ = getattr(self, 'rows_', np.zeros(1)).sum() + "),
    ("hyperparameters_are_described", "low=0, high=10, ", ""),
    ("hyperparameters_are_described", '"weight of the photos"', '""'),
    ("grids_lie_in_their_ranges", "1.0))", "11.0))"),
    ("values_that_need_no_fit", "1.0))", "1.0), refit=False)"),
    ("metadata_are_complete", "year=2024", "year=24"),
    ("metadata_are_complete", 'text and photos"', 'text and photos."'),
    ("metadata_are_complete", 'trains="nothing"', 'trains="nothing", uses=("row",)'),
    ("what_it_needs_is_named", "for label in", "assert len(task.support_labels) > 99\n        for label in"),
    ("the_docstring_is_complete", "See Also", "See"),
    ("the_docstring_is_complete", ">>>", "..."),
    ("an_easy_task_is_solved", "task.text_features + ", "-task.text_features + "),
]


@pytest.fixture
def drop(tmp_path, monkeypatch):
    """Puts a method's file into a folder that the package is then walked with; forgets it afterwards."""

    def forget():
        package._methods.cache_clear()
        for cached in (fitted, trained, predictions, varies):
            cached.cache_clear()
        sys.modules.pop("jclip_adapter.methods.nearest_mean", None)
        vars(package).pop("nearest_mean", None)

    def put(text=METHOD):
        (tmp_path / "nearest_mean.py").write_text(dedent(text), encoding="utf-8")
        importlib.invalidate_caches()
        forget()

    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    yield put
    monkeypatch.undo()
    forget()


def test_a_file_is_all_it_takes(drop):
    before = available()
    drop()
    assert set(available()) == {*before, NAME}
    assert create(NAME, share=1).hyper.share == 1.0


def test_afterwards_it_is_gone():
    assert NAME not in available()


def test_it_conforms(drop):
    drop()
    for check in CHECKS:
        check(NAME)


def test_it_is_in_the_benchmark(drop, tmp_path, monkeypatch, capsys):
    drop()
    monkeypatch.chdir(tmp_path)
    given = world(NAME)
    assert NAME in choose_methods("all")
    facts = {"classnames": np.array(given.task.class_names), "text": given.task.text_features}
    facts |= {"train3_x": given.task.support_features, "train3_y": given.task.support_labels}
    np.savez("toy.npz", **facts, test_x=given.queries.features, test_y=given.answers)
    flags = ["--benchmark", "--features", "toy.npz", "--method", f"{NAME},zero-shot", "--out", "out.csv"]
    assert main(flags) == 0
    assert f"| {NAME} " in capsys.readouterr().out
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as handle:
        rows = {row["method"]: row for row in csv.DictReader(handle)}
    assert set(rows) == {NAME, "zero-shot"}
    assert json.loads(rows[NAME]["hyperparameters"])["share"] in (0.0, 0.5, 1.0)
    assert float(rows[NAME]["top1"]) >= float(rows["zero-shot"]["top1"]) - 10


@pytest.mark.parametrize(("check", "text", "replacement"), FAULTS)
def test_a_fault_is_noticed(drop, check, text, replacement):
    """The checks can fail: each of these does where the method breaks what it is about."""
    assert text in METHOD
    drop(METHOD.replace(text, replacement))
    # A check need not foresee everything: a value refused or an attribute missing ends it as well.
    with pytest.raises((AssertionError, pytest.fail.Exception, UsageError, AttributeError)):
        BY_NAME[check](NAME)
