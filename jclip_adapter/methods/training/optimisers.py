"""Optimisers with PyTorch's arithmetic, and the learning-rate schedules of the methods' authors.

The methods' published schedules were run with PyTorch. Jittor's own optimisers differ from it where these numbers
are compared: its Adam adds eps before the second moment is corrected for its bias, its AdamW decays nothing by
default where PyTorch's decays 0.01, and its SGD damps the first step's gradient too. Here a step also takes its own
learning rate, so that a schedule is a plain function of the step's number.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jclip_adapter.runtime import jt


class Optimiser(ABC):
    """Takes the gradient of a loss and moves the parameters by it.

    Args:
        params: Jittor variables; each is updated in place.
        lr: Learning rate of the steps that name none.

    Attributes:
        params: The variables, as given.
        lr: The learning rate.
        steps: How many steps were taken.
    """

    def __init__(self, params: Sequence[Any], lr: float) -> None:
        self.params = list(params)
        self.lr = lr
        self.steps = 0

    def step(self, loss: Any, lr: float | None = None) -> None:
        """Move the parameters down the gradient of a loss.

        Args:
            loss: A scalar jt.Var computed from the parameters.
            lr: This step's learning rate; None for the one given to the constructor.
        """
        if not self.params:
            return
        gradients = jt.grad(loss, self.params)
        self.apply(gradients, lr)
        # Executed now: a longer graph would only grow, and hold every step's arrays.
        jt.sync(self.params)

    def apply(self, gradients: Sequence[Any], lr: float | None = None) -> None:
        """Move the parameters by gradients that are known already.

        Args:
            gradients: One per parameter, of its shape.
            lr: This step's learning rate; None for the one given to the constructor.
        """
        self.steps += 1
        rate = self.lr if lr is None else lr
        for place, (value, gradient) in enumerate(zip(self.params, gradients, strict=True)):
            value.update(self._moved(place, value, gradient.stop_grad(), rate))

    @abstractmethod
    def _moved(self, place: int, value: Any, gradient: Any, lr: float) -> Any:
        """The parameter number `place` after this step."""

    def memories(self) -> list[list[Any]]:
        """What is remembered from step to step, each a list of one jt.Var per parameter."""
        return []

    def variables(self) -> list[Any]:
        """Parameters and memories."""
        return [*self.params, *(value for memory in self.memories() for value in memory)]

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, as numpy arrays by name."""
        values = {f"parameter_{place}": value for place, value in enumerate(self.params)}
        for number, memory in enumerate(self.memories()):
            values |= {f"memory_{number}_{place}": value for place, value in enumerate(memory)}
        return {key: np.array(value.numpy()) for key, value in values.items()} | {"steps": np.array(self.steps)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state that `state` gave."""
        self.steps = int(state["steps"])
        for place, value in enumerate(self.params):
            value.update(jt.array(state[f"parameter_{place}"]))
        for number, memory in enumerate(self.memories()):
            for place, value in enumerate(memory):
                value.update(jt.array(state[f"memory_{number}_{place}"]))
        jt.sync(self.variables())

    def _zeros(self) -> list[Any]:
        return [jt.zeros(value.shape, value.dtype).stop_grad() for value in self.params]


class Adam(Optimiser):
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, with weight decay as an L2 penalty.

    g ← ∇ + λθ; m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; θ ← θ − lr · (m/(1−β₁ᵗ)) / (√(v/(1−β₂ᵗ)) + ε).

    Args:
        params: Jittor variables.
        lr: Learning rate.
        betas: β₁ and β₂.
        eps: ε, added after the bias correction as PyTorch does.
        weight_decay: λ.
    """

    def __init__(
        self,
        params: Sequence[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr)
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self._first, self._second = self._zeros(), self._zeros()

    def memories(self) -> list[list[Any]]:
        """First and second moments."""
        return [self._first, self._second]

    def _moved(self, place: int, value: Any, gradient: Any, lr: float) -> Any:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * value
        return value - self._change(place, gradient, lr)

    def _change(self, place: int, gradient: Any, lr: float) -> Any:
        """What the step takes away, without any decay."""
        beta1, beta2 = self.betas
        first, second = self._first[place], self._second[place]
        first.update(beta1 * first + (1 - beta1) * gradient)
        second.update(beta2 * second + (1 - beta2) * gradient * gradient)
        root = jt.sqrt(second) * (1 / math.sqrt(1 - beta2**self.steps)) + self.eps
        return (lr / (1 - beta1**self.steps)) * first / root


class AdamW(Adam):
    """Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019: θ shrinks by (1 − lr·λ), then Adam's step.

    Args:
        params: Jittor variables.
        lr: Learning rate.
        betas: β₁ and β₂.
        eps: ε, added after the bias correction as PyTorch does.
        weight_decay: λ; PyTorch's default.
    """

    def __init__(
        self,
        params: Sequence[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def _moved(self, place: int, value: Any, gradient: Any, lr: float) -> Any:
        if lr and self.weight_decay:
            value = value * (1 - lr * self.weight_decay)
        return value - self._change(place, gradient, lr)


class Sgd(Optimiser):
    """Gradient descent with momentum: g ← ∇ + λθ; v ← μv + g, where the first step's v is g; θ ← θ − lr·v.

    Args:
        params: Jittor variables.
        lr: Learning rate.
        momentum: μ.
        weight_decay: λ, an L2 penalty.
    """

    def __init__(self, params: Sequence[Any], lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self._velocity = self._zeros()

    def memories(self) -> list[list[Any]]:
        """The velocity."""
        return [self._velocity]

    def _moved(self, place: int, value: Any, gradient: Any, lr: float) -> Any:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * value
        if self.momentum:
            velocity = self._velocity[place]
            velocity.update(self.momentum * velocity + gradient)
            gradient = velocity
        return value - lr * gradient


def cosine(step: int, lr: float, period: int) -> float:
    """Learning rate of a cosine that falls from `lr` at step 0 to 0 at step `period`.

    >>> [round(cosine(step, 1.0, 4), 3) for step in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    return lr * (1 + math.cos(math.pi * step / max(1, period))) / 2


def warmup_cosine(step: int, lr: float, period: int, *, warmup: int = 50, floor: float = 1e-5) -> float:
    """Learning rate of a linear warm-up followed by a cosine (golden: cross-modal adaptation's).

    Args:
        step: Number of the step, from 0.
        lr: The highest rate, reached at step `warmup`.
        period: Steps from there until the cosine reaches 0.
        warmup: Steps of the warm-up: step t takes lr·t/warmup; 0 for none.
        floor: Rate of step 0, whose share of `lr` would be nothing.

    Returns:
        The rate.

    >>> [round(warmup_cosine(step, 1.0, 4, warmup=2), 5) for step in range(7)]
    [1e-05, 0.5, 1.0, 0.85355, 0.5, 0.14645, 0.0]
    """
    if step >= warmup:
        return cosine(step - warmup, lr, period)
    return lr * step / warmup if step else floor


def constant_warmup_cosine(step: int, lr: float, period: int, *, warmup: int = 1, floor: float = 1e-5) -> float:
    """Learning rate of Dassl's schedule: `floor` while warming up, then a cosine that counts from `warmup`.

    Args:
        step: Number of the step (Dassl counts epochs), from 0.
        lr: The highest rate.
        period: Steps until the cosine reaches 0, counted from the first step after the warm-up.
        warmup: Steps at `floor`.
        floor: Their rate.

    Returns:
        The rate.

    >>> [round(constant_warmup_cosine(step, 1.0, 4), 5) for step in range(4)]
    [1e-05, 1.0, 0.85355, 0.5]
    """
    return floor if step < warmup else cosine(step - warmup, lr, period)
