"""Strict YAML: what safe_load gives, without what safe_load lets pass."""

from __future__ import annotations

import datetime

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.strict_yaml import read_yaml_mapping


@pytest.fixture
def read(tmp_path):
    def write_and_read(text: str):
        path = tmp_path / "settings.yaml"
        path.write_text(text, encoding="utf-8")
        return read_yaml_mapping(path)

    return write_and_read


def test_plain_values_come_as_safe_load_has_them(read):
    text = "a: 1\nb: [yes, 2.5, ~]\nc: {d: 'e', when: 2024-05-01}\n'<': |\n  two\n  lines\n"
    assert read(text) == {
        "a": 1,
        "b": [True, 2.5, None],
        "c": {"d": "e", "when": datetime.date(2024, 5, 1)},
        "<": "two\nlines\n",
    }


def test_the_same_key_may_stand_in_different_mappings(read):
    assert read("a: {x: 1, y: x}\nb: {x: 2, y: {x: 3}}\nx: [{x: 4}, {x: 5}]") == {
        "a": {"x": 1, "y": "x"},
        "b": {"x": 2, "y": {"x": 3}},
        "x": [{"x": 4}, {"x": 5}],
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\nb: 2\n'a': 3", 3), ("a:\n  x: 1\n  y: [1, {z: 1}]\n  x: 2", 4), ("[{}, {a: {b: 1}, a: 2}]", 1)],
)
def test_a_key_that_stands_there_twice_is_refused(read, text, line):
    with pytest.raises(UsageError, match=rf"line {line}: duplicate key '\w'"):
        read(text)


def test_eight_levels_are_read_and_nine_refused(read):
    assert read("a: " + "[" * 7 + "]" * 7)["a"] == [[[[[[[]]]]]]]
    with pytest.raises(UsageError, match="nested more than 8 levels"):
        read("a: " + "[" * 8 + "]" * 8)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_subnormal=False)
    | st.text(max_size=8)
    | st.dates()
)
KEYS = st.text(max_size=8).filter(lambda key: key != "<<")
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.dictionaries(KEYS, VALUES, max_size=4), flow=st.booleans())
def test_what_yaml_writes_is_read(tmp_path, value, flow):
    class Writer(yaml.SafeDumper):
        def ignore_aliases(self, data):
            return True

    text = yaml.dump(value, Dumper=Writer, default_flow_style=flow)
    path = tmp_path / "settings.yaml"
    path.write_bytes(text.encode("utf-8"))
    assert read_yaml_mapping(path) == value == yaml.safe_load(text)
