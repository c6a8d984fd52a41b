"""Checkpoints: the state of a training, saved between epochs, from which it can be resumed."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.runtime import interruption
from jclip_adapter.storage import discard, read_safetensors, write_safetensors
from jclip_adapter.storage.kinds import TRAINING_STATE

logger = logging.getLogger(__name__)
State = dict[str, npt.NDArray[Any]]
_MAX_HELD = 1 << 28  # bytes; a larger state is not copied to memory between two writes
PAUSE_S = 10.0  # between two writes: what a killed training may lose


def kept_state(path: Path) -> tuple[str, int]:
    """The fingerprint of the training that wrote a checkpoint, and the number of its epochs.

    Raises:
        DataError: the file is missing or damaged.
    """
    arrays, facts = read_safetensors(path, ["losses"])
    return facts.get("fingerprint", ""), len(arrays.get("losses", ()))


class Checkpoint:
    """A file that holds the state of a training after its last epochs.

    The state is the optimizer's, with "losses" of the epochs and "step_losses". An existing file stays until this
    training writes its own.

    Args:
        path: The file.
        fingerprint: Of everything that the training depends on. A state with another fingerprint is not resumed.
        pause_s: Minimum seconds between two writes, more where a write takes long; 0 writes after every epoch, None
            is PAUSE_S.
        resume: Whether an existing state is resumed.
    """

    def __init__(self, path: Path, fingerprint: str, pause_s: float | None = None, *, resume: bool = True) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.resume = resume
        self.pause_s = PAUSE_S if pause_s is None else pause_s
        self._next = time.monotonic() + self.pause_s
        self._small: bool | None = None
        self._held: State | None = None
        self._epochs = 0

    def check(self) -> None:
        """Log what happens to an existing state.

        Raises:
            UsageError: it is to be resumed, but another training wrote it.
        """
        if not self.path.is_file():
            if self.resume:
                logger.warning("--resume: there is no saved state in %s; the training starts anew", self.path.parent)
            return
        try:
            fingerprint, epochs = kept_state(self.path)
        except DataError:
            logger.warning("%s is damaged; the training starts anew", self.path)
            return
        mine = fingerprint == self.fingerprint
        if self.resume and not mine:
            raise UsageError(
                f"{self.path} holds the state of another training (other settings, shots, weights or version), after "
                f"{epochs} epochs.",
                "Give the options that it was started with, name another --run, or leave --resume out to start anew.",
            )
        if not self.resume:
            logger.warning(
                "%s holds the state of %s after %d epochs: %s. It is kept until this training writes its own",
                self.path,
                "this training" if mine else "another training",
                epochs,
                "--resume would go on from it" if mine else "another --run would leave it alone",
            )

    def finish(self) -> None:
        """Remove this training's state, or a damaged one; that of another training stays."""
        if self.path.is_file():
            with contextlib.suppress(DataError):
                if kept_state(self.path)[0] != self.fingerprint:
                    return
            discard(self.path, TRAINING_STATE)

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """On Ctrl-C, write the state after the last complete epoch, and say how to resume."""
        try:
            yield
        except KeyboardInterrupt as stop:
            if self._held is not None:
                self.write(self._held)
            if self._epochs:
                raise KeyboardInterrupt(self._going_on()) from stop
            raise

    def keep(self, state: Callable[[], State]) -> None:
        """Take the state after an epoch: write it if that is due, else copy it to memory if it is small."""
        if self.due():
            self.write(state())
        elif self._small is not False:
            arrays = {name: np.array(value) for name, value in state().items()}
            self._small = sum(value.nbytes for value in arrays.values()) <= _MAX_HELD
            self._held = arrays if self._small else None

    def _going_on(self) -> str:
        return f"stopped after {self._epochs} epochs, which are kept: the same command with --resume goes on from them."

    def due(self) -> bool:
        """Whether the last write is long enough ago."""
        return time.monotonic() >= self._next

    def read(self, names: Sequence[str]) -> State:
        """The saved state; empty where there is none, or where another training wrote it.

        Args:
            names: The arrays that it has to hold.
        """
        if not self.resume or not self.path.is_file():
            return {}
        try:
            arrays, facts = read_safetensors(self.path)
        except DataError:
            logger.warning("%s is damaged; the training starts anew", self.path)
            return {}
        if facts.get("fingerprint") != self.fingerprint or not set(names) <= set(arrays):
            logger.info("%s belongs to another training; this one starts anew", self.path)
            return {}
        self._epochs = len(arrays["losses"])
        interruption.set_message(self._going_on())
        return arrays

    def write(self, state: State) -> None:
        """Write the state after an epoch."""
        started = time.monotonic()
        write_safetensors(self.path, state, {"fingerprint": self.fingerprint}, TRAINING_STATE)
        self._held, self._epochs = None, len(state["losses"])
        interruption.set_message(self._going_on())
        ended = time.monotonic()
        if self.pause_s:
            self._next = ended + max(self.pause_s, 20 * (ended - started))
