"""Submits a Slurm array job, by submitit, whose tasks encode a share of the parts each."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jclip_adapter.core.errors import SetupError
from jclip_adapter.data.parts import MANIFEST
from jclip_adapter.features.sharding import Part
from jclip_adapter.models.base import ImageEncoder

TASKS = 64
"""Most tasks of an array: each reads the names of the source and loads the network, and Slurm starts as many at a time
as it has room for."""
# Slurm's own variables win over these: SBATCH_TIMELIMIT, SBATCH_GPUS, SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_MEM_…
_MINUTES, _CORES = 240, 4


def check(cluster: str = "slurm") -> None:
    """Refuse to go on without submitit or Slurm.

    Raises:
        SetupError: one of them is missing.
    """
    _submitit()
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise SetupError("--engine slurm needs Slurm's sbatch, which is not here.", "Run it on a login node.")


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise SetupError(
            f"--engine slurm needs submitit ({error}).", "Run `pip install -r requirements-slurm.txt`."
        ) from error
    return submitit


def submit(
    load: Callable[[], ImageEncoder],
    folder: Path,
    source: str,
    size: int,
    dtype: str,
    missing: int,
    *,
    cluster: str = "slurm",
) -> str:
    """Submit an array job for the missing parts.

    Args:
        load: As for `engine.extract_parts`, as are the next four.
        folder: The folder of the parts.
        source: The source.
        size: Photos per part.
        dtype: Type of the stored features.
        missing: Number of missing parts.
        cluster: submitit's name of what runs the tasks: "slurm", or "local" for processes of this machine.

    Returns:
        What was submitted, and what to do next, in words.
    """
    from .engine import extract_parts

    logs = folder / "slurm"
    count = min(TASKS, missing)
    executor = _submitit().AutoExecutor(logs, cluster=cluster)
    executor.update_parameters(name="jclip-adapter", timeout_min=_MINUTES, cpus_per_task=_CORES)
    task = functools.partial(extract_parts, "local", load, folder, source, size=size, dtype=dtype)
    with executor.batch():
        jobs = [executor.submit(task, share=Part(number, count)) for number in range(1, count + 1)]
    job = jobs[0].job_id.split("_")[0]
    return (
        f"submitted: Slurm job {job}, {count} tasks for {missing} missing parts; their logs are in {logs}. The last "
        f"task to finish writes {folder / MANIFEST}. If a task fails or reaches its time limit, run the same command "
        "again once the job has ended: it submits what is missing then."
    )
