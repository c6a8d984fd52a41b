"""Training through CLIP's towers: epochs that can be stopped and go on as if nothing had happened."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.console import progress
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.runtime import interruption, jt
from jclip_adapter.storage import discard, read_safetensors, write_safetensors
from jclip_adapter.storage.kinds import TRAINING_STATE

from .loop import check_loss
from .optimisers import Optimiser

logger = logging.getLogger(__name__)
_MOST_HELD = 1 << 28  # bytes of a state that is also held in memory between two writings
PAUSE_S = 10.0  # what a training that is killed loses at least


class Step(Protocol):
    """One training step."""

    def __call__(self, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> tuple[float, Sequence[Any]]:
        """Loss on some support rows, and a gradient per parameter; all that is random comes from `rng`."""


def kept_state(path: Path) -> tuple[str, int]:
    """The fingerprint of the training whose state a file holds, and after how many epochs.

    Raises:
        DataError: there is no file, or it is damaged.
    """
    arrays, facts = read_safetensors(path, ["losses"])
    return facts.get("fingerprint", ""), len(arrays.get("losses", ()))


class Checkpoint:
    """Where a training keeps its state, between two epochs.

    A state that is there already stays until this training writes its own.

    Args:
        path: Of the file.
        fingerprint: Of all that the training depends on: the state of another one is not taken up.
        pause_s: Seconds from one writing to the next at least, and more where writing itself takes long; 0 writes after
            every epoch, None takes PAUSE_S.
        resume: Whether a state that is there is taken up.
    """

    def __init__(self, path: Path, fingerprint: str, pause_s: float | None = None, *, resume: bool = True) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.resume = resume
        self.pause_s = PAUSE_S if pause_s is None else pause_s
        self._next = time.monotonic() + self.pause_s
        self._small: bool | None = None
        self._held: tuple[dict[str, npt.NDArray[Any]], list[float]] | None = None
        self._epochs = 0

    def check(self) -> None:
        """Say what becomes of a state that is there already.

        Raises:
            UsageError: it is to be taken up, and is another training's.
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
        """Remove the state of this training, which is finished, or a damaged one; another training's stays."""
        if self.path.is_file():
            with contextlib.suppress(DataError):
                if kept_state(self.path)[0] != self.fingerprint:
                    return
            discard(self.path, TRAINING_STATE)

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Within this block Ctrl-C leaves the state after the last whole epoch, and says how to go on."""
        try:
            yield
        except KeyboardInterrupt as stop:
            if self._held is not None:
                self.write(*self._held)
            if self._epochs:
                raise KeyboardInterrupt(self._going_on()) from stop
            raise

    def keep(self, state: Callable[[], dict[str, npt.NDArray[Any]]], losses: Sequence[float]) -> None:
        """Take the state after an epoch: to the file where that is due, else into memory, where it is small."""
        if self.due():
            self.write(state(), losses)
        elif self._small is not False:
            arrays = {name: np.array(value) for name, value in state().items()}
            self._small = sum(value.nbytes for value in arrays.values()) <= _MOST_HELD
            self._held = (arrays, list(losses)) if self._small else None

    def _going_on(self) -> str:
        return f"stopped after {self._epochs} epochs, which are kept: the same command with --resume goes on from them."

    def due(self) -> bool:
        """Whether the last state is so old that another one is worth its writing."""
        return time.monotonic() >= self._next

    def read(self, names: Sequence[str]) -> tuple[dict[str, npt.NDArray[Any]], list[float]]:
        """The arrays kept and the epochs' losses so far; nothing where there is none, or one of another training."""
        if not self.resume or not self.path.is_file():
            return {}, []
        try:
            arrays, facts = read_safetensors(self.path)
        except DataError:
            logger.warning("%s is damaged; the training starts anew", self.path)
            return {}, []
        if facts.get("fingerprint") != self.fingerprint or not set(names) <= set(arrays):
            logger.info("%s belongs to another training; this one starts anew", self.path)
            return {}, []
        losses = arrays.pop("losses")
        self._epochs = len(losses)
        interruption.say(self._going_on())
        return arrays, [float(loss) for loss in losses]

    def write(self, arrays: dict[str, npt.NDArray[Any]], losses: Sequence[float]) -> None:
        """Keep the state after an epoch."""
        started = time.monotonic()
        kept = {**arrays, "losses": np.array(losses, dtype=np.float64)}
        write_safetensors(self.path, kept, {"fingerprint": self.fingerprint}, TRAINING_STATE)
        self._held, self._epochs = None, len(losses)
        interruption.say(self._going_on())
        ended = time.monotonic()
        if self.pause_s:
            self._next = ended + max(self.pause_s, 20 * (ended - started))


def train_through(
    step: Step,
    optimiser: Optimiser,
    *,
    rows: int,
    batch_size: int,
    schedule: Callable[[int, int], float],
    seed: int,
    epochs: int | None = None,
    steps: int = 0,
    checkpoint: Checkpoint | None = None,
) -> list[dict[str, float]]:
    """Run epochs over shuffled batches.

    Every epoch draws from a generator of its own, made of the seed and the epoch's number, so a training that goes
    on after epoch k does what an unbroken one does.

    Args:
        step: Gives loss and gradients.
        optimiser: Over the parameters; its state is kept with them.
        rows: Support rows.
        batch_size: Rows per step; a last batch that would be smaller is left out where there is a whole one.
        schedule: Learning rate by epoch and by step, both from 0.
        seed: For everything random.
        epochs: Passes over the rows; None to count steps.
        steps: How many steps where no epochs are given; the last epoch then may be shorter.
        checkpoint: Where the state is kept; None for nowhere.

    Returns:
        Per epoch: "epoch" from 1 and mean "loss".
    """
    size = min(batch_size, rows)
    losses: list[float] = []
    if checkpoint is not None:
        kept, losses = checkpoint.read(list(optimiser.state()))
        if kept:
            optimiser.restore(kept)
            logger.info("going on after epoch %d", len(losses))
    per_epoch = rows // size
    total = steps if epochs is None else epochs * per_epoch
    epochs = -(-total // per_epoch)
    with (
        checkpoint.guard() if checkpoint is not None else contextlib.nullcontext(),
        progress(total=total, initial=len(losses) * per_epoch, desc="training", unit="step", delay=2) as bar,
    ):
        for epoch in range(len(losses), epochs):
            rng = np.random.default_rng([seed, epoch])
            order = rng.permutation(rows)
            found = []
            for number in range(epoch * per_epoch, min(total, (epoch + 1) * per_epoch)):
                first = (number - epoch * per_epoch) * size
                loss, gradients = step(order[first : first + size], rng)
                optimiser.apply(gradients, schedule(epoch, number))
                jt.sync(optimiser.variables())
                found.append(loss)
                bar.update()
            losses.append(check_loss(float(np.mean(found)), epoch + 1))
            bar.set_postfix_str(f"epoch {epoch + 1}/{epochs} loss {losses[-1]:.4f}")
            if checkpoint is not None:
                checkpoint.keep(optimiser.state, losses)
    return [{"epoch": epoch, "loss": loss} for epoch, loss in enumerate(losses, 1)]
