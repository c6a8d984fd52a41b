"""Python's headers, which Jittor compiles against, and the script that tells it where they are."""

from __future__ import annotations

import hashlib
import shlex
import sys
import sysconfig
from pathlib import Path

from .storage import KEPT, write_text

CURE = f"Install them (Debian and Ubuntu: apt-get install python3.{sys.version_info.minor}-dev)."
"""What to do where the headers are missing."""
# What Jittor asks the script for.
_SCRIPT = """\
#!/bin/sh
case "$1" in
--includes) echo {includes} ;;
--extension-suffix) echo {suffix} ;;
*) exit 1 ;;
esac
"""


def include() -> Path:
    """The folder of Python.h, whether it is there or not."""
    return Path(sysconfig.get_path("include"))


def are_there() -> bool:
    """Whether the headers are installed."""
    return (include() / "Python.h").is_file()


def config(cache: Path) -> str:
    """Path of a python3.x-config for Jittor: that beside the interpreter, else one of ours.

    Images with Python's headers often lack that script, and environments made of them always do.

    Args:
        cache: The folder that `runtime.cache_folder` names; ours is written there by `write`.
    """
    genuine = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}-config"
    return str(genuine if genuine.is_file() else _ours(cache))


def _ours(cache: Path) -> Path:
    return cache / f"jclip_adapter_python_{hashlib.sha256(_text().encode()).hexdigest()[:16]}.sh"


def _text() -> str:
    suffix = sysconfig.get_config_var("EXT_SUFFIX") or ".so"
    return _SCRIPT.format(includes=shlex.quote(f"-I{include()}"), suffix=shlex.quote(suffix))


def write(cache: Path) -> None:
    """Write our script, where it is the one that is used."""
    path = _ours(cache)
    if config(cache) == str(path) and not path.is_file():
        write_text(path, _text(), KEPT)
        path.chmod(0o755)
