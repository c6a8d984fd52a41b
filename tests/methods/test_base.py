from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.task import FewShotTask, Queries
from jclip_adapter.methods import create, get, load
from jclip_adapter.methods.base import Hyperparameters, Meta, Method, hyper
from jclip_adapter.storage import write_safetensors


class Scale(Method):
    meta: ClassVar[Meta] = Meta("scale", "a test", "none", 2024, "nothing")

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        factor: float = hyper(2.0, "factor", low=0, high=10)
        count: int = hyper(3, "count", low=1)
        kind: str = hyper("plain", "kind", choices=("plain", "fancy"))
        on: bool = hyper(False, "switch")

    def _fit(self, task):
        self.text_ = task.text_features

    def _logits(self, queries):
        return self.hyper.factor * queries.features @ self.text_.T


@pytest.fixture
def task():
    return FewShotTask(np.eye(3), [0, 1, 2], np.eye(3), ("a", "b", "c"), auxiliary=np.eye(3))


def test_values_are_converted_as_typed():
    values = Scale(factor="0.5", count="7", kind="fancy", on="true").hyper
    assert (values.factor, values.count, values.kind, values.on) == (0.5, 7, "fancy", True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"factor": 11}, "factor=11.0 is out of its range 0…10"),
        ({"factor": "much"}, "factor='much' is no float"),
        ({"factor": float("nan")}, "no finite|not a finite"),
        ({"count": 1.5}, "count=1.5 is no int"),
        ({"count": 0}, "count=0 is out of its range"),
        ({"kind": "fancie"}, "Did you mean 'fancy'"),
        ({"on": "maybe"}, "on='maybe' is no bool"),
        ({"factr": 1}, "Did you mean 'factor'"),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(UsageError, match=message) as caught:
        Scale(**values)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_suggested():
    with pytest.raises(UsageError, match="Did you mean 'jclip-adapter'"):
        create("jclip-adaptor")


def test_a_hyperparameter_of_a_method_without_any():
    class Plain(get("zero-shot")):
        Hyper = Hyperparameters

    with pytest.raises(UsageError, match="no hyper-parameters"):
        Plain(ratio=1)


@pytest.mark.parametrize(
    ("queries", "message"),
    [([[1.0, 2.0]], "width 2"), ([1.0, 2.0, 3.0], "shape"), ([[np.nan, 0, 0]], "NaN")],
)
def test_unfit_queries_are_refused(task, queries, message):
    with pytest.raises(DataError, match=message):
        Scale().fit(task).logits(queries)


def test_nothing_works_before_fit(tmp_path):
    with pytest.raises(DataError, match="not fitted"):
        Scale().logits([[1.0, 0, 0]])
    with pytest.raises(DataError, match="not fitted"):
        Scale().save(tmp_path / "x")


def test_no_support_is_refused_where_it_is_needed():
    empty = FewShotTask(np.zeros((0, 2)), [], np.eye(2), ("a", "b"))
    with pytest.raises(DataError, match="needs support photos"):
        create("linear-probe").fit(empty)
    assert create("zero-shot").fit(empty).logits(np.eye(2)).shape == (2, 2)


@pytest.mark.parametrize("name", ["zero-shot", "tip-adapter", "jclip-adapter"])
def test_saved_and_loaded_it_scores_the_same(name, task, tmp_path):
    method = create(name, seed=5).fit(task)
    path = tmp_path / "method.safetensors"
    method.save(path, weights_sha256="0" * 64)
    back = load(path)
    assert type(back) is get(name)
    assert (back.seed, back.hyper, back.classes_) == (5, method.hyper, ("a", "b", "c"))
    rows = np.random.default_rng(0).standard_normal((7, 3))
    queries = Queries(rows, auxiliary=rows)
    np.testing.assert_array_equal(back.logits(queries), method.logits(queries))


def test_another_methods_file_is_refused(task, tmp_path):
    create("zero-shot").fit(task).save(tmp_path / "zero")
    with pytest.raises(DataError, match="learnt by zero-shot, not linear-probe"):
        get("linear-probe").load(tmp_path / "zero")
    write_safetensors(tmp_path / "none", {"x": np.zeros(2)}, {})
    with pytest.raises(UsageError, match="no method ''"):
        load(tmp_path / "none")


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "x").write_bytes(b"no safetensors")
    with pytest.raises(DataError, match="cannot read"):
        load(tmp_path / "x")
