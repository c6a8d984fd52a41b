"""Paths of shipped and of downloaded files, in a clone and installed."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = _PACKAGE / "resources"
"""A wheel has `prompts` and `data/sample` here; in a clone they are beside the package."""


def shipped(name: str) -> Path:
    """Path of a file or folder of the program by its path in the repository, such as "prompts"."""
    return (_INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent) / name


def kept(name: str) -> Path:
    """Path of a folder for downloads, such as "data/weights": in the clone, else in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (cache / "jclip-adapter" if _INSTALLED.is_dir() else _PACKAGE.parent) / name
