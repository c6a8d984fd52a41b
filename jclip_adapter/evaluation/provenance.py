"""A digest of the code and the package versions that a result depends on."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import NamedTuple

PACKAGE = __name__.partition(".")[0]
# Modules that no result depends on. A method that imports `runtime` uses Jittor.
_NO_ARITHMETIC = ("core.errors", "core.choices", "core.problems", "core.console", "core.version", "storage", "runtime")
_JITTOR = "jittor"


class _Module(NamedTuple):
    """A module's code without comments and docstrings, and its imports."""

    code: bytes
    imports: tuple[str, ...]


@functools.cache
def code_digest(*modules: str) -> str:
    """SHA-256 over the code of modules and of the package's modules that they import, directly or not.

    It changes with the code (imports inside functions included) and with the versions of the packages used, not with
    comments, docstrings or other modules.

    Args:
        modules: Full names, such as "jclip_adapter.methods.gda".

    Raises:
        ModuleNotFoundError: an unknown module.
    """
    known: dict[str, bytes] = {}
    packages: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        top, _, inner = name.partition(".")
        if top == PACKAGE and f"{inner}.".startswith(tuple(f"{each}." for each in _NO_ARITHMETIC)):
            packages |= {_JITTOR} if inner.startswith("runtime") else set()
        elif top != PACKAGE:
            packages.add(top)
        elif name not in known:
            found = _read(name)
            if found is None and name in modules:
                raise ModuleNotFoundError(f"there is no module {name} whose code to digest")
            if found is not None:
                known[name] = found.code
                waiting += found.imports
    digest = hashlib.sha256()
    for name, code in sorted(known.items()):
        digest.update(f"{name}\n{len(code)}\n".encode() + code)
    for version in sorted(filter(None, map(_version, packages - sys.stdlib_module_names))):
        digest.update(f"{version}\n".encode())
    return digest.hexdigest()


def _version(package: str) -> str:
    """Distributions of an importable name with their versions; empty if none is installed."""
    return " ".join(f"{name} {metadata.version(name)}" for name in sorted(set(_distributions().get(package, []))))


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


@functools.cache
def _read(name: str) -> _Module | None:
    """A module's code and imports; None for an unknown module."""
    source = _source(name)
    if source is None:
        return None
    spec, tree = _spec(name), ast.parse(source)
    imports = tuple(_imports((spec.parent if spec else None) or "", tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = _without_docstring(node.body)
    return _Module(ast.unparse(tree).encode(), imports)


def _source(name: str) -> bytes | None:
    spec = _spec(name)
    return Path(spec.origin).read_bytes() if spec and spec.origin else None


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            return rest or [ast.Pass()]
    return body


def _spec(name: str) -> ModuleSpec | None:
    """The spec of a module; None for an unknown one.

    find_spec("a.b.c") imports a.b, which would start Jittor for a module b that needs it and a name c in it; so only
    packages are searched.
    """
    parent = name.rpartition(".")[0]
    above = _spec(parent) if parent else None
    if parent and (above is None or above.submodule_search_locations is None):
        return None
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None


def _imports(parent: str, tree: ast.Module) -> Iterator[str]:
    """Names in import statements, which may be modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # One dot is the module's own package, each further one its parent.
            above = parent.split(".")[: len(parent.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            if base.partition(".")[0] == PACKAGE:
                yield from (f"{base}.{alias.name}" for alias in node.names)
