"""Which arithmetic a result was computed by: a digest of the code and of the packages' versions that it rests on."""

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
# Modules that no number depends on: what they raise, write, or prepare. A method that imports `runtime` uses Jittor.
_NO_ARITHMETIC = ("core.errors", "core.choices", "core.problems", "core.console", "core.version", "storage", "runtime")
_JITTOR = "jittor"


class _Module(NamedTuple):
    """What matters of a module: its code without comments and docstrings, and the names that it imports."""

    code: bytes
    imports: tuple[str, ...]


@functools.cache
def code_digest(*modules: str) -> str:
    """SHA-256 over the arithmetic of modules and of the package's modules that they import, directly or not.

    Imports inside functions count; so another formula in a shared module makes another digest. A comment, a docstring,
    or a change elsewhere in the package does not; another version of a package that the code uses does.

    Args:
        modules: Full names, such as "jclip_adapter.methods.gda".

    Raises:
        ModuleNotFoundError: there is no module of such a name.
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
    """Distributions of an importable name with their versions; empty where none is installed."""
    return " ".join(f"{name} {metadata.version(name)}" for name in sorted(set(_distributions().get(package, []))))


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


@functools.cache
def _read(name: str) -> _Module | None:
    """A module's code and imports; None where there is none of this name."""
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
    """Where a module lies; None where there is none of this name.

    To look for a.b.c, Python imports a.b. That starts Jittor where b is one of the modules that need it, and c is no
    module then, but a name in b.
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
    """Names that may be modules: all that an import statement mentions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package that the module lies in, each further one its parent.
            above = parent.split(".")[: len(parent.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            if base.partition(".")[0] == PACKAGE:
                yield from (f"{base}.{alias.name}" for alias in node.names)
