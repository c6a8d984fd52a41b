"""Code in strings, which other processes run, and examples in docstrings: what they import is there."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

_FROM = re.compile(r"\bfrom (jclip_adapter[\w.]*) import (\w+(?: as \w+)?(?:, \w+(?: as \w+)?)*)")
_WHOLE = re.compile(r"(?:^|[\n;,>] *|import \w+, )import (jclip_adapter[\w.]*)")


def imports(text: str) -> Iterator[tuple[str, str]]:
    """(module, name) of each import of the package; without a name for a module alone."""
    for module, names in _FROM.findall(text):
        yield from ((module, name.partition(" as ")[0].strip()) for name in names.split(","))
    yield from ((module, "") for module in _WHOLE.findall(text))


def missing(module: str, name: str) -> bool:
    try:
        found = importlib.import_module(module)
        if name not in ("", "jt") and not hasattr(found, name):  # asking for jt would start Jittor
            importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return True
    return False


def test_what_is_imported_there_exists() -> None:
    seen, wrong = 0, []
    folders = ("jclip_adapter", "benchmarks", "tools", "tests")
    paths = {path for folder in folders for path in (ROOT / folder).rglob("*.py")} - {Path(__file__).resolve()}
    for path in sorted(paths):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for module, name in imports(node.value):
                    seen += 1
                    if missing(module, name):
                        wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {module} {name}")
    assert seen > 60
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "import jclip_adapter.nowhere",
        "x = 1; from jclip_adapter.core import nothing",
        "from jclip_adapter.cli import app, none",
    ],
)
def test_what_is_gone_is_found(text: str) -> None:
    assert [missing(*found) for found in imports(text)].count(True) == 1
