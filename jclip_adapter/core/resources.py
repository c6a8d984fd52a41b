"""Where files are that come with the program, and where it keeps what it fetches: in a clone, and installed."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = _PACKAGE / "resources"
"""A wheel carries `prompts` and `data/sample` here; in a clone they lie beside the package."""


def shipped(name: str) -> Path:
    """Path of something that comes with the program.

    Args:
        name: Its path in the repository, such as "prompts".
    """
    return (_INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent) / name


def kept(name: str) -> Path:
    """Path of something that the program writes or downloads once: in the clone, else in the user's cache folder.

    Args:
        name: Its path in the repository, such as "data/weights".
    """
    if not _INSTALLED.is_dir():
        return _PACKAGE.parent / name
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jclip-adapter" / name
