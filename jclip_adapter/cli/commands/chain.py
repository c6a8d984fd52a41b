"""The chain of runs behind --encoder: each tuned the CLIP of the next."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from jclip_adapter.cli.runs import ADAPTER, Run, open_run
from jclip_adapter.core.errors import DataError
from jclip_adapter.storage import sha256_file


def open_chain(folder: Path) -> tuple[Run, ...]:
    """Open the run of --encoder, that of its own --encoder, and so on.

    Args:
        folder: The run given by --encoder.

    Returns:
        The runs, this one first, the one on CLIP's own weights last.

    Raises:
        DataError: a run is unfinished, they form a cycle, or one was trained again after the next used it.
    """
    runs = [open_run(folder)]
    while inner := runs[-1].facts["settings"].get("encoder"):
        runs.append(open_run(Path(inner)))
        if Path(inner).resolve() in {run.folder.resolve() for run in runs[:-1]}:
            shown = ", ".join(str(run.folder) for run in runs)
            raise DataError(f"the runs behind --encoder form a cycle: {shown}.", f"Train {runs[-2].folder} again.")
    for at, run in enumerate(runs[:-1]):
        check_trained_on(run, runs[at + 1 :])
    return tuple(runs)


def check_trained_on(run: Run, chain: Sequence[Run]) -> None:
    """Refuse a run that was trained on another CLIP than its chain now gives.

    An older version stored the SHA-256 of the chain's first run alone; the others are checked as that run's chain.

    Args:
        run: The run.
        chain: From `open_chain` for its --encoder; empty without.

    Raises:
        DataError: the CLIP differs.
    """
    first = sha256_file(chain[0].folder / ADAPTER) if chain else ""
    if run.facts.get("encoder_sha256", "") not in (first, chain_sha256(chain)):
        now = chain[0].folder if chain else "the weights"
        raise DataError(
            f"{run.folder} was trained on another CLIP than that of {now}.",
            f"Train {run.folder} again, or restore the CLIP that it was trained on.",
        )


def chain_sha256(chain: Sequence[Run]) -> str:
    """SHA-256 of a chain's adapters; that of the adapter for a single run, empty for none."""
    digests = [sha256_file(run.folder / ADAPTER) for run in chain]
    if len(digests) < 2:
        return "".join(digests)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
