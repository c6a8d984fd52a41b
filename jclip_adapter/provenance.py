"""Which code a result was computed by: a digest of a module and of all in this package that it imports."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

PACKAGE = __name__.partition(".")[0]


@functools.cache
def code_digest(module: str) -> str:
    """SHA-256 over the sources of a module and of the package's modules that it imports, directly or not.

    Imports inside functions count; so another formula in a shared module makes another digest, and a change
    elsewhere in the package does not.

    Args:
        module: Full name, such as "jclip_adapter.methods.gda".
    """
    known: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        source = _source(name) if name not in known else None
        if source is not None:
            known[name] = source
            waiting += _imports(name, source)
    digest = hashlib.sha256()
    for name, source in sorted(known.items()):
        digest.update(f"{name}\n{len(source)}\n".encode() + source)
    return digest.hexdigest()


def _source(name: str) -> bytes | None:
    """The source of a module; None where there is none of this name."""
    spec = _spec(name)
    return Path(spec.origin).read_bytes() if spec and spec.origin else None


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


def _imports(name: str, source: bytes) -> list[str]:
    """Names of what a module imports that may be modules of this package."""
    spec = _spec(name)
    parent = (spec.parent or "") if spec else ""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package that the module lies in, each further one its parent.
            above = parent.split(".")[: len(parent.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [found_name for found_name in found if found_name.split(".")[0] == PACKAGE]
