"""CLIPs tuned on top of each other: the runs behind --encoder, each of them as the next was trained on it."""

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
        folder: The run whose CLIP is wanted.

    Returns:
        The runs, the wanted one first, the one on CLIP's own weights last.

    Raises:
        DataError: one is no finished run, they go in a circle, or one was trained again since the next used it.
    """
    runs = [open_run(folder)]
    while inner := runs[-1].facts["settings"].get("encoder"):
        runs.append(open_run(Path(inner)))
        if Path(inner).resolve() in {run.folder.resolve() for run in runs[:-1]}:
            shown = ", ".join(str(run.folder) for run in runs)
            raise DataError(f"the runs behind --encoder go in a circle: {shown}.", f"Train {runs[-2].folder} again.")
    for at, run in enumerate(runs[:-1]):
        check_trained_on(run, runs[at + 1 :])
    return tuple(runs)


def check_trained_on(run: Run, chain: Sequence[Run]) -> None:
    """Refuse a run that was trained on another CLIP than a chain of runs makes now.

    An older version kept the SHA-256 of a chain's first run alone; the others are checked as that run's chain.

    Args:
        run: The run.
        chain: What `open_chain` gives for its --encoder; empty without.

    Raises:
        DataError: it was.
    """
    first = sha256_file(chain[0].folder / ADAPTER) if chain else ""
    if run.facts.get("encoder_sha256", "") not in (first, chain_sha256(chain)):
        now = chain[0].folder if chain else "the weights"
        raise DataError(
            f"{run.folder} was trained on another CLIP than {now} holds now.",
            f"Train {run.folder} again, or bring back what it was trained on.",
        )


def chain_sha256(chain: Sequence[Run]) -> str:
    """SHA-256 of all that a chain of runs has learnt; that of the adapter for a single run, and empty for none."""
    digests = [sha256_file(run.folder / ADAPTER) for run in chain]
    if len(digests) < 2:
        return "".join(digests)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
