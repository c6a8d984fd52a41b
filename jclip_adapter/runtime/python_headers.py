"""Python's headers, which Jittor compiles against, and the script that reports their path."""

from __future__ import annotations

import hashlib
import shlex
import sys
import sysconfig
from pathlib import Path

from jclip_adapter.storage import KEPT, write_text

HINT = f"Install them (Debian and Ubuntu: apt-get install python3.{sys.version_info.minor}-dev)."
"""What to do where the headers are missing."""
# The options that Jittor calls.
_SCRIPT = """\
#!/bin/sh
case "$1" in
--includes) echo {includes} ;;
--extension-suffix) echo {suffix} ;;
*) exit 1 ;;
esac
"""


def include() -> Path:
    """The folder of Python.h, which may be missing."""
    return Path(sysconfig.get_path("include"))


def are_there() -> bool:
    """Whether the headers are installed."""
    return (include() / "Python.h").is_file()


def config(cache: Path) -> str:
    """Path of a python3.x-config for Jittor: the interpreter's, else the one that `write` writes to the cache folder.

    Container images with Python's headers often lack that script, virtual environments always do.
    """
    genuine = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}-config"
    return str(genuine if genuine.is_file() else _ours(cache))


def _ours(cache: Path) -> Path:
    return cache / f"jclip_adapter_python_{hashlib.sha256(_text().encode()).hexdigest()[:16]}.sh"


def _text() -> str:
    suffix = sysconfig.get_config_var("EXT_SUFFIX") or ".so"
    return _SCRIPT.format(includes=shlex.quote(f"-I{include()}"), suffix=shlex.quote(suffix))


def write(cache: Path) -> None:
    """Write the script, if `config` gives it."""
    path = _ours(cache)
    if config(cache) == str(path) and not path.is_file():
        write_text(path, _text(), KEPT)
        path.chmod(0o755)
