"""The few-shot methods, one file each, found by walking this package.

A new method is a new file with one public subclass of `Method`; it is then listed, tested and benchmarked.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from abc import ABCMeta
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jclip_adapter.core.errors import UsageError, suggest
from jclip_adapter.storage import read_safetensors

from .base import FITTED, Method

__all__ = ["FITTED", "NOT_INCLUDED", "Method", "available", "create", "get", "load"]

NOT_INCLUDED: Mapping[str, str] = MappingProxyType(
    {
        "deil": "DeIL (Shao et al., CVPR 2024) needs images drawn by DALL-E and CLIPN's second text encoder. Neither "
        "is published as part of CLIP. The nearest methods are amu-tuning and two-views."
    }
)
"""Methods of the project's sources that are not here, and why."""


@functools.cache
def _methods() -> dict[str, type[Method]]:
    found: dict[str, type[Method]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        # Not inspect.isclass or isinstance: in Python 3.10 both take Sequence[int] for a class.
        for _, member in inspect.getmembers(module, lambda member: issubclass(type(member), ABCMeta)):
            if issubclass(member, Method) and not inspect.isabstract(member) and member.__module__ == module.__name__:
                found[member.meta.name] = member
    return dict(sorted(found.items()))


def available() -> list[str]:
    """The names of all methods.

    >>> "zero-shot" in available()
    True
    """
    return list(_methods())


def get(name: str) -> type[Method]:
    """A method's class by its name.

    Raises:
        UsageError: unknown name; the nearest is suggested, or the reason why it is not included is given.
    """
    if name.lower() in NOT_INCLUDED:
        raise UsageError(f"the method '{name}' is not included.", NOT_INCLUDED[name.lower()])
    if name not in _methods():
        raise UsageError(f"there is no method '{name}'.", suggest(name, available()))
    return _methods()[name]


def create(name: str, /, *, seed: int = 0, **values: Any) -> Method:
    """A method by its name.

    Args:
        name: One of `available()`.
        seed: For everything random in it.
        values: Its hyper-parameters.

    Returns:
        The method, not fitted.

    Raises:
        UsageError: unknown name or hyper-parameter, or a value out of its range.
    """
    return get(name)(seed=seed, **values)


def load(path: str | Path) -> Method:
    """Read any fitted method that `save` wrote.

    Raises:
        DataError: the file is missing or damaged.
        UsageError: it was learnt by a method that is not installed.
    """
    _, manifest = read_safetensors(path)
    return get(manifest.get("method", "")).load(path)
