"""Everything that has to happen before `import jittor`, and the import itself.

Jittor reads its settings from the environment while it is imported, compiles its core at the first import and
downloads what it misses. This module decides the device, links oneDNN from the installed PyPI packages, forbids
the downloads, lets a child process do the compiling, and only then imports Jittor. Every other module gets it by

    from jclip_adapter.runtime import jt

which starts it on first use; `choose` chooses the device beforehand.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from jclip_adapter.core import console
from jclip_adapter.core.errors import SetupError, UsageError

from . import build, compiled, cuda_guard, interruption, onednn, planning, python_headers
from .jittor_messages import reason
from .kernels import shorten_compilation
from .planning import CUDA13_FLAGS, Plan

logger = logging.getLogger(__name__)

_RERUN = "JCLIP_ADAPTER_RERUN"  # set where a command has already been started anew
# What Jittor's core is compiled with, if it is set.
_FLAGS = (
    "cc_flags",
    "cc_path",
    "nvcc_flags",
    "kernel_flags",
    "debug",
    "enable_lto",
    "use_mkl",
    "gdb_path",
    "cuda_arch",
)
# What stays set after the start: Jittor's and this program's caches stay where they are.
_KEPT = ("JITTOR_HOME",)


def has_fast_products() -> bool:
    """Whether products on the CPU can be oneDNN's own; where a plan was made, it is the CPU's."""
    return current_device() != "cuda" and onednn.has_products(planning.jittor_home())


def _needs_onednn(plan: Plan) -> bool:
    return plan.device == "cpu" and sys.platform == "linux" and platform.machine() == "x86_64"


def _marker(plan: Plan) -> Path:
    """A file that exists once Jittor's core was compiled for just these circumstances."""
    spec = importlib.util.find_spec("jittor")
    circumstances = [
        importlib.metadata.version("jittor"),
        str(spec.origin if spec else ""),
        sys.version,
        platform.platform() + platform.node(),
        planning.compiler(),
        *(f"{key}={value}" for key, value in sorted(plan.environment.items())),
        *(f"{key}={os.environ[key]}" for key in _FLAGS if key in os.environ and key not in plan.environment),
    ]
    digest = hashlib.sha256("\n".join(circumstances).encode()).hexdigest()[:16]
    return planning.jittor_home() / ".cache" / "jittor" / f"jclip_adapter_{digest}.ready"


def check_requirements() -> None:
    """Refuse to start where Jittor cannot be built.

    Raises:
        SetupError: Python, g++, Jittor or oneDNN is missing or of a version that does not work.
    """
    if not (3, 10) <= sys.version_info[:2] < (3, 13):
        raise SetupError(f"this is Python {platform.python_version()}.", "Use Python 3.10, 3.11 or 3.12.")
    if importlib.util.find_spec("jittor") is None:
        raise SetupError("Jittor is not installed.", "Run `pip install -r requirements.txt`.")
    if not planning.compiler():
        raise SetupError(
            "there is no g++, which Jittor compiles its kernels with.",
            "Install it (Debian and Ubuntu: apt-get install g++).",
        )
    if not (python_headers.include() / "Python.h").is_file():
        raise SetupError(
            f"Python's headers are missing ({python_headers.include() / 'Python.h'}), which Jittor compiles against.",
            f"Install them (Debian and Ubuntu: apt-get install python3.{sys.version_info.minor}-dev).",
        )


@functools.cache
def _started() -> list[Plan]:
    """Holds the plan that Jittor was started with; a list, because a process starts it once."""
    return []


@functools.cache
def _chosen() -> list[Plan]:
    """Holds the plan that Jittor is going to be started with, if one was made."""
    return []


def current_device() -> str:
    """The device that Jittor runs on, or is going to run on: "cpu", "cuda", or "" before one is chosen."""
    plans = _started() or _chosen()
    return plans[0].device if plans else ""


def choose(device: str = "auto") -> str:
    """Decide the device that Jittor runs on, without starting it: what is in the stores needs no Jittor.

    Args:
        device: "auto", "cpu" or "cuda"; "auto" keeps an earlier choice.

    Returns:
        "cpu" or "cuda".

    Raises:
        UsageError: an unknown device, or another one than Jittor was started with.
        SetupError: "cuda" was asked for and cannot be had.
    """
    if _started():
        if device not in ("auto", current_device()):
            raise UsageError(
                f"Jittor already runs on {current_device()}, so --device {device} comes too late.",
                "Choose the device before anything is computed.",
            )
    elif device != "auto" or not _chosen():
        _chosen()[:] = [planning.make_plan(device)]
    return current_device()


def start(device: str = "auto") -> Any:
    """Prepare the environment, compile what has to be compiled, and import Jittor.

    Args:
        device: "auto", "cpu" or "cuda". A second call, or one after `choose`, may repeat the choice or say "auto".

    Returns:
        The jittor module.

    Raises:
        UsageError: an unknown device, or another one than Jittor was started with.
        SetupError: Jittor cannot be built or imported; the message names the cure.
    """
    if not _started():
        check_requirements()
    choose(device)
    if _started():
        return sys.modules["jittor"]
    plan = _chosen()[0]
    home = planning.jittor_home()
    _link_onednn(home, plan)
    with _own_environment():
        try:
            with _own_environment(failed_only=True):
                marker = _prepare(plan)
        except SetupError as error:
            if plan.device != "cuda" or plan.insisted:
                raise
            logger.warning("CUDA is found, but does not work (%s); the CPU is used.", error.message)
            plan = planning.make_plan("cpu")
            marker = _prepare(plan)
        with console.doing("starting Jittor"):
            jittor = _import(marker)
    if plan.device == "cuda" and not jittor.has_cuda:
        raise SetupError(
            "Jittor was built without CUDA.", f"Delete {planning.cache_folder()} and run the command again."
        )
    jittor.flags.use_cuda = int(plan.device == "cuda")
    if plan.device == "cpu":
        shorten_compilation(jittor, home / ".cache" / "jittor", planning.compiler())
    else:
        cuda_guard.guard(jittor)
        if CUDA13_FLAGS in plan.environment.get("cc_flags", ""):
            cuda_guard.leave_cub_out()
    _started().append(plan)
    logger.info("Jittor runs on %s (%s)", plan.device, plan.reason)
    return jittor


def _link_onednn(home: Path, plan: Plan) -> None:
    """Put oneDNN where Jittor and kernels of ours look for it; CUDA does without, where it is not installed."""
    linked = onednn.link(home)
    if not linked and plan.device == "cuda":
        plan.environment["use_mkl"] = "0"  # or Jittor would download it
    if not linked and _needs_onednn(plan):
        raise SetupError(
            "oneDNN is missing, which Jittor needs on the CPU.",
            "Run `pip install -r requirements.txt` (packages onednn-cpu-gomp and onednn-devel-cpu-gomp).",
        )
    # Where kernels of ours find oneDNN's headers.
    places = [str(onednn.place(home) / "include"), os.environ.get("CPLUS_INCLUDE_PATH", "")]
    os.environ["CPLUS_INCLUDE_PATH"] = os.pathsep.join(filter(None, places))


@contextlib.contextmanager
def _own_environment(*, failed_only: bool = False) -> Iterator[None]:
    """Give the environment back as it was: a process that is started later decides about its device by itself.

    Args:
        failed_only: Give it back only where the block is left by an error.
    """
    before = dict(os.environ)
    try:
        yield
    except BaseException:
        _restore(before)
        raise
    if not failed_only:
        _restore(before)


def _restore(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys() - set(_KEPT):
        del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if name not in _KEPT})


def _prepare(plan: Plan) -> Path:
    """Compile what a plan needs, unless that is done; returns the mark of it."""
    python_headers.write(planning.cache_folder())
    if plan.toolkit is not None:
        plan.toolkit.link(planning.cache_folder())
    os.environ.update(plan.environment)
    marker = _marker(plan)
    broken = compiled.remove_broken(planning.compiled_folder())
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        logger.warning("%s%s was cut short; Jittor compiles it again", broken[0], more)
    if broken or not compiled.is_noted(marker):
        compiled.note(marker, build.compile_core(plan))
    return marker


def _import(marker: Path) -> Any:
    """Import Jittor and undo what its import does to the whole process."""
    recursion = sys.getrecursionlimit()
    # Jittor replaces the default https context by one that checks no certificates.
    https_context = ssl._create_default_https_context
    # The one for Ctrl-C Jittor does not set where it believes to be in a notebook.
    notebook = os.environ.get("JPY_PARENT_PID")
    os.environ["JPY_PARENT_PID"] = notebook or "0"
    # Its libraries make the processor flush denormal numbers to zero, which numpy would warn about later.
    np.finfo(np.float32), np.finfo(np.float64)
    try:
        jittor_utils: Any = importlib.import_module("jittor_utils")  # it has no types

        jittor_utils.pool_initializer = functools.partial(_deaf_worker, jittor_utils.pool_initializer)
        genuine = jittor_utils.try_import_jit_utils_core
        jittor_utils.try_import_jit_utils_core = functools.partial(_without_handlers, genuine)
        import jittor

        interruption.check()
        _end_pool(jittor_utils)
    except SystemExit as error:
        marker.unlink(missing_ok=True)
        if interruption.is_command() and _RERUN not in os.environ:
            _run_again()
        raise SetupError(
            "Jittor does not start (it rebuilt its core).",
            "Run the command again; another program that uses the same JITTOR_HOME with other flags does this.",
        ) from error
    except (ImportError, OSError, RuntimeError, AssertionError) as error:
        marker.unlink(missing_ok=True)
        folder = planning.jittor_home() / ".cache" / "jittor"
        raise SetupError(
            f"Jittor does not start ({reason(str(error).splitlines())}).",
            f"Run the command again; if that does not help, delete {folder} and run it once more.",
        ) from error
    finally:
        if notebook is None:
            os.environ.pop("JPY_PARENT_PID", None)
        ssl._create_default_https_context = https_context
        sys.setrecursionlimit(recursion)
    return jittor


def _without_handlers(load: Callable[..., None], *arguments: Any, **more: Any) -> None:
    """Load Jittor's first library without its handler of ended children.

    The handler leaves with status 1, past all clearing up, when a child was killed: also when Ctrl-C killed a compiler
    while Jittor's import still goes on. So it goes as soon as it is there.
    """
    with _kept_handler(signal.SIGCHLD):
        load(*arguments, **more)


@contextlib.contextmanager
def _kept_handler(number: signal.Signals) -> Iterator[None]:
    """What this block sets as a signal's handler is undone; only the main thread may set any."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        if main:
            signal.signal(number, handler)


def _deaf_worker(genuine: Callable[[], None]) -> None:
    """What a process of Jittor's compile pool begins with.

    One that Ctrl-C ends may hold the lock of the pool's queue, and then the pool cannot be ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    genuine()


def _end_pool(jittor_utils: Any) -> None:
    """End the compile pool, which only Jittor's core needs; it would be started again."""
    if jittor_utils.pool_size:
        atexit.unregister(jittor_utils.pool_cleanup)
        jittor_utils.pool_cleanup()
        jittor_utils.pool_size = 0


def _run_again() -> NoReturn:
    """Start this command anew in this process, once."""
    logger.info("Jittor rebuilt its core, as another program has used its cache; the command starts anew")
    os.environ[_RERUN] = "1"
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  (the same program and arguments)


def __getattr__(name: str) -> Any:
    """`jt`: the jittor module, started on first use."""
    if name == "jt":
        return start()
    raise AttributeError(f"module {__name__} has no attribute {name}")
