"""Trainings that end in the middle."""

from __future__ import annotations

import pytest

from jclip_adapter.methods.training.optimizers import Optimizer


def stop_before(step: int, patch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """Raise an error when an optimiser is to take this step, counted from 0 over all of them."""
    apply, numbers = Optimizer.apply, iter(range(step))

    def applied(self: Optimizer, *arguments: object) -> None:
        if next(numbers, None) is None:
            raise error
        apply(self, *arguments)

    patch.setattr(Optimizer, "apply", applied)
