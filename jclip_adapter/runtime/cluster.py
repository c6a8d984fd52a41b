"""Ray: joins a cluster, or starts one of this machine, and says what its processes need."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jclip_adapter.core.console import doing
from jclip_adapter.core.errors import AdapterError, SetupError
from jclip_adapter.core.problems import one_line

# What a process elsewhere is given of this one's environment: Jittor's and this program's settings, and model hubs'.
_SHARED = re.compile(r"JITTOR_HOME|JCLIP_\w+|HF_\w+|cc_path|nvcc_path|OMP_WAIT_POLICY|GOMP_SPINCOUNT", re.ASCII)
LOGS = "Ray's logs say why: /tmp/ray/session_latest/logs on the nodes."
# Ray's processes have many threads. One that Jittor forks from them, to compile by, may wait for ever for a lock that
# another thread had, and Jittor for it: seen in 1 of 2 processes. So Jittor compiles without.
_ALONE = {"DISABLE_MULTIPROCESSING": "1"}
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CORES = 4
"""Cores of a process without a GPU: each process holds the network in memory, and decodes and encodes by turns. Nobody
has measured other numbers yet."""
_REACH_S = 10.0  # for a connection to a cluster
_CORES_OF_GPU = 8  # decoding threads keep no more of them busy


class Share(NamedTuple):
    """What a process takes of a node."""

    cores: int
    gpus: int


def check_ray() -> None:
    """Refuse to go on without Ray.

    Raises:
        SetupError: it is not installed.
    """
    _ray()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise SetupError(f"--engine ray needs Ray ({error}).", "Run `pip install -r requirements-ray.txt`.") from error
    return ray


@contextlib.contextmanager
def connected(engine: str) -> Iterator[Any]:
    """The module ray, connected within this block.

    Args:
        engine: "ray" joins the cluster in the environment variable RAY_ADDRESS, or without it starts one of this
            machine's cores and GPUs, which ends with the block; "ray://HOST:PORT" joins that cluster through Ray's
            client server.

    Raises:
        SetupError: Ray is not installed, or the cluster cannot be joined.
    """
    ray = _ray()
    if ray.is_initialized():  # by the program that uses this package
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's future default, about which it warns
    # "local", as Ray would otherwise join any cluster that somebody has started on this machine.
    address = engine if engine != "ray" else os.environ.get("RAY_ADDRESS") or "local"
    _check_reachable(address)
    try:
        with doing("starting Ray"):
            ray.init(
                address,
                include_dashboard=False if address == "local" else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": _environment()},
            )
    except (ConnectionError, ImportError, RuntimeError, ValueError) as error:
        raise SetupError(
            f"cannot join or start Ray ({one_line(str(error))[:300].rstrip('.')}).",
            "`ray status` on the cluster shows its state; a cluster with tokens wants RAY_AUTH_MODE=token.",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing listens: Ray would try for minutes, or without end.

    Raises:
        SetupError: so it is.
    """
    found = re.fullmatch(r"(?:ray://)?\[?([\w.:-]+?)\]?:(\d+)", address)
    if not found:
        return
    try:
        socket.create_connection((found[1], int(found[2])), _REACH_S).close()
    except (OSError, OverflowError) as error:
        raise SetupError(
            f"no Ray answers at {address} ({getattr(error, 'strerror', '') or error}).",
            "Check --engine and the environment variable RAY_ADDRESS.",
        ) from error


def share_of(nodes: Sequence[Mapping[str, float]]) -> tuple[Share, int]:
    """How processes divide the nodes: one per GPU, or where there is none, one per `CORES` cores.

    Args:
        nodes: Each node's resources, as Ray names them.

    Returns:
        What each process takes, and how many processes fit.
    """
    sizes = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
    with_gpu = [(cores, gpus) for cores, gpus in sizes if gpus]
    if with_gpu:
        each = min(_CORES_OF_GPU, *(cores // gpus for cores, gpus in with_gpu))
        return Share(each, 1), sum(gpus for _, gpus in with_gpu)
    each = max(1, min(CORES, max((cores for cores, _ in sizes), default=1)))
    return Share(each, 0), sum(cores // each for cores, _ in sizes)


def alive(ray: Any) -> list[Mapping[str, float]]:
    """The resources of each node that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def options(share: Share) -> dict[str, Any]:
    """Options of a Ray task or actor that takes this share, with the settings of this process."""
    environment = _environment() | dict.fromkeys(_THREADS, str(max(1, share.cores)))
    return {"num_cpus": share.cores, "num_gpus": share.gpus, "runtime_env": {"env_vars": environment}}


def _environment() -> dict[str, str]:
    """What Ray's processes need of this one's environment, and where they find this package."""
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(dict.fromkeys([package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))
    shared = {name: value for name, value in os.environ.items() if _SHARED.fullmatch(name)}
    return shared | _ALONE | {"PYTHONPATH": path}


def enter(place: str) -> None:
    """In a process of Ray's: go to the working directory of the command, from which its paths start.

    Raises:
        SetupError: this node does not see it.
    """
    try:
        os.chdir(place)
    except OSError as error:
        raise SetupError(
            f"the node {os.uname().nodename} does not see {place} ({error.strerror}).",
            "All nodes have to share the working directory, the photos and the results.",
        ) from error


def own_error(error: BaseException) -> BaseException:
    """This program's error behind one of Ray's; Ray's if there is none."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, AdapterError) else error
