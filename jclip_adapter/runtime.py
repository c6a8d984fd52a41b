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
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from . import compiled, console, cuda_guard, interruption, onednn, python_headers
from .choices import DEVICES
from .cuda import Cuda, find_cuda
from .cuda_toolkit import Toolkit
from .errors import SetupError, UsageError
from .jittor_messages import reason
from .kernels import shorten_compilation
from .storage import read_json

logger = logging.getLogger(__name__)

# Optional parts of Jittor that would be downloaded at import and that nothing here uses.
_WITHOUT = {"use_cutt": "0", "use_cutlass": "0", "use_nccl": "0", "use_mpi": "0"}
# CUDA 13 took two fields from cudaDeviceProp that Jittor prints; two others of the same type stand in for them.
_CUDA13_FLAGS = "-DcomputeMode=integrated -DclockRate=warpSize"
_READY = "jittor is ready"
_FIRST_TIME = "Jittor compiles its core: about 2 minutes on 2 cores, once for this machine."
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
_CRASHES = (signal.SIGBUS, signal.SIGSEGV, signal.SIGILL)
# Ends with its parent: it has a session of its own, so that Ctrl-C does not end the compilers amid their work.
_CHILD = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
import jittor
from jittor_utils import cache_path
{use}
print({ready!r}, cache_path, flush=True)
os._exit(0)  # at its own end Jittor may wait for ever for a compile thread that has not started yet
"""
_PROGRESS = re.compile(r"Compiling ([A-Za-z_]+)\w*\((\d+)/(\d+)\)")


@dataclass(frozen=True)
class Plan:
    """How Jittor is going to be started.

    Attributes:
        device: "cpu" or "cuda".
        reason: Why this device, in words.
        environment: What has to be set before the import.
        insisted: Whether nothing else will do.
        toolkit: The CUDA toolkit that is going to be used, if any.
    """

    device: str
    reason: str
    environment: dict[str, str] = field(default_factory=dict)
    insisted: bool = False
    toolkit: Toolkit | None = None


def make_plan(device: str = "auto", cuda: Cuda | None = None) -> Plan:
    """Decide the device and the environment for Jittor.

    Args:
        device: "auto" takes CUDA only where a driver initialises and nvcc is there; "cpu" and "cuda" insist.
        cuda: What was found; looked up if not given.

    Returns:
        The plan; nothing is changed yet.

    Raises:
        UsageError: an unknown device.
        SetupError: "cuda" was asked for and cannot be had.
    """
    if device not in DEVICES:
        raise UsageError(f"there is no device '{device}'.", f"Known are: {', '.join(DEVICES)}.")
    environment = {**_WITHOUT, "JITTOR_HOME": str(jittor_home())}
    environment["log_silent"] = os.environ.get("log_silent", "1")
    # Threads that wait for one another by spinning take the core from the one that they wait for, wherever there are
    # more threads than free cores: training steps on shared machines took several times longer.
    environment["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "passive")
    environment["python_config_path"] = os.environ.get("python_config_path") or python_headers.config(cache_folder())
    on_cpu = {**environment, "nvcc_path": "", "cache_name": _cache_name("cpu")}
    if device == "cpu":
        return Plan("cpu", "asked for", on_cpu)
    cuda = cuda or find_cuda()
    obstacle = cuda.obstacle
    if obstacle and device == "cuda":
        raise SetupError(f"CUDA was asked for: {obstacle}.", f"{cuda.cure} Or use --device cpu.")
    if obstacle:
        return Plan("cpu", obstacle, on_cpu)
    environment["cache_name"] = _cache_name("cuda")
    environment["nvcc_path"] = cuda.toolkit.compiler(cache_folder()) if cuda.toolkit else cuda.nvcc
    if cuda.version >= (13, 0):
        environment["cc_flags"] = f"{os.environ.get('cc_flags', '')} {_CUDA13_FLAGS}".strip()
    if cuda.cudnn != 8:
        environment["conv_opt"] = "1"  # leaves cuDNN out; cuBLAS and cuRAND stay
    return Plan("cuda", cuda.reason, environment, device == "cuda", cuda.toolkit)


def _cache_name(device: str) -> str:
    """The name of a cache that holds one device's core alone.

    Jittor keeps CUDA's core in a folder within the CPU's, and imports the one that was compiled first for both: with
    one name for both devices, or one that other programs use, whichever comes second does not start. Left to itself
    Jittor names its cache after the git branch around the environment, and compiles everything again for each.
    """
    return f"{os.environ.get('cache_name', 'jclip-adapter')}-{device}"


def jittor_home() -> Path:
    """The folder below which Jittor keeps its `.cache/jittor`.

    As Jittor itself finds it: the environment variable JITTOR_HOME, else the one that it remembered from an
    earlier run, else the home folder.
    """
    if os.environ.get("JITTOR_HOME"):
        return Path(os.environ["JITTOR_HOME"]).absolute()
    remembered = Path.home() / ".cache" / "jittor" / "config.json"
    folder = read_json(remembered).get("JITTOR_HOME") if remembered.is_file() else None
    return Path(folder).absolute() if folder else Path.home()


def has_fast_products() -> bool:
    """Whether products on the CPU can be oneDNN's own; where a plan was made, it is the CPU's."""
    return current_device() != "cuda" and onednn.has_products(jittor_home())


def _needs_onednn(plan: Plan) -> bool:
    return plan.device == "cpu" and sys.platform == "linux" and platform.machine() == "x86_64"


def cache_folder() -> Path:
    """Where Jittor keeps what it compiles, and this program what belongs to it."""
    return jittor_home() / ".cache" / "jittor"


def compiler_path() -> str:
    """Path of the C++ compiler; empty if there is none."""
    return os.environ.get("cc_path") or shutil.which("g++") or ""


@functools.cache
def compiler() -> str:
    """The C++ compiler's first version line; empty if there is none."""
    path = compiler_path()
    if not path:
        return ""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.split("\n", 1)[0]


def _marker(plan: Plan) -> Path:
    """A file that exists once Jittor's core was compiled for just these circumstances."""
    spec = importlib.util.find_spec("jittor")
    circumstances = [
        importlib.metadata.version("jittor"),
        str(spec.origin if spec else ""),
        sys.version,
        platform.platform() + platform.node(),
        compiler(),
        *(f"{key}={value}" for key, value in sorted(plan.environment.items())),
        *(f"{key}={os.environ[key]}" for key in _FLAGS if key in os.environ and key not in plan.environment),
    ]
    digest = hashlib.sha256("\n".join(circumstances).encode()).hexdigest()[:16]
    return cache_folder() / f"jclip_adapter_{digest}.ready"


def check_requirements() -> None:
    """Refuse to start where Jittor cannot be built.

    Raises:
        SetupError: Python, g++, Jittor or oneDNN is missing or of a version that does not work.
    """
    if not (3, 10) <= sys.version_info[:2] < (3, 13):
        raise SetupError(f"this is Python {platform.python_version()}.", "Use Python 3.10, 3.11 or 3.12.")
    if importlib.util.find_spec("jittor") is None:
        raise SetupError("Jittor is not installed.", "Run `pip install -r requirements.txt`.")
    if not compiler():
        raise SetupError(
            "there is no g++, which Jittor compiles its kernels with.",
            "Install it (Debian and Ubuntu: apt-get install g++).",
        )
    if not python_headers.are_there():
        raise SetupError(
            f"Python's headers are missing ({python_headers.include() / 'Python.h'}), which Jittor compiles against.",
            python_headers.CURE,
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
        _chosen()[:] = [make_plan(device)]
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
    _link_onednn(jittor_home(), plan)
    with _own_environment():
        try:
            with _own_environment(failed_only=True):
                marker = _prepare(plan)
        except SetupError as error:
            if plan.device != "cuda" or plan.insisted:
                raise
            logger.warning("CUDA is found, but does not work (%s); the CPU is used.", error.message)
            plan = make_plan("cpu")
            marker = _prepare(plan)
        with console.doing("starting Jittor"):
            jittor = _import(marker)
    if plan.device == "cuda" and not jittor.has_cuda:
        raise SetupError("Jittor was built without CUDA.", f"Delete {cache_folder()} and run the command again.")
    jittor.flags.use_cuda = int(plan.device == "cuda")
    if plan.device == "cpu":
        shorten_compilation(jittor, cache_folder(), compiler())
    else:
        cuda_guard.guard(jittor)
        if _CUDA13_FLAGS in plan.environment.get("cc_flags", ""):
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
    python_headers.write(cache_folder())
    if plan.toolkit is not None:
        plan.toolkit.link(cache_folder())
    os.environ.update(plan.environment)
    marker = _marker(plan)
    broken = compiled.remove_broken(_compiled_folder())
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        logger.warning("%s%s was cut short; Jittor compiles it again", broken[0], more)
    if broken or not compiled.is_noted(marker):
        compiled.note(marker, _compile_in_child(plan))
    return marker


def _compiled_folder() -> Path:
    """Where this version of Jittor keeps what it compiles."""
    return cache_folder() / f"jt{_version()}"


def _version() -> str:
    """Jittor's version, as its folder is named: the first three numbers."""
    return ".".join(importlib.metadata.version("jittor").split(".")[:3])


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
        raise SetupError(
            f"Jittor does not start ({reason(str(error).splitlines())}).",
            f"Run the command again; if that does not help, delete {cache_folder()} and run it once more.",
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


def _compile_in_child(plan: Plan) -> str:
    """Do the first import in a child process, until it really succeeds.

    Jittor leaves with status 0 after it rebuilt a part of itself, so only the line that the child prints after
    the import counts.

    Returns:
        The folder that Jittor keeps its libraries in.

    Raises:
        SetupError: it does not succeed.
    """
    cores = _compiled_folder().rglob(compiled.CORE[0])
    told = not any(plan.environment.get("cache_name", "") in path.parts for path in cores)
    if told:
        console.note(_FIRST_TIME)
    # On CUDA a kernel is compiled and run too: only that shows whether compiler, driver and GPU fit together.
    use = "jittor.flags.use_cuda = 1; (jittor.ones(2) + 1).numpy(); " if plan.device == "cuda" else ""
    code = _CHILD.format(use=use, ready=_READY)
    output: list[str] = []
    for _ in range(3):
        with _child_process(
            [sys.executable, "-c", code],
            # Only the talkative log tells how far the compilation is.
            {**os.environ, **plan.environment, "log_silent": "0"},
        ) as child:
            output = list(_show_progress(child, told))
        ready = [line for line in output if line.startswith(_READY)]
        if ready:
            return ready[-1].removeprefix(_READY).strip()
        if -child.returncode in _CRASHES and compiled.remove_core(_compiled_folder()):
            logger.warning("Jittor's compiled core crashes: %s; it is compiled again", _end_of(child.returncode))
        elif child.returncode != 0:
            break
    raise SetupError(
        f"Jittor could not be compiled: {(reason(output) or _end_of(child.returncode)).rstrip('.')}.",
        f"Run `python runner.py --doctor`; if its checks pass, delete {cache_folder()} and run the command again.",
    )


def _end_of(status: int) -> str:
    """How a process ended, in words."""
    return f"its process died ({signal.Signals(-status).name})" if status < 0 else f"exit status {status}"


@contextlib.contextmanager
def _child_process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A child with a session of its own, which is killed with all its children where this block is left early."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    ) as child:
        try:
            yield child
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            raise


def _show_progress(child: subprocess.Popen[bytes], told: bool = False) -> Iterator[str]:
    """Turn Jittor's compile counter into a progress bar; yields the lines that are no progress."""
    assert child.stdout is not None  # noqa: S101  (Popen was given a pipe; this tells the type checker)
    bar: Any = None
    rest = b""
    while chunk := child.stdout.read1(65536):  # type: ignore[attr-defined]
        *pieces, rest = re.split(rb"[\r\n]", rest + chunk)
        for piece in pieces:
            line = piece.decode("utf-8", "replace")
            match = _PROGRESS.search(line)
            if not match:
                if line.strip():
                    yield line
                continue
            total = int(match[3])
            if bar is None or bar.total != total:
                if bar is not None:
                    bar.close()
                if bar is None and not told:
                    console.note(_FIRST_TIME)
                bar = console.progress(total=total, desc=f"compiling {match[1].strip('_')[:24]}", unit="file")
            bar.update(int(match[2]) - bar.n)
    if bar is not None:
        bar.close()
    yield rest.decode("utf-8", "replace")


def __getattr__(name: str) -> Any:
    """`jt`: the jittor module, started on first use."""
    if name == "jt":
        return start()
    raise AttributeError(f"module {__name__} has no attribute {name}")
