"""Preparation and import of Jittor.

At import, Jittor reads its settings from the environment, compiles its core and downloads missing parts. This module
chooses the device, links oneDNN from the installed PyPI packages, disables the downloads, compiles in a child process,
and then imports Jittor. All other modules use

    from jclip_adapter.runtime import jt

which starts it on first use; `choose` chooses the device before.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from jclip_adapter.core import console
from jclip_adapter.core.errors import SetupError, UsageError

from . import build, compiled, cuda_guard, interruption, onednn, planning, python_headers
from .jittor_messages import reason
from .kernels import core_flags, shorten_compilation
from .planning import CUDA13_FLAGS, Plan

logger = logging.getLogger(__name__)

_RERUN = "JCLIP_ADAPTER_RERUN"  # set in a restarted command
# Environment variables that Jittor's core is compiled with.
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
# Environment variables that stay set after the start.
_KEPT = ("JITTOR_HOME",)


def has_fast_matmul() -> bool:
    """Whether matmuls can call oneDNN directly, on the CPU."""
    return current_device() != "cuda" and onednn.has_matmul(planning.jittor_home())


def _needs_onednn(plan: Plan) -> bool:
    return plan.device == "cpu" and sys.platform == "linux" and platform.machine() == "x86_64"


def _marker(plan: Plan) -> Path:
    """A file that exists once Jittor's core was compiled under these conditions."""
    spec = importlib.util.find_spec("jittor")
    conditions = [
        importlib.metadata.version("jittor"),
        str(spec.origin if spec else ""),
        sys.version,
        platform.platform() + platform.node(),
        planning.compiler(),
        *(f"{key}={value}" for key, value in sorted(plan.environment.items())),
        *(f"{key}={os.environ[key]}" for key in _FLAGS if key in os.environ and key not in plan.environment),
    ]
    digest = hashlib.sha256("\n".join(conditions).encode()).hexdigest()[:16]
    return planning.cache_folder() / f"jclip_adapter_{digest}.ready"


def check_requirements() -> None:
    """Check that Jittor can be built.

    Raises:
        SetupError: Python, its headers, g++ or Jittor is missing or of an unsupported version.
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
    if not python_headers.are_there():
        raise SetupError(
            f"Python's headers are missing ({python_headers.include() / 'Python.h'}), which Jittor compiles against.",
            python_headers.HINT,
        )


@functools.cache
def _started() -> list[Plan]:
    """The plan that Jittor was started with, in a list; empty before."""
    return []


@functools.cache
def _chosen() -> list[Plan]:
    """The plan that Jittor is to be started with, in a list; empty before one is made."""
    return []


def current_device() -> str:
    """The device that Jittor runs on or is to run on: "cpu", "cuda", or "" before one is chosen."""
    plans = _started() or _chosen()
    return plans[0].device if plans else ""


def choose(device: str = "auto") -> str:
    """Choose Jittor's device without starting it, which stored features do not need.

    Args:
        device: "auto", "cpu" or "cuda"; "auto" keeps an earlier choice.

    Returns:
        "cpu" or "cuda".

    Raises:
        UsageError: an unknown device, or another one than Jittor was started with.
        SetupError: "cuda" is not available.
    """
    if _started():
        if device not in ("auto", current_device()):
            raise UsageError(
                f"Jittor already runs on {current_device()}, so --device {device} is too late.",
                "Choose the device before anything is computed.",
            )
    elif device != "auto" or not _chosen():
        _chosen()[:] = [planning.make_plan(device)]
    return current_device()


def start(device: str = "auto") -> Any:
    """Prepare the environment, compile Jittor if needed, and import it.

    Args:
        device: "auto", "cpu" or "cuda"; after an earlier call or `choose`, the same or "auto".

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
    _link_onednn(planning.jittor_home(), plan)
    with _own_environment():
        try:
            with _own_environment(failed_only=True):
                marker = _prepare(plan)
        except SetupError as error:
            if plan.device != "cuda" or plan.insisted:
                raise
            logger.warning("CUDA was found but does not work (%s); using the CPU.", error.message)
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
        shorten_compilation(jittor, planning.cache_folder(), planning.compiler())
    else:
        cuda_guard.guard(jittor)
        if CUDA13_FLAGS in plan.environment.get("cc_flags", ""):
            cuda_guard.leave_cub_out()
    _started().append(plan)
    logger.info("Jittor runs on %s (%s)", plan.device, plan.reason)
    return jittor


def _link_onednn(home: Path, plan: Plan) -> None:
    """Link oneDNN for Jittor and for this program's kernels; it is optional on CUDA."""
    linked = onednn.link(home)
    if not linked and plan.device == "cuda":
        plan.environment["use_mkl"] = "0"  # or Jittor would download it
    if not linked and _needs_onednn(plan):
        raise SetupError(
            "oneDNN is missing, which Jittor needs on the CPU.",
            "Run `pip install -r requirements.txt` (packages onednn-cpu-gomp and onednn-devel-cpu-gomp).",
        )
    # For this program's kernels, which include oneDNN's headers.
    places = [str(onednn.place(home) / "include"), os.environ.get("CPLUS_INCLUDE_PATH", "")]
    os.environ["CPLUS_INCLUDE_PATH"] = os.pathsep.join(filter(None, places))


@contextlib.contextmanager
def _own_environment(*, failed_only: bool = False) -> Iterator[None]:
    """Restore the environment after this block, so that child processes choose their device themselves.

    Args:
        failed_only: Restore it only after an error.
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
    """Compile Jittor for a plan, if that was not done; returns the marker file."""
    python_headers.write(planning.cache_folder())
    if plan.toolkit is not None:
        plan.toolkit.link(planning.cache_folder())
    if plan.device == "cpu":
        _shorten_compilation_of_core(plan)
    os.environ.update(plan.environment)
    marker = _marker(plan)
    broken = compiled.remove_broken(planning.compiled_folder())
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        logger.warning("%s%s was truncated; Jittor compiles it again", broken[0], more)
    if broken or not compiled.is_recorded(marker):
        compiled.record(marker, build.compile_core(plan))
    return marker


def _shorten_compilation_of_core(plan: Plan) -> None:
    """Set the flags of a faster compilation, unless the user gives a level of optimisation."""
    own = os.environ.get("cc_flags", "")
    spec = importlib.util.find_spec("jittor")
    sources = Path(str(spec.origin if spec else "")).parent / "src"
    faster = core_flags(planning.cache_folder(), planning.compiler_path(), planning.compiler(), sources)
    if faster and "-O" not in own:
        plan.environment["cc_flags"] = f"{own} {faster}".strip()
        # Jittor leaves this out where it is given a level for the core.
        plan.environment["kernel_flags"] = f"{os.environ.get('kernel_flags', '')} -Ofast".strip()


def _import(marker: Path) -> Any:
    """Import Jittor and undo the import's effects on the process."""
    recursion = sys.getrecursionlimit()
    # Jittor replaces the default https context by one that checks no certificates.
    https_context = ssl._create_default_https_context
    # In a notebook Jittor does not set its SIGINT handler.
    notebook = os.environ.get("JPY_PARENT_PID")
    os.environ["JPY_PARENT_PID"] = notebook or "0"
    # Its libraries make the processor flush denormals to zero, about which numpy would warn later.
    np.finfo(np.float32), np.finfo(np.float64)
    try:
        jittor_utils: Any = importlib.import_module("jittor_utils")  # it has no types

        jittor_utils.pool_initializer = functools.partial(_start_pool_worker, jittor_utils.pool_initializer)
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
            "Run the command again; another program with the same JITTOR_HOME and other flags causes this.",
        ) from error
    except (ImportError, OSError, RuntimeError, AssertionError) as error:
        marker.unlink(missing_ok=True)
        raise SetupError(
            f"Jittor does not start ({reason(str(error).splitlines())}).",
            f"Run the command again; if that does not help, delete {planning.cache_folder()} and run it once more.",
        ) from error
    finally:
        if notebook is None:
            os.environ.pop("JPY_PARENT_PID", None)
        ssl._create_default_https_context = https_context
        sys.setrecursionlimit(recursion)
    return jittor


def _without_handlers(load: Callable[..., None], *arguments: Any, **more: Any) -> None:
    """Load Jittor's first library without its SIGCHLD handler.

    The handler exits with status 1, without cleanup, when a child was killed, also by Ctrl-C during Jittor's import.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        load(*arguments, **more)
    finally:
        with contextlib.suppress(ValueError):  # only the main thread can
            signal.signal(signal.SIGCHLD, handler)


def _start_pool_worker(genuine: Callable[[], None]) -> None:
    """Initialise a process of Jittor's compile pool so that it ignores Ctrl-C.

    One that Ctrl-C kills may hold the lock of the pool's queue, and then the pool cannot be ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    genuine()


def _end_pool(jittor_utils: Any) -> None:
    """End the compile pool, which only compiling the core needs, and prevent a restart."""
    if jittor_utils.pool_size:
        atexit.unregister(jittor_utils.pool_cleanup)
        jittor_utils.pool_cleanup()
        jittor_utils.pool_size = 0


def _run_again() -> NoReturn:
    """Restart this command in this process, once."""
    logger.info("Jittor rebuilt its core, because another program used its cache; restarting the command")
    os.environ[_RERUN] = "1"
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  (the same program and arguments)


def __getattr__(name: str) -> Any:
    """`jt`: the jittor module, started on first use."""
    if name == "jt":
        return start()
    raise AttributeError(f"module {__name__} has no attribute {name}")
